// Runs kernels: threads as fibers, blocks on all cores, and what threads of a block do together. Everything that goes wrong in a kernel
// ends in a Fault that says what, where in the source, and what every other thread of the block was waiting for.
#pragma once
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

#include "emu/fiber.h"
#include "emu/language.h"

namespace jvlm::emu {

class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Order { forward, reverse, random };             // of threads in a block and of blocks in a grid
enum class Copies { lazy, eager };                         // cp.async lands when it is waited for, or at once

// Starts as JVLM_EMU_ORDER, JVLM_EMU_SEED, JVLM_EMU_COPIES, JVLM_EMU_THREADS say.
struct Options {
  Order order = Order::forward;
  uint64_t seed = 1;
  Copies copies = Copies::lazy;
  int threads = 0;                                         // system threads; 0: as many as there are cores
  int architecture = 80;                                   // of the device: how much shared memory a block may have
  size_t memory_bytes = size_t{8} << 30;                   // of the device
};
Options& options();

struct Counts {
  uint64_t switches = 0, collectives = 0;
  uint64_t matrix_loads = 0, bank_conflicts = 0;           // 8x8 matrices by ldmatrix; rows of those that met another in the same banks
};
Counts counts();                                           // of launches that have ended, since clear_counts
void clear_counts();

struct Launch {
  dim3 grid, block;
  size_t shared_bytes = 0;
  bool resident = false;                                   // all blocks live at once
  bool overlapping = false;                                // every block must call grid_dependency_wait
  std::source_location where;
  std::function<void()> kernel;                            // its arguments inside
  const void* entry = nullptr;                             // which kernel it is
};
size_t shared_limit();                                     // bytes of dynamic shared memory that the device's blocks may have
void run(const Launch& launch);                            // returns when all blocks have; throws Fault

// ---- what kernels see of their thread -------------------------------------------------------------------------------------------------
struct Place {
  uint3 thread, block;
  dim3 block_size, grid_size;
  int32_t lane;
  char* shared;
};
extern __thread Place* place __attribute__((tls_model("initial-exec")));

// An instruction that a warp executes together. `run` sees the operands of the lanes in the mask.
struct Operation {
  const char* name;
  bool aligned;                                            // by all 32 lanes, at one place in the source
  void (*run)(void* const* operands, uint32_t lanes);
};
void collective(const Operation& operation, uint32_t mask, void* operand, std::source_location where);
void warp_barrier(uint32_t mask, std::source_location where);
void block_barrier(int id, int threads, bool wait, std::source_location where);   // threads 0: all that live

void copy_async(void* to, const void* from, int bytes, int size, std::source_location where);
void copy_commit();
void copy_wait(int pending);

// A place where another thread may come first.
void maybe_yield();
void spin(const uint32_t* counter, uint32_t goal, std::source_location where);
void fence();                                              // for the atomics before and after
bool fenced();                                             // whether this thread has called it: its atomics order what came before
void note_atomic(const void* p);                           // an atomic read p: the next fence acquires from it
void note_dependency_wait();
// A pointer that must lie in the block's shared memory, and its alignment.
void check_shared(const void* p, size_t bytes, size_t alignment, const char* what, std::source_location where);
void check_aligned(const void* p, size_t alignment, const char* what, std::source_location where);
void count_matrix_loads(uint64_t loads, uint64_t conflicts);

[[noreturn]] void fail(const std::string& what, std::source_location where);

}  // namespace jvlm::emu

#define threadIdx (::jvlm::emu::place->thread)
#define blockIdx (::jvlm::emu::place->block)
#define blockDim (::jvlm::emu::place->block_size)
#define gridDim (::jvlm::emu::place->grid_size)
