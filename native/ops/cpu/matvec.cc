#include "ops/cpu/matvec.h"

#include <algorithm>

#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

// The sums over whole vectors of `streams` rows of W, `step` numbers apart, with `count` rows of x; returns how many numbers of a row they cover.
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

// out[i] = the sum of v[i]'s lanes.
inline void put_sums(float* out, const Vec* v) {
#if defined(__AVX512F__)
  store(out, std::bit_cast<Vec>(across(v, [](__m512 a, __m512 b) { return a + b; })));
#else
  for (int i = 0; i < kLanes; ++i) out[i] = sum(v[i]);
#endif
}

// `each` rows in each of `streams` stretches of W that begin `step` numbers apart, with `count` rows of x at once: a weight is widened once for all of these,
// and what is loaded of x serves all streams. Lanes are summed up for all rows of W together: a row is read in a hundred cycles or two, and sums of
// its own would take a fifth of that.
template <int streams, int count, class W, class X>
void dot(float* out, int64_t out_step, int64_t stride, const W* w, int64_t step, int64_t each, const X* x, int64_t x_stride, int64_t k) {
  constexpr int most = kLanes / streams;
  Vec total[count][kLanes] = {};
  for (int64_t r = 0; r < each; ++r, w += k) {
    Vec acc[streams][count][2] = {};
    const int64_t whole = sums(acc, w, step, x, x_stride, k);
    for (int s = 0; s < streams; ++s)
      for (int t = 0; t < count; ++t) {
        Vec& own = total[t][s * most + r];
        own = acc[s][t][0] + acc[s][t][1];
        for (int64_t j = whole; j < k; ++j) own[j % kLanes] += one(w[s * step + j]) * one(x[t * x_stride + j]);
      }
  }
  for (int t = 0; t < count; ++t) {
    float sums_of[kLanes];
    put_sums(sums_of, total[t]);
    for (int s = 0; s < streams; ++s) std::copy_n(sums_of + s * most, each, out + t * stride + s * out_step);
  }
}

template <int streams, class W, class X>
void piece(float* out, int64_t stride, const W* w, int64_t n, const X* x, int64_t x_stride, int64_t rows, int64_t k) {
  constexpr int most = kLanes / streams;
  const int64_t part = n / streams, step = part * k;
  for (int64_t r = 0; r < part; r += most) {
    const int64_t each = std::min<int64_t>(most, part - r);
    float* to = out + r;
    int64_t t = 0;
    for (; t + 4 <= rows; t += 4) dot<streams, 4>(to + t * stride, part, stride, w + r * k, step, each, x + t * x_stride, x_stride, k);
    to += t * stride;
    if (rows - t == 3) dot<streams, 3>(to, part, stride, w + r * k, step, each, x + t * x_stride, x_stride, k);
    if (rows - t == 2) dot<streams, 2>(to, part, stride, w + r * k, step, each, x + t * x_stride, x_stride, k);
    if (rows - t == 1) dot<streams, 1>(to, part, stride, w + r * k, step, each, x + t * x_stride, x_stride, k);
  }
  if (n % streams) piece<1>(out + n - 1, stride, w + (n - 1) * k, 1, x, x_stride, rows, k);
}

template <class W, class X>
void product(float* out, int64_t stride, const W* w, const X* x, int64_t x_stride, int64_t rows, int64_t n, int64_t k) {
  parallel_pieces(n, (n + team_size() - 1) / team_size(), [&](int64_t first, int64_t last) {
    // One row of x takes little loading, and memory is read faster in its own order.
    const auto all = rows > 1 ? piece<2, W, X> : piece<1, W, X>;
    all(out + first, stride, w + first * k, last - first, x, x_stride, rows, k);
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
