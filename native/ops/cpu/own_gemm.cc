#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/cpu/gemm.h"
#include "ops/cpu/team.h"

// The product without oneDNN. W's rows are packed, a block of columns at a time, so that the inner loop reads them in order; a
// register tile of kRows x kColumns sums is kept over a block of k.
namespace jvlm::cpu::JVLM_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 3, kRows = 8;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6;
#else
constexpr int kLanes = 4, kVectors = 2, kRows = 4;
#endif
constexpr int kColumns = kLanes * kVectors;
constexpr int64_t kDepth = 512;

typedef float Vector __attribute__((vector_size(kLanes * 4), aligned(4)));

// sum (rows, kColumns) += a (rows, depth; stride kDepth) * b (depth, kColumns)
template <int rows>
void tile(float* sum, const float* a, const float* b, int64_t depth) {
  Vector acc[rows][kVectors];
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = *reinterpret_cast<Vector*>(sum + r * kColumns + v * kLanes);
  for (int64_t k = 0; k < depth; ++k, b += kColumns)
    for (int v = 0; v < kVectors; ++v) {
      const Vector w = *reinterpret_cast<const Vector*>(b + v * kLanes);
      for (int r = 0; r < rows; ++r) acc[r][v] += a[r * kDepth + k] * w;
    }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector*>(sum + r * kColumns + v * kLanes) = acc[r][v];
}

void product(Tensor sum, Tensor x, const float* w) {
  const int64_t blocks = (sum.cols + kColumns - 1) / kColumns, k_all = x.cols;
  parallel_pieces(blocks, std::max<int64_t>(1, blocks / (4 * team_size())), [&](int64_t from, int64_t to) {
    std::vector<float> b(static_cast<size_t>(kDepth * kColumns)), a(static_cast<size_t>(kDepth * kRows)), out(kRows * kColumns);
    for (int64_t block = from; block < to; ++block) {
      const int64_t first = block * kColumns, columns = std::min<int64_t>(kColumns, sum.cols - first);
      for (int64_t k = 0; k < k_all; k += kDepth) {
        const int64_t depth = std::min(kDepth, k_all - k);
        for (int64_t c = 0; c < kColumns; ++c)
          for (int64_t i = 0; i < depth; ++i)
            b[static_cast<size_t>(i * kColumns + c)] = c < columns ? w[(first + c) * k_all + k + i] : 0.f;
        for (int64_t r = 0; r < x.rows; r += kRows) {
          const int64_t rows = std::min<int64_t>(kRows, x.rows - r);
          for (int64_t i = 0; i < rows; ++i)
            std::copy_n(x.row<float>(r + i) + k, depth, &a[static_cast<size_t>(i * kDepth)]);
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t c = 0; c < kColumns; ++c)
              out[static_cast<size_t>(i * kColumns + c)] = k && c < columns ? sum.row<float>(r + i)[first + c] : 0.f;
          tile<kRows>(out.data(), a.data(), b.data(), depth);
          for (int64_t i = 0; i < rows; ++i)
            std::memcpy(sum.row<float>(r + i) + first, &out[static_cast<size_t>(i * kColumns)], static_cast<size_t>(columns) * 4);
        }
      }
    }
  });
}

}  // namespace

extern const OwnGemmKernels gemm_table = {product};

}  // namespace jvlm::cpu::JVLM_ISA
