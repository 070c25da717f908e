// The emulation against obvious computations: every wrapper of ptx/, in all orders, lazy and eager; what a kernel must not do; the runtime's
// streams, events, graphs and errors. Bugs planted in kernels: emu_bugs.cu.
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "array.h"
#include "base/error.h"
#include "check.h"
#include "emu/nvtx3/nvToolsExt.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

using namespace jvlm;
using test::Array;
using test::expect;

namespace {

// Runs a kernel over an output of n values and gives them.
template <class T, class... P, class... A>
std::vector<T> run(size_t n, void (*kernel)(T*, P...), const cuda::Shape& shape, A... args) {
  Array<T> out(std::vector<T>(n, T{}));
  cuda::Stream stream;
  cuda::launch(stream, kernel, shape, out.data, args...);
  stream.wait();
  return out.get();
}

// ---- places and barriers --------------------------------------------------------------------------------------------------------------
__global__ void places(int32_t* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  ptx::atomic_add(out + block * threads + thread, block * 1000 + thread + (ptx::lane() == thread % 32));
}
void places_test() {
  const auto out = run(30 * 70, places, {dim3(5, 3, 2), dim3(7, 5, 2)});
  bool good = true;
  for (int i = 0; i < 30 * 70; ++i) good &= out[static_cast<size_t>(i)] == i / 70 * 1000 + i % 70 + 1;
  expect("each thread of each block runs once, at its place", good);
}

__global__ void steps(int32_t* out, int n) {               // prefix sum, one barrier a step; 33 threads leave first
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<int32_t*>(shared);
  const int t = threadIdx.x;
  if (t >= n) return;
  s[t] = t;
  ptx::barrier();
  for (int by = 1; by < n; by *= 2) {
    const int v = t >= by ? s[t - by] : 0;
    ptx::barrier();
    s[t] += v;
    ptx::barrier();
  }
  out[t] = s[t];
}
__global__ void hand_over(int32_t* out) {                  // warps 0, 1 make what warps 2, 3 take, twice through one slot
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<int32_t*>(shared);
  enum { full = 1, empty = 2 };
  const int t = threadIdx.x % 64;
  for (int round = 0; round < 4; ++round) {
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
__global__ void poison(int32_t* out) {
  JVLM_SHARED(shared);
  auto* f = reinterpret_cast<float*>(shared);
  out[blockIdx.x * blockDim.x + threadIdx.x] = std::isnan(f[threadIdx.x]);
  ptx::barrier();
  f[threadIdx.x] = 1;
}
void barriers_test() {
  auto out = run(128, steps, {1, 161, 128 * 4}, 128);
  bool good = true;
  for (int i = 0; i < 128; ++i) good &= out[static_cast<size_t>(i)] == i * (i + 1) / 2;
  expect("barrier, threads that returned not counted", good);
  out = run(256, hand_over, {1, 128, 256});
  good = true;
  for (int i = 0; i < 256; ++i) good &= out[static_cast<size_t>(i)] == i / 64 * 100 + 63 - i % 64;
  expect("named barriers", good);
  out = run(40 * 32, poison, {40, 32, 128});
  good = true;
  for (int32_t v : out) good &= v == 1;
  expect("shared memory is NaN at the start of each block", good);
}

// ---- inside a warp --------------------------------------------------------------------------------------------------------------------
template <class T>
__global__ void shuffles(T* out, int by) {
  const T v = static_cast<T>(threadIdx.x * 3 + 1);
  T* o = out + threadIdx.x;
  o[0] = ptx::shuffle(v, by);
  o[64] = ptx::shuffle_xor(v, by & 31);
  o[128] = ptx::shuffle_up(v, by);
  o[192] = ptx::shuffle_down(v, by);
  // The halves of a warp apart from each other, in an order of their own.
  const uint32_t half = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  if (half == 0xffffu) o[256] = ptx::shuffle_xor(v, 5, half);
  if (half != 0xffffu) o[256] = ptx::shuffle_xor(ptx::shuffle_xor(v, 8, half), 8, half);
}
template <class T>
bool shuffles_good() {
  bool good = true;
  for (int by : {0, 1, 7, 16, 31, 32, 37}) {
    const auto out = run<T>(320, shuffles<T>, {1, 64}, by);
    for (int t = 0; t < 64; ++t) {
      const int w = t / 32 * 32, l = t % 32;
      auto value = [&](int lane) { return static_cast<T>((w + lane) * 3 + 1); };
      auto at = [&](int row) { return out[static_cast<size_t>(row * 64 + t)]; };
      good &= at(0) == value(by % 32) && at(1) == value(l ^ (by & 31));
      good &= at(2) == value(l >= by ? l - by : l) && at(3) == value(l + by < 32 ? l + by : l);
      good &= at(4) == value(l < 16 ? l ^ 5 : l);
    }
  }
  return good;
}
__global__ void votes(uint32_t* out, uint32_t bits) {
  const bool p = bits >> threadIdx.x & 1;
  const uint32_t mask = threadIdx.x < 8 ? 0xffu : 0xffffff00u;
  uint32_t r = ptx::vote_any(p) | ptx::vote_all(p) << 1;
  if (threadIdx.x < 8) r |= ptx::vote_any(p, mask) << 2 | ptx::vote_all(p, mask) << 3;
  out[threadIdx.x] = r;
  out[32 + threadIdx.x] = ptx::ballot(p);
}
void warp_test() {
  expect("shuffles of float", shuffles_good<float>());
  expect("shuffles of int32", shuffles_good<int32_t>());
  expect("shuffles of uint32", shuffles_good<uint32_t>());
  bool good = true;
  for (uint32_t bits : {0u, 1u, 0xffu, 0xffffff00u, 0xfffffffeu, 0xffffffffu, 0x80000000u}) {
    const auto out = run<uint32_t>(64, votes, {1, 32}, bits);
    for (size_t t = 0; t < 32; ++t) {
      uint32_t want = (bits != 0) | (bits == 0xffffffffu) << 1;
      if (t < 8) want |= ((bits & 0xff) != 0) << 2 | ((bits & 0xff) == 0xff) << 3;
      good &= out[t] == want && out[32 + t] == bits;
    }
  }
  expect("votes and ballot", good);
}

// ---- atomics and what passes between blocks ---------------------------------------------------------------------------------------------
__global__ void atomics(uint32_t* out, float* sum, int32_t* largest) {
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared);
  if (threadIdx.x == 0) *s = 0;
  ptx::barrier();
  ptx::atomic_add(s, threadIdx.x);
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t mine = ptx::atomic_add(out, 1u);
  ptx::atomic_add(out + 16 + mine, 1u);                    // every old value once
  ptx::atomic_max(out + 1, i * 2654435761u);
  ptx::atomic_add(sum, 0.5f);
  ptx::atomic_max(largest, -static_cast<int32_t>(i) - 5);
  ptx::atomic_add(largest + 1, -1);
  while (ptx::atomic_cas(out + 2, i, i + 1) != i) {        // in turn, whatever the order
  }
  const uint32_t ticket = ptx::atomic_inc(out + 3, 6);
  ptx::atomic_add(out + 4 + ticket, 1u);
  ptx::barrier();
  if (threadIdx.x == 0 && *s != blockDim.x * (blockDim.x - 1) / 2) out[12] = 1;
}
__global__ void in_turn(int32_t* out, uint32_t* turn, int rounds) {   // resident blocks, one after the other, by store_release
  for (int r = 0; r < rounds; ++r) {
    if (threadIdx.x == 0) ptx::spin_until_ge(turn, r * gridDim.x + blockIdx.x);
    ptx::barrier();
    out[threadIdx.x] = out[threadIdx.x] * 3 + static_cast<int32_t>(blockIdx.x);
    ptx::barrier();
    if (threadIdx.x == 0) ptx::store_release(turn, ptx::load_acquire(turn) + 1);
  }
}
void atomics_test() {
  const uint32_t blocks = 6, threads = 64, n = blocks * threads;
  Array<float> sum(std::vector<float>{0});
  Array<int32_t> largest(std::vector<int32_t>{-1000000, 0});
  Array<uint32_t> out(std::vector<uint32_t>(16 + n, 0));
  cuda::Stream stream;
  cuda::launch(stream, atomics, {blocks, threads, 4, cuda::Mode::resident}, out.data, sum.data, largest.data);
  stream.wait();
  const auto o = out.get();
  uint32_t most = 0;
  bool once = true;
  for (uint32_t i = 0; i < n; ++i) most = std::max(most, i * 2654435761u), once &= o[16 + i] == 1;
  bool tickets = o[3] == n % 7;
  for (uint32_t i = 0; i < 7; ++i) tickets &= o[4 + i] == n / 7 + (i < n % 7);
  expect("atomic_add of uint32, global and shared", o[0] == n && once && !o[12]);
  expect("atomic_add of float and int32", sum.get()[0] == 0.5f * n && largest.get()[1] == -static_cast<int32_t>(n));
  expect("atomic_max", o[1] == most && largest.get()[0] == -5);
  expect("atomic_cas", o[2] == n);
  expect("atomic_inc wraps", tickets);
  Array<uint32_t> turn(std::vector<uint32_t>{0});
  const auto turns = run<int32_t>(64, in_turn, {5, 64, 0, cuda::Mode::resident}, turn.data, 2);
  int32_t want = 0;
  for (int i = 0; i < 10; ++i) want = want * 3 + i % 5;
  bool good = true;
  for (int32_t v : turns) good &= v == want;
  expect("acquire and release between resident blocks", good);
}

// ---- copies -----------------------------------------------------------------------------------------------------------------------------
__global__ void copies(uint32_t* out, const char* in) {    // 17 copies of 0 ... 16 bytes, then 5 of 0 ... 4
  JVLM_SHARED(shared);
  const int t = threadIdx.x;
  if (t < 17) ptx::cp_async16(shared + 16 * t, in + 16 * t, t);
  if (t < 5) ptx::cp_async4(shared + 17 * 16 + 4 * t, in + 4 * t, t);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::barrier();
  for (int i = t; i < 17 * 16 + 20; i += 32) out[i] = static_cast<unsigned char>(shared[i]);
}
__global__ void groups(uint32_t* out, const uint32_t* in) {   // what has landed after each wait; each thread looks at its own copies
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint32_t*>(shared) + 4 * threadIdx.x;
  const int step = 4 * blockDim.x;
  uint32_t* o = out + threadIdx.x * 16;
  for (int g = 0; g < 3; ++g) {
    ptx::cp_async16(s + g * step, in + 4 * g);
    ptx::cp_async_commit();
  }
  auto look = [&](int at) {
    for (int g = 0; g < 3; ++g) o[at + g] = s[g * step];
  };
  look(0);
  ptx::cp_async_wait<3>();
  ptx::cp_async_wait<2>();
  look(3);
  ptx::cp_async_commit();                                  // an empty group counts
  ptx::cp_async_wait<1>();
  look(6);
  ptx::cp_async_wait<0>();
  look(9);
}
__global__ void stream_loads(uint32_t* out, const uint32_t* in) {
  const uint4 v = ptx::load_stream16(in + 4 * threadIdx.x);
  out[threadIdx.x] = v.x + 10 * v.y + 100 * v.z + 1000 * v.w;
}
void copies_test() {
  std::vector<char> bytes(17 * 16);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + 1);
  Array<char> in(bytes);
  auto out = run<uint32_t>(17 * 16 + 20, copies, {1, 32, 17 * 16 + 20}, static_cast<const char*>(in.data));
  bool good = true;
  for (size_t i = 0; i < 17 * 16; ++i) good &= out[i] == (i % 16 < i / 16 ? static_cast<unsigned char>(bytes[i]) : 0u);
  for (size_t i = 0; i < 20; ++i) good &= out[17 * 16 + i] == (i % 4 < i / 4 ? static_cast<unsigned char>(bytes[i]) : 0u);
  expect("asynchronous copies of parts, the rest zero", good);

  Array<uint32_t> numbers(std::vector<uint32_t>{10, 0, 0, 0, 20, 0, 0, 0, 30, 0, 0, 0});
  out = run<uint32_t>(32 * 16, groups, {1, 32, 3 * 32 * 16}, static_cast<const uint32_t*>(numbers.data));
  const bool lazy = emu::options().copies == emu::Copies::lazy;
  good = true;
  for (size_t t = 0; t < 32; ++t)
    for (uint32_t look = 0; look < 4; ++look)
      for (uint32_t g = 0; g < 3; ++g) {
        const bool landed = !lazy || g < (look == 2 ? 3 : look);   // pending allowed: none waited for, 2, 1 with an empty group on top, 0
        good &= out[t * 16 + look * 3 + g] == (landed ? 10 * (g + 1) : 0xffffffffu);
      }
  expect("groups of copies land in order", good);

  std::vector<uint32_t> digits(128);
  for (size_t i = 0; i < 128; ++i) digits[i] = static_cast<uint32_t>(i % 7);
  Array<uint32_t> streamed(digits);
  out = run<uint32_t>(32, stream_loads, {1, 32}, static_cast<const uint32_t*>(streamed.data));
  good = true;
  for (size_t i = 0; i < 32; ++i) good &= out[i] == digits[4 * i] + 10 * digits[4 * i + 1] + 100 * digits[4 * i + 2] + 1000 * digits[4 * i + 3];
  expect("load_stream16", good);
}

// ---- matrices ---------------------------------------------------------------------------------------------------------------------------
// Four 8x8 matrices below each other, rows `stride` elements apart; element (r, c) of matrix m is 100 m + 10 r + c.
__global__ void load_matrices(uint32_t* out, int stride) {
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<uint16_t*>(shared);
  const int l = threadIdx.x;
  for (int c = 0; c < 8; ++c) s[l * stride + c] = static_cast<uint16_t>(l / 8 * 100 + l % 8 * 10 + c);
  ptx::syncwarp();
  uint32_t r[4], h[2];
  const uint16_t* row = s + l * stride;
  ptx::ldmatrix_x4(r, row);
  for (int i = 0; i < 4; ++i) out[i * 32 + l] = r[i];
  ptx::ldmatrix_x4_trans(r, row);
  for (int i = 0; i < 4; ++i) out[(4 + i) * 32 + l] = r[i];
  ptx::ldmatrix_x2(h, row);
  for (int i = 0; i < 2; ++i) out[(8 + i) * 32 + l] = h[i];
  ptx::ldmatrix_x2_trans(h, row);
  for (int i = 0; i < 2; ++i) out[(10 + i) * 32 + l] = h[i];
}
void matrices_test() {
  bool good = true;
  for (int stride : {64, 72}) {
    emu::clear_counts();
    const auto out = run<uint32_t>(12 * 32, load_matrices, {1, 32, static_cast<size_t>(32 * stride * 2)}, stride);
    for (uint32_t l = 0; l < 32; ++l) {
      const uint32_t r = l / 4, c = 2 * (l % 4);
      for (uint32_t m = 0; m < 4; ++m) {
        const uint32_t straight = (100 * m + 10 * r + c) | (100 * m + 10 * r + c + 1) << 16;
        const uint32_t turned = (100 * m + 10 * c + r) | (100 * m + 10 * (c + 1) + r) << 16;
        good &= out[m * 32 + l] == straight && out[(4 + m) * 32 + l] == turned;
        if (m < 2) good &= out[(8 + m) * 32 + l] == straight && out[(10 + m) * 32 + l] == turned;
      }
    }
    // Rows 128 bytes apart lie in the same banks, seven of eight meet another; 144 bytes apart none does.
    const auto counts = emu::counts();
    expect("ldmatrix counts conflicts of banks", counts.matrix_loads == 12 && counts.bank_conflicts == (stride == 64 ? 12u * 7 : 0u));
  }
  expect("ldmatrix", good);
}

// d (16x8) = c + a b from row-major a (16xK), b (Kx8), with the fragments as the PTX ISA lays them out, element by element.
template <int kind>                                        // 0 bf16, 1 f16, 2 int8
__global__ void multiply(float* d, const float* a, const float* b, const float* c) {
  constexpr int per = kind == 2 ? 4 : 2, K = 8 * per;
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  auto packed = [](auto element) {
    uint32_t r = 0;
    for (int i = 0; i < per; ++i) {
      const float v = element(i);
      if constexpr (kind == 0) r |= static_cast<uint32_t>(ptx::to_bf16(v)) << 16 * i;
      if constexpr (kind == 1) r |= static_cast<uint32_t>(ptx::to_f16(v)) << 16 * i;
      if constexpr (kind == 2) r |= (static_cast<uint32_t>(static_cast<int32_t>(v)) & 0xff) << 8 * i;
    }
    return r;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) fa[i] = packed([&](int e) { return a[(g + i % 2 * 8) * K + per * t + e + i / 2 * 4 * per]; });
  for (int i = 0; i < 2; ++i) fb[i] = packed([&](int e) { return b[(per * t + e + i * 4 * per) * 8 + g]; });
  const int at[4] = {g * 8 + 2 * t, g * 8 + 2 * t + 1, (g + 8) * 8 + 2 * t, (g + 8) * 8 + 2 * t + 1};
  if constexpr (kind == 2) {
    int32_t fd[4];
    for (int i = 0; i < 4; ++i) fd[i] = static_cast<int32_t>(c[at[i]]);
    ptx::mma_s8(fd, fa, fb);
    for (int i = 0; i < 4; ++i) d[at[i]] = static_cast<float>(fd[i]);
  } else {
    float fd[4];
    for (int i = 0; i < 4; ++i) fd[i] = c[at[i]];
    if constexpr (kind == 0)
      ptx::mma_bf16(fd, fa, fb);
    else
      ptx::mma_f16(fd, fa, fb);
    for (int i = 0; i < 4; ++i) d[at[i]] = fd[i];
  }
}
template <int kind>
bool multiplies() {
  constexpr size_t K = kind == 2 ? 32 : 16;
  std::vector<float> a(16 * K), b(K * 8), c(16 * 8);
  std::mt19937 random(kind + 1);
  for (auto* v : {&a, &b, &c})
    for (float& x : *v) x = static_cast<float>(static_cast<int>(random() % 255) - 127);   // exact in all types and sums
  Array<float> da(a), db(b), dc(c);
  const auto d = run<float>(16 * 8, multiply<kind>, {1, 32}, static_cast<const float*>(da.data), static_cast<const float*>(db.data),
                            static_cast<const float*>(dc.data));
  bool good = true;
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 8; ++j) {
      double want = c[i * 8 + j];
      for (size_t k = 0; k < K; ++k) want += static_cast<double>(a[i * K + k]) * b[k * 8 + j];
      good &= d[i * 8 + j] == want;
    }
  return good;
}

