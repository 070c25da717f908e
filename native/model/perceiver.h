#pragma once
#include <vector>

#include "base/arena.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// Idefics2's connector: the tower's last norm and a gated projection of every patch to the decoder's width, then a perceiver resampler, whose
// latents read the patches of their picture, and themselves, by attention. A picture becomes as many vision rows as there are latents.
class Perceiver {
 public:
  Perceiver(const Spec& spec, Weights& weights, Dtype act);

  // x (T, h) float as the tower's last block left it, picture b's tokens start[b] ... start[b+1] -> out (B*latents, H) float.
  void forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const std::vector<int32_t>& start, Taps& tap) const;

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
