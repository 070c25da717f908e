// One vector for each wrapper of native/ops/cuda/ptx: what the instruction gives for numbers that show its layout, its rounding and its edges.
// A card writes them once; the emulation must reproduce them for ever. A wrapper that both sides misread shows here and nowhere else.
//
//   conformance FILE                     compares what this build computes with the file
//   conformance FILE --write HEAD        writes the file; HEAD says who computed it: card, driver, date
//   conformance - --card -              prints the name of card 0
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "array.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

using namespace jvlm;
using test::Array;

namespace {

using Words = std::vector<uint32_t>;

// Runs a kernel over n words that start as 0xdddddddd and gives them.
template <class... P, class... A>
Words run(size_t n, void (*kernel)(uint32_t*, P...), const cuda::Shape& shape, A... args) {
  Array<uint32_t> out(Words(n, 0xddddddddu));
  cuda::Stream stream;
  cuda::launch(stream, kernel, shape, out.data, args...);
  stream.wait();
  return out.get();
}

// Numbers that are the same on every machine.
uint32_t mixed(uint32_t i) {
  i = (i ^ (i >> 16)) * 0x7feb352du;
  i = (i ^ (i >> 15)) * 0x846ca68bu;
  return i ^ (i >> 16);
}

// ---- barriers ---------------------------------------------------------------------------------------------------------------------------
__global__ void barrier_kernel(uint32_t* out, int n) {     // a prefix sum; threads from n on have left
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared);
  const int t = static_cast<int>(threadIdx.x);
  if (t >= n) return;
  s[t] = static_cast<uint32_t>(t * t);
  ptx::barrier();
  for (int by = 1; by < n; by *= 2) {
    const uint32_t v = t >= by ? s[t - by] : 0;
    ptx::barrier();
    s[t] += v;
    ptx::barrier();
  }
  out[t] = s[t];
}
Words barrier_words() { return run(128, barrier_kernel, {1, 192, 128 * 4}, 128); }

__global__ void named_barrier_kernel(uint32_t* out) {      // warps 0, 1 make what warps 2, 3 take, four times through one slot
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared);
  enum { full = 1, empty = 15 };
  const uint32_t t = threadIdx.x % 64;
  for (uint32_t round = 0; round < 4; ++round) {
    if (threadIdx.x < 64) {
      if (round) ptx::named_barrier_sync(empty, 128);
      s[t] = round * 100 + t;
      ptx::named_barrier_arrive(full, 128);
    } else {
      ptx::named_barrier_sync(full, 128);
      out[round * 64 + t] = s[63 - t];
      if (round < 3) ptx::named_barrier_arrive(empty, 128);
    }
  }
}
Words named_barrier_words() { return run(256, named_barrier_kernel, {1, 128, 256}); }

__global__ void syncwarp_kernel(uint32_t* out) {           // the warp, then each half for itself
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared);
  const uint32_t t = threadIdx.x;
  s[t] = 3 * t;
  ptx::syncwarp();
  const uint32_t turned = s[31 - t];
  ptx::syncwarp();
  s[t] = turned + 1;
  if (t < 16)
    ptx::syncwarp(0x0000ffffu);
  else
    ptx::syncwarp(0xffff0000u);
  out[t] = s[t ^ 15];
}
Words syncwarp_words() { return run(32, syncwarp_kernel, {1, 32, 128}); }

// ---- inside a warp ------------------------------------------------------------------------------------------------------------------------
__global__ void lane_kernel(uint32_t* out) {
  const uint32_t t = threadIdx.x + blockDim.x * threadIdx.y;
  out[t] = static_cast<uint32_t>(ptx::lane());
}
Words lane_words() { return run(72, lane_kernel, {1, dim3(12, 6)}); }

