#include "image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/error.h"

namespace jvlm {
namespace {

constexpr int kBits = 22;
constexpr int32_t kHalf = 1 << (kBits - 1);
constexpr int64_t kMostPixels = int64_t{1} << 30;

// The taps of every output position of one axis.
struct Axis {
  std::vector<int32_t> first, count, weight;   // weight: `most` a position
  int32_t most = 0;
};

double bilinear(double t) { return t < 1 ? 1 - t : 0; }

double bicubic(double t) {
  constexpr double a = -0.5;
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return (((t - 5) * t + 8) * t - 4) * a;
  return 0;
}

Axis make_axis(int32_t from, int32_t to, int32_t filter) {
  const double scale = static_cast<double>(from) / to, stretch = std::max(scale, 1.0), support = (filter ? 2.0 : 1.0) * stretch;
  Axis axis;
  axis.most = static_cast<int32_t>(std::ceil(support)) * 2 + 1;
  axis.first.resize(static_cast<size_t>(to));
  axis.count.resize(static_cast<size_t>(to));
  axis.weight.assign(static_cast<size_t>(to) * static_cast<size_t>(axis.most), 0);
  std::vector<double> w(static_cast<size_t>(axis.most));
  for (int32_t i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale, inverse = 1 / stretch;
    const int32_t low = std::max(0, static_cast<int32_t>(center - support + 0.5));
    const int32_t high = std::min(from, static_cast<int32_t>(center + support + 0.5));
    double sum = 0;
    for (int32_t x = low; x < high; ++x) {
      const double t = std::fabs((x - center + 0.5) * inverse);
      sum += w[static_cast<size_t>(x - low)] = filter ? bicubic(t) : bilinear(t);
    }
    axis.first[static_cast<size_t>(i)] = low;
    axis.count[static_cast<size_t>(i)] = high - low;
    for (int32_t x = 0; x < high - low; ++x) {
      const double k = (sum != 0 ? w[static_cast<size_t>(x)] / sum : w[static_cast<size_t>(x)]) * (1 << kBits);
      axis.weight[static_cast<size_t>(i) * static_cast<size_t>(axis.most) + static_cast<size_t>(x)] = static_cast<int32_t>(k < 0 ? k - 0.5 : k + 0.5);
    }
  }
  return axis;
}

inline uint8_t clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// One row: every output pixel is a weighted sum of neighbouring pixels.
__attribute__((target_clones("avx512f", "avx2", "default"))) void horizontal(uint8_t* to, const uint8_t* from, const Axis& axis, int32_t width) {
  for (int32_t i = 0; i < width; ++i) {
    const int32_t* k = &axis.weight[static_cast<size_t>(i) * static_cast<size_t>(axis.most)];
    const uint8_t* p = from + 3 * static_cast<int64_t>(axis.first[static_cast<size_t>(i)]);
    const int32_t n = axis.count[static_cast<size_t>(i)];
    int32_t r = kHalf, g = kHalf, b = kHalf;
    for (int32_t x = 0; x < n; ++x) {
      r += k[x] * p[3 * x];
      g += k[x] * p[3 * x + 1];
      b += k[x] * p[3 * x + 2];
    }
    to[3 * i] = clip(r), to[3 * i + 1] = clip(g), to[3 * i + 2] = clip(b);
  }
}

#if defined(__x86_64__)

// The same for kRows rows at once, exact too: a weight is split into high * 2^kSplit + low, both of which fit into 16 bits, so that one
// instruction multiplies and adds two taps of a pixel's three channels. Taps come in fours: high halves of four, low halves of four.
constexpr int kRows = 4, kSplit = 11, kTaps = 4;
// How far behind the last tap's pixel a row may be read.
constexpr int64_t kOverread = 3 * kTaps + 16;

std::vector<int16_t> split_weights(const Axis& axis, int32_t width, int32_t groups) {
  std::vector<int16_t> split(static_cast<size_t>(width) * static_cast<size_t>(groups) * 2 * kTaps, 0);
  for (int32_t i = 0; i < width; ++i)
    for (int32_t x = 0; x < axis.count[static_cast<size_t>(i)]; ++x) {
      const int32_t k = axis.weight[static_cast<size_t>(i) * static_cast<size_t>(axis.most) + static_cast<size_t>(x)];
      int16_t* group = &split[(static_cast<size_t>(i) * static_cast<size_t>(groups) + static_cast<size_t>(x / kTaps)) * 2 * kTaps];
      group[x % kTaps] = static_cast<int16_t>(k >> kSplit);
      group[kTaps + x % kTaps] = static_cast<int16_t>(k & ((1 << kSplit) - 1));
    }
  return split;
}

__attribute__((target("avx2"))) void horizontal_rows(uint8_t* to, int64_t to_stride, const uint8_t* from, int64_t stride, const Axis& axis,
                                                     const int16_t* split, int32_t groups, int32_t width) {
  // Per half: two pixels of three interleaved bytes become (r0 r1) (g0 g1) (b0 b1) in 16 bits each; the upper half takes pixels 2 and 3.
  const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
                                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m256i high_of = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), low_of = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
  for (int32_t i = 0; i < width; ++i) {
    const uint8_t* p = from + 3 * static_cast<int64_t>(axis.first[static_cast<size_t>(i)]);
    const int32_t used = (axis.count[static_cast<size_t>(i)] + kTaps - 1) / kTaps;
    __m256i high[kRows], low[kRows];
    for (int r = 0; r < kRows; ++r) high[r] = low[r] = _mm256_setzero_si256();
    for (int32_t g = 0; g < used; ++g) {
      const __m256i k = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(split + 2 * kTaps * g)));
      const __m256i k_high = _mm256_permutevar8x32_epi32(k, high_of), k_low = _mm256_permutevar8x32_epi32(k, low_of);
      for (int r = 0; r < kRows; ++r) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + r * stride + 3 * kTaps * g));
        const __m256i pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), pairs);
        high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(pixels, k_high));
        low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(pixels, k_low));
      }
    }
    for (int r = 0; r < kRows; ++r) {
      const __m256i both = _mm256_add_epi32(_mm256_slli_epi32(high[r], kSplit), low[r]);
      __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
      sum = _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(kHalf)), kBits);
      sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
      const int32_t pixel = _mm_cvtsi128_si32(sum);
      // The fourth byte is the next pixel's, which comes next; behind the last pixel another thread may be writing.
      std::memcpy(to + r * to_stride + 3 * i, &pixel, i + 1 < width ? 4 : 3);
    }
    split += 2 * kTaps * groups;
  }
}

