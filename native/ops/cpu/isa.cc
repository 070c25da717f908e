#include "ops/cpu/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"
#if defined(__x86_64__)
#include "ops/cpu/amx.h"
#endif

namespace jvlm::cpu {
namespace {

Isa found() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512bf16"))
    return amx_there() ? Isa::amx : Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return Isa::avx2;
#endif
  return Isa::portable;
}

}  // namespace

Isa best_isa() {
  const Isa most = found();
  const char* asked = std::getenv("JVLM_CPU_ISA");
  if (!asked || !*asked) return most;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512, Isa::amx})
    if (asked == std::string(name(isa))) {
      if (isa > most) throw device_error(std::string("JVLM_CPU_ISA asks for ") + asked + ", which this CPU does not have");
      return isa;
    }
  throw device_error("JVLM_CPU_ISA is none of portable, avx2, avx512, amx");
}

const char* name(Isa isa) { return isa == Isa::amx ? "amx" : isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "portable"; }

}  // namespace jvlm::cpu
