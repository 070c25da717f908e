#pragma once
#include <vector>

#include "base/arena.h"
#include "model/pictures.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// The vision transformer: pictures' bytes to hidden states, each picture's class token first where there is one. A norm after the last block is the
// connector's.
class Vit {
 public:
  Vit(const VisionSpec& spec, Weights& weights, Dtype act);

  // x (in.tokens(), hidden) float, taken from ws.
  Tensor forward(Ops& ops, Arena& ws, const VisionInput& in, Taps& tap) const;

 private:
  struct Layer {
    Norm norm1, norm2, q_norm, k_norm;
    Matrix qkv, out, up, down;
    const float *qkv_bias, *out_bias, *up_bias, *down_bias, *scale1, *scale2;
  };
  struct Scratch {
    Tensor normed, qkv, att, mid;
  };
  void block(Ops& ops, const Layer& w, const Scratch& s, Tensor x, const PictureRows& rows) const;

  VisionSpec spec_;
  Dtype act_;
  Matrix patch_;
  const float *patch_bias_, *class_, *positions_;
  std::vector<Layer> layers_;
};

}  // namespace jvlm
