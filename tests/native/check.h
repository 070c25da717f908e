// What the native tests share: seeded numbers, poisoned and guarded buffers, one bound, one report.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/bf16.h"
#include "base/tensor.h"

namespace jvlm::test {

inline int failures = 0, cases = 0;

// A matrix in memory of its own. Rows lie `stride` apart; what is not written yet, and 64 bytes before and after, is NaN.
class Buffer {
 public:
  Buffer(Dtype dtype, int64_t rows, int64_t cols, int64_t stride = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), stride_(stride ? stride : cols), bytes_(static_cast<size_t>(rows * stride_ * size_of(dtype) + 128), '\xff') {}

  Tensor tensor() { return {bytes_.data() + 64, dtype_, rows_, cols_, stride_}; }
  operator Tensor() { return tensor(); }

  float get(int64_t r, int64_t c) {
    return dtype_ == Dtype::f32 ? tensor().row<float>(r)[c] : from_bf16(tensor().row<uint16_t>(r)[c]);
  }
  void set(int64_t r, int64_t c, float v) {
    if (dtype_ == Dtype::f32)
      tensor().row<float>(r)[c] = v;
    else
      tensor().row<uint16_t>(r)[c] = to_bf16(v);
  }
  Buffer& random(uint32_t seed, float spread = 1, float centre = 0) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(centre, spread);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t c = 0; c < cols_; ++c) set(r, c, normal(engine));
    return *this;
  }
  float* floats() { return tensor().row<float>(0); }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  Dtype dtype() const { return dtype_; }

  // Whether nothing was written outside the matrix.
  bool guarded() const {
    auto poison = [&](size_t from, size_t to) {
      for (size_t i = from; i < to; ++i)
        if (bytes_[i] != '\xff') return false;
      return true;
    };
    bool good = poison(0, 64) && poison(bytes_.size() - 64, bytes_.size());
    const auto size = static_cast<size_t>(size_of(dtype_));
    for (int64_t r = 0; r < rows_; ++r)
      good &= poison(64 + static_cast<size_t>(r * stride_ + cols_) * size, 64 + static_cast<size_t>((r + 1) * stride_) * size);
    return good;
  }

 private:
  Dtype dtype_;
  int64_t rows_, cols_, stride_;
  std::vector<char> bytes_;
};

// How far `got` may lie from `want`, which was summed in double and rounded once to the same type:
//   one spacing of the output's type (2^-7 of the value for bf16, 2^-22 allowed for f32): sums a hair apart may round to different sides, plus
//   the float32 summation of `terms` products of size `magnitude` each, whose errors add like a random walk: 2^-24 * terms * magnitude / sqrt(terms),
//   allowed eight times over for the worst of many thousand values, plus
//   `inner`: roundings inside the operation that its page allows, in units of the values' magnitude.
inline double bound(Dtype out, double want, double terms, double magnitude, double inner) {
  return (out == Dtype::f32 ? 0x1p-22 : 0x1p-7) * std::fabs(want) + 8 * 0x1p-24 * std::sqrt(terms) * magnitude + inner + 1e-30;
}

inline void compare(const std::string& name, Buffer& got, Buffer& want, double terms, double magnitude, double inner = 0) {
  ++cases;
  double worst = -1, dot = 0, a2 = 0, b2 = 0;
  int64_t at_row = 0, at_col = 0;
  for (int64_t r = 0; r < want.rows(); ++r)
    for (int64_t c = 0; c < want.cols(); ++c) {
      const double a = got.get(r, c), b = want.get(r, c);
      dot += a * b, a2 += a * a, b2 += b * b;
      double share = std::fabs(a - b) / bound(got.dtype(), b, terms, magnitude, inner);
      if (std::isnan(a) != std::isnan(b)) share = std::numeric_limits<double>::infinity();
      if (share > worst) worst = share, at_row = r, at_col = c;
    }
  if (worst > 1 || !got.guarded()) {
    ++failures;
    std::printf("FAIL %s: worst at (%lld, %lld): %.9g instead of %.9g, %.2f times the bound; cosine %.9f%s\n", name.c_str(),
                static_cast<long long>(at_row), static_cast<long long>(at_col), got.get(at_row, at_col), want.get(at_row, at_col), worst,
                dot / std::sqrt(a2 * b2), got.guarded() ? "" : "; wrote outside its output");
  }
}

inline void expect(const std::string& name, bool good) {
  ++cases;
  if (!good) {
    ++failures;
    std::printf("FAIL %s\n", name.c_str());
  }
}

inline int report(const char* suite) {
  std::printf("%s: %d cases, %d failed\n", suite, cases, failures);
  return failures || !cases;
}

}  // namespace jvlm::test
