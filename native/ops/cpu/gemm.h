// Dense products of many rows: oneDNN, or our own where the build has none.
#pragma once
#include <memory>

#include "ops/cpu/isa.h"
#include "ops/ops.h"

namespace jvlm::cpu {

// What happens to a product before it is stored, in this order; null or none: nothing.
struct Epilogue {
  const float* bias = nullptr;          // (n) +
  Act act = Act::none;
  const float* layer_scale = nullptr;   // (n) *
  bool add = false;                     // + what the output held
  Tensor times;                         // (T, n) act, *
};

class Gemm {
 public:
  virtual ~Gemm() = default;

  // sum (T, n) float = x W^T; x (T, k) and w (n, k) of the same type, f32 or bf16.
  virtual void product(Tensor sum, Tensor x, const void* w) = 0;
  // The same with its end fused: out f32 or the type of x. False if this build cannot; nothing was done then.
  virtual bool fused(Tensor out, Tensor x, const void* w, const Epilogue& end) = 0;
};

std::unique_ptr<Gemm> make_gemm(Isa isa);

// Our own product, f32 arithmetic: sum (T, n) = x W^T.
struct OwnGemmKernels {
  void (*product)(Tensor sum, Tensor x, const void* w);
};
namespace portable { extern const OwnGemmKernels gemm_table; }
namespace avx2 { extern const OwnGemmKernels gemm_table; }
namespace avx512 { extern const OwnGemmKernels gemm_table; }
namespace amx { extern const OwnGemmKernels gemm_table; }

}  // namespace jvlm::cpu
