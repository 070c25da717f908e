// Small kernels of the kinds that the backend has, right and with one bug planted in each. Without arguments: the right ones give the right
// numbers in every order, and each bug is caught by wrong numbers or by a Fault. `races`: the kernels run once for ThreadSanitizer, the named
// bug planted; ctest looks for its report (tests/native/CMakeLists.txt), and for none without a bug.
//
//   bug                          caught by
//   missing_barrier              numbers, in every order; ThreadSanitizer
//   early_prefetch               numbers, with eager copies in random order; ThreadSanitizer
//   dropped_row_guard            guard page at the end of the allocation
//   short_row_guard              margin between an allocation's end and its guard page
//   grid_barrier_without_wait    numbers, in random order; ThreadSanitizer
//   page_out_of_range            guard page
//   missing_fence                ThreadSanitizer
//   missing_syncwarp             numbers, in every order; ThreadSanitizer
//   overlapping_rows             numbers, in reverse order; ThreadSanitizer
#include <cmath>
#include <string>
#include <vector>

#include "array.h"
#include "check.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

using namespace jvlm;
using test::Array;

namespace {

enum class Bug {
  none,
  missing_barrier,
  early_prefetch,
  dropped_row_guard,
  short_row_guard,
  grid_barrier_without_wait,
  page_out_of_range,
  missing_fence,
  missing_syncwarp,
  overlapping_rows
};
const char* const kNames[] = {"none", "missing_barrier", "early_prefetch", "dropped_row_guard", "short_row_guard",
                              "grid_barrier_without_wait", "page_out_of_range", "missing_fence", "missing_syncwarp", "overlapping_rows"};

// out (rows, 64): column sums over each row's tokens, which come in pages of 32 through a table. Two stages of asynchronous copies; each
// of the four warps reads what all of them copied.
constexpr int kWidth = 64, kPageTokens = 32, kThreads = 128;

__global__ void sum_pages(float* out, const float* pages, const int32_t* table, int rows, int pages_a_row, Bug bug) {
  JVLM_SHARED(shared);
  float* stage = reinterpret_cast<float*>(shared);
  const int row = blockIdx.x;
  auto load = [&](int i) {
    const float* page = pages + static_cast<int64_t>(table[row * pages_a_row + i]) * kPageTokens * kWidth;
    float* to = stage + i % 2 * kPageTokens * kWidth;
    for (int c = threadIdx.x; c < kPageTokens * kWidth / 4; c += kThreads) ptx::cp_async16(to + 4 * c, page + 4 * c);
  };
  load(0);
  ptx::cp_async_commit();
  // Thread c + 64 h sums column c of the tokens 16 h ... 16 h + 15.
  const int column = threadIdx.x % kWidth, half = threadIdx.x / kWidth;
  float sum = 0;
  for (int i = 0; i < pages_a_row; ++i) {
    ptx::cp_async_wait<0>();
    if (bug == Bug::early_prefetch && i + 1 < pages_a_row) load(i + 1);
    if (bug != Bug::missing_barrier) ptx::barrier();
    if (bug != Bug::early_prefetch && i + 1 < pages_a_row) load(i + 1);
    ptx::cp_async_commit();
    const float* from = stage + i % 2 * kPageTokens * kWidth;
    for (int t = 0; t < kPageTokens / 2; ++t) {
      sum += from[(half * kPageTokens / 2 + t) * kWidth + column];
      if (t % 4 == 0) ptx::shuffle(sum, 0);                // a place where warps overtake each other
    }
  }
  if (bug == Bug::overlapping_rows && threadIdx.x == 0 && row + 1 < rows) out[(row + 1) * kWidth] = 0;   // another block's
  ptx::barrier();
  if (half) stage[column] = sum;
  ptx::barrier();
  // Blocks beyond the last row are there as a tile's rows beyond M are.
  const bool inside = row < rows || (bug == Bug::dropped_row_guard) || (bug == Bug::short_row_guard && column < 4);
  if (!half && inside) out[row * kWidth + column] = sum + stage[column];
}

// Layers of a persistent kernel: x of layer l + 1 is the sum of all of layer l, plus the own element's number.
__global__ void layers(float* x, uint32_t* counters, int count, int n, Bug bug) {
  const int per = n / gridDim.x;
  for (int l = 0; l < count; ++l) {
    const float* from = x + l * n;
    float* to = x + (l + 1) * n;
    for (int i = threadIdx.x; i < per; i += blockDim.x) {
      const int e = blockIdx.x * per + i;
      float sum = 0;
      for (int j = 0; j < n; ++j) sum += from[j];
      to[e] = sum / 64 + static_cast<float>(e % 7);
    }
    ptx::barrier();
    if (threadIdx.x == 0) {
      ptx::red_release_add(counters + l, 1);
      if (bug != Bug::grid_barrier_without_wait) ptx::spin_until_ge(counters + l, gridDim.x);
    }
    ptx::barrier();
  }
}

// Every block leaves a part, the last to come adds them up.
__global__ void last_block(float* out, float* parts, uint32_t* ticket, Bug bug) {
  JVLM_SHARED(shared);
  auto* last = reinterpret_cast<uint32_t*>(shared);
  parts[blockIdx.x * blockDim.x + threadIdx.x] = static_cast<float>(blockIdx.x + threadIdx.x);
  if (bug != Bug::missing_fence) ptx::threadfence();
  ptx::barrier();
  if (threadIdx.x == 0) {
    *last = ptx::atomic_add(ticket, 1u) + 1 == gridDim.x;
    ptx::threadfence();
  }
  ptx::barrier();
  if (!*last) return;
  float sum = 0;
  for (uint32_t b = 0; b < gridDim.x; ++b) sum += parts[b * blockDim.x + threadIdx.x];
  out[threadIdx.x] = sum;
}

// Turns a warp's numbers round through shared memory.
__global__ void turn_round(float* out, Bug bug) {
  JVLM_SHARED(shared);
  float* s = reinterpret_cast<float*>(shared);
  s[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (bug != Bug::missing_syncwarp) ptx::syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 31];
}

bool small = false;                                        // for ThreadSanitizer, whose threads are dear

bool sums_pages(Bug bug) {
  // 15 rows of the grid's 17; 3 pages each. An output of 15 * 64 floats has no margin: 3840 is a multiple of 256.
  const int rows = small ? 3 : 15, blocks = bug == Bug::none || bug == Bug::dropped_row_guard || bug == Bug::short_row_guard ? 17 : rows, each = 3, pages = 60;
  std::vector<float> values(static_cast<size_t>(pages * kPageTokens * kWidth));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 37 + i / 64 * 11) % 101);
  std::vector<int32_t> table(static_cast<size_t>(blocks * each));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i * 23 % pages);
  if (bug == Bug::page_out_of_range) table[7] = pages + 3;
  // For the margin an output that is no multiple of 256 bytes: its last row is short.
  const int columns = bug == Bug::short_row_guard ? kWidth - 4 : kWidth;
  Array<float> in(values), out(static_cast<size_t>((rows - 1) * kWidth + columns));
  Array<int32_t> pages_of(table);
  const int guarded_rows = bug == Bug::short_row_guard ? rows - 1 : rows;
  cuda::Stream stream;
  cuda::launch(stream, sum_pages, {static_cast<uint32_t>(bug == Bug::short_row_guard ? rows : blocks), kThreads, 2 * kPageTokens * kWidth * sizeof(float)},
               out.data + (bug == Bug::short_row_guard ? kWidth - 4 : 0), in.data, pages_of.data, guarded_rows, each, bug);
  stream.wait();
  const auto got = out.get();
  bool right = true;
  for (int r = 0; r < guarded_rows; ++r)
    for (int c = 0; c < kWidth; ++c) {
      float want = 0;
      for (int i = 0; i < each; ++i)
        for (int t = 0; t < kPageTokens; ++t) want += values[static_cast<size_t>((table[static_cast<size_t>(r * each + i)] * kPageTokens + t) * kWidth + c)];
      const size_t at = static_cast<size_t>(r * kWidth + c + (bug == Bug::short_row_guard ? kWidth - 4 : 0));
      right &= at >= got.size() || got[at] == want;        // sums of small integers are exact in any order
    }
  return right;
}

