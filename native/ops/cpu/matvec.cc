#include "ops/cpu/matvec.h"

#include <type_traits>

#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

// The sums over whole vectors; returns how many numbers of a row they cover.
template <int streams, int count, class W, class X>
int64_t sums(Vec (&acc)[streams][count][2], const W* w, int64_t step, const X* x, int64_t x_stride, int64_t k) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= k; i += 2 * kLanes)
    for (int s = 0; s < streams; ++s) {
      const Vec a = load(w + s * step + i), b = load(w + s * step + i + kLanes);
      for (int t = 0; t < count; ++t) {
        acc[s][t][0] += a * load(x + t * x_stride + i);
        acc[s][t][1] += b * load(x + t * x_stride + i + kLanes);
      }
    }
  return i;
}

#ifdef JVLM_DOT_BF16

// Bytes between what is used and what is fetched, measured: bf16 is used as fast as it comes, int8 leaves time.
constexpr int64_t kAhead = 1024, kAheadNarrow = 4096;

struct TwoPairs {
  Pairs a, b;
};
inline TwoPairs load_ahead(const uint16_t* w) {
  // Rows follow each other: beyond the end of one lies what is read next.
  _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead, _MM_HINT_T1);
  _mm_prefetch(reinterpret_cast<const char*>(w) + kAhead + 64, _MM_HINT_T1);
  return {load_pairs(w), load_pairs(w + 32)};
}
inline TwoPairs load_ahead(const int8_t* w) {
  _mm_prefetch(reinterpret_cast<const char*>(w) + kAheadNarrow, _MM_HINT_T1);
  return {upper_halves(load(w), load(w + 16)), upper_halves(load(w + 32), load(w + 48))};   // int8 is exact in bf16
}

template <int streams, int count, class W>
  requires(!std::is_same_v<W, float>)
int64_t sums(Vec (&acc)[streams][count][2], const W* w, int64_t step, const uint16_t* x, int64_t x_stride, int64_t k) {
  int64_t i = 0;
  for (; i + 64 <= k; i += 64) {
    TwoPairs weights[streams];
    for (int s = 0; s < streams; ++s) weights[s] = load_ahead(w + s * step + i);
    for (int t = 0; t < count; ++t) {
      const Pairs a = load_pairs(x + t * x_stride + i), b = load_pairs(x + t * x_stride + i + 32);
      for (int s = 0; s < streams; ++s) {
        acc[s][t][0] = dot_pairs(acc[s][t][0], weights[s].a, a);
        acc[s][t][1] = dot_pairs(acc[s][t][1], weights[s].b, b);
      }
    }
  }
  return i;
}

#endif

// `streams` rows of W, `step` numbers apart, with `count` rows of x at once: a weight is widened once for all rows of x, and what is loaded of x serves
// all streams.
template <int streams, int count, class W, class X>
void dot(float* out, int64_t out_step, int64_t stride, const W* w, int64_t step, const X* x, int64_t x_stride, int64_t k) {
  Vec acc[streams][count][2] = {};
  const int64_t whole = sums(acc, w, step, x, x_stride, k);
  for (int s = 0; s < streams; ++s)
    for (int t = 0; t < count; ++t) {
      float rest = sum(acc[s][t][0] + acc[s][t][1]);
      for (int64_t j = whole; j < k; ++j) rest += one(w[s * step + j]) * one(x[t * x_stride + j]);
      out[t * stride + s * out_step] = rest;
    }
}

template <int streams, class W, class X>
void rows_of(float* out, int64_t out_step, int64_t stride, const W* w, int64_t step, const X* x, int64_t x_stride, int64_t rows, int64_t k) {
  int64_t t = 0;
  for (; t + 4 <= rows; t += 4) dot<streams, 4>(out + t * stride, out_step, stride, w, step, x + t * x_stride, x_stride, k);
  out += t * stride, x += t * x_stride;
  if (rows - t == 3) dot<streams, 3>(out, out_step, stride, w, step, x, x_stride, k);
  if (rows - t == 2) dot<streams, 2>(out, out_step, stride, w, step, x, x_stride, k);
  if (rows - t == 1) dot<streams, 1>(out, out_step, stride, w, step, x, x_stride, k);
}

template <class W, class X>
void product(float* out, int64_t stride, const W* w, const X* x, int64_t x_stride, int64_t rows, int64_t n, int64_t k) {
  // A thread's rows are read as two streams, each in the order of memory.
  parallel_pieces(n, (n + team_size() - 1) / team_size(), [&](int64_t first, int64_t last) {
    const int64_t half = (last - first) / 2;
    for (int64_t r = first; r < first + half; ++r) rows_of<2>(out + r, half, stride, w + r * k, half * k, x, x_stride, rows, k);
    if ((last - first) % 2) rows_of<1>(out + last - 1, 0, stride, w + (last - 1) * k, 0, x, x_stride, rows, k);
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
