#include "emu/simt.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "emu/memory.h"

#if defined(JVLM_EMU_ASAN)
extern "C" void __asan_poison_memory_region(const volatile void*, size_t);
extern "C" void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif

namespace jvlm::emu {

__thread Place* place = nullptr;

namespace {

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

__thread Worker* worker __attribute__((tls_model("initial-exec"))) = nullptr;

Thread& self() { return *worker->current; }
Warp& warp_of(Thread& t) { return t.owner->warps[static_cast<size_t>(t.number / 32)]; }

bool same(const char* a, const char* b) { return a == b || !std::strcmp(a, b); }
bool same(Where a, Where b) { return a.line() == b.line() && same(a.file_name(), b.file_name()); }

std::string at(Where w) {
  const char* file = w.file_name();                        // from the project's root on
  for (const char* p = std::strstr(file, "native/"); p; p = std::strstr(p + 1, "native/")) file = p;
  if (file - w.file_name() >= 6 && std::strncmp(file - 6, "tests/", 6) == 0) file -= 6;
  return std::string(file) + ":" + std::to_string(w.line());
}
std::string triple(uint3 v) { return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")"; }

// Who of a block waits where, neighbours together.
std::string waiting(const Block& b) {
  std::string s;
  for (int i = 0; i < b.count;) {
    const Thread& t = *b.threads[static_cast<size_t>(i)];
    int end = i + 1;
    auto alike = [&](const Thread& o) {
      return o.live == t.live && o.waits == t.waits && (!t.waits || same(o.where, t.where)) && o.counter == t.counter && o.goal == t.goal;
    };
    while (end < b.count && alike(*b.threads[static_cast<size_t>(end)])) ++end;
    s += "  threads " + std::to_string(i) + (end > i + 1 ? "-" + std::to_string(end - 1) : "") + ": " +
         (!t.live ? "returned" : t.waits ? "wait in " + std::string(t.waits) + " (" + at(t.where) + ")" : "can go on");
    if (t.counter) s += " until " + std::to_string(__atomic_load_n(t.counter, __ATOMIC_RELAXED)) + " is " + std::to_string(t.goal);
    s += "\n";
    i = end;
  }
  return s;
}

// The same of all blocks that live, those that stand alike together.
std::string waiting(const Worker& w) {
  std::string s, last;
  for (uint32_t i = 0; i < w.together; ++i) {
    const Block& b = *w.blocks[i];
    std::string where = waiting(b);
    if (where == last) {
      s += " block " + triple(b.threads[0]->block) + ": the same\n";
      continue;
    }
    s += " block " + triple(b.threads[0]->block) + ":\n" + where;
    last = std::move(where);
  }
  return s;
}

// A failure of the running thread as it is reported.
std::string report(const std::string& what) {
  const Worker& w = *worker;
  const Thread& t = self();
  static const char* const orders[] = {"forward", "reverse", "random"};
  return "emu: " + what + "\n in thread " + triple(t.thread) + " of block " + triple(t.block) + " of the kernel launched at " +
         at(w.running->launch->where) + ", order " + orders[static_cast<int>(w.order)] +
         (w.order == Order::random ? ", seed " + std::to_string(options().seed) : "") + (w.lazy ? ", lazy copies" : ", eager copies") + "\n" +
         waiting(w);
}

// Unwinds the running thread's stack, up to thread_main.
[[noreturn]] void stop(const std::string& what) { throw Fault(report(what)); }

// Ends the launch: what the other threads have on their stacks is dropped.
void end_launch(const char* said) {
  Own own;
  std::lock_guard lock(worker->running->mutex);
  if (!worker->running->failed) worker->running->report = said;
  worker->running->failed = true;
}

// Leaves this thread for good.
[[noreturn]] void to_main() {
  self().fiber.switch_to(worker->main, true);
  std::abort();
}

void go_to(Thread* next, bool last = false) {
  Thread& me = self();
  Worker& w = *worker;
  ++w.counts.switches;
  w.current = next;
  place = next;
  me.fiber.switch_to(next->fiber, last);
}

// Gives the core away until somebody wakes this thread.
void park(const char* what, Where where) {
  Thread& me = self();
  me.waits = what, me.where = where;
  Thread* next = worker->take();
  if (!next) {
    const bool spins = !worker->spinning.empty();
    stop(spins && !worker->running->launch->resident ? "a thread waits for another block, but the launch is not resident"
                                                        : "deadlock: every thread of the block waits");
  }
  if (next != &me) go_to(next);
  me.waits = nullptr;
}

// Lets others go first.
void step_aside() {
  Thread& me = self();
  worker->wake_last(&me);
  Thread* next = worker->take();
  if (next != &me) go_to(next);
}

std::string lanes(uint32_t mask) {
  char s[16];
  std::snprintf(s, sizeof s, "0x%08x", mask);
  return s;
}

// Joins the meeting at an instruction; the meeting where this lane was the last of those that live, else null.
Meeting* join(const Operation& operation, uint32_t mask, void* operand, Where where) {
  Thread& me = self();
  Warp& warp = warp_of(me);
  ++worker->counts.collectives;
  const uint32_t bit = 1u << me.lane;
  if (!(mask & bit)) fail(std::string(operation.name) + " with a mask " + lanes(mask) + " that lacks the own lane", where);
  auto mine = [&](const Meeting& m) {
    return m.arrived && m.operation.run == operation.run && m.mask == mask && same(m.operation.name, operation.name) &&
           (!operation.aligned || same(m.where, where));
  };
  Meeting* meeting = nullptr;
  if (warp.open && mine(*warp.latest)) {                   // nearly always
    meeting = warp.latest;
  } else {
    for (Meeting& m : warp.meetings)
      if (mine(m)) meeting = &m;
    if (!meeting) {
      for (Meeting& m : warp.meetings)
        if (!m.arrived) meeting = &m;
      if (!meeting) fail("more than four parts of one warp wait apart from each other", where);
      meeting->operation = operation, meeting->mask = mask, meeting->where = where;
      ++warp.open;
    }
    warp.latest = meeting;
  }
  meeting->operand[me.lane] = operand;
  meeting->arrived |= bit;
  // Two meetings, each of which waits for lanes that are at the other.
  for (Meeting& m : warp.meetings) {
    if (warp.open == 1) break;
    if (&m != meeting && (m.arrived & mask) && (meeting->arrived & m.mask))
      fail(std::string("lanes of one warp are at different instructions: ") + operation.name + " at " + at(where) + " with mask " + lanes(mask) +
               ", while lanes " + lanes(m.arrived) + " are at " + m.operation.name + " at " + at(m.where) + " with mask " + lanes(m.mask),
           where);
  }
  return meeting->arrived == (mask & warp.live) ? meeting : nullptr;
}

// Ends a meeting: who came.
uint32_t close(Warp& warp, Meeting& m) {
  --warp.open;
  return std::exchange(m.arrived, 0);
}

void wake_lanes(Warp& warp, uint32_t which) {
  for (int l = 0; l < 32; ++l)
    if ((which >> l & 1) && warp.lanes[l] != &self()) worker->wake(warp.lanes[l]);
}

void run_nothing(void* const*, uint32_t) {}

struct Arrival {
  int id, threads;
  bool wait;
};
const Operation kArrival = {"barrier", false, run_nothing};

// Whether the barrier has all that it waits for; if so everybody goes on.
bool complete(Block& block, Barrier& b) {
  if (!b.arrived || b.arrived < (b.all ? block.live : b.expected)) return false;
  b.arrived = 0;
  ++b.phase;
  for (Thread* t : b.waiting)
    if (t != &self()) worker->wake(t);
  b.waiting.clear();
  return true;
}

// A warp has come to a barrier as a whole. Whether the running thread, if it is one of them, may go on.
bool arrive(Block& block, Warp& warp, Meeting& m) {
  const uint32_t which = close(warp, m);
  const Arrival* first = nullptr;
  for (int l = 0; l < 32; ++l) {
    if (!(which >> l & 1)) continue;
    const auto* a = static_cast<Arrival*>(m.operand[l]);
    if (!first) first = a;
    if (a->id != first->id || a->threads != first->threads || a->wait != first->wait) fail("lanes of one warp are at different barriers", m.where);
  }
  Barrier& b = block.barriers[first->id];
  const int came = __builtin_popcount(which);
  if (b.arrived && (b.all != !first->threads || b.expected != first->threads))
    fail("barrier " + std::to_string(first->id) + " is used with " + std::to_string(b.expected) + " and " + std::to_string(first->threads) + " threads at once",
         m.where);
  b.all = !first->threads, b.expected = first->threads;
  b.arrived += came;
  if (!b.all && b.arrived > b.expected)
    fail("barrier " + std::to_string(first->id) + " of " + std::to_string(b.expected) + " threads has " + std::to_string(b.arrived), m.where);
  if (!first->wait) {
    wake_lanes(warp, which);
    complete(block, b);
    return true;
  }
  for (int l = 0; l < 32; ++l)
    if (which >> l & 1) b.waiting.push_back(warp.lanes[l]);
  return complete(block, b);
}

void land(Thread& t, size_t end) {
  for (size_t i = 0; i < end; ++i) {
    const auto& c = t.copies[i];
    reads(c.from, static_cast<size_t>(c.bytes));
    writes(c.to, static_cast<size_t>(c.size));
    Own own;
    std::memcpy(c.to, c.from, static_cast<size_t>(c.bytes));
    std::memset(c.to + c.bytes, 0, static_cast<size_t>(c.size - c.bytes));
  }
  Own own;
  t.copies.erase(t.copies.begin(), t.copies.begin() + static_cast<std::ptrdiff_t>(end));
}

// The running thread has returned from the kernel: those who wait only for such threads go on. The next to run, null if there is none left.
Thread* leave(Thread& me) {
  Own own;
  Block& block = *me.owner;
  Warp& warp = warp_of(me);
  me.live = false;
  warp.live &= ~(1u << me.lane);
  --block.live, --worker->live;
  for (Meeting& m : warp.meetings) {
    if (!m.arrived || m.arrived != (m.mask & warp.live)) continue;
    if (m.operation.name == kArrival.name) {
      arrive(block, warp, m);
      continue;
    }
    if (m.operation.aligned) fail(std::string(m.operation.name) + " by a warp of which lanes have returned", m.where);
    m.operation.run(m.operand, m.arrived);
    wake_lanes(warp, close(warp, m));
  }
  for (Barrier& b : block.barriers)
    if (b.all) complete(block, b);
  if (!block.live) {
    if (worker->running->launch->overlapping && !block.waited_for_grid) stop("a block of an overlapping launch returned without grid_dependency_wait");
#if !defined(JVLM_EMU_ASAN)
    const size_t room = (block.shared_bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
    for (size_t i = block.shared_bytes; i < room; ++i)
      if (static_cast<unsigned char>(me.shared[i]) != 0xff)
        stop("the block wrote " + std::to_string(i - block.shared_bytes) + " bytes past its " + std::to_string(block.shared_bytes) +
                " bytes of shared memory");
#endif
  }
  if (!worker->live) return nullptr;
  Thread* next = worker->take();
  if (!next) stop("deadlock: a thread has returned and every other one waits");
  return next;
}

// A thread's whole life.
void thread_main() {
  Fiber::entered();
  Thread& me = self();
  Thread* next = nullptr;
  try {
    acquired(&worker->running->begin);
    worker->running->launch->kernel();
    released(&worker->running->end);
    next = leave(me);
  } catch (const Fault& f) {
    end_launch(f.what());
  }
  if (next) go_to(next, true);
  to_main();
}

// ---- accesses that the processor refuses --------------------------------------------------------------------------------------------------
#if !defined(JVLM_EMU_ASAN) && !defined(JVLM_TSAN)
struct sigaction before_us;

[[noreturn]] void refused() {
  const void* p = worker->fault_address;
  Thread& t = self();
  const char* c = static_cast<const char*>(p);
  std::string what;
  if (t.fiber.guards(p))
    what = "the thread's stack overflowed";
  else if (c >= t.owner->arena && c < t.owner->arena + kArena + kPage)
    what = "an access " + std::to_string(c - t.shared - static_cast<std::ptrdiff_t>(t.owner->shared_bytes)) + " bytes past the block's " +
           std::to_string(t.owner->shared_bytes) + " bytes of shared memory";
  else if (worker->fault_is_general)
    what = "a misaligned access to a vector, or one by a wild pointer";
  else
    what = "an access " + describe(p);
  // Where in the program: addr2line -Cfie FILE OFFSET.
  Dl_info module;
  char offset[32];
  if (::dladdr(worker->fault_code, &module)) {
    std::snprintf(offset, sizeof offset, "%#zx", static_cast<size_t>(static_cast<const char*>(worker->fault_code) - static_cast<const char*>(module.dli_fbase)));
    const char* name = std::strrchr(module.dli_fname, '/');
    what += std::string("\n by the code at ") + offset + " of " + (name ? name + 1 : module.dli_fname);
  }
  end_launch(report(what).c_str());                        // this stack cannot be unwound
  to_main();
}

void on_signal(int signal, siginfo_t* info, void* context) {
  if (worker && worker->current) {
    // Go on in `refused`, on the same stack below the red zone; on top of it if there is no room left.
    worker->fault_address = info->si_addr;
    worker->fault_is_general = info->si_code == SI_KERNEL;
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    worker->fault_code = reinterpret_cast<void*>(registers[REG_RIP]);
    auto sp = static_cast<uintptr_t>(registers[REG_RSP]);
    Fiber& fiber = worker->current->fiber;
    if (fiber.guards(info->si_addr)) sp = reinterpret_cast<uintptr_t>(fiber.stack_top());
    sp = ((sp - 256) & ~uintptr_t{15}) - 8;
    registers[REG_RSP] = static_cast<greg_t>(sp);
    registers[REG_RIP] = reinterpret_cast<greg_t>(&refused);
    return;
  }
  if (before_us.sa_flags & SA_SIGINFO) return before_us.sa_sigaction(signal, info, context);
  if (before_us.sa_handler != SIG_DFL && before_us.sa_handler != SIG_IGN) return before_us.sa_handler(signal);
  ::signal(signal, SIG_DFL);
}

void catch_signals() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    ::sigaction(SIGSEGV, &action, &before_us);
  });
  stack_t alternate{};                                     // for stacks that overflowed
  alternate.ss_size = 64 * 1024;
  alternate.ss_sp = std::malloc(alternate.ss_size);
  ::sigaltstack(&alternate, nullptr);
}
#else
void catch_signals() {}
#endif