bool runs_layers(Bug bug) {
  const int count = 4, n = 64;
  std::vector<float> x(static_cast<size_t>((count + 1) * n), NAN);
  for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i);
  Array<float> d(x);
  Array<uint32_t> counters(std::vector<uint32_t>(static_cast<size_t>(count), 0));
  cuda::Stream stream;
  cuda::launch(stream, layers, {8, 32, 0, cuda::Mode::resident}, d.data, counters.data, count, n, bug);
  stream.wait();
  const auto got = d.get();
  for (int l = 0; l < count; ++l) {
    float sum = 0;
    for (int j = 0; j < n; ++j) sum += x[static_cast<size_t>(l * n + j)];
    for (int e = 0; e < n; ++e) x[static_cast<size_t>((l + 1) * n + e)] = sum / 64 + static_cast<float>(e % 7);
  }
  return std::memcmp(got.data(), x.data(), x.size() * sizeof(float)) == 0;
}

bool adds_last(Bug bug) {
  const uint32_t blocks = 5, threads = 64;
  Array<float> out(threads), parts(blocks * threads);
  Array<uint32_t> ticket(std::vector<uint32_t>{0});
  cuda::Stream stream;
  cuda::launch(stream, last_block, {blocks, threads, 4}, out.data, parts.data, ticket.data, bug);
  stream.wait();
  const auto got = out.get();
  bool right = true;
  for (uint32_t t = 0; t < threads; ++t) right &= got[t] == static_cast<float>(10 + 5 * t);
  return right;
}