template <int kind>                                        // 0 shuffle, 1 xor, 2 up, 3 down
__global__ void shuffle_kernel(uint32_t* out) {
  constexpr int steps[] = {0, 1, 7, 16, 31, 32, 37};
  const uint32_t v = threadIdx.x * 3 + 1;
  for (int i = 0; i < 7; ++i) {
    const int by = kind == 1 ? steps[i] & 31 : steps[i];
    const auto all = [&](auto x) {
      if constexpr (kind == 0) return ptx::shuffle(x, by);
      else if constexpr (kind == 1) return ptx::shuffle_xor(x, by);
      else if constexpr (kind == 2) return ptx::shuffle_up(x, by);
      else return ptx::shuffle_down(x, by);
    };
    uint32_t* o = out + i * 96 + threadIdx.x;
    o[0] = all(v);
    o[32] = static_cast<uint32_t>(all(-static_cast<int32_t>(v)));
    o[64] = ptx::float_bits(all(0.5f * static_cast<float>(v)));
  }
  // The halves of the warp apart from each other.
  uint32_t* o = out + 7 * 96 + threadIdx.x;
  if (threadIdx.x < 16) {
    if constexpr (kind == 0) *o = ptx::shuffle(v, 5, 0x0000ffffu);
    if constexpr (kind == 1) *o = ptx::shuffle_xor(v, 5, 0x0000ffffu);
    if constexpr (kind == 2) *o = ptx::shuffle_up(v, 0, 0x0000ffffu);
    if constexpr (kind == 3) *o = ptx::shuffle_down(v, 0, 0x0000ffffu);
  } else {
    if constexpr (kind == 0) *o = ptx::shuffle(v, 20, 0xffff0000u);
    if constexpr (kind == 1) *o = ptx::shuffle_xor(v, 8, 0xffff0000u);
    if constexpr (kind == 2) *o = ptx::shuffle_up(v, 0, 0xffff0000u);
    if constexpr (kind == 3) *o = ptx::shuffle_down(v, 0, 0xffff0000u);
  }
}
template <int kind>
Words shuffle_words() { return run(7 * 96 + 32, shuffle_kernel<kind>, {1, 32}); }

