// For weights of softmax that will be rounded to bf16.
#pragma once
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {

// 2^x for x <= 0, relative error below 4e-6: the weights are rounded to bf16, whose spacing is a thousand times that.
inline Vec exp2_coarse(Vec x) {
  const __m512 v = std::bit_cast<__m512>(x);
  const Vec f = std::bit_cast<Vec>(_mm512_reduce_ps(v, 1));                      // x - floor(x)
  Vec p = splat(0.013534167f);
  p = p * f + 0.052011464f;
  p = p * f + 0.24144275f;
  p = p * f + 0.69300383f;
  p = p * f + 1.0000026f;
  return std::bit_cast<Vec>(_mm512_scalef_ps(std::bit_cast<__m512>(p), v));       // * 2^floor(x)
}

}  // namespace jvlm::cpu::JVLM_ISA