bool turns_round(Bug bug) {
  Array<float> out(32);
  cuda::Stream stream;
  cuda::launch(stream, turn_round, {1, 32, 128}, out.data, bug);
  stream.wait();
  const auto got = out.get();
  bool right = true;
  for (size_t i = 0; i < 32; ++i) right &= got[i] == static_cast<float>(i ^ 31);
  return right;
}

bool run(Bug bug) {
  switch (bug) {
    case Bug::grid_barrier_without_wait: return runs_layers(bug);
    case Bug::missing_fence: return adds_last(bug);
    case Bug::missing_syncwarp: return turns_round(bug);
    case Bug::none: return sums_pages(bug) && runs_layers(bug) && adds_last(bug) && turns_round(bug);
    default: return sums_pages(bug);
  }
}

// How often of all orders, kinds of copies and seeds a bug shows, and whether by a Fault that says `report`.
void caught(Bug bug, const char* report) {
  int wrong = 0, faults = 0, runs = 0;
  auto& o = emu::options();
  for (auto order : {emu::Order::forward, emu::Order::reverse, emu::Order::random})
    for (auto copies : {emu::Copies::lazy, emu::Copies::eager})
      for (uint64_t seed = 1; seed <= (order == emu::Order::random ? 5u : 1u); ++seed) {
        o.order = order, o.copies = copies, o.seed = seed;
        ++runs;
        try {
          wrong += !run(bug);
        } catch (const emu::Fault& f) {
          const bool says = report && std::string(f.what()).find(report) != std::string::npos;
          faults += says;
          if (!says) std::printf("another fault than was planted: %s\n", f.what());
          emu::reset();
        }
      }
  std::printf("%-26s %d of %d runs wrong, %d faults\n", kNames[static_cast<int>(bug)], wrong, runs, faults);
  if (bug == Bug::none)
    test::expect("without a bug every run is right", wrong == 0 && faults == 0);
  else
    test::expect(std::string(kNames[static_cast<int>(bug)]) + " is caught", report ? faults == runs : wrong > 0);
}

}  // namespace

int main(int argc, char** argv) {
  cuda::use_device(0);
  if (argc > 1) {                                          // races [bug]
    Bug bug = Bug::none;
    for (int i = 0; i < 10; ++i)
      if (argc > 2 && std::string(argv[2]) == kNames[i]) bug = static_cast<Bug>(i);
    small = true;
    for (auto copies : {emu::Copies::lazy, emu::Copies::eager}) {
      emu::options().copies = copies;
      const bool right = run(bug);
      if (bug == Bug::none && !right) return 1;
    }
    return 0;
  }
  caught(Bug::none, nullptr);
  caught(Bug::missing_barrier, nullptr);
  caught(Bug::early_prefetch, nullptr);
  caught(Bug::grid_barrier_without_wait, nullptr);
  caught(Bug::missing_syncwarp, nullptr);
  caught(Bug::overlapping_rows, nullptr);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)   // those end the process themselves
  caught(Bug::dropped_row_guard, "past the end of an allocation of 3840 bytes");
  caught(Bug::short_row_guard, "past the end of an allocation of");
  caught(Bug::page_out_of_range, "past the end of an allocation of 491520 bytes");
#endif
  return test::report("emulation, planted bugs");
}
