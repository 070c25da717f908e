// Backends by device name. Nobody else knows which library is behind a name.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "engine/limits.h"
#include "ops/ops.h"

namespace jvlm {

inline Dtype act_of(Precision p) { return p == Precision::f32 ? Dtype::f32 : Dtype::bf16; }

// cpu; cuda:0, cuda:1, ... out of libjvlm_cuda; emu, the same kernels emulated on the CPU, out of libjvlm_emu (tests only). The libraries lie
// beside libjvlm or in the folder that JVLM_BACKENDS names. DEVICE where a device cannot be had: what is missing and how it is got.
// deterministic: each row of a result is the same to the last bit whatever the other rows are and however many; the CPU refuses it.
std::unique_ptr<Ops> make_ops(const std::string& device, Precision precision, bool deterministic = false);

// "name<TAB>description" of every device there is, a line each, best first. Where a driver is there and no card can be used, the CPU's
// description says why.
std::string list_devices();

}  // namespace jvlm
