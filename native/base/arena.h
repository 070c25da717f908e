#pragma once
#include <cstdint>

#include "base/error.h"
#include "base/tensor.h"

namespace jvlm {

// Hands out 64-byte aligned pieces of one block, in order; `rewind` gives back what was taken after a mark. An arena without a block
// only counts, which is how the memory plan is made by the very code that later takes the memory.
class Arena {
 public:
  Arena() = default;
  Arena(void* block, int64_t bytes) : block_(static_cast<char*>(block)), size_(bytes) {}

  void* take(int64_t bytes) {
    int64_t at = used_;
    used_ += (bytes + 63) / 64 * 64;
    if (used_ > peak_) peak_ = used_;
    if (!block_) return nullptr;
    if (used_ > size_) throw device_error("The memory plan was too small; this is a fault of jvlm, please report the model");
    return block_ + at;
  }
  Tensor tensor(Dtype dtype, int64_t rows, int64_t cols) { return {take(rows * cols * size_of(dtype)), dtype, rows, cols}; }
  // The same with rows that start a multiple of 16 bytes apart, as kernels copy them, but not one of 2 KiB: products read many rows side by
  // side, and those would fall into the same few lines of a cache.
  Tensor spread(Dtype dtype, int64_t rows, int64_t cols) {
    const int64_t size = size_of(dtype), bytes = (cols * size + 15) / 16 * 16, stride = (bytes % 2048 ? bytes : bytes + 64) / size;
    return {take(rows * stride * size), dtype, rows, cols, stride};
  }

  int64_t mark() const { return used_; }
  void rewind(int64_t mark) { used_ = mark; }
  int64_t peak() const { return peak_; }

 private:
  char* block_ = nullptr;
  int64_t size_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace jvlm
