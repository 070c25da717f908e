// How fast memory is read at best, by all threads: the ceiling of decoding. On a virtual machine the same loop was seen to read at 33 and at 60 GB/s in processes that
// ran one after the other, whose pages were all huge ones; why was not found. So it is measured over the very memory that a model lies in, in its process, too.
#pragma once
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

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

// Bytes a nanosecond, the best of several rounds of three patterns. data is aligned to 64 bytes.
double read_rate(const void* data, int64_t bytes) {
  const int64_t threads = omp_get_max_threads(), lines = bytes / 64 / threads / 16 * 16;
  double most = 0;
  uint64_t seen = 0;
  for (auto* read : {fold1, fold2, fold4}) {
    const double time = best_of(0.8, [&] {
#pragma omp parallel reduction(^ : seen)
      seen ^= read(static_cast<const Line*>(data) + omp_get_thread_num() * lines, lines);
    });
    most = std::max(most, static_cast<double>(lines * threads * 64) / time * 1e-9);
  }
  if (seen == 1) std::fputs(" ", stderr);                 // the sum is used
  return most;
}

// The same over this process's largest piece of anonymous memory.
[[maybe_unused]] double read_rate_of_largest() {
  uintptr_t first = 0, last = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const uintptr_t start = std::strtoull(line.c_str(), nullptr, 16), end = std::strtoull(line.c_str() + line.find('-') + 1, nullptr, 16);
    const bool anonymous = line.find(" rw-p ") != std::string::npos && line.find('/') == std::string::npos && line.find('[') == std::string::npos;
    if (anonymous && end - start > last - first) first = start, last = end;
  }
  return read_rate(reinterpret_cast<const void*>(first), static_cast<int64_t>(last - first));
}

}  // namespace
