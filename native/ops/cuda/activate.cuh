// Activations at the end of products.
#pragma once
#include "ops/cuda/ptx/common.cuh"
#include "ops/ops.h"

namespace jvlm::cuda {

JVLM_DEVICE float activate(float x, Act act) {
  switch (act) {
    case Act::none: return x;
    case Act::gelu: return 0.5f * x * (1.f + erff(x * 0.70710678118654752f));
    case Act::gelu_tanh: {
      // 0.5 (1 + tanh y) is 1 / (1 + e^-2y).
      const float y = 1.5957691216057308f * (x + 0.044715f * x * x * x);
      return x / (1.f + ptx::exp2_approx(-1.44269504088896341f * y));
    }
    case Act::silu: return x / (1.f + ptx::exp2_approx(-1.44269504088896341f * x));
  }
  return x;
}

}  // namespace jvlm::cuda
