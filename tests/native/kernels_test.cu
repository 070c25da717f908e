// The kernels against `reference`: the case list of ops_cases.h on the emulation, in the orders that its environment names, or on a card.
//
//   kernels_test [small] [GROUP]         small: less of every group
#include "mirrored.h"
#include "ops/cuda/cuda_ops.h"
#include "ops_cases.h"

using namespace jvlm;
using namespace jvlm::test;

int main(int count, char** argument) {
  std::unique_ptr<Ops> kernels(make_cuda_ops(0, Dtype::bf16));
  kernels->reserve(case_scratch());
  Pair p{std::make_unique<Mirrored>(std::move(kernels)), make_reference_ops(Dtype::bf16), Dtype::bf16, false};
  at = " [" + p.ops->description() + "]";
  p.small = count > 1 && std::string(argument[1]) == "small";
  run_cases(p, count > 1 + p.small ? argument[1 + p.small] : "");
  return report("kernels");
}
