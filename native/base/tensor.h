#pragma once
#include <cstddef>
#include <cstdint>

namespace jvlm {

enum class Dtype : int32_t { f32, bf16, f16, i8 };

inline int64_t size_of(Dtype t) { return t == Dtype::f32 ? 4 : t == Dtype::i8 ? 1 : 2; }

// A view of a matrix in device memory: rows of `cols` elements, `stride` elements apart.
struct Tensor {
  void* data = nullptr;
  Dtype dtype = Dtype::f32;
  int64_t rows = 0, cols = 0, stride = 0;

  Tensor() = default;
  Tensor(void* d, Dtype t, int64_t r, int64_t c) : data(d), dtype(t), rows(r), cols(c), stride(c) {}
  Tensor(void* d, Dtype t, int64_t r, int64_t c, int64_t s) : data(d), dtype(t), rows(r), cols(c), stride(s) {}

  int64_t bytes() const { return rows * stride * size_of(dtype); }
  Tensor slice(int64_t first, int64_t count) const {
    return {static_cast<char*>(data) + first * stride * size_of(dtype), dtype, count, cols, stride};
  }
  Tensor columns(int64_t first, int64_t count) const {
    return {static_cast<char*>(data) + first * size_of(dtype), dtype, rows, count, stride};
  }
  template <class T>
  T* row(int64_t r) const { return static_cast<T*>(data) + r * stride; }
};

// A weight matrix W (n outputs, k inputs), f32, bf16, or i8 with one float scale per row. Row-major, or in an order that the backend
// likes better (Ops::packed_bytes).
struct Matrix {
  const void* data = nullptr;
  const float* scale = nullptr;
  Dtype dtype = Dtype::f32;
  int64_t n = 0, k = 0;
  bool packed = false;
};

}  // namespace jvlm
