// Attention of many queries on AMX tiles, for attention.cc. 32 queries at a time pass over the keys in stretches: scores by tiles, softmax by
// vectors, weights times values by tiles again; when a later stretch holds a larger score, what was summed before is scaled down. The two units
// work side by side: between the rows of one stretch's softmax come the products of its neighbours, a few tiles at a time. Keys and values are
// packed once for all queries of a head, in the order of packed.h.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/cpu/exp2.h"
#include "ops/cpu/packed.h"
#include "ops/cpu/team.h"
#include "ops/cpu/tiles.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kQueries = 32, kStretch = 256, kScoreStride = kStretch + 16, kWeightStride = kStretch + 32;   // rows off the same cache sets

// What one thread packs and computes.
struct TileBench {
  uint16_t *keys, *values;    // (keys by 16, D by 32), (D by 16, keys by 32) in tiles
  uint16_t* query;            // (32, D by 32)
  uint16_t* weight[2];        // (32, kWeightStride), of one stretch and the next
  float* score[2];            // (32, kScoreStride)
  float* out;                 // (32, D by 32)
};

inline int64_t tile_bench_bytes(int64_t keys, int64_t size) {
  const int64_t n = up(keys, kTileInputs), d = up(size, kTileInputs);
  return 2 * n * d * 2 + kQueries * (d * 2 + 2 * kWeightStride * 2 + 2 * kScoreStride * 4 + d * 4);
}

inline TileBench tile_bench(void* scratch, int64_t bytes, int64_t keys, int64_t size) {
  const int64_t n = up(keys, kTileInputs), d = up(size, kTileInputs);
  char* at = static_cast<char*>(scratch) + team_member() * bytes;
  auto take = [&](int64_t count) {
    char* p = at;
    at += count;
    return p;
  };
  TileBench b;
  b.keys = reinterpret_cast<uint16_t*>(take(n * d * 2));
  b.values = reinterpret_cast<uint16_t*>(take(n * d * 2));
  b.query = reinterpret_cast<uint16_t*>(take(kQueries * d * 2));
  for (auto& weight : b.weight) weight = reinterpret_cast<uint16_t*>(take(kQueries * kWeightStride * 2));
  for (auto& score : b.score) score = reinterpret_cast<float*>(take(kQueries * kScoreStride * 4));
  b.out = reinterpret_cast<float*>(take(kQueries * d * 4));
  return b;
}

// key(j), value(j): where the numbers of key j lie.
template <class Key, class Value>
void pack_tiles(const TileBench& b, int64_t keys, int64_t size, Key&& key, Value&& value) {
  const int64_t n = up(keys, kTileInputs), d = up(size, kTileInputs);
  for (int64_t j = 0; j < n; j += kGroupRows)
    for (int64_t i = 0; i < d; i += kTileInputs) {
      __m512i row[16];
      const __mmask32 mask = first_numbers(size - i);
      for (int64_t r = 0; r < kGroupRows; ++r) row[r] = j + r < keys ? _mm512_maskz_loadu_epi16(mask, key(j + r) + i) : _mm512_setzero_si512();
      transpose_pairs(b.keys + j * d + i * kGroupRows, 2 * kGroupRows, 16, row);
    }
  for (int64_t j = 0; j < n; j += 2) {
    const uint16_t *even = j < keys ? value(j) : nullptr, *odd = j + 1 < keys ? value(j + 1) : nullptr;
    for (int64_t i = 0; i < size; i += kGroupRows)
      _mm512_storeu_si512(b.values + i * n + j / kTileInputs * kTileNumbers + j % kTileInputs / 2 * 32, interleaved(even, odd, i, size));
  }
  written();
}

// The tiles' share of the work, a step at a time.
struct Products {
  const TileBench& b;
  int64_t n, d, size;
  // out += weights times values of the keys `at` to at + keys, packed as stretch `turn`.
  struct {
    int64_t at = 0, keys = 0, i = 0, t = 0;
    int turn = 0;
  } mean;
  // scores of the keys `at` to at + keys, to stretch `turn`.
  struct {
    int64_t at = 0, keys = 0, j = 0;
    int turn = 0;
  } scores;

  Products(const TileBench& bench, int64_t packed_keys, int64_t depth, int64_t head_size) : b(bench), n(packed_keys), d(depth), size(head_size) {}

  void begin_mean(int64_t at, int64_t keys, int turn) { mean = {at, keys, 0, 0, turn}; }
  void begin_scores(int64_t at, int64_t keys, int turn) { scores = {at, keys, 0, turn}; }
  // False when nothing is left.
  bool step() {
    if (mean.keys && mean.i < size) {
      mean_step();
      return true;
    }
    if (scores.j < scores.keys) {
      scores_step();
      return true;
    }
    return false;
  }
  void flush() {
    while (step()) {}
    written();
  }

