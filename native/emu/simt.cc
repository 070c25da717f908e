// Launches: blocks made ready, run by a team of system threads.
#include <sys/mman.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "emu/state.h"

#if defined(JVLM_EMU_ASAN)
extern "C" void __asan_poison_memory_region(const volatile void*, size_t);
extern "C" void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif

namespace jvlm::emu {

__thread Place* place = nullptr;
__thread Worker* worker = nullptr;

namespace {

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

void note_dependency_wait() { self().owner->waited_for_grid = true; }

void count_matrix_loads(uint64_t loads, uint64_t conflicts) {
  worker->counts.matrix_loads += loads;
  worker->counts.bank_conflicts += conflicts;
}

}  // namespace jvlm::emu
