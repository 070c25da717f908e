// What becomes of a product's sum before it is stored: what gemm.cu and matvec.cu share.
#pragma once
#include "ops/cuda/kernels.h"
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::cuda {

// All activations but none and gelu are x / (1 + 2^(x * (linear + cubic * x^2))): silu is x / (1 + e^-x), and the tanh form of gelu,
// x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3), is x / (1 + e^(-2u)).
struct Activation {
  enum Form { none, erf, sigmoid } form = none;
  float linear = 0, cubic = 0;

  explicit Activation(Act act) {
    constexpr float log2_e = 1.44269504f, root = 0.797884561f;
    if (act == Act::gelu) form = erf;
    if (act == Act::silu) form = sigmoid, linear = -log2_e;
    if (act == Act::gelu_tanh) form = sigmoid, linear = -2 * root * log2_e, cubic = -2 * root * log2_e * 0.044715f;
  }
};

// x / 2 * (1 + erf(x / sqrt(2))). With z = |x| / sqrt(2), 1 - erf(z) = p(1 / (1 + 0.3275911 z)) * e^(-z^2) within 1.5e-7 (Abramowitz and
// Stegun, 7.1.26); half of that is the smaller of the two sides, and x minus it the larger: no difference of near numbers.
JVLM_DEVICE float gelu_erf(float x) {
  const float z = fabsf(x) * 0.707106781f, t = ptx::rcp_approx(1 + 0.3275911f * z);
  const float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float below = 0.5f * p * ptx::exp2_approx(-1.44269504f * z * z);      // of the normal distribution, beyond |x|
  return x < 0 ? x * below : x - x * below;
}

JVLM_DEVICE float activate(float x, const Activation& act) {
  if (act.form == Activation::none) return x;
  if (act.form == Activation::erf) return gelu_erf(x);
  return x * ptx::rcp_approx(1 + ptx::exp2_approx(x * (act.linear + act.cubic * x * x)));
}

// Where results go. Null pointers: nothing to add or to multiply by.
struct EndParams {
  void* out;
  int64_t stride;                                          // elements
  bool out_float, add;
  const float *scale, *bias, *layer_scale;                 // by row of the weights; scale is that of int8
  Activation act;

  EndParams(const Tensor& to, const Matrix& w, const End& end)
      : out(to.data), stride(to.stride), out_float(to.dtype == Dtype::f32), add(end.kind == End::add), scale(w.dtype == Dtype::i8 ? w.scale : nullptr),
        bias(end.bias), layer_scale(end.layer_scale), act(end.act) {}
};

// Two of four int8, bytes `at` and at + 1 of a word whose sign bits were inverted (^ 0x80808080), as a pair of bf16. A byte u behind the exponent of
// 2^23 is the float 2^23 + u; what is left without 2^23 + 128 has at most eight significant bits, so that its upper half is all of it.
JVLM_DEVICE uint32_t widen_pair(uint32_t inverted, int at) {
  const float low = ptx::bits_float(0x4b000000u | ((inverted >> (8 * at)) & 0xffu)) - 8388736.f;
  const float high = ptx::bits_float(0x4b000000u | ((inverted >> (8 * at + 8)) & 0xffu)) - 8388736.f;
  return (ptx::float_bits(low) >> 16) | (ptx::float_bits(high) & 0xffff0000u);
}
JVLM_DEVICE uint2 widen4(uint32_t word) {
  const uint32_t inverted = word ^ 0x80808080u;
  return make_uint2(widen_pair(inverted, 0), widen_pair(inverted, 2));
}

}  // namespace jvlm::cuda
