// Attention of many queries on AMX tiles, for attention.cc. 32 queries at a time pass over the keys in stretches whose scores stay in the
// first cache: scores by tiles, softmax by vectors, weights times values by tiles again; when a later stretch holds a larger score, what was
// summed before is scaled down. Keys and values are packed once for all queries of a head, in the order of packed.h.
#pragma once
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/cpu/exp2.h"
#include "ops/cpu/packed.h"
#include "ops/cpu/tiles.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kQueries = 32, kStretch = 320, kScoreStride = kStretch + 16, kWeightStride = kStretch + 32;   // rows off the same cache sets

inline int64_t filled(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What one thread packs and computes.
struct TileBench {
  uint16_t *keys, *values;    // (keys by 16, D by 32), (D by 16, keys by 32) in tiles
  uint16_t* query;            // (32, D by 32)
  uint16_t* weight;           // (32, kWeightStride)
  float* score;               // (32, kScoreStride)
  float* out;                 // (32, D by 32)
};

inline int64_t tile_bench_bytes(int64_t keys, int64_t size) {
  const int64_t n = filled(keys, kTileInputs), d = filled(size, kTileInputs);
  return 2 * n * d * 2 + kQueries * (d * 2 + kWeightStride * 2 + kScoreStride * 4 + d * 4);
}

inline TileBench tile_bench(void* scratch, int64_t bytes, int64_t keys, int64_t size) {
  const int64_t n = filled(keys, kTileInputs), d = filled(size, kTileInputs);
  char* at = static_cast<char*>(scratch) + omp_get_thread_num() * bytes;
  auto take = [&](int64_t count) {
    char* p = at;
    at += count;
    return p;
  };
  TileBench b;
  b.keys = reinterpret_cast<uint16_t*>(take(n * d * 2));
  b.values = reinterpret_cast<uint16_t*>(take(n * d * 2));
  b.query = reinterpret_cast<uint16_t*>(take(kQueries * d * 2));
  b.weight = reinterpret_cast<uint16_t*>(take(kQueries * kWeightStride * 2));
  b.score = reinterpret_cast<float*>(take(kQueries * kScoreStride * 4));
  b.out = reinterpret_cast<float*>(take(kQueries * d * 4));
  return b;
}

// Sixteen rows of 32 numbers as pairs: row p of the tile is the pair p of all sixteen.
inline void transpose_pairs(uint16_t* out, const __m512i row[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) a[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]), a[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]), b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]), b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  // b[4g + c] holds, in its quarter q, pair 4q + c of the rows 4g to 4g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512i even = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88), odd = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
    const __m512i even2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88), odd2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
    _mm512_storeu_si512(out + c * 32, _mm512_shuffle_i32x4(even, even2, 0x88));
    _mm512_storeu_si512(out + (4 + c) * 32, _mm512_shuffle_i32x4(odd, odd2, 0x88));
    _mm512_storeu_si512(out + (8 + c) * 32, _mm512_shuffle_i32x4(even, even2, 0xdd));
    _mm512_storeu_si512(out + (12 + c) * 32, _mm512_shuffle_i32x4(odd, odd2, 0xdd));
  }
}

inline __mmask32 first_numbers(int64_t count) { return count >= 32 ? ~__mmask32{0} : count <= 0 ? 0 : (__mmask32{1} << count) - 1; }

