// What threads of a warp or a block do together: instructions and barriers, and what becomes of those when a thread returns.
#include <cstdio>
#include <utility>

#include "emu/state.h"

namespace jvlm::emu {
namespace {

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

}  // namespace

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

}  // namespace jvlm::emu