 private:
  void scores_step() {
    const uint16_t* k = b.keys + (scores.at + scores.j) * d;
    const int64_t depth = d / kTileInputs;
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
    float* to = b.score[scores.turn] + scores.j;
    _tile_stored(0, to, kScoreStride * 4);
    _tile_stored(1, to + kGroupRows, kScoreStride * 4);
    _tile_stored(2, to + kGroupRows * kScoreStride, kScoreStride * 4);
    _tile_stored(3, to + kGroupRows * kScoreStride + kGroupRows, kScoreStride * 4);
    scores.j += kTileInputs;
  }

  void mean_step() {
    float* out = b.out + mean.i;
    if (mean.t == 0) {
      _tile_loadd(0, out, d * 4);
      _tile_loadd(1, out + kGroupRows, d * 4);
      _tile_loadd(2, out + kGroupRows * d, d * 4);
      _tile_loadd(3, out + kGroupRows * d + kGroupRows, d * 4);
    }
    const uint16_t* w = b.weight[mean.turn] + mean.t * kTileInputs;
    const uint16_t* v = b.values + mean.i * n + (mean.at / kTileInputs + mean.t) * kTileNumbers;
    const bool two = mean.i + kGroupRows < size;
    _tile_loadd(4, w, kWeightStride * 2);
    _tile_loadd(6, v, 64);
    if (two) _tile_loadd(7, v + kGroupRows * n, 64);
    _tile_loadd(5, w + kGroupRows * kWeightStride, kWeightStride * 2);
    _tile_dpbf16ps(0, 4, 6);
    if (two) _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    if (two) _tile_dpbf16ps(3, 5, 7);
    if (++mean.t == mean.keys / kTileInputs) {
      _tile_stored(0, out, d * 4);
      _tile_stored(1, out + kGroupRows, d * 4);
      _tile_stored(2, out + kGroupRows * d, d * 4);
      _tile_stored(3, out + kGroupRows * d + kGroupRows, d * 4);
      mean.t = 0, mean.i += 2 * kGroupRows;
    }
  }
};

// Softmax over the stretches, 32 rows.
struct Softmax {
  alignas(64) float top[kQueries], shrink[kQueries];
  alignas(64) float total[kQueries][kLanes];             // a row's weights, lane by lane
  float scale;

  explicit Softmax(float s) : scale(s) {
    std::fill(top, top + kQueries, -std::numeric_limits<float>::infinity());
    std::memset(total, 0, sizeof total);
  }

  // Of `keys` scores a row sees those from `first` to before `last`.
  struct Seen {
    const float* score;
    int64_t first, last;
    Vec edge(int64_t j) const {
      const VecI at = VecI{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + static_cast<int32_t>(j);
      return (at >= static_cast<int32_t>(first)) & (at < static_cast<int32_t>(last)) ? load(score + j)
                                                                                       : splat(-std::numeric_limits<float>::infinity());
    }
    int64_t from() const { return first / 32 * 32; }
    int64_t to() const { return up(last, 32); }
  };

  template <bool all>
  static Vec most(const Seen& row, int64_t keys) {
    Vec a = splat(-std::numeric_limits<float>::infinity()), b = a;
    const int64_t from = all ? 0 : row.from(), to = all ? keys : std::min(keys, row.to());
    for (int64_t j = from; j < to; j += 2 * kLanes) {
      a = std::bit_cast<Vec>(_mm512_max_ps(std::bit_cast<__m512>(all ? load(row.score + j) : row.edge(j)), std::bit_cast<__m512>(a)));
      b = std::bit_cast<Vec>(_mm512_max_ps(std::bit_cast<__m512>(all ? load(row.score + j + kLanes) : row.edge(j + kLanes)), std::bit_cast<__m512>(b)));
    }
    return max(a, b);
  }

