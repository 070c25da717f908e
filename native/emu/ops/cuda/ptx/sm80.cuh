// The names of native/ops/cuda/ptx/sm80.cuh, which says what they do, for g++.
#pragma once
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::ptx {

inline void cp_async16(void* dst, const void* src, int bytes = 16, Where where = Where::current()) {
  emu::copy_async(dst, src, bytes, 16, where);
}
inline void cp_async4(void* dst, const void* src, int bytes = 4, Where where = Where::current()) {
  emu::copy_async(dst, src, bytes, 4, where);
}
inline void cp_async_commit() { emu::copy_commit(); }
template <int pending> void cp_async_wait() { emu::copy_wait(pending); }

void load_matrices(uint32_t* r, int count, bool transposed, const void* row, Where where);
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, Where where = Where::current()) { load_matrices(r, 4, false, row, where); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, Where where = Where::current()) { load_matrices(r, 4, true, row, where); }
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, Where where = Where::current()) { load_matrices(r, 2, false, row, where); }
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, Where where = Where::current()) { load_matrices(r, 2, true, row, where); }

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where = Where::current());
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where = Where::current());
void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where = Where::current());

}  // namespace jvlm::ptx
