// Products of many rows in float32, with plain weights: oneDNN, or our own where the build has none.
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
};

class Gemm {
 public:
  virtual ~Gemm() = default;

  // sum (T, n) = x W^T; x (T, k) and w (n, k).
  virtual void product(Tensor sum, Tensor x, const float* w) = 0;
  // The same with its end fused. False if this build cannot; nothing was done then.
  virtual bool fused(Tensor out, Tensor x, const float* w, const Epilogue& end) = 0;
};

std::unique_ptr<Gemm> make_gemm(Isa isa);

// Our own product: sum (T, n) = x W^T.
struct OwnGemmKernels {
  void (*product)(Tensor sum, Tensor x, const float* w);
};
namespace portable { extern const OwnGemmKernels gemm_table; }
namespace avx2 { extern const OwnGemmKernels gemm_table; }
namespace avx512 { extern const OwnGemmKernels gemm_table; }
namespace amx { extern const OwnGemmKernels gemm_table; }

}  // namespace jvlm::cpu