// ---- numbers ----------------------------------------------------------------------------------------------------------------------------
void numbers_test() {
  bool good = true;
  for (float x : {-150.f, -126.f, -3.7f, 0.f, 0.3f, 1.f, 12.25f, 127.f}) good &= std::fabs(ptx::exp2_approx(x) / (x < -126 ? 1 : std::exp2(static_cast<double>(x))) - (x < -126 ? 0 : 1)) <= 0x1p-22;
  good &= ptx::exp2_approx(-INFINITY) == 0 && ptx::exp2_approx(200.f) == INFINITY && ptx::rcp_approx(0x1p-130f) == INFINITY;
  for (float x : {0.001f, 1.f, 3.f, 1e30f}) good &= std::fabs(ptx::rcp_approx(x) * static_cast<double>(x) - 1) <= 0x1p-22 && std::fabs(ptx::rsqrt_approx(x) * std::sqrt(static_cast<double>(x)) - 1) <= 0x1p-22;
  expect("exp2, rcp, rsqrt", good);

  // Between each two neighbours: the middle goes to the even one, what lies next to it to the nearer.
  good = true;
  auto rounds = [&](uint32_t count, auto widen, auto narrow) {
    for (uint32_t h = 0; h < count; ++h) {
      const float a = widen(h), b = widen(h + 1), middle = static_cast<float>((static_cast<double>(a) + b) / 2);
      good &= narrow(a) == h && narrow(-a) == (h | 0x8000u);
      good &= narrow(middle) == h + (h & 1) && narrow(std::nextafterf(middle, a)) == h && narrow(std::nextafterf(middle, b)) == h + 1;
    }
  };
  rounds(0x7bff, [](uint32_t h) { return ptx::from_f16(static_cast<uint16_t>(h)); }, [](float x) { return static_cast<uint32_t>(ptx::to_f16(x)); });
  expect("f16 rounds to nearest even", good && ptx::to_f16(65520.f) == 0x7c00 && ptx::to_f16(-INFINITY) == 0xfc00 && ptx::to_f16(NAN) == 0x7fff);
  good = true;
  rounds(0x7f7f, [](uint32_t h) { return ptx::from_bf16(static_cast<uint16_t>(h)); }, [](float x) { return static_cast<uint32_t>(ptx::to_bf16(x)); });
  const uint32_t pair = ptx::pack_bf16(1.5f, -2.f);
  expect("bf16 rounds to nearest even", good && ptx::to_bf16(3.4e38f) == 0x7f80 && ptx::to_bf16(NAN) == 0x7fff && ptx::low_bf16(pair) == 1.5f && ptx::high_bf16(pair) == -2.f);
}