// ---- blocks ---------------------------------------------------------------------------------------------------------------------------
void prepare(Worker& w, Block& block, uint32_t index) {
  const Launch& launch = *w.running->launch;
  const dim3 grid = launch.grid, size = launch.block;
  block.count = block.live = static_cast<int>(size.x * size.y * size.z);
#if defined(JVLM_TSAN)
  Own own;                                                 // the sanitizer shall take the memory for new: blocks are strangers to each other
  std::free(block.arena);
  block.arena = static_cast<char*>(std::aligned_alloc(kPage, kArena));
#endif
  block.edges.reset();
  block.edges.reset(new char[static_cast<size_t>(2 * (16 + (block.count + 31) / 32))]);
  if (!block.arena) {
    void* p = ::mmap(nullptr, kArena + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) std::abort();
    block.arena = static_cast<char*>(p);
    ::mprotect(block.arena + kArena, kPage, PROT_NONE);
  }
  // Ends at the guard page, up to the alignment; that margin is looked at afterwards.
  const size_t room = (launch.shared_bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment;
  char* shared = block.arena + kArena - room;
#if defined(JVLM_EMU_ASAN)
  __asan_unpoison_memory_region(block.arena, kArena);
#endif
  std::memset(shared, 0xff, room);
#if defined(JVLM_EMU_ASAN)
  __asan_poison_memory_region(block.arena, kArena - room);
  __asan_poison_memory_region(shared + launch.shared_bytes, room - launch.shared_bytes);
#endif
  block.shared_bytes = launch.shared_bytes;
  block.waited_for_grid = false;
  block.warps.assign(static_cast<size_t>(block.count + 31) / 32, Warp());
  for (Barrier& b : block.barriers) {
    b.arrived = b.expected = 0;
    b.all = false;
    b.waiting.clear();
  }
  while (block.threads.size() < static_cast<size_t>(block.count)) {
    block.threads.push_back(std::make_unique<Thread>());
    block.threads.back()->fiber.give_stack();
  }
  const uint32_t x = static_cast<uint32_t>(index);
  for (int i = 0; i < block.count; ++i) {
    Thread& t = *block.threads[static_cast<size_t>(i)];
    const auto n = static_cast<uint32_t>(i);
    t.thread = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    t.block = {x % grid.x, x / grid.x % grid.y, x / (grid.x * grid.y)};
    t.block_size = size, t.grid_size = grid;
    t.lane = i % 32;
    t.shared = shared;
    t.owner = &block;
    t.number = i;
    t.live = true, t.fenced = false;
    t.waits = nullptr, t.counter = nullptr, t.goal = 0;
    t.copies.clear(), t.groups.clear(), t.atomics.clear();
    Warp& warp = block.warps[static_cast<size_t>(i / 32)];
    warp.lanes[t.lane] = &t;
    warp.live |= 1u << t.lane;
    t.fiber.start(thread_main);
    w.wake(&t);
  }
  w.live += block.count;
}

// Blocks first ... first + count of the order, all live at once.
void run_blocks(Worker& w, uint32_t first, uint32_t count) {
  const Launch& launch = *w.running->launch;
  size_t threads = size_t{count} * launch.block.x * launch.block.y * launch.block.z, ring = 1;
  while (ring < threads) ring *= 2;
  if (w.ring.size() < ring) w.ring.resize(ring);
  w.head = w.ready = 0;
  w.live = 0;
  w.spinning.clear();
  w.together = count;
  while (w.blocks.size() < count) w.blocks.push_back(std::make_unique<Block>());
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t index = first + i;
    if (w.order == Order::reverse) index = w.running->total - 1 - index;
    if (w.order == Order::random) index = w.running->order[index];
    prepare(w, *w.blocks[i], index);
  }
  w.random.state = (options().seed << 32) + first;         // the same whichever core runs it
  Thread* t = w.take();
  w.current = t;
  place = t;
  w.main.switch_to(t->fiber);
  w.current = nullptr;
  place = nullptr;
  for (uint32_t i = 0; i < count; ++i)
    for (int n = 0; n < w.blocks[i]->count; ++n) w.blocks[i]->threads[static_cast<size_t>(n)]->fiber.stop(!w.running->failed);
}

