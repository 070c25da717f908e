// What went wrong, where, and who waits where: the words of a Fault.
#include <cstring>
#include <utility>

#include "emu/state.h"

namespace jvlm::emu {
namespace {

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

}  // namespace

std::string at(Where w) {
  const char* file = w.file_name();                        // from the project's root on
  for (const char* p = std::strstr(file, "native/"); p; p = std::strstr(p + 1, "native/")) file = p;
  if (file - w.file_name() >= 6 && std::strncmp(file - 6, "tests/", 6) == 0) file -= 6;
  return std::string(file) + ":" + std::to_string(w.line());
}

bool same(const char* a, const char* b) { return a == b || !std::strcmp(a, b); }
bool same(Where a, Where b) { return a.line() == b.line() && same(a.file_name(), b.file_name()); }

std::string report(const std::string& what) {
  const Worker& w = *worker;
  const Thread& t = self();
  static const char* const orders[] = {"forward", "reverse", "random"};
  return "emu: " + what + "\n in thread " + triple(t.thread) + " of block " + triple(t.block) + " of the kernel launched at " +
         at(w.running->launch->where) + ", order " + orders[static_cast<int>(w.order)] +
         (w.order == Order::random ? ", seed " + std::to_string(options().seed) : "") + (w.lazy ? ", lazy copies" : ", eager copies") + "\n" +
         waiting(w);
}

void stop(const std::string& what) { throw Fault(report(what)); }

void end_launch(const char* said) {
  Own own;
  std::lock_guard lock(worker->running->mutex);
  if (!worker->running->failed) worker->running->report = said;
  worker->running->failed = true;
}

void fail(const std::string& what, Where where) {
  stop(what + "\n at " + at(where));
}

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

}  // namespace jvlm::emu
