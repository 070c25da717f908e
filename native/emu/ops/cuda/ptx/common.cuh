// The names of native/ops/cuda/ptx/common.cuh, which says what they do, for g++.
#pragma once
#include <bit>
#include <type_traits>

#include "emu/simt.h"

#define JVLM_SHARED(name) char* const name = ::jvlm::emu::place->shared
#define JVLM_DEVICE inline

namespace jvlm::ptx {

constexpr uint32_t kAllLanes = 0xffffffffu;
using Where = std::source_location;

// ---- barriers -------------------------------------------------------------------------------------------------------------------------
inline void barrier(Where where = Where::current()) { emu::block_barrier(0, 0, true, where); }
inline void named_barrier_sync(int id, int threads, Where where = Where::current()) { emu::block_barrier(id, threads, true, where); }
inline void named_barrier_arrive(int id, int threads, Where where = Where::current()) { emu::block_barrier(id, threads, false, where); }
inline void syncwarp(uint32_t mask = kAllLanes, Where where = Where::current()) { emu::warp_barrier(mask, where); }

// ---- inside a warp --------------------------------------------------------------------------------------------------------------------
inline int lane() { return emu::place->lane; }
uint32_t shuffle_bits(const char* name, uint32_t v, int from, uint32_t mask, Where where);
uint32_t vote(const char* name, bool p, uint32_t mask, Where where);       // lanes of the mask whose p holds

template <class T> T shuffle_from(const char* name, T v, int from, uint32_t mask, Where where) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>);
  return std::bit_cast<T>(shuffle_bits(name, std::bit_cast<uint32_t>(v), from, mask, where));
}
template <class T> T shuffle(T v, int from, uint32_t mask = kAllLanes, Where where = Where::current()) {
  return shuffle_from("shuffle", v, from & 31, mask, where);
}
template <class T> T shuffle_xor(T v, int bits, uint32_t mask = kAllLanes, Where where = Where::current()) {
  return shuffle_from("shuffle_xor", v, lane() ^ bits, mask, where);
}
template <class T> T shuffle_up(T v, int by, uint32_t mask = kAllLanes, Where where = Where::current()) {
  return shuffle_from("shuffle_up", v, lane() - by < 0 ? lane() : lane() - by, mask, where);
}
template <class T> T shuffle_down(T v, int by, uint32_t mask = kAllLanes, Where where = Where::current()) {
  return shuffle_from("shuffle_down", v, lane() + by > 31 ? lane() : lane() + by, mask, where);
}
inline bool vote_any(bool p, uint32_t mask = kAllLanes, Where where = Where::current()) { return vote("vote_any", p, mask, where) != 0; }
inline bool vote_all(bool p, uint32_t mask = kAllLanes, Where where = Where::current()) { return vote("vote_all", !p, mask, where) == 0; }
inline uint32_t ballot(bool p, uint32_t mask = kAllLanes, Where where = Where::current()) { return vote("ballot", p, mask, where); }

// ---- atomics: relaxed, ordering only what a fence orders --------------------------------------------------------------------------------
template <class T, class F> T update(T* p, F next) {
  emu::maybe_yield();
  if (emu::fenced()) emu::released(p);
  T old, v;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  do {
    v = next(old);
  } while (!__atomic_compare_exchange(p, &old, &v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  emu::note_atomic(p);
  return old;
}
template <class T> T atomic_add(T* p, std::type_identity_t<T> v) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>);
  if constexpr (std::is_same_v<T, int32_t>)
    return update(p, [v](T old) { return static_cast<T>(static_cast<uint32_t>(old) + static_cast<uint32_t>(v)); });
  else
    return update(p, [v](T old) { return old + v; });
}
template <class T> T atomic_max(T* p, std::type_identity_t<T> v) {
  static_assert(std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>);
  return update(p, [v](T old) { return old > v ? old : v; });
}
inline uint32_t atomic_cas(uint32_t* p, uint32_t expected, uint32_t v) {
  return update(p, [=](uint32_t old) { return old == expected ? v : old; });
}

// ---- between blocks -------------------------------------------------------------------------------------------------------------------
inline uint32_t atomic_inc(uint32_t* p, uint32_t last) {
  emu::released(p);
  const uint32_t old = update(p, [last](uint32_t value) { return value >= last ? 0 : value + 1; });
  emu::acquired(p);
  return old;
}
inline uint32_t load_acquire(const uint32_t* p) {
  emu::maybe_yield();
  const uint32_t v = __atomic_load_n(p, __ATOMIC_ACQUIRE);
  emu::acquired(p);
  return v;
}
inline void store_release(uint32_t* p, uint32_t v) {
  emu::maybe_yield();
  emu::released(p);
  __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
inline void red_release_add(uint32_t* p, uint32_t v) {
  emu::maybe_yield();
  emu::released(p);
  __atomic_fetch_add(p, v, __ATOMIC_RELEASE);
}
inline void spin_until_ge(const uint32_t* p, uint32_t v, Where where = Where::current()) {
  emu::spin(p, v, where);
  emu::acquired(p);
}
inline void threadfence() { emu::fence(); }

// ---- numbers --------------------------------------------------------------------------------------------------------------------------
inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.f, x) : x; }
inline float exp2_approx(float x) { return flushed(std::exp2(flushed(x))); }
inline float rcp_approx(float x) { return flushed(1.f / flushed(x)); }
inline float rsqrt_approx(float x) { return 1.f / std::sqrt(flushed(x)); }
inline uint32_t float_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float bits_float(uint32_t u) { return std::bit_cast<float>(u); }
inline uint16_t to_bf16(float x) {
  const uint32_t u = float_bits(x);
  return std::isnan(x) ? 0x7fff : static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
uint16_t to_f16(float x);
inline float from_bf16(uint16_t b) { return bits_float(static_cast<uint32_t>(b) << 16); }
float from_f16(uint16_t h);
inline uint32_t pack_bf16(float lo, float hi) { return to_bf16(lo) | static_cast<uint32_t>(to_bf16(hi)) << 16; }
inline uint32_t pack_f16(float lo, float hi) { return to_f16(lo) | static_cast<uint32_t>(to_f16(hi)) << 16; }
inline float low_bf16(uint32_t pair) { return bits_float(pair << 16); }
inline float high_bf16(uint32_t pair) { return bits_float(pair & 0xffff0000u); }

// ---- global memory --------------------------------------------------------------------------------------------------------------------
inline uint4 load_stream16(const void* p, Where where = Where::current()) {
  emu::check_aligned(p, 16, "load_stream16", where);
  return *static_cast<const uint4*>(p);
}

// ---- programmatic dependent launch: kernels run one after the other here, so that only forgetting the wait can be seen ---------------------
inline void grid_dependency_wait() { emu::note_dependency_wait(); }
inline void launch_dependents() {}

}  // namespace jvlm::ptx