__global__ void vote_kernel(uint32_t* out, uint32_t bits) {
  const bool p = bits >> threadIdx.x & 1;
  uint32_t r = static_cast<uint32_t>(ptx::vote_any(p)) | static_cast<uint32_t>(ptx::vote_all(p)) << 1;
  if (threadIdx.x < 8) r |= static_cast<uint32_t>(ptx::vote_any(p, 0xffu)) << 2 | static_cast<uint32_t>(ptx::vote_all(p, 0xffu)) << 3;
  out[threadIdx.x] = r;
  out[32 + threadIdx.x] = ptx::ballot(p);
  if (threadIdx.x >= 8)
    out[64 + threadIdx.x] = ptx::ballot(p, 0xffffff00u);
  else
    out[64 + threadIdx.x] = ptx::ballot(p, 0xffu);
}
Words vote_words() {
  Words all;
  for (uint32_t bits : {0u, 1u, 0xffu, 0xffffff00u, 0xfffffffeu, 0xffffffffu, 0x80000000u}) {
    const Words one = run(96, vote_kernel, {1, 32}, bits);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

// ---- atomics ------------------------------------------------------------------------------------------------------------------------------
// What one thread sees, on global and on shared memory: old values and what is left.
__global__ void atomic_kernel(uint32_t* out, uint32_t* word) {
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared);
  for (int i = 0; i < 4; ++i) word[i] = s[i] = 0;
  int n = 0;
  for (int on = 0; on < 2; ++on) {
    uint32_t* m = on ? s : word;
    auto* integer = reinterpret_cast<int32_t*>(m + 1);
    auto* number = reinterpret_cast<float*>(m + 2);
    out[n++] = ptx::atomic_add(m, 0xfffffff0u), out[n++] = ptx::atomic_add(m, 0x20u), out[n++] = m[0];           // wraps
    out[n++] = static_cast<uint32_t>(ptx::atomic_add(integer, -5)), out[n++] = static_cast<uint32_t>(ptx::atomic_add(integer, 3)), out[n++] = m[1];
    out[n++] = ptx::float_bits(ptx::atomic_add(number, 1.5f)), out[n++] = ptx::float_bits(ptx::atomic_add(number, 0x1p-24f)), out[n++] = m[2];
    out[n++] = ptx::atomic_max(m, 7u), out[n++] = ptx::atomic_max(m, 0x80000000u), out[n++] = m[0];              // unsigned
    out[n++] = static_cast<uint32_t>(ptx::atomic_max(integer, -9)), out[n++] = static_cast<uint32_t>(ptx::atomic_max(integer, 4)), out[n++] = m[1];
    out[n++] = ptx::atomic_cas(m + 3, 1, 8), out[n++] = ptx::atomic_cas(m + 3, 0, 9), out[n++] = m[3];
  }
}
Words atomic_words() {
  Array<uint32_t> word(4);
  return run(36, atomic_kernel, {1, 1, 16}, word.data);
}

__global__ void atomic_many_kernel(uint32_t* out) {        // of six blocks of 64: what does not hang on their order
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t mine = ptx::atomic_add(out, 1u);
  ptx::atomic_add(out + 16 + mine, 1u);                    // every old value once
  ptx::atomic_max(out + 1, i * 2654435761u);
  ptx::atomic_add(reinterpret_cast<float*>(out + 2), 0.5f);
  ptx::atomic_add(out + 4 + ptx::atomic_inc(out + 3, 6), 1u);
}
Words atomic_many_words() {
  Array<uint32_t> out(Words(16 + 384, 0));
  cuda::Stream stream;
  cuda::launch(stream, atomic_many_kernel, {6, 64}, out.data);
  stream.wait();
  return out.get();
}

__global__ void atomic_inc_kernel(uint32_t* out, uint32_t* ticket) {   // wraps at `last`, and from beyond it
  for (int i = 0; i < 8; ++i) out[i] = ptx::atomic_inc(ticket, 2);
  ptx::store_release(ticket, 50);
  for (int i = 8; i < 12; ++i) out[i] = ptx::atomic_inc(ticket, 2);
  for (int i = 12; i < 16; ++i) out[i] = ptx::atomic_inc(ticket, 0);
}
Words atomic_inc_words() {
  Array<uint32_t> ticket(Words{0});
  return run(16, atomic_inc_kernel, {1, 1}, ticket.data);
}

// Resident blocks in turn: each sees what the one before wrote. red_release_add hands over in the first half, store_release in the second.
__global__ void in_turn_kernel(uint32_t* out, uint32_t* turn, uint32_t rounds) {
  for (uint32_t r = 0; r < rounds; ++r) {
    if (threadIdx.x == 0) ptx::spin_until_ge(turn, r * gridDim.x + blockIdx.x);
    ptx::barrier();
    out[threadIdx.x] = (r | blockIdx.x ? out[threadIdx.x] * 3 : threadIdx.x) + blockIdx.x;
    ptx::threadfence();
    ptx::barrier();
    if (threadIdx.x == 0) {
      if (r < rounds / 2)
        ptx::red_release_add(turn, 1);
      else
        ptx::store_release(turn, ptx::load_acquire(turn) + 1);
    }
  }
}
Words in_turn_words() {
  Array<uint32_t> turn(Words{0});
  return run(64, in_turn_kernel, {5, 64, 0, cuda::Mode::resident}, turn.data, 4u);
}

// ---- numbers --------------------------------------------------------------------------------------------------------------------------------
template <int kind>                                        // 0 exp2, 1 rcp, 2 rsqrt
__global__ void approx_kernel(uint32_t* out, const uint32_t* in, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    const float x = ptx::bits_float(in[i]);
    out[i] = ptx::float_bits(kind == 0 ? ptx::exp2_approx(x) : kind == 1 ? ptx::rcp_approx(x) : ptx::rsqrt_approx(x));
  }
}
template <int kind>
Words approx_words() {
  // Zeros, subnormals, infinities, NaN, the ends of the range; then numbers of the range that kernels use.
  Words in{0x00000000u, 0x80000000u, 0x00000001u, 0x007fffffu, 0x807fffffu, 0x00800000u, 0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0xff800000u, 0x7fc00000u,
           0xbf800000u, 0x3f800000u, 0x42fe0000u, 0x43000000u, 0xc2fc0000u, 0xc2fd0000u, 0xc3150000u};
  for (uint32_t i = 0; i < 238; ++i) {
    const float unit = static_cast<float>(mixed(i) >> 8) * 0x1p-24f;
    const float x = kind == 0 ? -30 * unit : std::ldexp(1 + unit, static_cast<int>(i % 41) - 20);
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    in.push_back(bits);
  }
  Array<uint32_t> numbers(in);
  return run(in.size(), approx_kernel<kind>, {1, 64}, static_cast<const uint32_t*>(numbers.data), static_cast<int>(in.size()));
}