Counts totals;
std::mutex totals_mutex;

void work_on(Running& running) {
  Worker& w = *worker;
  w.running = &running;
  Fiber::new_launch();
  w.order = options().order;
  w.lazy = options().copies == Copies::lazy;
  w.counts = {};
  const uint32_t together = running.launch->resident ? running.total : 1;
  for (uint32_t first; !running.failed && (first = running.next.fetch_add(together)) < running.total;) run_blocks(w, first, together);
  std::lock_guard lock(totals_mutex);
  totals.switches += w.counts.switches;
  totals.collectives += w.counts.collectives;
  totals.matrix_loads += w.counts.matrix_loads;
  totals.bank_conflicts += w.counts.bank_conflicts;
}

// System threads that live as long as the process and wait for launches.
class Team {
 public:
  void run(Running& running, int size) {
    std::unique_lock lock(mutex_);
    for (; started_ < size; ++started_) std::thread(&Team::work, this, started_).detach();
    running_ = &running;
    size_ = size;
    busy_ = size;
    ++turn_;
    begin_.notify_all();
    end_.wait(lock, [&] { return busy_ == 0; });
  }

 private:
  void work(int number) {
    worker = new Worker();
    worker->main.use_this_thread();
    catch_signals();
    uint64_t done = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      begin_.wait(lock, [&] { return turn_ != done && number < size_; });
      done = turn_;
      Running* running = running_;
      lock.unlock();
      work_on(*running);
      lock.lock();
      if (--busy_ == 0) end_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  Running* running_ = nullptr;
  uint64_t turn_ = 0;
  int started_ = 0, size_ = 0, busy_ = 0;
};

const char* variable(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

Options from_environment() {
  Options o;
  const std::string order = variable("JVLM_EMU_ORDER"), copies = variable("JVLM_EMU_COPIES");
  if (order == "reverse") o.order = Order::reverse;
  if (order == "random") o.order = Order::random;
  if (copies == "eager") o.copies = Copies::eager;
  if (*variable("JVLM_EMU_SEED")) o.seed = std::strtoull(variable("JVLM_EMU_SEED"), nullptr, 10);
  o.threads = std::atoi(variable("JVLM_EMU_THREADS"));
  return o;
}

}  // namespace

Options& options() {
  static Options o = from_environment();
  return o;
}

Counts counts() {
  std::lock_guard lock(totals_mutex);
  return totals;
}
void clear_counts() {
  std::lock_guard lock(totals_mutex);
  totals = {};
}

size_t shared_limit() {
  const int a = options().architecture;
  return size_t{a == 80 || a == 87 ? 163u : a >= 90 && a < 120 ? 227u : 99u} * 1024;
}

void run(const Launch& launch) {
  static Team& team = *new Team();
  static std::mutex one;
  std::lock_guard lock(one);
  Running running;
  running.launch = &launch;
  running.total = launch.grid.x * launch.grid.y * launch.grid.z;
  if (options().order == Order::random) {
    running.order.resize(running.total);
    for (uint32_t i = 0; i < running.total; ++i) running.order[i] = i;
    Random random{options().seed};
    for (uint32_t i = running.total; i > 1; --i) std::swap(running.order[i - 1], running.order[random() % i]);
  }
  int size = options().threads > 0 ? options().threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(JVLM_TSAN)
  size = std::min(size, 2);                                // each keeps up to 3,000 of the sanitizer's threads: see fiber.cc
#endif
  if (launch.resident) size = 1;
  released(&running.begin);
  team.run(running, static_cast<int>(std::min(static_cast<uint32_t>(size), running.total)));
  acquired(&running.end);
  if (running.failed) throw Fault(running.report);
}

// ---- what threads call ------------------------------------------------------------------------------------------------------------------
void fail(const std::string& what, Where where) {
  stop(what + "\n at " + at(where));
}

void collective(const Operation& operation, uint32_t mask, void* operand, Where where) {
  Own own;
  Meeting* m = join(operation, mask, operand, where);
  if (!m) return park(operation.name, where);
  if (operation.aligned && m->arrived != 0xffffffffu) fail(std::string(operation.name) + " by a warp of which lanes have returned or never were", where);
  operation.run(m->operand, m->arrived);
  Warp& warp = warp_of(self());
  wake_lanes(warp, close(warp, *m));
  if (worker->order == Order::random) step_aside();
}

void warp_barrier(uint32_t mask, Where where) {
  static const Operation operation = {"syncwarp", false, run_nothing};
  Thread& me = self();
  Warp& warp = warp_of(me);
  const char* edge = &me.owner->edges[static_cast<size_t>(2 * (16 + me.number / 32)) + (warp.turn[me.lane]++ & 1)];
  released(edge);
  collective(operation, mask, nullptr, where);
  acquired(edge);
}

void block_barrier(int id, int threads, bool wait, Where where) {
  Thread& me = self();
  Block& block = *me.owner;
  if (id < 0 || id > 15 || threads % 32 || threads < 0 || threads > block.count + 31)
    fail("barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads: ids are 0 to 15, thread counts multiples of 32 up to the block's", where);
  Barrier& b = block.barriers[id];
  const char* edge = &block.edges[static_cast<size_t>(2 * id) + (b.phase & 1)];
  released(edge);
  {
    Own own;
    Arrival arrival = {id, threads, wait};
    Operation operation = kArrival;
    operation.aligned = true;
    Meeting* m = join(operation, 0xffffffffu, &arrival, where);
    bool goes_on = false;
    if (m) goes_on = arrive(block, warp_of(me), *m);
    if (!goes_on) park(wait ? (id ? "named_barrier_sync" : "barrier") : "named_barrier_arrive", where);
    if (goes_on && worker->order == Order::random) step_aside();
  }
  if (wait) acquired(edge);
}

void copy_async(void* to, const void* from, int bytes, int size, Where where) {
  const char* name = size == 16 ? "cp_async16" : "cp_async4";
  check_shared(to, static_cast<size_t>(size), static_cast<size_t>(size), name, where);
  check_aligned(from, static_cast<size_t>(size), name, where);
  if (bytes < 0 || bytes > size) fail(std::string(name) + " of " + std::to_string(bytes) + " bytes", where);
  reads(from, static_cast<size_t>(bytes));
  writes(to, static_cast<size_t>(size));
  Thread& me = self();
  {
    Own own;
    me.copies.push_back({static_cast<char*>(to), static_cast<const char*>(from), bytes, size});
  }
  if (!worker->lazy) {
    // At once; the list stays empty, groups too.
    land(me, me.copies.size());
  }
}

void copy_commit() {
  Own own;
  self().groups.push_back(self().copies.size());
}

void copy_wait(int pending) {
  Thread& me = self();
  const size_t keep = static_cast<size_t>(pending);
  if (me.groups.size() > keep) {
    const size_t done = me.groups.size() - keep, end = me.groups[done - 1];
    land(me, end);
    Own own;
    me.groups.erase(me.groups.begin(), me.groups.begin() + static_cast<std::ptrdiff_t>(done));
    for (size_t& g : me.groups) g -= end;
  }
  maybe_yield();
}

// In the other orders only now and then, for loops around an atomic that wait for another thread.
void maybe_yield() {
  Own own;
  const bool now = worker->order == Order::random ? worker->random() % 4 == 0 : ++self().atomic_count % 256 == 0;
  if (now) step_aside();
}

void spin(const uint32_t* counter, uint32_t goal, Where where) {
  Own own;
  Thread& me = self();
  while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < goal) {
    me.counter = counter, me.goal = goal;
    worker->spinning.push_back(&me);
    park("spin_until_ge", where);
    me.counter = nullptr, me.goal = 0;
  }
}

