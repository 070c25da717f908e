#include "emu/memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "emu/simt.h"

#if defined(JVLM_EMU_ASAN)
extern "C" void __asan_poison_memory_region(const volatile void*, size_t);
extern "C" void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif

namespace jvlm::emu {
namespace {

// A wrong index rarely misses by little: the guards are wide, and cost addresses only.
constexpr size_t kPage = 4096, kGuard = size_t{16} << 20, kAlignment = 256;
constexpr unsigned char kFresh = 0xff, kMargin = 0xa5;

struct Allocation {
  Kind kind;
  size_t bytes, margin;                                    // margin: up to the guard page
  char* mapping;
  size_t mapped;
};

std::mutex mutex;
std::map<uintptr_t, Allocation>& allocations() {
  static auto* all = new std::map<uintptr_t, Allocation>();
  return *all;
}

uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

// The allocation that holds p or ends last before it.
const std::pair<const uintptr_t, Allocation>* at_or_before(const void* p) {
  auto after = allocations().upper_bound(number(p));
  return after == allocations().begin() ? nullptr : &*std::prev(after);
}

void check_margin(uintptr_t start, const Allocation& a) {
#if defined(JVLM_EMU_ASAN)
  static_cast<void>(start), static_cast<void>(a);          // poisoned, and unreadable for us too
#else
  auto* margin = reinterpret_cast<unsigned char*>(start + a.bytes);
  for (size_t i = 0; i < a.margin; ++i)
    if (margin[i] != kMargin) {
      std::memset(margin, kMargin, a.margin);              // said once
      throw Fault("emu: something wrote " + std::to_string(i) + " bytes past the end of an allocation of " + std::to_string(a.bytes) + " bytes");
    }
#endif
}

}  // namespace

void* allocate(size_t bytes, Kind kind, size_t limit) {
  Own own;
  if (bytes > limit || allocated(kind) > limit - bytes) return nullptr;
  const size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment, pages = (room + kPage - 1) / kPage * kPage;
  void* m = ::mmap(nullptr, pages + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m == MAP_FAILED) return nullptr;
  char* mapping = static_cast<char*>(m);
  if (::mprotect(mapping + kGuard, pages, PROT_READ | PROT_WRITE)) {
    ::munmap(m, pages + 2 * kGuard);
    return nullptr;
  }
  char* start = mapping + kGuard + pages - room;
  std::memset(start, kFresh, bytes);
  std::memset(start + bytes, kMargin, room - bytes);
#if defined(JVLM_EMU_ASAN)
  __asan_poison_memory_region(mapping + kGuard, pages);
  __asan_unpoison_memory_region(start, bytes);
#endif
  std::lock_guard lock(mutex);
  allocations()[number(start)] = {kind, bytes, room - bytes, mapping, pages + 2 * kGuard};
  return start;
}

bool release(void* memory, Kind kind) {
  Own own;
  Allocation a;
  {
    std::lock_guard lock(mutex);
    auto found = allocations().find(number(memory));
    if (found == allocations().end() || found->second.kind != kind) return false;
    a = found->second;
    allocations().erase(found);
  }
  check_margin(number(memory), a);
#if defined(JVLM_EMU_ASAN)
  __asan_unpoison_memory_region(a.mapping, a.mapped);
#endif
  ::munmap(a.mapping, a.mapped);
  return true;
}

bool contains(const void* p, size_t bytes, Kind kind) {
  std::lock_guard lock(mutex);
  const auto* found = at_or_before(p);
  return found && found->second.kind == kind && number(p) - found->first + bytes <= found->second.bytes;
}

size_t allocated(Kind kind) {
  std::lock_guard lock(mutex);
  size_t sum = 0;
  for (const auto& [start, a] : allocations())
    if (a.kind == kind) sum += a.bytes;
  return sum;
}

void check_margins() {
  std::lock_guard lock(mutex);
  for (const auto& [start, a] : allocations()) check_margin(start, a);
}

size_t count_allocations() {
  std::lock_guard lock(mutex);
  return allocations().size();
}

std::string describe(const void* p) {
  std::lock_guard lock(mutex);
  const auto* before = at_or_before(p);
  if (before && number(p) < number(before->second.mapping) + before->second.mapped) {
    const size_t offset = number(p) - before->first;
    if (offset < before->second.bytes) return "inside an allocation";
    return std::to_string(offset - before->second.bytes) + " bytes past the end of an allocation of " + std::to_string(before->second.bytes) + " bytes";
  }
  auto after = allocations().upper_bound(number(p));
  if (after != allocations().end() && number(p) >= number(after->second.mapping))
    return std::to_string(after->first - number(p)) + " bytes before an allocation of " + std::to_string(after->second.bytes) + " bytes";
  return number(p) < kPage ? "at a null pointer" : "in no allocation";
}

}  // namespace jvlm::emu
