// How fast memory is read at best, by all threads: the ceiling of decoding. On a virtual machine the same loop was seen to read at 35 and at 60 GB/s, for seconds or
// minutes at a time, whatever the pages and the process: what else the host runs, it seems. So it is measured right before and after each run that is
// held against it.
#pragma once
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "base/os.h"

#if defined(__x86_64__)
#define JVLM_WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define JVLM_WIDEST
#endif

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class F>
double best_of(double seconds, F&& work) {
  work();
  double best = 1e9;
  for (const double end = now() + seconds; now() < end;) {
    const double start = now();
    work();
    best = std::min(best, now() - start);
  }
  return best;
}

typedef uint64_t Line __attribute__((vector_size(64)));   // of a cache

// The exclusive or of `streams` stretches of `count` lines each, read side by side, four lines of each at a time.
template <int streams>
inline __attribute__((always_inline)) uint64_t fold(const Line* from, int64_t count) {
  Line a{}, b{}, c{}, d{};
  for (int64_t i = 0; i < count; i += 4)
    for (int s = 0; s < streams; ++s) {
      const Line* at = from + s * count + i;
      for (int l = 0; l < 4; ++l) __builtin_prefetch(at + 16 + l);
      a ^= at[0], b ^= at[1], c ^= at[2], d ^= at[3];
    }
  a ^= b ^ c ^ d;
  return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];
}
JVLM_WIDEST uint64_t fold1(const Line* from, int64_t count) { return fold<1>(from, count); }
JVLM_WIDEST uint64_t fold2(const Line* from, int64_t count) { return fold<2>(from, count / 2); }
JVLM_WIDEST uint64_t fold4(const Line* from, int64_t count) { return fold<4>(from, count / 4); }

using Fold = uint64_t (*)(const Line*, int64_t);

// Bytes a nanosecond of one pass of all threads. data is aligned to 64 bytes.
double read_once(Fold fold, const void* data, int64_t bytes) {
  const int64_t threads = omp_get_max_threads(), lines = bytes / 64 / threads / 16 * 16;
  uint64_t seen = 0;
  const double start = now();
#pragma omp parallel reduction(^ : seen)
  seen ^= fold(static_cast<const Line*>(data) + omp_get_thread_num() * lines, lines);
  const double time = now() - start;
  if (seen == 1) std::fputs(" ", stderr);                 // the sum is used
  return static_cast<double>(lines * threads * 64) / time * 1e-9;
}

// Memory to read, on huge pages as a model's, and written to: what never was is one page of zeros, and reading it is reading the cache.
class ReadingMemory {
 public:
  static constexpr int64_t kBytes = int64_t{1} << 30;

  ReadingMemory() : data_(jvlm::os::map_memory(kBytes)) {
    std::memset(data_, 1, kBytes);
    for (Fold fold : {fold1, fold2, fold4})
      for (const double end = now() + 0.8; now() < end;)
        if (const double rate = read_once(fold, data_, kBytes); rate > best_) best_ = rate, fold_ = fold;
  }
  ~ReadingMemory() { jvlm::os::unmap_memory(data_, kBytes); }
  ReadingMemory(const ReadingMemory&) = delete;
  ReadingMemory& operator=(const ReadingMemory&) = delete;

  // Bytes a nanosecond: the best pass of the fastest of three patterns, and one pass of that pattern now.
  double best() const { return best_; }
  double rate() const { return read_once(fold_, data_, kBytes); }

 private:
  void* data_;
  Fold fold_ = nullptr;
  double best_ = 0;
};

}  // namespace
