// Asynchronous copies and tensor cores as sm_80 has them, and every architecture since.
#pragma once
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::ptx {

JVLM_DEVICE uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// ---- cp.async (PTX 9.7.9.25.3): global to shared memory, in the background ------------------------------------------------------------------
// Copies `bytes` of 16 (of 4) and fills the rest with zeros; with bytes = 0 src is not read but must be a valid aligned address. Both
// addresses are multiples of 16 (of 4). Nobody may touch dst until the copying thread has waited, nor another thread until a barrier after that.
JVLM_DEVICE void cp_async16(void* dst, const void* src, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(src), "r"(bytes) : "memory");
}
JVLM_DEVICE void cp_async4(void* dst, const void* src, int bytes = 4) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(dst)), "l"(src), "r"(bytes) : "memory");
}
// Makes the thread's copies since the last commit a group, an empty one too.
JVLM_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of the thread's latest groups are under way.
template <int pending> JVLM_DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

// ---- ldmatrix (PTX 9.7.14.5.15) ---------------------------------------------------------------------------------------------------------------
// Four (two) 8x8 matrices of 16-bit elements. Lane l names row l % 8 of matrix l / 8: 16 aligned bytes of shared memory (x2: lanes 0 ... 15
// name the rows, the others' addresses must be valid too). Register m of lane l receives elements 2 * (l % 4) and + 1 of row l / 4 of matrix m;
// transposed: elements l / 4 of rows 2 * (l % 4) and + 1.
JVLM_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
JVLM_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
JVLM_DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
JVLM_DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

// ---- mma.sync m16n8k16 (PTX 9.7.14.5.8), m16n8k32 for int8 (9.7.14.5.10): d (16x8) += a (16xK) b (Kx8) -----------------------------------------
// With g = lane / 4 and t = lane % 4:
//   a, 16 bits: register 0 holds columns 2t, 2t + 1 of row g, register 1 those of row g + 8, registers 2 and 3 the same of columns + 8;
//   b, 16 bits: register 0 holds rows 2t, 2t + 1 of column g, register 1 those of rows + 8;
//   a, b, int8: the same with 4t ... 4t + 3 for the pair, and + 16 for + 8;
//   d: elements 0, 1 are columns 2t, 2t + 1 of row g, elements 2, 3 those of row g + 8.
// So a is what ldmatrix_x4 gives of a row-major tile with lane l naming row l % 16, columns 8 * (l / 16) on; b is one pair of registers of
// ldmatrix over rows of b transposed (n-major), or of ldmatrix.trans over rows of b as it is.
JVLM_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
JVLM_DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
JVLM_DEVICE void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace jvlm::ptx
