// A stack and where on it a thread of control stands. What sanitizers must be told of a switch is told here and nowhere else.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define JVLM_EMU_ASAN 1
#endif
// JVLM_TSAN comes from CMake: the emulation itself is compiled without -fsanitize=thread (it orders its own memory by other means than
// the kernels'), so that __SANITIZE_THREAD__ says nothing there.

namespace jvlm::emu {

class Fiber {
 public:
  Fiber() = default;                                       // the thread that is running: somewhere to come back to
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  static void new_launch();                                // on each system thread, before its first start for a launch
  void give_stack();                                       // once; guarded below
  void start(void (*entry)());                             // at the next switch, on a fresh stack; entry never returns
  void stop(bool returned);                                // is not switched to again before the next start; whether its entry has come to its end
  // Leaves this fiber for another on the same system thread; `last` means that this one is not come back to.
  void switch_to(Fiber& to, bool last = false);
  // First thing on a started fiber.
  static void entered();
  bool guards(const void* address) const;                  // whether an address lies in the guard below the stack
  char* stack_top() const { return stack_ + kStack; }
  void use_this_thread();                                  // of a fiber without a stack: takes over the running thread's bounds

 private:
  static constexpr size_t kGuard = 4096;
#if defined(JVLM_TSAN)
  static constexpr size_t kStack = 32 * 1024;
#elif defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
  static constexpr size_t kStack = 256 * 1024 - kGuard;
#else
  static constexpr size_t kStack = 128 * 1024 - kGuard;
#endif
  void* sp_ = nullptr;
  char* stack_ = nullptr;
  size_t colour_ = 0;                                      // bytes left free at the top, or all stacks would live in the same few lines of the cache
  [[maybe_unused]] void* tsan_ = nullptr;
  [[maybe_unused]] const void* bottom_ = nullptr;
  [[maybe_unused]] size_t size_ = 0;
};

// What a kernel's memory accesses mean to ThreadSanitizer; nothing in other builds. An edge leads from every `released(p)` to the
// `acquired(p)` after it.
#if defined(JVLM_TSAN)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
extern "C" void __tsan_read_range(void*, unsigned long);
extern "C" void __tsan_write_range(void*, unsigned long);
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
inline void acquired(const void* p) { __tsan_acquire(const_cast<void*>(p)); }
inline void released(const void* p) { __tsan_release(const_cast<void*>(p)); }
inline void reads(const void* p, size_t n) { __tsan_read_range(const_cast<void*>(p), n); }
inline void writes(void* p, size_t n) { __tsan_write_range(p, n); }
// The emulation's own work inside a kernel's thread: calls that the sanitizer intercepts (malloc, memmove) are not the kernel's.
struct Own {
  Own() { AnnotateIgnoreReadsBegin("", 0), AnnotateIgnoreWritesBegin("", 0); }
  ~Own() { AnnotateIgnoreReadsEnd("", 0), AnnotateIgnoreWritesEnd("", 0); }
};
#else
inline void acquired(const void*) {}
inline void released(const void*) {}
inline void reads(const void*, size_t) {}
inline void writes(void*, size_t) {}
struct Own {
  Own() {}
};
#endif

}  // namespace jvlm::emu
