// Products of bf16 with weights in the order that AMX tiles take, and AVX-512 without them. Rows of W go in groups of 16; a group holds, for every 32 inputs, one tile:
// sixteen pairs of inputs, each pair for all 16 rows one after the other. n is filled up to a multiple of 16 and k of 32 with zeros.
// bf16: a tile is 1 KiB. int8: half the size, and two pairs, a and b, share 64 bytes: four rows' a, the same rows' b, and so on, which is
// the order that widening bytes within quarters of a register undoes. The product of one row reads the same memory straight through, sixteen
// outputs at a time, so that there is one copy of a weight for both.
#pragma once
#include "ops/cpu/gemm.h"

namespace jvlm::cpu {

constexpr int64_t kGroupRows = 16, kTileInputs = 32, kTileNumbers = kGroupRows * kTileInputs;

inline int64_t packed_numbers(int64_t n, int64_t k) {
  return (n + kGroupRows - 1) / kGroupRows * ((k + kTileInputs - 1) / kTileInputs) * kTileNumbers;
}
// Where row r, input i lies.
inline int64_t packed_index(Dtype dtype, int64_t r, int64_t i, int64_t k) {
  const int64_t tiles = (k + kTileInputs - 1) / kTileInputs, tile = (r / kGroupRows * tiles + i / kTileInputs) * kTileNumbers;
  const int64_t pair = i % kTileInputs / 2, row = r % kGroupRows;
  if (dtype == Dtype::i8) return tile + pair / 2 * 64 + row / 4 * 16 + pair % 2 * 8 + row % 4 * 2 + i % 2;
  return tile + pair * 2 * kGroupRows + row * 2 + i % 2;
}

// w is packed, bf16 or int8; x bf16 or, but for tiles, float32, its row length a multiple of 32 (or filled up to one with zeros). x says in which type the
// products are.
struct PackedKernels {
  int64_t (*scratch_bytes)(int64_t max_inputs, int threads);
  void (*product)(Tensor out, Tensor x, const Matrix& w, const Epilogue& end, void* scratch);
  // out (T, n/2) = act(x Wg^T) * (x Wu^T), n/2 a multiple of 16.
  void (*gate)(Tensor out, Tensor x, const Matrix& w, Act act, void* scratch);
  // out (T, n) float, rows `stride` apart, = x W^T without W's scale; few rows of bf16, of any length.
  void (*matvec)(float* out, int64_t stride, Tensor x, const Matrix& w);
};

namespace avx512 { extern const PackedKernels packed_table; }
namespace amx { extern const PackedKernels packed_table; }

}  // namespace jvlm::cpu