// ---- what a kernel must not do: each ends in a Fault that says so ------------------------------------------------------------------------
void must_fault(const char* name, std::initializer_list<const char*> says, const std::function<void(cuda::StreamHandle)>& start) {
  std::string report = "nothing";
  {
    cuda::Stream stream;
    try {
      start(stream);
      stream.wait();
    } catch (const emu::Fault& f) {
      report = f.what();
    }
  }
  emu::reset();
  bool good = true;
  for (const char* s : says) good &= report.find(s) != std::string::npos;
  if (!good) std::printf("%s reported: %s\n", name, report.c_str());
  expect(std::string("a fault is reported: ") + name, good);
}

enum class Wrong {
  deadlock, mixed, diverged, inactive_lane, foreign_mask, counts, misaligned_load, load_outside, misaligned_copy, copy_outside, returned_lanes,
  shared_write, shared_read, null, far, deep, spin, no_wait
};
int32_t sink;
int32_t descend(int depth) {
  volatile int32_t here[256];
  here[depth % 256] = depth;
  return depth < 100000 ? descend(depth + 1) + here[depth % 256] : 0;
}
__global__ void wrong(int32_t* out, Wrong what) {
  JVLM_SHARED(shared);
  auto* s = reinterpret_cast<volatile int32_t*>(shared);
  const int t = threadIdx.x;
  uint32_t r[4] = {}, h[2] = {};
  float d[4] = {};
  switch (what) {
    case Wrong::deadlock:
      if (t < 32) ptx::barrier();
      else ptx::named_barrier_sync(3, 64);
      break;
    case Wrong::mixed:
      if (t % 2) out[t] = ptx::shuffle(t, 0);
      else out[t] = static_cast<int32_t>(ptx::ballot(true));
      break;
    case Wrong::diverged:
      if (t % 2) ptx::barrier();
      else ptx::barrier();
      break;
    case Wrong::inactive_lane:
      if (t < 8) out[t] = ptx::shuffle(t, 9, 0xff);
      break;
    case Wrong::foreign_mask: ptx::syncwarp(0xfffffffeu); break;
    case Wrong::counts:
      if (t < 32) ptx::named_barrier_sync(1, 64);
      else if (t < 64) ptx::named_barrier_sync(1, 96);
      break;
    case Wrong::misaligned_load: ptx::ldmatrix_x4(r, shared + 8 * (t % 2)); break;
    case Wrong::load_outside: ptx::ldmatrix_x4(r, shared + 1000 + 8); break;
    case Wrong::misaligned_copy: ptx::cp_async16(shared, reinterpret_cast<const char*>(out) + 4); break;
    case Wrong::copy_outside: ptx::cp_async16(shared + 1008, out); break;
    case Wrong::returned_lanes:
      if (t % 32 == 5) return;
      ptx::mma_bf16(d, r, h);
      break;
    case Wrong::shared_write: s[250] = 1; break;
    case Wrong::shared_read: sink = s[256 + t]; break;
    case Wrong::null: *reinterpret_cast<volatile int32_t*>(static_cast<uintptr_t>(t) / 1000 + 8) = 1; break;
    case Wrong::far: out[-1 - (1 << 20)] = 1; break;
    case Wrong::deep: out[0] = descend(0); break;
    case Wrong::spin: ptx::spin_until_ge(reinterpret_cast<uint32_t*>(out), 1u << 20); break;
    case Wrong::no_wait: break;
  }
}
__global__ void one_too_few(uint32_t* counter) {           // a grid barrier for one block more than there is
  if (threadIdx.x == 0) {
    ptx::red_release_add(counter, 1);
    ptx::spin_until_ge(counter, gridDim.x + 1);
  }
  ptx::barrier();
}
void faults_test() {
#if defined(__SANITIZE_THREAD__)
  return;                                                  // threads that are dropped where they stand leave the sanitizer in disorder
#endif
  Array<int32_t> out(std::vector<int32_t>(64, 0));
  auto with = [&](Wrong what, cuda::Mode mode = cuda::Mode::plain) {
    const uint32_t threads = what == Wrong::counts ? 128 : 64;
    return [&out, what, mode, threads](cuda::StreamHandle stream) { cuda::launch(stream, wrong, {1, threads, 1000, mode}, out.data, what); };
  };
  must_fault("a deadlock", {"deadlock", "threads 0-31: wait in barrier (tests/native/emu_test.cu:", "threads 32-63: wait in named_barrier_sync (", "block (0,0,0)"},
             with(Wrong::deadlock));
  Array<uint32_t> counter(std::vector<uint32_t>{0});
  must_fault("a grid barrier that never opens", {"deadlock", "threads 0: wait in spin_until_ge (tests/native/emu_test.cu:", "until 3 is 4", "block (2,0,0)", "threads 1-63: wait in barrier"},
             [&](cuda::StreamHandle stream) { cuda::launch(stream, one_too_few, {3, 64, 0, cuda::Mode::resident}, counter.data); });
  must_fault("two collectives at once", {"different instructions", "shuffle", "ballot", "emu_test.cu:"}, with(Wrong::mixed));
  must_fault("a warp at two barriers", {"different instructions", "barrier at tests/native/emu_test.cu:"}, with(Wrong::diverged));
  must_fault("a shuffle from a lane that takes no part", {"shuffle: lane 0 reads lane 9"}, with(Wrong::inactive_lane));
  must_fault("a mask without the own lane", {"lacks the own lane"}, with(Wrong::foreign_mask));
  must_fault("a barrier with two counts", {"barrier 1 is used with", "64", "96"}, with(Wrong::counts));
  must_fault("a misaligned ldmatrix", {"ldmatrix_x4", "multiple of 16"}, with(Wrong::misaligned_load));
  must_fault("an ldmatrix outside shared memory", {"ldmatrix_x4 at offset 1008 of 1000 bytes"}, with(Wrong::load_outside));
  must_fault("a misaligned copy", {"cp_async16", "multiple of 16"}, with(Wrong::misaligned_copy));
  must_fault("a copy past shared memory", {"cp_async16 at offset 1008 of 1000 bytes"}, with(Wrong::copy_outside));
  must_fault("an mma without a lane", {"mma_bf16"}, with(Wrong::returned_lanes));
  must_fault("waiting for a block that is not resident", {"not resident", "spin_until_ge"}, with(Wrong::spin));
  must_fault("an overlapping launch that does not wait", {"grid_dependency_wait"}, with(Wrong::no_wait, cuda::Mode::overlapping));
#if !defined(__SANITIZE_ADDRESS__)                         // ends the process itself
  must_fault("a write just past shared memory", {"0 bytes past its 1000 bytes of shared memory"}, with(Wrong::shared_write));
  must_fault("a read past shared memory", {"bytes past the block's 1000 bytes of shared memory"}, with(Wrong::shared_read));
  must_fault("a null pointer", {"null pointer"}, with(Wrong::null));
  must_fault("a write far before an allocation", {"4194308 bytes before an allocation of 256 bytes"}, with(Wrong::far));
  must_fault("too deep a recursion", {"stack overflowed"}, with(Wrong::deep));
#endif
  places_test();                                           // and all works as before
}

