#pragma once
#include <memory>

#include "base/arena.h"
#include "model/pictures.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// What stands between tower and decoder: hidden states of pictures to vision rows.
class Connector {
 public:
  virtual ~Connector() = default;

  // x (in.tokens(), h) float -> out (B*rows_per_tile, H) float.
  virtual void forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const = 0;
};

// The one that spec.connector.kind names.
std::unique_ptr<Connector> make_connector(const Spec& spec, Weights& weights, Dtype act);

// Pixel shuffle by two, LayerNorm, Linear, GELU (erf), Linear.
class PixelShuffle : public Connector {
 public:
  PixelShuffle(const Spec& spec, Weights& weights, Dtype act);
  void forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const override;

 private:
  Spec spec_;
  Dtype act_;
  Norm norm_;
  Matrix up_, down_;
  const float *up_bias_, *down_bias_;
};

// Idefics2's: the tower's last norm and a gated projection of every patch to the decoder's width, then a perceiver resampler, whose latents
// read the patches of their picture, and themselves, by attention. A picture becomes as many vision rows as there are latents.
class Perceiver : public Connector {
 public:
  Perceiver(const Spec& spec, Weights& weights, Dtype act);
  void forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const override;

 private:
  struct Layer {
    Norm latents_norm, context_norm, mlp_norm;
    Matrix q, kv, out, gate_up, down;
  };

  Spec spec_;
  Dtype act_;
  Norm tower_norm_, norm_;
  Matrix project_, project_down_;
  const float* latents_;
  std::vector<Layer> layers_;
};

}  // namespace jvlm
