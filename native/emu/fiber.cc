#include "emu/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#if !defined(__x86_64__)
#error "The emulation switches stacks on x86-64 only"
#endif

// Callee-saved registers on the old stack, its pointer to *save, and the same backwards from the new one.
asm(R"(
.text
.hidden jvlm_emu_switch
.globl jvlm_emu_switch
.type jvlm_emu_switch,@function
jvlm_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size jvlm_emu_switch, .-jvlm_emu_switch
)");
extern "C" void jvlm_emu_switch(void** save, void* to);

#if defined(JVLM_TSAN)
extern "C" void* __tsan_get_current_fiber();
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void __tsan_destroy_fiber(void*);
extern "C" void __tsan_switch_to_fiber(void*, unsigned flags);
// No second's sleep at the end of the process; what TSAN_OPTIONS says comes later and wins.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "atexit_sleep_ms=0"; }
#endif
#if defined(JVLM_EMU_ASAN)
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
extern "C" void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif

namespace jvlm::emu {

#if defined(JVLM_TSAN)
namespace {

// A thread of ThreadSanitizer's costs it most of a millisecond, and it has room for 8,128. Those of one launch must all be different, so
// that blocks are strangers to each other; the next launch comes after all of this one and may have them again, each with its stack.
struct Spare {
  void* tsan;
  char* stack;
};
constexpr size_t kSpares = 3000;                           // of each system thread
thread_local std::vector<Spare> used, ready;

}  // namespace

void Fiber::new_launch() {
  ready.insert(ready.end(), used.begin(), used.end());
  used.clear();
}
#else
void Fiber::new_launch() {}
#endif

Fiber::~Fiber() {
#if !defined(JVLM_TSAN)
  if (stack_) ::munmap(stack_ - kGuard, kStack + kGuard);
#endif
}

void Fiber::give_stack() {
#if !defined(JVLM_TSAN)
  if (stack_) return;
  void* p = ::mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) std::abort();
  ::mprotect(p, kGuard, PROT_NONE);
  stack_ = static_cast<char*>(p) + kGuard;
  bottom_ = stack_, size_ = kStack;
  static std::atomic<uint32_t> count{0};
  colour_ = count++ % 61 * 192;
#endif
}

void Fiber::use_this_thread() {
#if defined(JVLM_TSAN)
  tsan_ = __tsan_get_current_fiber();
#endif
  pthread_attr_t attributes;
  void* low;
  if (::pthread_getattr_np(::pthread_self(), &attributes) == 0) {
    ::pthread_attr_getstack(&attributes, &low, &size_);
    ::pthread_attr_destroy(&attributes);
    bottom_ = low;
  }
}

void Fiber::start(void (*entry)()) {
#if defined(JVLM_TSAN)
  {
    Own own;
    if (ready.empty()) ready.push_back({__tsan_create_fiber(0), static_cast<char*>(std::aligned_alloc(64, kStack))});
    tsan_ = ready.back().tsan, stack_ = ready.back().stack;
    ready.pop_back();
  }
#endif
  auto* sp = reinterpret_cast<void**>(stack_ + kStack - 64 - colour_);
  *--sp = nullptr;                                         // what entry would return to; also makes the stack's alignment that of a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  sp_ = sp;
}

void Fiber::stop([[maybe_unused]] bool returned) {
#if defined(JVLM_TSAN)
  if (!returned) return;                                   // it stands somewhere inside, and the process is about to end
  Own own;
  if (used.size() + ready.size() < kSpares) {
    used.push_back({tsan_, stack_});
  } else {
    __tsan_destroy_fiber(tsan_);
    std::free(stack_);
  }
#endif
#if defined(JVLM_EMU_ASAN)
  __asan_unpoison_memory_region(stack_, kStack);
#endif
}

void Fiber::switch_to(Fiber& to, [[maybe_unused]] bool last) {
#if defined(JVLM_TSAN)
  __tsan_switch_to_fiber(to.tsan_, 1);                     // 1: being switched to orders nothing
#endif
#if defined(JVLM_EMU_ASAN)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake, to.bottom_, to.size_);
#endif
  jvlm_emu_switch(&sp_, to.sp_);
#if defined(JVLM_EMU_ASAN)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void Fiber::entered() {
#if defined(JVLM_EMU_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

bool Fiber::guards(const void* address) const {
  const char* a = static_cast<const char*>(address);
  return stack_ && a >= stack_ - kGuard && a < stack_;
}

}  // namespace jvlm::emu