// ---- streams, events, graphs --------------------------------------------------------------------------------------------------------------
struct Pinned {
  explicit Pinned(int n) : data(static_cast<int32_t*>(cuda::allocate_pinned(n * 4))) {
    for (int i = 0; i < n; ++i) data[i] = 0;
  }
  ~Pinned() { cuda::release_pinned(data); }
  int32_t* data;
};
__global__ void add_to(int32_t* x, int32_t v) { x[threadIdx.x] += v; }
__global__ void times(int32_t* x, const int32_t* factor) { x[threadIdx.x] *= *factor; }

void streams_test() {
  Array<int32_t> x(std::vector<int32_t>{1, 2, 3, 4}), factor(std::vector<int32_t>{1});
  Pinned host(4);
  {
    cuda::Stream s;
    host.data[0] = 7;
    cuda::upload(s, factor.data, host.data, 4);
    host.data[0] = 5;                                      // too early: the copy has not run
    cuda::launch(s, times, {1, 4}, x.data, factor.data);
    expect("work is queued", emu::queued() == 2);
    s.wait();
    expect("a copy reads its source when its turn comes", x.get() == std::vector<int32_t>({5, 10, 15, 20}) && emu::queued() == 0);
  }
  {
    cuda::Stream a, b;
    cuda::Event made;
    cuda::launch(a, add_to, {1, 4}, x.data, 1);
    made.record(a);
    cuda::launch(a, add_to, {1, 4}, x.data, 100);
    expect("an event is not done before somebody waits", !made.done());
    b.wait_for(made);
    cuda::download(b, host.data, x.data, 16);
    b.wait();
    expect("a stream waits for an event and no further", host.data[0] == 6 && made.done() && emu::queued() == 1);
    cuda::launch(b, add_to, {1, 4}, x.data, 1000);
    cuda::download(a, host.data, x.data, 16);
    a.wait();
    expect("streams without an event do not wait for each other", host.data[0] == 106);
    cuda::synchronise();
    expect("synchronise waits for all", x.get()[0] == 1106);
  }
  {
    cuda::Stream s;
    cuda::Graph graph;
    int32_t by = 3;
    graph.begin(s);
    cuda::launch(s, add_to, {1, 4}, x.data, by);
    cuda::download(s, host.data, x.data, 16);
    graph.end(s);
    by = 50;                                               // the graph has its own copy
    s.wait();
    expect("recording runs nothing", x.get()[0] == 1106);
    for (int i = 0; i < 3; ++i) graph.launch(s);
    s.wait();
    expect("a graph runs as often as it is launched, with its own arguments", host.data[0] == 1106 + 9 && host.data[3] == 20 + 1101 + 9);

    cuda::Graph lost;
    lost.begin(s);
    std::string what;
    try {
      void* p = cuda::allocate(16);
      cuda::release(p);
    } catch (const Error& e) {
      what = e.what();
    }
    try {
      lost.end(s);
      what = "";
    } catch (const Error&) {
    }
    expect("allocating while recording is refused and loses the graph", what.starts_with("DEVICE: ") && !lost);
    cuda::launch(s, add_to, {1, 4}, x.data, 1);
    s.wait();
    expect("the stream serves on", x.get()[0] == 1116);
  }
  must_fault("pinned memory freed before its copy", {"freed"}, [&](cuda::StreamHandle s) {
    Pinned gone(4);
    cuda::upload(s, x.data, gone.data, 16);
  });
  {
    cuda::Stream s;
    int32_t pageable = 1;
    std::string what;
    try {
      cuda::upload(s, x.data, &pageable, 4);
    } catch (const Error& e) {
      what = e.what();
    }
    expect("a queued copy from unpinned memory is refused", what.starts_with("DEVICE: "));
  }
#if !defined(__SANITIZE_THREAD__)
  const auto before = x.get();
  must_fault("an earlier fault drops what was queued behind it", {"deadlock"}, [&](cuda::StreamHandle s) {
    cuda::launch(s, wrong, {1, 64, 1000}, x.data, Wrong::deadlock);
    cuda::launch(s, add_to, {1, 4}, x.data, 1);
  });
  expect("nothing behind a fault ran", x.get() == before);
#endif
}

