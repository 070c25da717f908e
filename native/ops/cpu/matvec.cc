#include "ops/cpu/matvec.h"

#include <algorithm>
#include <vector>

#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

// One row of W with `count` rows of x at once, so that a weight is widened once for all of them.
template <int count, class W, class X>
void dot(float* out, int64_t stride, const W* w, const X* x, int64_t x_stride, int64_t k) {
  Vec acc[count][2] = {};
  int64_t i = 0;
  for (; i + 2 * kLanes <= k; i += 2 * kLanes) {
    const Vec a = load(w + i), b = load(w + i + kLanes);
    for (int t = 0; t < count; ++t) {
      acc[t][0] += a * load(x + t * x_stride + i);
      acc[t][1] += b * load(x + t * x_stride + i + kLanes);
    }
  }
  for (int t = 0; t < count; ++t) {
    float rest = sum(acc[t][0] + acc[t][1]);
    for (int64_t j = i; j < k; ++j) rest += one(w[j]) * one(x[t * x_stride + j]);
    out[t * stride] = rest;
  }
}

#ifdef JVLM_DOT_BF16

// Bytes between what is used and what is fetched, measured: bf16 is used as fast as it comes, int8 leaves time.
constexpr int64_t kAhead = 1024, kAheadNarrow = 4096;

template <int count>
void dot(float* out, int64_t stride, const uint16_t* w, const uint16_t* x, int64_t x_stride, int64_t k) {
  Vec acc[count][2] = {};
  int64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    // Rows follow each other: beyond the end of one lies what is read next.
    _mm_prefetch(reinterpret_cast<const char*>(w + i) + kAhead, _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(w + i) + kAhead + 64, _MM_HINT_T1);
    const Pairs a = load_pairs(w + i), b = load_pairs(w + i + 32);
    for (int t = 0; t < count; ++t) {
      acc[t][0] = dot_pairs(acc[t][0], a, load_pairs(x + t * x_stride + i));
      acc[t][1] = dot_pairs(acc[t][1], b, load_pairs(x + t * x_stride + i + 32));
    }
  }
  for (int t = 0; t < count; ++t) {
    float rest = sum(acc[t][0] + acc[t][1]);
    for (int64_t j = i; j < k; ++j) rest += one(w[j]) * one(x[t * x_stride + j]);
    out[t * stride] = rest;
  }
}

// int8 is exact in bf16.
template <int count>
void dot(float* out, int64_t stride, const int8_t* w, const uint16_t* x, int64_t x_stride, int64_t k) {
  Vec acc[count][2] = {};
  int64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(w + i) + kAheadNarrow, _MM_HINT_T1);
    const Pairs a = to_pairs(load(w + i), load(w + i + 16)), b = to_pairs(load(w + i + 32), load(w + i + 48));
    for (int t = 0; t < count; ++t) {
      acc[t][0] = dot_pairs(acc[t][0], a, load_pairs(x + t * x_stride + i));
      acc[t][1] = dot_pairs(acc[t][1], b, load_pairs(x + t * x_stride + i + 32));
    }
  }
  for (int t = 0; t < count; ++t) {
    float rest = sum(acc[t][0] + acc[t][1]);
    for (int64_t j = i; j < k; ++j) rest += one(w[j]) * one(x[t * x_stride + j]);
    out[t * stride] = rest;
  }
}

#endif

template <class W, class X>
void product(float* out, int64_t stride, const W* w, const X* x, int64_t x_stride, int64_t rows, int64_t n, int64_t k) {
  parallel_parts(n, 1, [&](int64_t r) {
    const W* row = w + r * k;
    int64_t t = 0;
    for (; t + 4 <= rows; t += 4) dot<4>(out + t * stride + r, stride, row, x + t * x_stride, x_stride, k);
    const X* rest = x + t * x_stride;
    float* to = out + t * stride + r;
    if (rows - t == 3) dot<3>(to, stride, row, rest, x_stride, k);
    if (rows - t == 2) dot<2>(to, stride, row, rest, x_stride, k);
    if (rows - t == 1) dot<1>(to, stride, row, rest, x_stride, k);
  });
}

template <class X>
void product(float* out, int64_t stride, Tensor x, const Matrix& w) {
  const X* from = static_cast<const X*>(x.data);
  if (w.dtype == Dtype::f32) product(out, stride, static_cast<const float*>(w.data), from, x.stride, x.rows, w.n, w.k);
  if (w.dtype == Dtype::bf16) product(out, stride, static_cast<const uint16_t*>(w.data), from, x.stride, x.rows, w.n, w.k);
  if (w.dtype == Dtype::i8) product(out, stride, static_cast<const int8_t*>(w.data), from, x.stride, x.rows, w.n, w.k);
}

void matvec(float* out, int64_t stride, Tensor x, const Matrix& w) {
  if (x.dtype == Dtype::f32)
    product<float>(out, stride, x, w);
  else
    product<uint16_t>(out, stride, x, w);
}

}  // namespace

extern const MatvecKernels matvec_table = {matvec};

}  // namespace jvlm::cpu::JVLM_ISA
