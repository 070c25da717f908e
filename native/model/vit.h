#pragma once
#include <vector>

#include "base/arena.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// The vision transformer: tiles of bytes to hidden states, class token first (models of the InternViT shape).
class Vit {
 public:
  Vit(const VisionSpec& spec, Weights& weights, Dtype act);

  // rgb (B, image, image, 3) on the device -> x (B*tokens, hidden) float, taken from ws.
  Tensor forward(Ops& ops, Arena& ws, const uint8_t* rgb, int32_t tiles, Taps& tap) const;

 private:
  struct Layer {
    Norm norm1, norm2, q_norm, k_norm;
    Matrix qkv, out, up, down;
    const float *qkv_bias, *out_bias, *up_bias, *down_bias, *scale1, *scale2;
  };
  struct Scratch {
    Tensor normed, qkv, att, mid;
  };
  void block(Ops& ops, const Layer& w, const Scratch& s, Tensor x, int32_t tiles) const;

  VisionSpec spec_;
  Dtype act_;
  Matrix patch_;
  const float *patch_bias_, *class_, *positions_;
  std::vector<Layer> layers_;
};

}  // namespace jvlm
