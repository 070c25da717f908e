// How kernels are started; the emulation has its own (native/emu/ops/cuda/launch.cuh). The triple-chevron form is not used.
#pragma once
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ops/cuda/device.h"

namespace jvlm::cuda {

enum class Mode {
  plain,
  resident,                                                // all blocks live at once or the launch fails: grid-wide counters
  overlapping,                                             // may start before the kernel before it has ended: see ptx::grid_dependency_wait
};

struct Shape {
  dim3 grid, block;
  size_t shared_bytes = 0;                                 // of JVLM_SHARED
  Mode mode = Mode::plain;
};

// kernel: a pointer to a __global__ function, args: what list[i] points to.
void launch_kernel(StreamHandle stream, const void* kernel, const Shape& shape, void** list);

// launch(stream, kernel, {grid, block, shared_bytes}, arguments...). Arguments are copied when this is called.
template <class... P, class... A>
void launch(StreamHandle stream, void (*kernel)(P...), const Shape& shape, A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments are plain values");
  std::tuple<P...> values(std::forward<A>(args)...);
  std::apply(
      [&](P&... value) {
        void* list[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
        launch_kernel(stream, reinterpret_cast<const void*>(kernel), shape, list);
      },
      values);
}

}  // namespace jvlm::cuda