// Exact values, ties to either side, their neighbours, overflow, subnormals, infinities and NaN, in both halves.
template <bool bf16>
__global__ void pack_kernel(uint32_t* out, const uint32_t* in, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) {
    const float x = ptx::bits_float(in[i]), y = ptx::bits_float(in[n - 1 - i]);
    out[2 * i] = bf16 ? ptx::pack_bf16(x, y) : ptx::pack_f16(x, y);
    out[2 * i + 1] = bf16 ? ptx::to_bf16(x) : ptx::to_f16(x);
  }
}
template <bool bf16>
Words pack_words() {
  Words in{0x00000000u, 0x80000000u, 0x00000001u, 0x00008000u, 0x00008001u, 0x00018000u, 0x007fffffu, 0x7f7f7fffu, 0x7f7f8000u, 0x7f7fffffu, 0x7f800000u,
           0xff800000u, 0x7fc00000u, 0xffc12345u, 0x7f800001u, 0x477fefffu, 0x477ff000u, 0x47800000u, 0x33000000u, 0x33000001u, 0x33800000u, 0x387fc000u,
           0x38800000u, 0x3f808000u, 0x3f818000u, 0x3f807fffu, 0x3f808001u, 0xbf808000u, 0x3f801000u, 0x3f803000u, 0x3f800fffu, 0x3f801001u};
  for (uint32_t i = 0; i < 96; ++i) in.push_back((mixed(i) & 0x87ffffffu) | (0x38000000u - (i % 3 << 26)));
  Array<uint32_t> numbers(in);
  return run(2 * in.size(), pack_kernel<bf16>, {1, 64}, static_cast<const uint32_t*>(numbers.data), static_cast<int>(in.size()));
}

template <bool bf16>
__global__ void unpack_kernel(uint32_t* out) {             // all 65,536, each 256 folded into one word; NaN as one
  uint32_t hash = 0x811c9dc5u;
  for (uint32_t i = 0; i < 256; ++i) {
    const uint32_t h = threadIdx.x * 256 + i;
    const float x = bf16 ? ptx::from_bf16(static_cast<uint16_t>(h)) : ptx::from_f16(static_cast<uint16_t>(h));
    const uint32_t bits = x != x ? 0x7fffffffu : ptx::float_bits(x);
    for (int byte = 0; byte < 4; ++byte) hash = (hash ^ (bits >> (8 * byte) & 0xff)) * 0x01000193u;
    if (bf16) hash ^= ptx::float_bits(ptx::low_bf16(h | 0x12340000u)) ^ ptx::float_bits(ptx::high_bf16(h << 16 | 0x1234u));   // the same number: nothing
  }
  out[threadIdx.x] = hash;
}
template <bool bf16>
Words unpack_words() { return run(256, unpack_kernel<bf16>, {1, 256}); }

// ---- copies -----------------------------------------------------------------------------------------------------------------------------------
__global__ void cp_async_kernel(uint32_t* out, const char* in) {      // 17 copies of 0 ... 16 bytes, then 5 of 0 ... 4
  JVLM_SHARED(shared);
  const int t = static_cast<int>(threadIdx.x);
  for (int i = t; i < 17 * 16 + 20; i += 32) shared[i] = static_cast<char>(0xee);
  ptx::barrier();
  if (t < 17) ptx::cp_async16(shared + 16 * t, in + 16 * t, t);
  if (t < 5) ptx::cp_async4(shared + 17 * 16 + 4 * t, in + 4 * t, t);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::barrier();
  for (int i = t; i < 17 * 16 + 20; i += 32) out[i] = static_cast<unsigned char>(shared[i]);
}
Words cp_async_words() {
  std::vector<char> bytes(17 * 16);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + 1);
  Array<char> in(bytes);
  return run(17 * 16 + 20, cp_async_kernel, {1, 32, 17 * 16 + 20}, static_cast<const char*>(in.data));
}

