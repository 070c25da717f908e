// The one symbol by which the engine opens this backend: out of libjvlm_cuda or libjvlm_emu.
#pragma once
#include "ops/ops.h"

namespace jvlm {

// device: the card's index. act: bf16. cublaslt: whether it is looked for (cublaslt.h). warm: what loads_late says. The caller owns what it gets; throws Error.
Ops* make_cuda_ops(int device, Dtype act, bool cublaslt = false, bool deterministic = false, bool warm = false);

}  // namespace jvlm

extern "C" jvlm::Ops* jvlm_make_ops(int device, int act, int deterministic);
