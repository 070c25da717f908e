// The kernels' host side: one function an operation, which chooses tile sizes by shape and architecture alone, launches, and returns. All pointers
// are device memory. Activations are bf16 in uint16_t, their rows 16-byte aligned: `stride` is a multiple of 8 elements. Nothing allocates, waits or
// looks at data; scratch comes from the caller, its size from the function beside. Shapes and meanings are those of ops.h.
#pragma once
#include <cstdint>

#include "ops/cuda/device.h"
#include "ops/ops.h"

namespace jvlm::cuda {

// What every launch needs to know.
struct Queue {
  StreamHandle stream = nullptr;
  int architecture = 80, multiprocessors = 1;
  bool deterministic = false;                              // no kernel and no tile is chosen by how many rows there are
};

// ---- weights ----------------------------------------------------------------------------------------------------------------------------
// Packed weights are rows of k filled up with zeros to a multiple of kWeightStride inputs: bf16 or int8, (n, weight_stride(k)). int8 has one
// float scale a row in Matrix::scale. `Matrix::packed` is set.
constexpr int64_t kWeightStride = 64;
inline int64_t weight_stride(int64_t k) { return (k + kWeightStride - 1) / kWeightStride * kWeightStride; }

// What happens to a product's sums, in this order: * scale of int8 rows, + bias, activation; then one of:
struct End {
  enum Kind { store, add, gate } kind = store;
  // store: out (T, n) bf16 or float = result.
  // add: out (T, n) float += layer_scale * result (no activation).
  // gate: w is (2m, k), the rows of Wg then those of Wu; out (T, m) bf16 = act(x Wg^T) * (x Wu^T); no bias.
  const float* bias = nullptr;
  const float* layer_scale = nullptr;
  Act act = Act::none;
};

// gemm.cu: any T; x (T, k) bf16. Tensor cores, m16n8k16.
void gemm(const Queue& queue, Tensor out, Tensor x, const Matrix& w, const End& end);
// matvec.cu: T of at most kMatvecRows; the weights are read once. `norm` not null: x is float (T, k), normalised first, each block for itself, in
// float, rounded to bf16 as the split form rounds (norm_matmul, norm_matmul_gate in one launch).
constexpr int64_t kMatvecRows = 16;
void matvec(const Queue& queue, Tensor out, Tensor x, const Norm* norm, const Matrix& w, const End& end);

// ---- vision (patch_embed.cu, attention_dense.cu, pixel_shuffle.cu) ----------------------------------------------------------------------
// patches: scratch (tokens, weight_stride(3 * patch^2)) bf16, which the first kernel fills with normalised pixels rounded to bf16 as the
// reference rounds, columns (channel, y, x); the product with w, plus bias or class token, plus positions, is the second launch.
void patch_embed(const Queue& queue, Tensor out, const uint8_t* rgb, const Patch* tokens, int32_t patch, const Matrix& w, const float* bias,
                 const float* class_token, const float* positions, const float mean[3], const float std[3], void* patches);
void attention_dense(const Queue& queue, Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads,
                     int32_t kv_heads, int32_t head_size, float scale);
void pixel_shuffle_norm(const Queue& queue, Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& norm);

// ---- rows (norm.cu, elementwise.cu) -------------------------------------------------------------------------------------------------------
void norm(const Queue& queue, Tensor out, Tensor x, const Norm& norm);                        // x float -> out bf16 (or float)
// InternViT-6B: RMSNorm of q and of k over their full width inside qkv (T, 3*h) bf16, in place.
void norm_qk(const Queue& queue, Tensor qkv, const Norm& q, const Norm& k);
void gather(const Queue& queue, Tensor out, Tensor x, const int32_t* row);
void embed(const Queue& queue, Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision);
void argmax(const Queue& queue, int32_t* ids, Tensor logits);

// ---- decoder (rope_kv.cu, attention_prefill.cu, attention_decode.cu) ----------------------------------------------------------------------
void rope_table(const Queue& queue, float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude);
void rope_append(const Queue& queue, Tensor qkv, const KvCache& cache, int32_t heads, const Step& step);
// Any number of new tokens a sequence.
void attention_prefill(const Queue& queue, Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step);
// One new token a sequence (step.max_new == 1): the keys are split over blocks, the last block of a (sequence, key/value head) to arrive joins the
// parts: one launch. scratch: zeroed once, before the first launch; the kernel leaves its tickets zero.
int64_t attention_decode_scratch_bytes(int32_t max_sequences, int32_t heads, int32_t kv_heads, int32_t head_size, int32_t multiprocessors);
// append: q and k are rotated here too and the new key and value written (rope_append and attend in one launch; qkv is left as it was).
void attention_decode(const Queue& queue, Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step,
                      bool append, void* scratch);

// ---- sampling (sample.cu) -------------------------------------------------------------------------------------------------------------------
// counts, bias: null where no row has a penalty or a bias.
void sample(const Queue& queue, int32_t* ids, Tensor logits, const SampleRow* row, int32_t* counts, const float* bias, void* scratch);
int64_t sample_scratch_bytes(int64_t rows, int64_t vocabulary);

}  // namespace jvlm::cuda
