// The AMX instructions that kernels use, as immintrin.h has them. For tests on machines without them, native/emu/ops/cpu/amx.h comes first on
// the include path.
#pragma once
#include <immintrin.h>

#include "base/os.h"

namespace jvlm::cpu {

// Not _tile_loadconfig: gcc 12 believes that it reads eight bytes, and drops the stores to the others.
static inline void load_tile_config(const void* config) { __asm__ volatile("ldtilecfg %0" ::"m"(*static_cast<const char(*)[64]>(config))); }

// Whether the processor has tiles of bf16 and the system lets this process use them.
static inline bool amx_there() { return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && os::allow_tiles(); }

}  // namespace jvlm::cpu