// ---- errors, by injection -----------------------------------------------------------------------------------------------------------------
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}
void errors_test() {
  auto says = [](const std::string& what, const char* code, const char* part) {
    const bool good = what.starts_with(code) && what.find(part) != std::string::npos;
    if (!good) std::printf("said: %s\n", what.c_str());
    return good;
  };
  emu::fail_next("cudaGetDeviceCount", cudaErrorNoDevice);
  expect("f62 no card", cuda::device_count() == 0);
  emu::fail_next("cudaGetDeviceCount", cudaErrorInsufficientDriver);
  expect("f62 no or old driver", says(error_of([] { cuda::device_count(); }), "DEVICE: ", "install a newer driver"));
  expect("f62 no such card", says(error_of([] { cuda::use_device(1); }), "DEVICE: ", "nvidia-smi -L"));
  emu::options().architecture = 75;
  expect("f62 architecture", says(error_of([] { cuda::use_device(0); }), "DEVICE: ", "sm_75"));
  emu::options().architecture = 80;
  emu::fail_next("cudaLaunchKernelExC", cudaErrorNoKernelImageForDevice);
  {
    cuda::Stream s;
    expect("f62 no code for the card", says(error_of([&] { cuda::launch(s, add_to, {1, 1}, static_cast<int32_t*>(nullptr), 1); }), "DEVICE: ", "architecture"));
  }
  const int64_t all = cuda::free_memory();
  {
    Array<char> some(size_t{1} << 20);
    expect("f63 free memory", cuda::free_memory() == all - (1 << 20));
    expect("f63 more than is free", says(error_of([&] { cuda::allocate(all); }), "CAPACITY: ", " MiB free and 8192 MiB are needed"));
  }
  emu::fail_next("cudaMalloc", cudaErrorMemoryAllocation, 1);
  void* first = cuda::allocate(100);
  expect("f63 the second allocation fails", says(error_of([] { cuda::allocate(100); }), "CAPACITY: ", "1 MiB are needed"));
  cuda::release(first);
  expect("f63 and the next serves", error_of([] { cuda::release(cuda::allocate(100)); }) == "none");
  emu::fail_next("cudaMallocHost", cudaErrorMemoryAllocation);
  expect("f63 pinned memory", says(error_of([] { cuda::allocate_pinned(100); }), "CAPACITY: ", "pinned"));
  {
    cuda::Stream s;
    emu::fail_next("cudaStreamQuery", cudaErrorIllegalAddress);
    expect("f65 a kernel's error", says(error_of([&] { s.wait(); }), "DEVICE: ", "cudaErrorIllegalAddress"));
    {
      const size_t before = emu::live_objects();
      Array<char>* held = nullptr;
      emu::reset();
      held = new Array<char>(100);
      cuda::Stream other;
      emu::fail_next("cudaStreamQuery", cudaErrorIllegalAddress);
      error_of([&] { s.wait(); });
      delete held;
      expect("f65 memory is given back after it", emu::live_objects() == before + 1);
    }
    expect("f65 stays", says(error_of([&] { s.wait(); }), "DEVICE: ", "cudaErrorIllegalAddress") &&
                            says(error_of([] { cuda::allocate(1); }), "DEVICE: ", "cudaErrorIllegalAddress"));
    emu::reset();
    expect("f65 until the device is opened anew", error_of([&] { s.wait(); }) == "none");
    expect("shared memory beyond the card's", says(error_of([&] { cuda::launch(s, add_to, {1, 1, 164 * 1024}, static_cast<int32_t*>(nullptr), 1); }), "DEVICE: ", "starting a kernel"));
    expect("1025 threads", says(error_of([&] { cuda::launch(s, add_to, {1, 1025}, static_cast<int32_t*>(nullptr), 1); }), "DEVICE: ", "starting a kernel"));
  }
}