__global__ void cp_async_groups_kernel(uint32_t* out, const uint32_t* in) {   // after each wait, the groups that must have landed
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared) + 4 * threadIdx.x;
  const int step = 4 * static_cast<int>(blockDim.x);
  uint32_t* o = out + threadIdx.x * 8;
  for (int g = 0; g < 3; ++g) {
    ptx::cp_async16(s + g * step, in + 4 * g);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<2>();
  o[0] = s[0];
  ptx::cp_async_commit();                                  // an empty group counts
  ptx::cp_async_wait<2>();
  o[1] = s[0], o[2] = s[step];
  ptx::cp_async_wait<1>();
  o[3] = s[2 * step];
  ptx::cp_async_wait<0>();
  for (int g = 0; g < 3; ++g) o[4 + g] = s[g * step + 3];
  o[7] = 0;
}
Words cp_async_groups_words() {
  Array<uint32_t> numbers(Words{10, 1, 2, 3, 20, 4, 5, 6, 30, 7, 8, 9});
  return run(32 * 8, cp_async_groups_kernel, {1, 32, 3 * 32 * 16}, static_cast<const uint32_t*>(numbers.data));
}

__global__ void load_stream_kernel(uint32_t* out, const uint32_t* in) {
  const uint4 v = ptx::load_stream16(in + 4 * threadIdx.x);
  uint32_t* o = out + 4 * threadIdx.x;
  o[0] = v.x, o[1] = v.y, o[2] = v.z, o[3] = v.w;
}
Words load_stream_words() {
  Words numbers(128);
  for (uint32_t i = 0; i < 128; ++i) numbers[i] = mixed(i);
  Array<uint32_t> in(numbers);
  return run(128, load_stream_kernel, {1, 32}, static_cast<const uint32_t*>(in.data));
}

// ---- matrices -----------------------------------------------------------------------------------------------------------------------------------
// Four 8x8 matrices below each other in rows of 72; element (r, c) of matrix m is 100 m + 10 r + c.
template <int kind>                                        // 0 x4, 1 x4 transposed, 2 x2, 3 x2 transposed
__global__ void ldmatrix_kernel(uint32_t* out) {
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint16_t*>(shared);
  const int l = static_cast<int>(threadIdx.x);
  for (int c = 0; c < 8; ++c) s[l * 72 + c] = static_cast<uint16_t>(l / 8 * 100 + l % 8 * 10 + c);
  ptx::syncwarp();
  const uint16_t* row = s + l * 72;
  if constexpr (kind < 2) {
    uint32_t r[4];
    if constexpr (kind == 0) ptx::ldmatrix_x4(r, row);
    if constexpr (kind == 1) ptx::ldmatrix_x4_trans(r, row);
    for (int i = 0; i < 4; ++i) out[i * 32 + l] = r[i];
  } else {
    uint32_t r[2];
    if constexpr (kind == 2) ptx::ldmatrix_x2(r, row);
    if constexpr (kind == 3) ptx::ldmatrix_x2_trans(r, row);
    for (int i = 0; i < 2; ++i) out[i * 32 + l] = r[i];
  }
}
template <int kind>
Words ldmatrix_words() { return run(kind < 2 ? 128 : 64, ldmatrix_kernel<kind>, {1, 32, 32 * 72 * 2}); }

