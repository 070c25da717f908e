// Memory of the device for tests: filled from a vector, read back into one.
#pragma once
#include <cstdint>
#include <vector>

#include "ops/cuda/device.h"

namespace jvlm::test {

template <class T>
struct Array {
  explicit Array(size_t n) : size(n), data(static_cast<T*>(cuda::allocate(static_cast<int64_t>(n * sizeof(T))))) {}
  explicit Array(const std::vector<T>& v) : Array(v.size()) { cuda::upload_now(data, v.data(), static_cast<int64_t>(size * sizeof(T))); }
  ~Array() { cuda::release(data); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  std::vector<T> get() const {
    std::vector<T> v(size);
    cuda::download_now(v.data(), data, static_cast<int64_t>(size * sizeof(T)));
    return v;
  }
  size_t size;
  T* data;
};

}  // namespace jvlm::test