// The backend: what cannot be had while it opens or makes a graph is told, nothing of it stays behind, and the next try serves.
void backend_test() {
  auto open = [] {
    std::unique_ptr<Ops> ops(make_cuda_ops(0, Dtype::bf16));
    Scratch s;
    s.max_tiles = s.max_tile_tokens = s.max_patch_inputs = s.max_sequences = s.max_heads = s.max_head_size = 8;
    ops->reserve(s);
    return ops;
  };
  const size_t before = emu::live_objects();
  for (const char* call : {"cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"}) {
    int fails = 0;
    for (bool failed = true; failed; fails += failed) {
      emu::fail_next(call, cudaErrorMemoryAllocation, fails);
      const std::string what = error_of([&] { open(); });
      failed = what.starts_with("CAPACITY: ");
      expect("f64 opening without " + std::string(call), (failed || what == "none") && emu::live_objects() == before);
      emu::reset();
    }
    expect("f64 " + std::string(call) + " is called", fails > 0);
  }
  {
    const std::unique_ptr<Ops> ops = open();
    const float numbers[] = {1, 2, 5, 3};
    auto* logits = static_cast<float*>(ops->allocate(16));
    auto* id = static_cast<int32_t*>(ops->allocate(4));
    ops->upload(logits, numbers, 16);
    auto best = [&] { ops->replay(1, [&] { ops->argmax(id, {logits, Dtype::f32, 1, 4, 4}); }); };
    const size_t open_objects = emu::live_objects();
    for (const char* call : {"cudaGraphInstantiate", "cudaStreamEndCapture", "cudaStreamBeginCapture"}) {
      emu::fail_next(call, cudaErrorMemoryAllocation);
      expect("f64 no memory for a graph: " + std::string(call), error_of(best).starts_with("CAPACITY: ") && emu::live_objects() == open_objects);
    }
    int32_t got = -1;
    best();
    ops->download(&got, id, 4);
    expect("f64 the engine lives on", got == 2);
    emu::take_ranges();
    {
      const Range outer(*ops, "step"), inner(*ops, "decoder", 31);
    }
    expect("ranges for profilers", emu::take_ranges() == std::vector<std::string>({"step", "decoder.31", "", ""}));
  }
  expect("f64 everything is given back", emu::live_objects() == before);
}

