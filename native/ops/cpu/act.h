// The activation as a constant of the compiler's, for loops that must not branch on it.
#pragma once
#include <type_traits>

#include "ops/ops.h"

namespace jvlm::cpu::JVLM_ISA {

// body(std::integral_constant<Act, act>()).
template <class F>
void with_act(Act act, F&& body) {
  switch (act) {
    case Act::none: return body(std::integral_constant<Act, Act::none>());
    case Act::gelu: return body(std::integral_constant<Act, Act::gelu>());
    case Act::gelu_tanh: return body(std::integral_constant<Act, Act::gelu_tanh>());
    case Act::silu: return body(std::integral_constant<Act, Act::silu>());
  }
}

}  // namespace jvlm::cpu::JVLM_ISA
