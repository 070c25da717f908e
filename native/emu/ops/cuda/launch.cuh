// The names of native/ops/cuda/launch.cuh, which says what they do, for g++.
#pragma once
#include <tuple>
#include <type_traits>

#include "emu/cuda_runtime.h"
#include "emu/simt.h"
#include "ops/cuda/device.h"

namespace jvlm::cuda {

enum class Mode { plain, resident, overlapping };

struct Shape {
  dim3 grid, block;
  size_t shared_bytes;
  Mode mode;
  std::source_location where;
  Shape(dim3 grid_, dim3 block_, size_t shared_bytes_ = 0, Mode mode_ = Mode::plain, std::source_location where_ = std::source_location::current())
      : grid(grid_), block(block_), shared_bytes(shared_bytes_), mode(mode_), where(where_) {}
};

template <class... P, class... A>
void launch(StreamHandle stream, void (*kernel)(P...), const Shape& shape, A&&... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "a kernel's arguments are plain values");
  emu::Launch l;
  l.grid = shape.grid, l.block = shape.block, l.shared_bytes = shape.shared_bytes;
  l.resident = shape.mode == Mode::resident, l.overlapping = shape.mode == Mode::overlapping;
  l.where = shape.where;
  l.entry = reinterpret_cast<const void*>(kernel);
  l.kernel = [kernel, values = std::tuple<P...>(std::forward<A>(args)...)] { std::apply(kernel, values); };
  check(emu::enqueue(stream, std::move(l)), "starting a kernel");
}

}  // namespace jvlm::cuda
