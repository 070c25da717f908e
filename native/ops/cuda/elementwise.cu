// Rows picked by index, the decoder's input, and the largest logit.
//
// gather, embed: bound by memory, 8 h (6 h from a bf16 table) bytes a row: (1856, 2560) is 29 MB, 9 us at 3.35 TB/s; a row of a decode step
// costs its launch. Loads and stores of 16 bytes (8 from the table).
//
// argmax: 4 V bytes a row, one block each, 1,024 threads with four loads in flight: V = 32,010 is 128 KB, out of the second cache in about
// 2 us. Ties go to the lowest index and NaN gives -1, so the result depends on no order.
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kRowThreads = 256, kArgmaxThreads = 1024;

// The block copies one row.
JVLM_DEVICE void copy_row(float* to, const float* from, int cols) {
  for (int c = 4 * static_cast<int>(threadIdx.x); c + 4 <= cols; c += 4 * kRowThreads)
    *reinterpret_cast<float4*>(to + c) = *reinterpret_cast<const float4*>(from + c);
  const int c = cols / 4 * 4 + static_cast<int>(threadIdx.x);
  if (c < cols) to[c] = from[c];
}

__global__ void __launch_bounds__(kRowThreads) gather_kernel(float* out, int64_t out_stride, const float* x, int64_t x_stride, const int32_t* row, int32_t cols) {
  copy_row(out + blockIdx.x * out_stride, x + row[blockIdx.x] * x_stride, cols);
}

struct EmbedRows {
  float* out;
  const int32_t *token, *vision_row, *last_ids;
  const void* table;
  const float* vision;
  int64_t out_stride, vision_stride;
  int32_t cols;
};

// One row a block. Entry: the table's type, uint16_t (bf16) or float; Aligned: its rows, which lie without gaps, begin at multiples of four entries.
template <class Entry, bool Aligned>
__global__ void __launch_bounds__(kRowThreads) embed_kernel(const EmbedRows p) {
  const int r = static_cast<int>(blockIdx.x), seen = p.vision_row[r];
  float* out = p.out + r * p.out_stride;
  if (seen >= 0) return copy_row(out, p.vision + seen * p.vision_stride, p.cols);
  const int token = p.token[r];
  // A step may be queued before the one before is known to have failed (argmax gives -1): its rows are dropped, but must not be read from nowhere.
  const int64_t id = max(token < 0 ? p.last_ids[-1 - token] : token, 0);
  const Entry* entry = static_cast<const Entry*>(p.table) + id * p.cols;
  if constexpr (sizeof(Entry) == 4 && Aligned) {
    copy_row(out, entry, p.cols);
  } else if constexpr (Aligned) {
    for (int c = 4 * static_cast<int>(threadIdx.x); c < p.cols; c += 4 * kRowThreads) {
      const uint2 v = *reinterpret_cast<const uint2*>(entry + c);
      *reinterpret_cast<float4*>(out + c) = make_float4(ptx::low_bf16(v.x), ptx::high_bf16(v.x), ptx::low_bf16(v.y), ptx::high_bf16(v.y));
    }
  } else {
    for (int c = static_cast<int>(threadIdx.x); c < p.cols; c += kRowThreads) {
      if constexpr (sizeof(Entry) == 4)
        out[c] = entry[c];
      else
        out[c] = ptx::from_bf16(entry[c]);
    }
  }
}

// The better of two (value, index): larger, then lower index. NaN is carried as (infinity, -1), which nothing beats.
struct Best {
  float value;
  int32_t at;
  JVLM_DEVICE void take(float v, int32_t i) {
    if (v > value || (v == value && i < at)) value = v, at = i;
  }
};

JVLM_DEVICE Best best_of_warp(Best best) {
  for (int bits = 16; bits; bits /= 2) {
    const float value = ptx::shuffle_xor(best.value, bits);
    const int32_t at = ptx::shuffle_xor(best.at, bits);
    best.take(value, at);
  }
  return best;
}

__global__ void __launch_bounds__(kArgmaxThreads) argmax_kernel(int32_t* ids, const float* logits, int64_t stride, int32_t cols) {
  JVLM_SHARED(shared);
  Best* warps = reinterpret_cast<Best*>(shared);
  const float infinity = ptx::bits_float(0x7f800000u), *row = logits + blockIdx.x * stride;
  Best best{-infinity, 0};                                 // of a row that is -infinity throughout, index 0 is the answer
  // Four bytes a load: rows of 32,010 logits are not aligned to more, and a warp reads whole lines all the same.
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += kArgmaxThreads) {
    const float x = row[c];
    if (x > best.value) best.value = x, best.at = c;
    if (x != x) best.value = infinity, best.at = -1;
  }
  best = best_of_warp(best);
  if (ptx::lane() == 0) warps[threadIdx.x / 32] = best;
  ptx::barrier();
  if (threadIdx.x >= 32) return;
  best = best_of_warp(warps[threadIdx.x]);
  if (threadIdx.x == 0) ids[blockIdx.x] = best.at;
}

}  // namespace

void gather(const Queue& queue, Tensor out, Tensor x, const int32_t* row) {
  if (out.rows == 0) return;
  launch(queue.stream, gather_kernel, {dim3(static_cast<uint32_t>(out.rows)), dim3(kRowThreads)}, out.row<float>(0), out.stride, x.row<const float>(0), x.stride, row,
         static_cast<int32_t>(out.cols));
}

void embed(const Queue& queue, Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) {
  if (out.rows == 0) return;
  const EmbedRows p{out.row<float>(0), token, vision_row, last_ids, table.data, vision.row<const float>(0), out.stride, vision.stride, static_cast<int32_t>(out.cols)};
  const Shape shape{dim3(static_cast<uint32_t>(out.rows)), dim3(kRowThreads)};
  const bool aligned = out.cols % 4 == 0;
  if (table.dtype == Dtype::f32)
    launch(queue.stream, aligned ? embed_kernel<float, true> : embed_kernel<float, false>, shape, p);
  else
    launch(queue.stream, aligned ? embed_kernel<uint16_t, true> : embed_kernel<uint16_t, false>, shape, p);
}

void argmax(const Queue& queue, int32_t* ids, Tensor logits) {
  if (logits.rows == 0) return;
  launch(queue.stream, argmax_kernel, {dim3(static_cast<uint32_t>(logits.rows)), dim3(kArgmaxThreads), kArgmaxThreads / 32 * sizeof(Best)}, ids, logits.row<const float>(0),
         logits.stride, static_cast<int32_t>(logits.cols));
}

}  // namespace jvlm::cuda
