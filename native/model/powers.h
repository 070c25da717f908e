#pragma once
#include <vector>

namespace jvlm {

// base ** exponents, for a base above 0 and exponents from 0 to 1, to the bit as PyTorch has it in float32 on a CPU with AVX-512: whole runs of 32
// by a vectorised power that may be one unit in the last place off, what is left by the C library. With AVX2 alone PyTorch's runs are 16
// long, so that 16 of the 48 powers of a head size of 96 come about otherwise.
std::vector<float> powers(float base, const std::vector<float>& exponents);

}  // namespace jvlm