// Registers as they are: lane l brings words 6 l ... of `in` for a and b, 4 l ... of `start` for d. Which element of which matrix a register
// holds shows in the sums.
template <int kind>                                        // 0 bf16, 1 f16, 2 int8
__global__ void mma_kernel(uint32_t* out, const uint32_t* in, const uint32_t* start) {
  const uint32_t* mine = in + 6 * threadIdx.x;
  const uint32_t a[4] = {mine[0], mine[1], mine[2], mine[3]}, b[2] = {mine[4], mine[5]};
  if constexpr (kind == 2) {
    int32_t d[4];
    for (int i = 0; i < 4; ++i) d[i] = static_cast<int32_t>(start[4 * threadIdx.x + i]);
    ptx::mma_s8(d, a, b);
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = static_cast<uint32_t>(d[i]);
  } else {
    float d[4];
    for (int i = 0; i < 4; ++i) d[i] = ptx::bits_float(start[4 * threadIdx.x + i]);
    if constexpr (kind == 0) ptx::mma_bf16(d, a, b);
    if constexpr (kind == 1) ptx::mma_f16(d, a, b);
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = ptx::float_bits(d[i]);
  }
}
// Multiples of 1/8 below 8, exact in both types and in every sum; integers where they are integers. Halves of a word by sign, exponent, fraction.
uint32_t element(int kind, uint32_t i, bool exact) {
  if (kind == 2) return mixed(i) & 0xff;
  if (!exact) return kind == 0 ? (mixed(i) & 0x80ffu) | 0x3f00u : (mixed(i) & 0x87ffu) | 0x3800u;   // 0.5 ... 2 with sign
  const int v = static_cast<int>(mixed(i) % 127) - 63;
  const float x = static_cast<float>(v) / 8;
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (kind == 0) return bits >> 16;
  if (v == 0) return 0;
  return (bits >> 16 & 0x8000u) | (((bits >> 23 & 0xff) - 112) << 10) | (bits >> 13 & 0x3ff);
}
template <int kind, bool exact>
Words mma_words() {
  Words in(6 * 32), start(4 * 32);
  const uint32_t per = kind == 2 ? 4 : 2;
  for (uint32_t i = 0; i < in.size(); ++i) {
    in[i] = 0;
    for (uint32_t e = 0; e < per; ++e) in[i] |= element(kind, i * per + e, exact) << (32 / per * e);
  }
  for (uint32_t i = 0; i < start.size(); ++i) {
    const float x = (static_cast<float>(mixed(i + 9999) % 2048) - 1024) / (exact ? 64.f : 700.f);
    if (kind == 2)
      start[i] = mixed(i + 9999) % 2048 - 1024;
    else
      std::memcpy(&start[i], &x, 4);
  }
  Array<uint32_t> a(in), d(start);
  return run(128, mma_kernel<kind>, {1, 32}, static_cast<const uint32_t*>(a.data), static_cast<const uint32_t*>(d.data));
}

// ---- programmatic dependent launch --------------------------------------------------------------------------------------------------------------
__global__ void early_kernel(uint32_t* out) {
  ptx::grid_dependency_wait();
  ptx::launch_dependents();
  out[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x * 1000 + threadIdx.x;
}
__global__ void late_kernel(uint32_t* out, const uint32_t* in, uint32_t n) {
  ptx::grid_dependency_wait();
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[n - 1 - i];
}
Words dependent_launch_words() {
  Array<uint32_t> between(Words(512, 0)), out(Words(512, 0));
  cuda::Stream stream;
  cuda::launch(stream, early_kernel, {8, 64, 0, cuda::Mode::overlapping}, between.data);
  cuda::launch(stream, late_kernel, {8, 64, 0, cuda::Mode::overlapping}, out.data, static_cast<const uint32_t*>(between.data), 512u);
  stream.wait();
  return out.get();
}

// How far this build may lie from the file. The instructions' own bounds (PTX ISA 9.7.3) plus half a spacing for the emulation's rounding; sums of
// the tensor cores: no document says how they round, each of 17 addends may be cut at 2^-23 of the largest (here below 4), of the sum again.
struct Section {
  const char* name;
  double relative, absolute;                               // both 0: the same bits
  Words (*make)();
};
const Section kSections[] = {
    {"barrier", 0, 0, barrier_words},
    {"named_barrier", 0, 0, named_barrier_words},
    {"syncwarp", 0, 0, syncwarp_words},
    {"lane", 0, 0, lane_words},
    {"shuffle", 0, 0, shuffle_words<0>},
    {"shuffle_xor", 0, 0, shuffle_words<1>},
    {"shuffle_up", 0, 0, shuffle_words<2>},
    {"shuffle_down", 0, 0, shuffle_words<3>},
    {"vote", 0, 0, vote_words},
    {"atomic", 0, 0, atomic_words},
    {"atomic_many", 0, 0, atomic_many_words},
    {"atomic_inc", 0, 0, atomic_inc_words},
    {"acquire_release", 0, 0, in_turn_words},
    {"exp2_approx", 0x1p-22 + 0x1p-24, 0, approx_words<0>},
    {"rcp_approx", 0x1p-23 + 0x1p-24, 0, approx_words<1>},
    {"rsqrt_approx", 0x1.84p-23 + 0x1p-24, 0, approx_words<2>},   // 2^-22.4
    {"pack_bf16", 0, 0, pack_words<true>},
    {"pack_f16", 0, 0, pack_words<false>},
    {"from_bf16", 0, 0, unpack_words<true>},
    {"from_f16", 0, 0, unpack_words<false>},
    {"cp_async", 0, 0, cp_async_words},
    {"cp_async_groups", 0, 0, cp_async_groups_words},
    {"load_stream16", 0, 0, load_stream_words},
    {"ldmatrix_x4", 0, 0, ldmatrix_words<0>},
    {"ldmatrix_x4_trans", 0, 0, ldmatrix_words<1>},
    {"ldmatrix_x2", 0, 0, ldmatrix_words<2>},
    {"ldmatrix_x2_trans", 0, 0, ldmatrix_words<3>},
    {"mma_bf16", 0, 0, mma_words<0, true>},
    {"mma_f16", 0, 0, mma_words<1, true>},
    {"mma_s8", 0, 0, mma_words<2, true>},
    {"mma_bf16_rounding", 0x1p-22, 17 * 4 * 0x1p-23, mma_words<0, false>},
    {"mma_f16_rounding", 0x1p-22, 17 * 4 * 0x1p-23, mma_words<1, false>},
    {"dependent_launch", 0, 0, dependent_launch_words},
};

bool same(const Section& section, uint32_t got, uint32_t want) {
  if (got == want || (section.relative == 0 && section.absolute == 0)) return got == want;
  float a, b;
  std::memcpy(&a, &got, 4);
  std::memcpy(&b, &want, 4);
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b) || (section.absolute == 0 && (a == 0 || b == 0))) return false;
  return std::fabs(static_cast<double>(a) - b) <= section.relative * std::fabs(b) + section.absolute;
}

