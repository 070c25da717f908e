// Products of few rows: each weight is read once, which is what bounds them.
#pragma once
#include "ops/ops.h"

namespace jvlm::cpu {

struct MatvecKernels {
  // out (T, n) float, rows `stride` apart, = x W^T without W's scale; x (T, k) act, T <= 16. All threads.
  void (*matvec)(float* out, int64_t stride, Tensor x, const Matrix& w);
};

namespace portable { extern const MatvecKernels matvec_table; }
namespace avx2 { extern const MatvecKernels matvec_table; }
namespace avx512 { extern const MatvecKernels matvec_table; }
namespace amx { extern const MatvecKernels matvec_table; }

}  // namespace jvlm::cpu
