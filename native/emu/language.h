// The words of CUDA C++ that g++ lacks: function qualifiers and vector types, as far as kernels use them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
  uint32_t x, y, z;
};
struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define JVLM_EMU_VECTORS(T, name)                                                                       \
  struct alignas(2 * sizeof(T)) name##2 {                                                               \
    T x, y;                                                                                             \
  };                                                                                                    \
  struct alignas(4 * sizeof(T)) name##4 {                                                               \
    T x, y, z, w;                                                                                       \
  };                                                                                                    \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                            \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
JVLM_EMU_VECTORS(float, float)
JVLM_EMU_VECTORS(int32_t, int)
JVLM_EMU_VECTORS(uint32_t, uint)
#undef JVLM_EMU_VECTORS

// Functions that CUDA has in the global namespace.
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
