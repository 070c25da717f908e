// What the files that run kernels share: threads, warps and blocks, a system thread with its queue of those that can go on, a launch under way.
// What kernels call is in simt.h.
#pragma once
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "emu/simt.h"

namespace jvlm::emu {

using Where = std::source_location;
struct Worker;
struct Block;

// One instruction that some lanes of a warp have reached and others of its mask have not.
struct Meeting {
  Operation operation{};
  uint32_t mask = 0, arrived = 0;
  Where where;
  void* operand[32];
};

struct Thread : Place {
  Fiber fiber;
  Block* owner = nullptr;
  int number = 0;                                          // in the block
  bool live = false, fenced = false;
  const char* waits = nullptr;                             // for what
  Where where;
  const uint32_t* counter = nullptr;                       // a spinning thread's
  uint32_t goal = 0;
  uint32_t atomic_count = 0;
  struct Copy {
    char* to;
    const char* from;
    int bytes, size;
  };
  std::vector<Copy> copies;                                // those under way, in order; `groups` holds the end of each committed group
  std::vector<size_t> groups;
  std::vector<const void*> atomics;                        // ThreadSanitizer: read since the last fence
};

struct Warp {
  Thread* lanes[32] = {};
  uint32_t live = 0;
  Meeting meetings[4];                                     // of disjoint masks
  int open = 0;                                            // of them
  Meeting* latest = nullptr;
  uint32_t turn[32] = {};
};

struct Barrier {
  int expected = 0, arrived = 0;                           // expected 0 with arrived: all live threads
  bool all = false;
  uint32_t phase = 0;
  std::vector<Thread*> waiting;
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;            // grows, is used again
  std::vector<Warp> warps;
  Barrier barriers[16];
  int count = 0, live = 0;
  bool waited_for_grid = false;
  char* arena = nullptr;                                   // shared memory with a guard page behind it
  std::unique_ptr<char[]> edges;                           // addresses for ThreadSanitizer, this block's own: two by turns for each barrier and warp
  size_t shared_bytes = 0;
};

constexpr size_t kArena = 228 * 1024, kPage = 4096, kSharedAlignment = 1024;

// splitmix64: every seed is a good one.
struct Random {
  uint64_t state = 0;
  uint64_t operator()() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
};

// A launch under way, on all workers.
struct Running {
  const Launch* launch;
  std::vector<uint32_t> order;                             // of blocks, where it is random
  std::atomic<uint32_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string report;                                      // of the first failure
  uint32_t total = 0;
  char begin = 0, end = 0;                                 // addresses for ThreadSanitizer: edges to all threads, and from all
};

// A system thread and the blocks that it runs.
struct Worker {
  Fiber main;
  std::vector<std::unique_ptr<Block>> blocks;
  Running* running = nullptr;
  Order order = Order::forward;
  bool lazy = true;
  Random random;
  Thread* current = nullptr;
  // Threads that can go on: a ring, big enough for all.
  std::vector<Thread*> ring;
  size_t head = 0, ready = 0;
  std::vector<Thread*> spinning;
  int live = 0;
  uint32_t together = 0;                                   // blocks that run now
  Counts counts;
  void* fault_address = nullptr;                           // what was accessed, and by which code
  void* fault_code = nullptr;
  bool fault_is_general = false;

  void wake(Thread* t) {
    ring[(head + ready++) & (ring.size() - 1)] = t;
  }
  // Behind all others, in any order.
  void wake_last(Thread* t) {
    if (order == Order::reverse) {
      ring[--head & (ring.size() - 1)] = t;
      ++ready;
    } else {
      wake(t);
    }
  }
  Thread* take() {
    if (!ready) poll();
    if (!ready) return nullptr;
    const size_t mask = ring.size() - 1;
    size_t at = head;
    if (order == Order::reverse) at = head + ready - 1;
    if (order == Order::random) at = head + random() % ready;
    Thread* t = ring[at & mask];
    if (order == Order::forward)
      ++head;
    else
      ring[at & mask] = ring[(head + ready - 1) & mask];
    --ready;
    return t;
  }
  // Spinning threads whose counter has come far enough.
  void poll() {
    size_t kept = 0;
    for (Thread* t : spinning) {
      if (__atomic_load_n(t->counter, __ATOMIC_ACQUIRE) >= t->goal)
        wake(t);
      else
        spinning[kept++] = t;
    }
    spinning.resize(kept);
  }
};

extern __thread Worker* worker __attribute__((tls_model("initial-exec")));

inline Thread& self() { return *worker->current; }
inline Warp& warp_of(Thread& t) { return t.owner->warps[static_cast<size_t>(t.number / 32)]; }

// ---- scheduler.cc -----------------------------------------------------------------------------------------------------------------------
void go_to(Thread* next, bool last = false);
void park(const char* what, Where where);                  // gives the core away until somebody wakes this thread
void step_aside();                                         // lets others go first
[[noreturn]] void to_main();                               // leaves this thread for good

// ---- collective.cc ----------------------------------------------------------------------------------------------------------------------
// The running thread has returned from the kernel: those who wait only for such threads go on. The next to run, null if there is none left.
Thread* leave(Thread& me);

// ---- report.cc --------------------------------------------------------------------------------------------------------------------------
std::string at(Where w);
bool same(const char* a, const char* b);
bool same(Where a, Where b);
std::string report(const std::string& what);               // a failure of the running thread
[[noreturn]] void stop(const std::string& what);           // unwinds the running thread's stack, up to thread_main
void end_launch(const char* said);                         // what the other threads have on their stacks is dropped

// ---- refused.cc -------------------------------------------------------------------------------------------------------------------------
void catch_signals();                                      // of the system thread that calls

}  // namespace jvlm::emu
