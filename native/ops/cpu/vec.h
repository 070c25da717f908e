// One vector of floats, as wide as the instruction set that the file is compiled for, by the compiler's vector extension.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/bf16.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace jvlm::cpu::JVLM_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef uint32_t VecU __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecI __attribute__((vector_size(kLanes * 4)));
typedef uint16_t VecH __attribute__((vector_size(kLanes * 2)));
typedef int8_t VecB __attribute__((vector_size(kLanes)));

inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }   // n filled up to a multiple

inline Vec splat(float f) { return Vec{} + f; }

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
#if defined(__AVX512F__)
// gcc 12 converts vectors of bytes one by one.
inline Vec load(const uint16_t* p) {
  return std::bit_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline Vec load(const int8_t* p) {
  return std::bit_cast<Vec>(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
}
#else
inline Vec load(const uint16_t* p) {
  VecH h;
  std::memcpy(&h, p, sizeof h);
  return std::bit_cast<Vec>(__builtin_convertvector(h, VecU) << 16);
}
inline Vec load(const int8_t* p) {
  VecB b;
  std::memcpy(&b, p, sizeof b);
  return __builtin_convertvector(__builtin_convertvector(b, VecI), Vec);
}
#endif

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
// Round to nearest even; what comes here is a number.
inline void store(uint16_t* p, Vec v) {
  const VecU u = std::bit_cast<VecU>(v);
  const VecH h = __builtin_convertvector((u + 0x7fffu + ((u >> 16) & 1u)) >> 16, VecH);
  std::memcpy(p, &h, sizeof h);
}

inline float one(float f) { return f; }
inline float one(uint16_t h) { return from_bf16(h); }
inline float one(int8_t b) { return static_cast<float>(b); }
inline void put(float* p, float v) { *p = v; }
inline void put(uint16_t* p, float v) { *p = to_bf16(v); }

inline float sum(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(std::bit_cast<__m512>(v));
#endif
  float lane[kLanes];
  std::memcpy(lane, &v, sizeof v);
  for (int w = kLanes / 2; w; w /= 2)
    for (int i = 0; i < w; ++i) lane[i] += lane[i + w];
  return lane[0];
}

inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline float largest(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(std::bit_cast<__m512>(v));
#endif
  float top = v[0];
  for (int i = 1; i < kLanes; ++i) top = v[i] > top ? v[i] : top;
  return top;
}

// e^x for x <= 0 (softmax): 2^n * e^r, r in [-ln2/2, ln2/2], a polynomial of degree 6; relative error below 3e-7. Below -80 it is 2e-35,
// which no sum of softmax sees, and whose products with small numbers are not denormal, which would be slow.
inline Vec exp_fast(Vec x) {
  x = max(x, splat(-80.f));
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const Vec shifted = x * 1.44269504088896341f + 12582912.f;
  const Vec n = shifted - 12582912.f;
  const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = splat(1.3888889e-3f);
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return p * std::bit_cast<Vec>((std::bit_cast<VecU>(shifted) + 127u) << 23);
}

#if defined(__AVX512F__)
// Two vectors to one: of every 16, 8, 4 or 2 lanes (2 * `lanes`) the halves of a brought together by op, then those of b.
template <int lanes, class Op>
inline __m512 fold(__m512 a, __m512 b, Op&& op) {
  if constexpr (lanes == 8) return op(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  if constexpr (lanes == 4) return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  if constexpr (lanes == 2) return op(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
  return op(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

// Lane i of the result is what op makes of all lanes of v[i].
template <class Op>
inline __m512 across(const Vec v[16], Op&& op) {
  __m512 a[8], b[4], c[2];
  for (int i = 0; i < 8; ++i) a[i] = fold<8>(std::bit_cast<__m512>(v[i / 4 * 8 + i % 4]), std::bit_cast<__m512>(v[i / 4 * 8 + 4 + i % 4]), op);
  for (int i = 0; i < 4; ++i) b[i] = fold<4>(a[i], a[i + 4], op);
  for (int i = 0; i < 2; ++i) c[i] = fold<2>(b[2 * i], b[2 * i + 1], op);
  return fold<1>(c[0], c[1], op);
}
#endif

#if defined(__AVX512BF16__)
#define JVLM_DOT_BF16 1
typedef uint32_t Pairs __attribute__((vector_size(64)));   // sixteen pairs of bf16
// acc + the sum of the products of each pair.
inline Vec dot_pairs(Vec acc, Pairs a, Pairs b) {
  return std::bit_cast<Vec>(_mm512_dpbf16_ps(std::bit_cast<__m512>(acc), std::bit_cast<__m512bh>(a), std::bit_cast<__m512bh>(b)));
}
inline Pairs load_pairs(const uint16_t* p) {
  Pairs v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// Sixteen floats twice, rounded to bf16: low's, then high's.
inline Pairs to_pairs(Vec low, Vec high) {
  return std::bit_cast<Pairs>(_mm512_cvtne2ps_pbh(std::bit_cast<__m512>(high), std::bit_cast<__m512>(low)));
}

inline __mmask32 first_numbers(int64_t count) { return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1; }

// Sixteen rows of 32 numbers as pairs: pair p of all sixteen goes to out + p * stride, for the first `pairs` of them.
inline void transpose_pairs(uint16_t* out, int64_t stride, int64_t pairs, const __m512i row[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) a[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]), a[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]), b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]), b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  auto put = [&](int64_t p, __m512i pair) {
    if (p < pairs) _mm512_storeu_si512(out + p * stride, pair);
  };
  // b[4g + c] holds, in its quarter q, pair 4q + c of the rows 4g to 4g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512i even = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88), odd = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
    const __m512i even2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88), odd2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
    put(c, _mm512_shuffle_i32x4(even, even2, 0x88));
    put(4 + c, _mm512_shuffle_i32x4(odd, odd2, 0x88));
    put(8 + c, _mm512_shuffle_i32x4(even, even2, 0xdd));
    put(12 + c, _mm512_shuffle_i32x4(odd, odd2, 0xdd));
  }
}

// Sixteen pairs, of one number of each row, from number i on; zero beyond `size` and where there is no row.
inline __m512i interleaved(const uint16_t* even, const uint16_t* odd, int64_t i, int64_t size) {
  const auto mask = static_cast<__mmask16>(first_numbers(size - i));
  __m512i both = even ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even + i)) : _mm512_setzero_si512();
  if (odd) both = _mm512_or_si512(both, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd + i)), 16));
  return both;
}
#endif

}  // namespace jvlm::cpu::JVLM_ISA
