// The CPU backend's operations against `reference`: all instruction sets of this machine, both kinds of product.
#include "ops/cpu/isa.h"
#include "ops_cases.h"

using namespace jvlm;
using namespace jvlm::test;

//   ops_test best|others|amx f32|bf16      the instruction sets: this CPU's best, those below it, or amx; what lies between operations
// amx has no f32 of its own: it is what avx512 has. 77 if this CPU lacks what is asked for.
int main(int count, char** arguments) {
  const cpu::Isa most = cpu::best_isa();
  if (count != 3) {
    std::fputs("usage: ops_test best|others|amx f32|bf16\n", stderr);
    return 64;
  }
  const std::string which = arguments[1];
  const Dtype act = std::string(arguments[2]) == "f32" ? Dtype::f32 : Dtype::bf16;
  if (which == "amx" && most < cpu::Isa::amx) return 77;
  for (cpu::Isa isa : {cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512, cpu::Isa::amx})
    for (const char* product : {"f32", "bf16"}) {
      if (which == "best" ? isa != most : which == "others" ? isa == most : isa != cpu::Isa::amx) continue;
      if (isa > most) {
        std::printf("not run: %s, which this CPU does not have\n", cpu::name(isa));
        continue;
      }
      if (std::string(product) == "bf16" && (act == Dtype::f32 || isa < cpu::Isa::avx512)) continue;
      if (std::string(product) == "f32" && act == Dtype::bf16 && isa == cpu::Isa::amx) continue;        // tiles are of bf16
      setenv("JVLM_CPU_ISA", cpu::name(isa), 1);
      setenv("JVLM_CPU_PRODUCT", product, 1);
      Pair p{make_cpu_ops(act), make_reference_ops(act), act};
      p.ops->reserve(case_scratch());
      at = std::string(" [") + cpu::name(isa) + " act " + (act == Dtype::f32 ? "f32" : "bf16") + " product " + product + "]";
      run_cases(p);
    }
  return report("ops");
}