int compare(const char* file) {
  std::ifstream in(file);
  std::string head, name;
  if (!std::getline(in, head) || head.rfind("# ", 0) != 0) {
    std::printf("conformance: %s cannot be read\n", file);
    return 1;
  }
  int wrong = 0, count = 0;
  for (const Section& section : kSections) {
    const Words got = section.make();
    size_t size = 0;
    in >> name >> std::dec >> size >> std::hex;
    if (!in || name != section.name || size != got.size()) {
      std::printf("FAIL %s: the file has no such section of %zu words at its place; write it anew\n", section.name, got.size());
      return 1;
    }
    ++count;
    size_t differ = 0, first = 0;
    uint32_t wanted = 0;
    for (size_t i = 0; i < size; ++i) {
      uint32_t want;
      if (!(in >> want)) return std::printf("FAIL %s: the file ends\n", section.name), 1;
      if (!same(section, got[i], want) && !differ++) first = i, wanted = want;
    }
    if (differ) {
      ++wrong;
      std::printf("FAIL %s: %zu of %zu words differ, the first at %zu: %08x, the file has %08x\n", section.name, differ, size, first, got[first], wanted);
    }
  }
  if (in >> name) {
    ++wrong;
    std::printf("FAIL the file has a section that this program does not make: %s\n", name.c_str());
  }
  std::printf("conformance: %d vectors, %d differ; the file's are: %s\n", count, wrong, head.c_str() + 2);
  return wrong > 0;
}

int write(const char* file, const char* head) {
  std::ostringstream text;
  text << "# " << head << "\n";
  for (const Section& section : kSections) {
    const Words words = section.make();
    text << section.name << " " << words.size() << "\n";
    for (size_t i = 0; i < words.size(); ++i) {
      char word[16];
      std::snprintf(word, sizeof word, "%08x%c", words[i], i % 16 == 15 || i + 1 == words.size() ? '\n' : ' ');
      text << word;
    }
  }
  std::ofstream out(file);
  out << text.str();
  out.close();
  std::printf("conformance: %zu vectors %s\n", std::size(kSections), out ? "written" : "NOT written");
  return !out;
}

}  // namespace

int main(int count, char** argument) try {
  if (count != 2 && count != 4) {
    std::printf("usage: conformance FILE [--write HEAD | --card -]\n");
    return 64;
  }
  const cuda::DeviceInfo card = cuda::use_device(0);
  if (count == 2) return compare(argument[1]);
  if (std::string(argument[2]) == "--write") return write(argument[1], argument[3]);
  std::printf("%s, sm_%d\n", card.name.c_str(), card.architecture);
  return 0;
} catch (const std::exception& e) {
  std::printf("FAIL %s\n", e.what());
  return 1;
}
