// Everything that goes row by row or element by element, compiled per instruction set.
#pragma once
#include "ops/cpu/isa.h"
#include "ops/ops.h"

namespace jvlm::cpu {

struct RowKernels {
  void (*norm)(Tensor out, Tensor x, const Norm& norm);
  void (*norm_qk)(Tensor qkv, const Norm& q, const Norm& k);
  void (*pixel_shuffle_norm)(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& norm);
  // Pixels of every patch, normalised: (T, 3*p*p) act, columns channel, y, x; a class token's are 0.
  void (*patches)(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const float mean[3], const float std[3]);
  void (*embed)(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision);
  void (*rope_append)(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step);
  void (*argmax)(int32_t* ids, Tensor logits);
  // Rows of a weight matrix of bf16 or int8; an int8 matrix gives its integers, its scale is applied to the product.
  void (*widen)(float* out, const Matrix& w, int64_t first_row, int64_t rows);
  void (*convert)(Tensor out, Tensor x);
  // The ends of products: `sum` (T, n) float is x W^T.
  void (*finish)(Tensor out, const float* sum, int64_t stride, const float* scale, const float* bias, Act act);
  void (*finish_add)(Tensor x, const float* sum, int64_t stride, const float* scale, const float* bias, const float* layer_scale);
  void (*finish_gate)(Tensor out, const float* sum, int64_t stride, const float* scale, Act act);
};

namespace portable { extern const RowKernels row_table; }
namespace avx2 { extern const RowKernels row_table; }
namespace avx512 { extern const RowKernels row_table; }
namespace amx { extern const RowKernels row_table; }

}  // namespace jvlm::cpu