#endif

// One row: a weighted sum of whole rows, `bytes` wide.
__attribute__((target_clones("avx512f", "avx2", "default"))) void vertical(uint8_t* to, const uint8_t* from, int64_t bytes, const int32_t* k, int32_t n) {
  constexpr int64_t kBlock = 256;
  for (int64_t start = 0; start < bytes; start += kBlock) {
    const int64_t count = std::min(kBlock, bytes - start);
    int32_t sum[kBlock];
    for (int64_t i = 0; i < count; ++i) sum[i] = kHalf;
    for (int32_t y = 0; y < n; ++y) {
      const uint8_t* row = from + y * bytes + start;
      const int32_t w = k[y];
      for (int64_t i = 0; i < count; ++i) sum[i] += w * row[i];
    }
    for (int64_t i = 0; i < count; ++i) to[start + i] = clip(sum[i]);
  }
}

// The input rows that an axis reads.
struct Range {
  int32_t first, last;
};
Range read_by(const Axis& axis) { return {axis.first.front(), axis.first.back() + axis.count.back()}; }

void horizontal_pass(uint8_t* out, const uint8_t* rgb, int32_t height, int32_t width, int32_t to_width, int32_t filter) {
  const Axis columns = make_axis(width, to_width, filter);
  int32_t done = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    // Rows behind which too little of the picture follows are left to the plain loop.
    const int64_t stride = 3LL * width, safe = std::max(int64_t{0}, stride * height - kOverread) / stride;
    const int32_t groups = (columns.most + kTaps - 1) / kTaps, blocks = static_cast<int32_t>(safe / kRows);
    const std::vector<int16_t> split = split_weights(columns, to_width, groups);
#pragma omp parallel for schedule(static)
    for (int32_t b = 0; b < blocks; ++b)
      horizontal_rows(out + 3LL * kRows * b * to_width, 3LL * to_width, rgb + kRows * b * stride, stride, columns, split.data(), groups, to_width);
    done = blocks * kRows;
  }
