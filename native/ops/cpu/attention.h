// Attention on the CPU: dense over the keys of a picture, causal over the paged cache.
#pragma once
#include "ops/ops.h"

namespace jvlm::cpu {

constexpr int64_t kMostSize = 512;        // of a head, as spec.cc has it

struct AttentionKernels {
  // Bytes of scratch that both need, for all threads.
  int64_t (*scratch_bytes)(const Scratch& scratch, int threads);
  // product: the type in which many queries of bf16 meet their keys and values, whichever multiplies faster here. One query reads its keys as they lie.
  void (*attention)(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads,
                    int32_t head_size, float scale, Dtype product, void* scratch);
  void (*attend)(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step, Dtype product, void* scratch);
};

namespace portable { extern const AttentionKernels attention_table; }
namespace avx2 { extern const AttentionKernels attention_table; }
namespace avx512 { extern const AttentionKernels attention_table; }
namespace amx { extern const AttentionKernels attention_table; }

}  // namespace jvlm::cpu
