// The instruction sets that the kernels of this folder are compiled for; the best that the machine has is chosen once. JVLM_CPU_ISA=portable|avx2|avx512|amx in the
// environment lowers the choice (tests run all that the machine has).
//
// A kernel file defines its functions in `namespace jvlm::cpu::JVLM_ISA` and one table of function pointers; `pick` selects the table.
#pragma once

namespace jvlm::cpu {

enum class Isa { portable, avx2, avx512, amx };

Isa best_isa();          // of this machine; throws Error DEVICE if the environment names one that it lacks
const char* name(Isa isa);

}  // namespace jvlm::cpu