// A kernel that never ends. From here on this process opens no card.
void hang_test() {
  std::unique_ptr<Ops> ops(make_cuda_ops(0, Dtype::bf16));
  auto* logits = static_cast<float*>(ops->allocate(16));
  auto* id = static_cast<int32_t*>(ops->allocate(4));
  int32_t got = -1;
  emu::fail_next("cudaLaunchKernelExC", cudaErrorNotReady);
  ops->argmax(id, {logits, Dtype::f32, 1, 4, 4});
  const std::string what = error_of([&] { ops->download(&got, id, 4); });
  expect("f66 a kernel that hangs: " + what, what.starts_with("DEVICE: ") && what.find("3 seconds") != std::string::npos);
  const size_t held = emu::live_objects();
  ops.reset();
  expect("f66 closing frees nothing, for that would wait", emu::live_objects() == held);
  expect("f66 no card is opened any more", error_of([] { make_cuda_ops(0, Dtype::bf16); }).starts_with("DEVICE: "));
}

__global__ void busy(uint32_t* out, int rounds) {
  uint32_t v = threadIdx.x;
  for (int i = 0; i < rounds; ++i) v = ptx::shuffle_xor(v, 1);
  out[blockIdx.x * blockDim.x + threadIdx.x] = v;
}

}  // namespace

