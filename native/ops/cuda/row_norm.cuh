// LayerNorm or RMSNorm of one row, by a warp or by a block: what norm.cu and pixel_shuffle.cu share. A thread keeps its part of the row in
// registers, so that memory is read once although mean and variance need the row twice: E[x^2] - E[x]^2 would lose all digits of rows whose
// mean is large against their spread, which the residual stream of a ViT has.
//
// A thread owns quads of four columns, Threads quads apart: a warp reads 512 and writes 256 bytes in a row.
#pragma once
#include "ops/cuda/ptx/common.cuh"
#include "ops/ops.h"

namespace jvlm::cuda {

constexpr int kQuads = 8;                                  // of a thread: 32 columns, as many registers
constexpr int kNormWarps = 16;                             // of the widest block
struct NormShared {
  float mean[kNormWarps], square[kNormWarps];              // one after the other: a second barrier would only wait for readers of the first
};

// The widths that Threads threads hold.
constexpr int64_t norm_width(int threads) { return int64_t{4} * kQuads * threads; }

// The sum over the Threads threads of a row, for each of them, in the same order always.
template <int Threads>
JVLM_DEVICE float row_sum(float v, float* warps) {
  for (int bits = 16; bits; bits /= 2) v += ptx::shuffle_xor(v, bits);
  if constexpr (Threads > 32) {
    if (ptx::lane() == 0) warps[threadIdx.x / 32] = v;
    ptx::barrier();
    v = 0;
    for (int w = 0; w < Threads / 32; ++w) v += warps[w];
  }
  return v;
}

// Columns c ... c + 3 of a row of `cols` (c below it); what lies beyond the row is not read, and 0.
JVLM_DEVICE float4 load_quad(const float* row, int64_t c, int64_t cols) {
  if (c + 4 <= cols) return *reinterpret_cast<const float4*>(row + c);
  float4 v = make_float4(row[c], 0.f, 0.f, 0.f);
  if (c + 1 < cols) v.y = row[c + 1];
  if (c + 2 < cols) v.z = row[c + 2];
  return v;
}
JVLM_DEVICE float4 load_quad(const uint16_t* row, int64_t c, int64_t cols) {
  if (c + 4 <= cols) {
    const uint2 v = *reinterpret_cast<const uint2*>(row + c);
    return make_float4(ptx::low_bf16(v.x), ptx::high_bf16(v.x), ptx::low_bf16(v.y), ptx::high_bf16(v.y));
  }
  float4 v = make_float4(ptx::from_bf16(row[c]), 0.f, 0.f, 0.f);
  if (c + 1 < cols) v.y = ptx::from_bf16(row[c + 1]);
  if (c + 2 < cols) v.z = ptx::from_bf16(row[c + 2]);
  return v;
}

JVLM_DEVICE void store_quad(float* row, int64_t c, int64_t cols, float4 v) {
  if (c + 4 <= cols) {
    *reinterpret_cast<float4*>(row + c) = v;
    return;
  }
  row[c] = v.x;
  if (c + 1 < cols) row[c + 1] = v.y;
  if (c + 2 < cols) row[c + 2] = v.z;
}
JVLM_DEVICE void store_quad(uint16_t* row, int64_t c, int64_t cols, float4 v) {
  if (c + 4 <= cols) {
    *reinterpret_cast<uint2*>(row + c) = make_uint2(ptx::pack_bf16(v.x, v.y), ptx::pack_bf16(v.z, v.w));
    return;
  }
  row[c] = ptx::to_bf16(v.x);
  if (c + 1 < cols) row[c + 1] = ptx::to_bf16(v.y);
  if (c + 2 < cols) row[c + 2] = ptx::to_bf16(v.z);
}

// out[c] = (row[c] - mean) / sqrt(variance + eps) * weight[c] + bias[c], no mean with NormKind::rms; bias null: none. load(c) gives the
// quad at column c of the row, zeros beyond its end; `loaded()` is called once it is in registers. All Threads threads of the row come here.
template <int Threads, NormKind Kind, class Load, class Loaded, class Out>
JVLM_DEVICE void normalise_row(Out* out, int64_t cols, const Norm& n, NormShared* shared, Load load, Loaded loaded) {
  const int first = 4 * static_cast<int>(threadIdx.x % Threads), width = static_cast<int>(cols);
  float4 v[kQuads];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const int c = first + 4 * Threads * i;
    v[i] = c < width ? load(c) : make_float4(0.f, 0.f, 0.f, 0.f);
    sum += v[i].x + v[i].y + (v[i].z + v[i].w);
  }
  loaded();
  float mean = 0;
  if constexpr (Kind == NormKind::layer) mean = row_sum<Threads>(sum, shared->mean) / static_cast<float>(width);

  float square = 0;
#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const int c = first + 4 * Threads * i;
    const float x[4] = {v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean};
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (c + j < width) square += x[j] * x[j];
  }
  const float factor = rsqrtf(row_sum<Threads>(square, shared->square) / static_cast<float>(width) + n.eps);

#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const int c = first + 4 * Threads * i;
    if (c >= width) break;
    const float4 w = load_quad(n.weight, c, width);
    float4 y = make_float4((v[i].x - mean) * factor * w.x, (v[i].y - mean) * factor * w.y, (v[i].z - mean) * factor * w.z, (v[i].w - mean) * factor * w.w);
    if (n.bias) {
      const float4 b = load_quad(n.bias, c, width);
      y.x += b.x, y.y += b.y, y.z += b.z, y.w += b.w;
    }
    store_quad(out, c, width, y);
  }
}

}  // namespace jvlm::cuda
