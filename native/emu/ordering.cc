// When what a thread does to memory counts: asynchronous copies, fences.
#include <cstring>

#include "emu/state.h"

namespace jvlm::emu {
namespace {

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

}  // namespace

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

}  // namespace jvlm::emu
