// What every architecture has, one wrapper an instruction. Kernels use these names and no others for what a plain C++ expression cannot say;
// threadIdx, blockIdx, blockDim and gridDim need none. The emulation (native/emu/ops/cuda/ptx/common.cuh) has the same names and is
// found first by g++. "PTX 9.7.x" is the section of the PTX ISA, version 8.7.
//
// Three things that hold on both sides, and that the emulation enforces:
//   collectives (barriers, shuffles, votes) are executed by all live lanes of the mask, and at one place in the source where PTX says .aligned;
//   shuffles and votes order no memory, syncwarp and barriers do;
//   atomics are relaxed unless their name says acquire or release, and order what threadfence orders.
#pragma once
#include <cstdint>

// The dynamic shared memory of the block, aligned to 1,024 bytes: the only shared memory there is.
#define JVLM_SHARED(name)                                      \
  extern __shared__ __align__(1024) char jvlm_shared_arena[]; \
  char* const name = jvlm_shared_arena

#define JVLM_DEVICE __device__ __forceinline__

namespace jvlm::ptx {

constexpr uint32_t kAllLanes = 0xffffffffu;

// ---- barriers (PTX 9.7.13.1) ----------------------------------------------------------------------------------------------------------
// All threads of the block that have not returned.
JVLM_DEVICE void barrier() { __syncthreads(); }
// `threads` (a multiple of 32) of the block, counting those that only arrive. id 1 ... 15; 0 is barrier().
JVLM_DEVICE void named_barrier_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
JVLM_DEVICE void named_barrier_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
JVLM_DEVICE void syncwarp(uint32_t mask = kAllLanes) { __syncwarp(mask); }

// ---- inside a warp (PTX 9.7.9.6, 9.7.13.9); T is float, int32_t or uint32_t --------------------------------------------------------------
JVLM_DEVICE int lane() {
  uint32_t r;
  asm("mov.u32 %0, %%laneid;" : "=r"(r));
  return static_cast<int>(r);
}
// The value of lane `from` mod 32.
template <class T> JVLM_DEVICE T shuffle(T v, int from, uint32_t mask = kAllLanes) { return __shfl_sync(mask, v, from); }
// The value of lane() ^ bits.
template <class T> JVLM_DEVICE T shuffle_xor(T v, int bits, uint32_t mask = kAllLanes) { return __shfl_xor_sync(mask, v, bits); }
// The value of lane() - by (+ by); the own value where there is no such lane.
template <class T> JVLM_DEVICE T shuffle_up(T v, int by, uint32_t mask = kAllLanes) { return __shfl_up_sync(mask, v, by); }
template <class T> JVLM_DEVICE T shuffle_down(T v, int by, uint32_t mask = kAllLanes) { return __shfl_down_sync(mask, v, by); }
JVLM_DEVICE bool vote_any(bool p, uint32_t mask = kAllLanes) { return __any_sync(mask, p); }
JVLM_DEVICE bool vote_all(bool p, uint32_t mask = kAllLanes) { return __all_sync(mask, p); }
JVLM_DEVICE uint32_t ballot(bool p, uint32_t mask = kAllLanes) { return __ballot_sync(mask, p); }

// ---- atomics, on global or shared memory (PTX 9.7.13.5): the old value; relaxed -----------------------------------------------------------
JVLM_DEVICE int32_t atomic_add(int32_t* p, int32_t v) { return atomicAdd(p, v); }
JVLM_DEVICE uint32_t atomic_add(uint32_t* p, uint32_t v) { return atomicAdd(p, v); }
JVLM_DEVICE float atomic_add(float* p, float v) { return atomicAdd(p, v); }
JVLM_DEVICE int32_t atomic_max(int32_t* p, int32_t v) { return atomicMax(p, v); }
JVLM_DEVICE uint32_t atomic_max(uint32_t* p, uint32_t v) { return atomicMax(p, v); }
JVLM_DEVICE uint32_t atomic_cas(uint32_t* p, uint32_t expected, uint32_t v) { return atomicCAS(p, expected, v); }

// ---- between blocks, global memory (PTX 8.5, 9.7.9.8, 9.7.13.4) ---------------------------------------------------------------------------
// A ticket: old == last ? 0 : old + 1 is stored, so that the counter is ready for the next launch. Acquires and releases.
JVLM_DEVICE uint32_t atomic_inc(uint32_t* p, uint32_t last) {
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(last) : "memory");
  return old;
}
JVLM_DEVICE uint32_t load_acquire(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
JVLM_DEVICE void store_release(uint32_t* p, uint32_t v) { asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
JVLM_DEVICE void red_release_add(uint32_t* p, uint32_t v) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
// Waits until *p >= v, acquiring. What it waits for must be resident: another thread of the block, or any block of a Mode::resident launch.
JVLM_DEVICE void spin_until_ge(const uint32_t* p, uint32_t v) {
  while (load_acquire(p) < v) {
  }
}
JVLM_DEVICE void threadfence() { __threadfence(); }

// ---- numbers ------------------------------------------------------------------------------------------------------------------------------
// ex2, rcp and rsqrt .approx.ftz (PTX 9.7.3): relative error at most 2^-22, 1 ulp, 2^-22.4; subnormal inputs and results are 0.
JVLM_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
JVLM_DEVICE float rcp_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
JVLM_DEVICE float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
JVLM_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
JVLM_DEVICE float bits_float(uint32_t u) { return __uint_as_float(u); }
// Two numbers in one register, `lo` in the low half, rounded to nearest even (PTX 9.7.9.21); NaN becomes 0x7fff. bf16 needs sm_80.
JVLM_DEVICE uint32_t pack_bf16(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}
JVLM_DEVICE uint32_t pack_f16(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}
JVLM_DEVICE uint16_t to_bf16(float x) { return static_cast<uint16_t>(pack_bf16(x, 0.f)); }
JVLM_DEVICE uint16_t to_f16(float x) { return static_cast<uint16_t>(pack_f16(x, 0.f)); }
JVLM_DEVICE float from_bf16(uint16_t b) { return bits_float(static_cast<uint32_t>(b) << 16); }
JVLM_DEVICE float from_f16(uint16_t h) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(h));
  return y;
}
JVLM_DEVICE float low_bf16(uint32_t pair) { return bits_float(pair << 16); }
JVLM_DEVICE float high_bf16(uint32_t pair) { return bits_float(pair & 0xffff0000u); }

// ---- global memory ------------------------------------------------------------------------------------------------------------------------
// 16 bytes, aligned, of memory that no kernel running now writes and that is read once: past the first cache (PTX 9.7.9.8, 9.7.9.9).
JVLM_DEVICE uint4 load_stream16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// ---- programmatic dependent launch (PTX 9.7.13.13): for kernels launched with Mode::overlapping; nothing below sm_90 -----------------------
// Waits until the kernel before has finished and its writes can be seen. Every block must come by, before it touches what that one wrote.
JVLM_DEVICE void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Lets the next kernel start once all blocks have said so or returned.
JVLM_DEVICE void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace jvlm::ptx