#endif
#pragma omp parallel for schedule(static)
  for (int32_t y = done; y < height; ++y) horizontal(out + 3LL * y * to_width, rgb + 3LL * y * width, columns, to_width);
}

void vertical_pass(uint8_t* out, const uint8_t* rgb, int32_t first_row, const Axis& rows, int32_t to_height, int32_t width) {
  const int64_t bytes = 3LL * width;
#pragma omp parallel for schedule(static)
  for (int32_t y = 0; y < to_height; ++y) {
    const auto i = static_cast<size_t>(y);
    vertical(out + y * bytes, rgb + (rows.first[i] - first_row) * bytes, bytes, &rows.weight[i * static_cast<size_t>(rows.most)], rows.count[i]);
  }
}

void resize_one(uint8_t* out, const uint8_t* rgb, int32_t height, int32_t width, int32_t to_height, int32_t to_width, int32_t filter) {
  if (to_height == height) {
    if (to_width == width)
      std::memcpy(out, rgb, static_cast<size_t>(3LL * height * width));
    else
      horizontal_pass(out, rgb, height, width, to_width, filter);
    return;
  }
  const Axis rows = make_axis(height, to_height, filter);
  if (to_width == width) {
    vertical_pass(out, rgb, 0, rows, to_height, width);
    return;
  }
  // The pass that comes first decides where the 8-bit rounding falls. Pillow 13 starts with the rows where that leaves less to do:
  // found by comparing with it over many sizes, and proved by the goldens, which Pillow 13 made. Older versions always start with the columns.
  if (height - to_height > 2 * std::max(0, width - to_width)) {
    std::vector<uint8_t> between(static_cast<size_t>(3LL * to_height * width));
    vertical_pass(between.data(), rgb, 0, rows, to_height, width);
    horizontal_pass(out, between.data(), to_height, width, to_width, filter);
  } else {
    const Range read = read_by(rows);
    std::vector<uint8_t> between(static_cast<size_t>(3LL * (read.last - read.first) * to_width));
    horizontal_pass(between.data(), rgb + 3LL * read.first * width, read.last - read.first, width, to_width, filter);
    vertical_pass(out, between.data(), read.first, rows, to_height, to_width);
  }
}

}  // namespace

void resize_rgb(const uint8_t* rgb, int32_t height, int32_t width, int32_t filter, const int32_t* sizes, int32_t count, uint8_t* out) {
  auto check = [](int64_t h, int64_t w) {
    if (h < 1 || w < 1 || h * w > kMostPixels)
      throw image_error("A picture of " + std::to_string(w) + " x " + std::to_string(h) + " pixels cannot be resized; both sides must be positive and the area at most 2^30");
  };
  check(height, width);
  if (filter != 0 && filter != 1) throw image_error("The filter must be 0 (bilinear) or 1 (bicubic)");
  for (int32_t i = 0; i < count; ++i) check(sizes[2 * i], sizes[2 * i + 1]);
  for (int32_t i = 0; i < count; ++i) {
    resize_one(out, rgb, height, width, sizes[2 * i], sizes[2 * i + 1], filter);
    out += 3LL * sizes[2 * i] * sizes[2 * i + 1];
  }
}

}  // namespace jvlm