  // The tops of sixteen rows out of their lanes' largest scores.
  void raise(int64_t row, const Vec lanes[kGroupRows]) {
    const Vec before = load(top + row);
    const Vec now = max(before, std::bit_cast<Vec>(across(lanes, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); })) * scale);
    store(top + row, now);
    store(shrink + row, now == before ? splat(1) : exp2_coarse(before - now));
  }

  template <bool all>
  void weigh(int64_t r, const Seen& row, uint16_t* w, int64_t keys) {
    const int64_t from = all ? 0 : row.from(), to = all ? keys : std::min(keys, row.to());
    if (!all) std::fill(w, w + from, uint16_t{0}), std::fill(w + to, w + keys, uint16_t{0});
    Vec a = load(total[r]) * shrink[r], b = splat(0);
    const Vec shift = splat(-top[r]), factor = splat(scale);
    for (int64_t j = from; j < to; j += 2 * kLanes) {
      const Vec low = exp2_coarse((all ? load(row.score + j) : row.edge(j)) * factor + shift);
      const Vec high = exp2_coarse((all ? load(row.score + j + kLanes) : row.edge(j + kLanes)) * factor + shift);
      a += low, b += high;
      const Pairs p = to_pairs(low, high);
      std::memcpy(w + j, &p, sizeof p);
    }
    store(total[r], a + b);
  }
};

// 32 queries, packed in b.query, over packed keys. Row r sees the keys first[r] to before last[r]; out_row[r] null: no such row.
inline void tile_rows(const TileBench& b, int64_t all_keys, int64_t size, float scale, const int64_t* first, const int64_t* last,
                      uint16_t* const* out_row) {
  const int64_t n = up(all_keys, kTileInputs), d = up(size, kTileInputs);
  int64_t from = n, to = 0;
  for (int64_t r = 0; r < kQueries; ++r)
    if (out_row[r]) from = std::min(from, first[r]), to = std::max(to, last[r]);
  from = from / kTileInputs * kTileInputs;
  to = up(to, kTileInputs);
  const int64_t stretches = (to - from + kStretch - 1) / kStretch, stretch = up((to - from + stretches - 1) / stretches, kTileInputs);
  std::fill(b.out, b.out + kQueries * d, 0.f);
  written();
  Products products(b, n, d, size);
  Softmax softmax(scale * 1.44269504088896341f);
  auto keys_from = [&](int64_t start) { return std::min(stretch, to - start); };
  products.begin_scores(from, keys_from(from), 0);
  products.flush();
  int turn = 0;
  for (int64_t start = from, keys; start < to; start += keys, turn ^= 1) {
    keys = keys_from(start);
    if (start + keys < to) products.begin_scores(start + keys, keys_from(start + keys), turn ^ 1);
    auto seen = [&](int64_t r) {
      return Softmax::Seen{b.score[turn] + r * kScoreStride, std::max<int64_t>(0, first[r] - start), std::min(keys, last[r] - start)};
    };
    for (int64_t group = 0; group < kQueries; group += kGroupRows) {
      Vec most[kGroupRows];
      for (int64_t r = group; r < group + kGroupRows; ++r) {
        const Softmax::Seen row = seen(r);
        most[r - group] = row.first == 0 && row.last == keys ? Softmax::most<true>(row, keys)
                          : row.first < row.last             ? Softmax::most<false>(row, keys)
                                                             : splat(-std::numeric_limits<float>::infinity());
      }
      softmax.raise(group, most);
      for (int64_t r = group; r < group + kGroupRows; ++r) {
        const Softmax::Seen row = seen(r);
        uint16_t* w = b.weight[turn] + r * kWeightStride;
        if (row.first == 0 && row.last == keys)
          softmax.weigh<true>(r, row, w, keys);
        else if (row.first < row.last)
          softmax.weigh<false>(r, row, w, keys);
        else
          std::fill(w, w + keys, uint16_t{0});
        products.step();
      }
    }
    products.flush();
    for (int64_t r = 0; r < kQueries; ++r)
      if (softmax.shrink[r] != 1)
        for (int64_t i = 0; i < d; i += kLanes) store(b.out + r * d + i, load(b.out + r * d + i) * softmax.shrink[r]);
    written();
    products.begin_mean(start, keys, turn);
  }
  products.flush();
  for (int64_t r = 0; r < kQueries; ++r)
    if (out_row[r]) {
      const float factor = 1.f / sum(load(softmax.total[r]));
      for (int64_t i = 0; i < size; i += kLanes)
        _mm256_mask_storeu_epi16(out_row[r] + i, static_cast<__mmask16>(first_numbers(std::min<int64_t>(size - i, 16))),
                                 reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(load(b.out + r * d + i) * factor))));
    }
}

inline void take_query(const TileBench& b, int64_t r, int64_t size, const uint16_t* q) {
  const int64_t d = up(size, kTileInputs);
  for (int64_t i = 0; i < d; i += 32) {
    if (q)
      _mm512_storeu_si512(b.query + r * d + i, _mm512_maskz_loadu_epi16(first_numbers(size - i), q + i));
    else
      _mm512_storeu_si512(b.query + r * d + i, _mm512_setzero_si512());
  }
}

}  // namespace
}  // namespace jvlm::cpu::JVLM_ISA