// key(j), value(j): where the numbers of key j lie.
template <class Key, class Value>
void pack_tiles(const TileBench& b, int64_t keys, int64_t size, Key&& key, Value&& value) {
  const int64_t n = filled(keys, kTileInputs), d = filled(size, kTileInputs);
  for (int64_t j = 0; j < n; j += kGroupRows)
    for (int64_t i = 0; i < d; i += kTileInputs) {
      __m512i row[16];
      const __mmask32 mask = first_numbers(size - i);
      for (int64_t r = 0; r < kGroupRows; ++r) row[r] = j + r < keys ? _mm512_maskz_loadu_epi16(mask, key(j + r) + i) : _mm512_setzero_si512();
      transpose_pairs(b.keys + j * d + i * kGroupRows, row);
    }
  for (int64_t j = 0; j < n; j += 2) {
    const uint16_t *even = j < keys ? value(j) : nullptr, *odd = j + 1 < keys ? value(j + 1) : nullptr;
    for (int64_t i = 0; i < size; i += kGroupRows) {
      const auto mask = static_cast<__mmask16>(first_numbers(std::min<int64_t>(size - i, 16)));
      __m512i both = even ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even + i)) : _mm512_setzero_si512();
      if (odd) both = _mm512_or_si512(both, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd + i)), 16));
      _mm512_storeu_si512(b.values + i * n + j / kTileInputs * kTileNumbers + j % kTileInputs / 2 * 32, both);
    }
  }
  written();
}

struct Running {
  float top = -std::numeric_limits<float>::infinity(), total = 0;
};