int main(int argc, char** argv) {
  setenv("JVLM_DEVICE_TIMEOUT", "3", 1);                   // for hang_test
  cuda::use_device(0);
  if (argc > 1) {                                          // speed
    emu::options().threads = 1;
    const auto start = std::chrono::steady_clock::now();
    run<uint32_t>(64 * 128, busy, {64, 128}, 1000);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%.1f million switches a second on one thread\n", static_cast<double>(emu::counts().switches) / seconds * 1e-6);
    return 0;
  }
  auto& o = emu::options();
  for (auto order : {emu::Order::forward, emu::Order::reverse, emu::Order::random})
    for (auto copies : {emu::Copies::lazy, emu::Copies::eager})
      for (uint64_t seed = 1; seed <= (order == emu::Order::random ? 3u : 1u); ++seed) {
        o.order = order, o.copies = copies, o.seed = seed;
        places_test();
        barriers_test();
        warp_test();
        atomics_test();
        copies_test();
        matrices_test();
        expect("mma_bf16", multiplies<0>());
        expect("mma_f16", multiplies<1>());
        expect("mma_s8", multiplies<2>());
        faults_test();
      }
  numbers_test();
  streams_test();
  errors_test();
  setenv("JVLM_DEVICE_TIMEOUT", "3s", 1);
  expect("f66 a timeout that is no number", error_of([] { cuda::use_device(0); }).starts_with("DEVICE: JVLM_DEVICE_TIMEOUT is '3s'"));
  setenv("JVLM_DEVICE_TIMEOUT", "3", 1);
  backend_test();
  expect("nothing is left", emu::live_objects() == 0);
  hang_test();
  return test::report("emulation");
}
