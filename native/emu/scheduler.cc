// Which thread has the core.
#include <cstdlib>

#include "emu/state.h"

namespace jvlm::emu {

void to_main() {
  self().fiber.switch_to(worker->main, true);
  std::abort();
}

void go_to(Thread* next, bool last) {
  Thread& me = self();
  Worker& w = *worker;
  ++w.counts.switches;
  w.current = next;
  place = next;
  me.fiber.switch_to(next->fiber, last);
}

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

void step_aside() {
  Thread& me = self();
  worker->wake_last(&me);
  Thread* next = worker->take();
  if (next != &me) go_to(next);
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

}  // namespace jvlm::emu