void fence() {
  Thread& me = self();
  me.fenced = true;
  for (const void* p : me.atomics) acquired(p);
  Own own;
  me.atomics.clear();
  maybe_yield();
}
bool fenced() { return self().fenced; }

void note_atomic([[maybe_unused]] const void* p) {
#if defined(JVLM_TSAN)
  Own own;
  auto& atomics = self().atomics;
  if (std::find(atomics.begin(), atomics.end(), p) == atomics.end()) atomics.push_back(p);
#endif
}

void note_dependency_wait() { self().owner->waited_for_grid = true; }

void check_aligned(const void* p, size_t alignment, const char* what, Where where) {
  if (reinterpret_cast<uintptr_t>(p) % alignment) fail(std::string(what) + " of an address that is no multiple of " + std::to_string(alignment), where);
}

void check_shared(const void* p, size_t bytes, size_t alignment, const char* what, Where where) {
  const Thread& me = self();
  const auto offset = static_cast<const char*>(p) - me.shared;
  if (offset < 0 || static_cast<size_t>(offset) + bytes > me.owner->shared_bytes)
    fail(std::string(what) + " at offset " + std::to_string(offset) + " of " + std::to_string(me.owner->shared_bytes) + " bytes of shared memory", where);
  check_aligned(p, alignment, what, where);
}

void count_matrix_loads(uint64_t loads, uint64_t conflicts) {
  worker->counts.matrix_loads += loads;
  worker->counts.bank_conflicts += conflicts;
}

}  // namespace jvlm::emu
