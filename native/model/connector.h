#pragma once
#include "base/arena.h"
#include "model/pictures.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// Pixel shuffle by two, LayerNorm, Linear, GELU (erf), Linear: hidden states of tiles to vision rows.
class Connector {
 public:
  Connector(const Spec& spec, Weights& weights, Dtype act);

  // x (in.tokens(), h) float -> out (B*rows_per_tile, H) float.
  void forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const;

 private:
  Spec spec_;
  Dtype act_;
  Norm norm_;
  Matrix up_, down_;
  const float *up_bias_, *down_bias_;
};

}  // namespace jvlm
