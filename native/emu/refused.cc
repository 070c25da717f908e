// Accesses that the processor refuses become a Fault.
#include <dlfcn.h>
#include <signal.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "emu/memory.h"
#include "emu/state.h"

namespace jvlm::emu {

#if !defined(JVLM_EMU_ASAN) && !defined(JVLM_TSAN)
namespace {

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

}  // namespace

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

}  // namespace jvlm::emu