// Row r of a stretch of `keys` keys, of which it sees those from `first` to before `last`; `all`: every one.
template <bool all>
inline void soften(const TileBench& b, int64_t r, int64_t keys, int64_t first, int64_t last, float scale, int64_t d, Running& running) {
  const float* s = b.score + r * kScoreStride;
  uint16_t* w = b.weight + r * kWeightStride;
  const Vec least = splat(-std::numeric_limits<float>::infinity());
  auto seen = [&](int64_t j) -> Vec {
    if constexpr (all) return load(s + j);
    const VecI at = VecI{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + static_cast<int32_t>(j);
    return (at >= static_cast<int32_t>(first)) & (at < static_cast<int32_t>(last)) ? load(s + j) : least;
  };
  int64_t from = 0, to = keys;
  if constexpr (!all) {
    from = first >= last ? keys : first / 32 * 32, to = first >= last ? keys : std::min(keys, filled(last, 32));
    std::fill(w, w + from, uint16_t{0});
    std::fill(w + to, w + keys, uint16_t{0});
    if (first >= last) return;
  }
  Vec most = least, most2 = least;
  for (int64_t j = from; j < to; j += 2 * kLanes) {
    most = std::bit_cast<Vec>(_mm512_max_ps(std::bit_cast<__m512>(seen(j)), std::bit_cast<__m512>(most)));
    most2 = std::bit_cast<Vec>(_mm512_max_ps(std::bit_cast<__m512>(seen(j + kLanes)), std::bit_cast<__m512>(most2)));
  }
  const float top = std::max(running.top, _mm512_reduce_max_ps(std::bit_cast<__m512>(max(most, most2))) * scale);
  if (top > running.top) {
    const float shrink = std::exp2(running.top - top);
    running.total *= shrink, running.top = top;
    if (shrink > 0)
      for (int64_t i = 0; i < d; i += kLanes) store(b.out + r * d + i, load(b.out + r * d + i) * shrink);
  }
  Vec total = splat(0), total2 = splat(0);
  const Vec shift = splat(-top), factor = splat(scale);
  for (int64_t j = from; j < to; j += 2 * kLanes) {
    const Vec low = exp2_coarse(seen(j) * factor + shift), high = exp2_coarse(seen(j + kLanes) * factor + shift);
    total += low, total2 += high;
    const Pairs p = to_pairs(low, high);
    std::memcpy(w + j, &p, sizeof p);
  }
  running.total += sum(total + total2);
}

// 32 queries, packed in b.query, over packed keys. Row r sees the keys first[r] to before last[r]; out_row[r] null: no such row.
inline void tile_rows(const TileBench& b, int64_t all_keys, int64_t size, float scale, const int64_t* first, const int64_t* last,
                      uint16_t* const* out_row) {
  const int64_t n = filled(all_keys, kTileInputs), d = filled(size, kTileInputs), depth = d / kTileInputs;
  const float scale2 = scale * 1.44269504088896341f;
  int64_t from = n, to = 0;
  for (int64_t r = 0; r < kQueries; ++r)
    if (out_row[r]) from = std::min(from, first[r]), to = std::max(to, last[r]);
  from = from / kTileInputs * kTileInputs;
  to = filled(to, kTileInputs);
  Running running[kQueries];
  std::fill(b.out, b.out + kQueries * d, 0.f);
  const int64_t stretches = (to - from + kStretch - 1) / kStretch, stretch = filled((to - from + stretches - 1) / stretches, kTileInputs);
  for (int64_t start = from, keys; start < to; start += keys) {
    keys = std::min(stretch, to - start);
    written();
    for (int64_t j = 0; j < keys; j += kTileInputs) {
      const uint16_t* k = b.keys + (start + j) * d;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t t = 0; t < depth; ++t) {
        _tile_loadd(4, b.query + t * kTileInputs, d * 2);
        _tile_loadd(6, k + t * kTileNumbers, 64);
        _tile_loadd(7, k + (depth + t) * kTileNumbers, 64);
        _tile_loadd(5, b.query + kGroupRows * d + t * kTileInputs, d * 2);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, b.score + j, kScoreStride * 4);
      _tile_stored(1, b.score + j + kGroupRows, kScoreStride * 4);
      _tile_stored(2, b.score + kGroupRows * kScoreStride + j, kScoreStride * 4);
      _tile_stored(3, b.score + kGroupRows * kScoreStride + j + kGroupRows, kScoreStride * 4);
    }
    for (int64_t r = 0; r < kQueries; ++r) {
      const int64_t begin = out_row[r] ? std::max<int64_t>(0, first[r] - start) : 0, end = out_row[r] ? std::min(keys, last[r] - start) : 0;
      if (begin == 0 && end == keys)
        soften<true>(b, r, keys, begin, end, scale2, d, running[r]);
      else
        soften<false>(b, r, keys, begin, end, scale2, d, running[r]);
    }
    written();
    for (int64_t i = 0; i < size; i += 2 * kGroupRows) {
      const uint16_t* v = b.values + i * n + start / kTileInputs * kTileNumbers;
      const bool two = i + kGroupRows < size;
      float* out = b.out + i;
      _tile_loadd(0, out, d * 4);
      _tile_loadd(1, out + kGroupRows, d * 4);
      _tile_loadd(2, out + kGroupRows * d, d * 4);
      _tile_loadd(3, out + kGroupRows * d + kGroupRows, d * 4);
      for (int64_t t = 0; t < keys / kTileInputs; ++t) {
        _tile_loadd(4, b.weight + t * kTileInputs, kWeightStride * 2);
        _tile_loadd(6, v + t * kTileNumbers, 64);
        if (two) _tile_loadd(7, v + kGroupRows * n + t * kTileNumbers, 64);
        _tile_loadd(5, b.weight + kGroupRows * kWeightStride + t * kTileInputs, kWeightStride * 2);
        _tile_dpbf16ps(0, 4, 6);
        if (two) _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        if (two) _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, out, d * 4);
      _tile_stored(1, out + kGroupRows, d * 4);
      _tile_stored(2, out + kGroupRows * d, d * 4);
      _tile_stored(3, out + kGroupRows * d + kGroupRows, d * 4);
    }
  }
  for (int64_t r = 0; r < kQueries; ++r)
    if (out_row[r]) {
      const float factor = 1.f / running[r].total;
      for (int64_t i = 0; i < size; i += kLanes)
        _mm256_mask_storeu_epi16(out_row[r] + i, static_cast<__mmask16>(first_numbers(std::min<int64_t>(size - i, 16))),
                                 reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(load(b.out + r * d + i) * factor))));
    }
}

inline void take_query(const TileBench& b, int64_t r, int64_t size, const uint16_t* q) {
  const int64_t d = filled(size, kTileInputs);
  for (int64_t i = 0; i < d; i += 32) {
    if (q)
      _mm512_storeu_si512(b.query + r * d + i, _mm512_maskz_loadu_epi16(first_numbers(size - i), q + i));
    else
      _mm512_storeu_si512(b.query + r * d + i, _mm512_setzero_si512());
  }
}

}  // namespace
}  // namespace jvlm::cpu::JVLM_ISA
