// Attention of one token over a part of the paged cache in bf16, for attention.cc: up to eight query heads of one key/value head at once, so
// that every key and value is read once. Scores lie as (keys, heads): a vector holds the same heads in the same lanes all along, and softmax
// needs no transposition. The number of heads is filled up to a power of two.
//
// Values come two keys at a time: interleaved they are pairs of keys, a dimension each, whose products with the pair's two weights one
// instruction sums. Interleaving by halves of a register leaves the dimensions out of order, which is put right once, at the end.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/cpu/attention.h"
#include "ops/cpu/exp2.h"
#include "ops/cpu/vec.h"
#if defined(JVLM_ISA_amx)
#include "ops/cpu/tiles.h"
#endif

namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kChunk = 32;            // dimensions of a register
constexpr int kMostHeads = 8;
constexpr int64_t kRunKeys = 64;          // keys between two looks at the largest score

inline Pairs load_chunk(const uint16_t* p, __mmask32 mask) { return std::bit_cast<Pairs>(_mm512_maskz_loadu_epi16(mask, p)); }

// Lines that will be read next.
struct Ahead {
  const char *at, *end;
  Ahead(const uint16_t* from, int64_t count) : at(reinterpret_cast<const char*>(from)), end(reinterpret_cast<const char*>(from + count)) {}
  void step(int64_t lines) {
    for (const char* to = std::min(at + lines * 64, end); at < to; at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// ---- scores --------------------------------------------------------------------------------------------------------------------------

#if defined(JVLM_ISA_amx)

// Sixteen keys, as they lie in the cache, are the left tile; the queries' pairs the right one.
template <int heads>
struct Scores {
  int64_t size, chunks;
  alignas(64) uint32_t query[kMostSize / 2 * heads];      // (pairs, heads)
  alignas(64) uint16_t rest[16 * kMostSize];

  // q: `count` rows of `size`.
  Scores(const uint16_t* q, int count, int64_t head_size) : size(head_size), chunks((head_size + kChunk - 1) / kChunk) {
    std::memset(query, 0, static_cast<size_t>(size / 2 * heads) * 4);
    for (int64_t p = 0; p < size / 2; ++p)
      for (int g = 0; g < count; ++g) std::memcpy(query + p * heads + g, q + g * size + 2 * p, 4);
    TileConfig config;
    // 0 to 3 the scores of 64 keys, 4 and 6 whole chunks of keys and queries, 5 and 7 the last one.
    const int64_t last = size - (chunks - 1) * kChunk;
    for (int t = 0; t < 8; ++t) {
      config.rows[t] = static_cast<uint8_t>(t == 6 ? 16 : t == 7 ? last / 2 : 16);
      config.bytes[t] = static_cast<uint16_t>(t == 4 ? 64 : t == 5 ? last * 2 : heads * 4);
    }
    config.load();
  }
  ~Scores() { _tile_release(); }

  void operator()(float* score, const uint16_t* keys, int64_t count, Ahead& ahead) {
    const int64_t groups = (count + 15) / 16, whole = count / 16;
    const uint16_t* last = keys + whole * 16 * size;
    if (groups > whole) {                                 // nothing beyond the last key is read
      std::memcpy(rest, last, static_cast<size_t>((count - whole * 16) * size) * 2);
      std::memset(rest + (count - whole * 16) * size, 0, static_cast<size_t>((16 - count + whole * 16) * size) * 2);
      last = rest;
    }
    written();
    auto rows = [&](int64_t group) { return group < whole ? keys + group * 16 * size : last; };
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const size_t stride = static_cast<size_t>(size) * 2;
    // Tiles are named by literals, which no function could pass on.
#define JVLM_SCORE(group, key_tile, query_tile)                            \
  if (groups > group) {                                                    \
    _tile_loadd(key_tile, rows(group) + c * kChunk, stride);               \
    _tile_dpbf16ps(group, key_tile, query_tile);                           \
    ahead.step(16);                                                        \
  }
#define JVLM_CHUNK(key_tile, query_tile)                                   \
  _tile_loadd(query_tile, query + c * kChunk / 2 * heads, heads * 4);      \
  JVLM_SCORE(0, key_tile, query_tile)                                      \
  JVLM_SCORE(1, key_tile, query_tile)                                      \
  JVLM_SCORE(2, key_tile, query_tile)                                      \
  JVLM_SCORE(3, key_tile, query_tile)
    int64_t c = 0;
    for (; c + 1 < chunks; ++c) {
      JVLM_CHUNK(4, 6)
    }
    JVLM_CHUNK(5, 7)
#undef JVLM_CHUNK
#undef JVLM_SCORE
    _tile_stored(0, score, heads * 4);
    if (groups > 1) _tile_stored(1, score + 16 * heads, heads * 4);
    if (groups > 2) _tile_stored(2, score + 32 * heads, heads * 4);
    if (groups > 3) _tile_stored(3, score + 48 * heads, heads * 4);
    written();
  }
};

#else

template <int heads>
struct Scores {
  int64_t size, chunks;
  alignas(64) uint16_t query[heads * kMostSize];          // (heads, filled size)

  Scores(const uint16_t* q, int count, int64_t head_size) : size(head_size), chunks((head_size + kChunk - 1) / kChunk) {
    std::memset(query, 0, static_cast<size_t>(chunks * kChunk * heads) * 2);
    for (int g = 0; g < count; ++g) std::memcpy(query + g * chunks * kChunk, q + g * size, static_cast<size_t>(size) * 2);
  }

  void operator()(float* score, const uint16_t* keys, int64_t count, Ahead& ahead) const {
    constexpr int64_t together = 16 / heads;
    for (int64_t j = 0; j < count; j += together) {
      Vec acc[16] = {};
      const int64_t there = std::min(together, count - j);
      for (int64_t c = 0; c < chunks; ++c) {
        const __mmask32 mask = first_numbers(size - c * kChunk);
        ahead.step(together);
        for (int64_t k = 0; k < together; ++k) {
          if (k >= there) break;
          const Pairs key = load_chunk(keys + (j + k) * size + c * kChunk, mask);
          for (int g = 0; g < heads; ++g)
            acc[k * heads + g] = dot_pairs(acc[k * heads + g], key, load_pairs(query + (g * chunks + c) * kChunk));
        }
      }
      _mm512_storeu_ps(score + j * heads, across(acc, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); }));
    }
  }
};

#endif

// ---- values --------------------------------------------------------------------------------------------------------------------------

// mean (heads, filled size, out of order) = mean * shrink + weights times values, `chunks` chunks of dimensions from `chunk` on.
template <int heads, int chunks>
inline void add_pairs(float* mean, const float* shrink, const uint32_t* weight, const uint16_t* values, Ahead& ahead,
                      int64_t count, int64_t size, int64_t chunk, int64_t width) {
  Vec low[heads][chunks], high[heads][chunks];
  __mmask32 mask[chunks];
  for (int c = 0; c < chunks; ++c) mask[c] = first_numbers(size - (chunk + c) * kChunk);
  for (int g = 0; g < heads; ++g)
    for (int c = 0; c < chunks; ++c) {
      const float* at = mean + g * width + (chunk + c) * kChunk;
      low[g][c] = load(at) * shrink[g], high[g][c] = load(at + kLanes) * shrink[g];
    }
  for (int64_t j = 0; j < count; j += 2) {
    const int64_t at = j * size + chunk * kChunk;
    const uint16_t* even = values + at;
    ahead.step(2 * chunks);
    for (int c = 0; c < chunks; ++c) {
      const __m512i a = _mm512_maskz_loadu_epi16(mask[c], even + c * kChunk);
      const __m512i b = j + 1 < count ? _mm512_maskz_loadu_epi16(mask[c], even + size + c * kChunk) : _mm512_setzero_si512();
      const Pairs l = std::bit_cast<Pairs>(_mm512_unpacklo_epi16(a, b)), h = std::bit_cast<Pairs>(_mm512_unpackhi_epi16(a, b));
      for (int g = 0; g < heads; ++g) {
        const Pairs w = Pairs{} + weight[j / 2 * heads + g];
        low[g][c] = dot_pairs(low[g][c], l, w), high[g][c] = dot_pairs(high[g][c], h, w);
      }
    }
  }
  for (int g = 0; g < heads; ++g)
    for (int c = 0; c < chunks; ++c) {
      float* at = mean + g * width + (chunk + c) * kChunk;
      store(at, low[g][c]), store(at + kLanes, high[g][c]);
    }
}

template <int heads>
inline void add_values(float* mean, const float* shrink, const uint32_t* weight, const uint16_t* values, Ahead& ahead, int64_t count, int64_t size, int64_t width) {
  constexpr int most = heads <= 2 ? 4 : heads == 4 ? 3 : 1;          // sums that fit the registers
  const int64_t chunks = width / kChunk;
  for (int64_t c = 0; c < chunks;) {
    const int64_t now = std::min<int64_t>(most, chunks - c);
    if (now == 1) add_pairs<heads, 1>(mean, shrink, weight, values, ahead, count, size, c, width);
    if constexpr (most >= 2)
      if (now == 2) add_pairs<heads, 2>(mean, shrink, weight, values, ahead, count, size, c, width);
    if constexpr (most >= 3)
      if (now == 3) add_pairs<heads, 3>(mean, shrink, weight, values, ahead, count, size, c, width);
    if constexpr (most >= 4)
      if (now == 4) add_pairs<heads, 4>(mean, shrink, weight, values, ahead, count, size, c, width);
    c += now;
  }
}

// ---- softmax -------------------------------------------------------------------------------------------------------------------------

// Every lane becomes what `op` makes of all lanes of the same head.
template <int heads, class Op>
inline Vec same_heads(Vec v, Op&& op) {
  for (int by = 8; by >= heads; by /= 2) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    v = op(v, std::bit_cast<Vec>(_mm512_permutexvar_ps(_mm512_xor_si512(lane, _mm512_set1_epi32(by)), std::bit_cast<__m512>(v))));
  }
  return v;
}

// `count` query heads, q (count, size), over the keys from `from` to before `to`; key(j) and value(j) say where key j lies, with those of its
// page behind it. result: for every head `stride` floats: means not divided yet (size), at [total] their weights' sum and behind it the largest
// score.
template <int heads, class Key, class Value>
void pairs_of_heads(float* result, int64_t stride, int64_t total_at, const uint16_t* q, int count, int64_t size, float scale, int64_t page_tokens,
                    int64_t from, int64_t to, Key&& key, Value&& value) {
  const int64_t width = up(size, kChunk);
  alignas(64) float mean[heads * kMostSize];
  std::memset(mean, 0, static_cast<size_t>(heads * width) * 4);
  alignas(64) float score[kRunKeys * heads + 16];
  alignas(64) uint32_t weight[kRunKeys / 2 * heads];
  Scores<heads> scores(q, count, size);
  alignas(32) uint16_t places[16];                        // (keys, heads) to pairs of keys
  for (int i = 0; i < 16; ++i) places[i] = static_cast<uint16_t>((i / (2 * heads) * 2 + i % 2) * heads + i / 2 % heads);
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(places));
  const Vec least = splat(-std::numeric_limits<float>::infinity());
  const float scale2 = scale * 1.44269504088896341f;
  Vec top = least, total = splat(0);
  for (int64_t start = from, keys; start < to; start += keys) {
    keys = std::min({kRunKeys, to - start, page_tokens - start % page_tokens});
    const int64_t next = start + keys < to ? start + keys : start;
    Ahead next_keys(key(next), keys * size), values(value(start), keys * size);
    scores(score, key(start), keys, values);
    const int64_t numbers = keys * heads;
    for (int64_t i = numbers; i < up(numbers, kLanes); ++i) score[i] = least[0];
    Vec most = least;
    for (int64_t i = 0; i < numbers; i += kLanes) most = max(most, load(score + i));
    most = max(same_heads<heads>(most, [](Vec a, Vec b) { return max(a, b); }) * scale2, top);
    const Vec shrink = exp2_coarse(top - most);
    total *= shrink, top = most;
    for (int64_t i = 0; i < numbers; i += kLanes) {
      const Vec e = exp2_coarse(load(score + i) * scale2 - top);
      total += e;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(weight + i / 2),
                          _mm256_permutexvar_epi16(order, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(e)))));
    }
    float by[kLanes];
    store(by, shrink);
    add_values<heads>(mean, by, weight, value(start), next_keys, keys, size, width);
  }
  total = same_heads<heads>(total, [](Vec a, Vec b) { return a + b; });
  for (int g = 0; g < count; ++g) {
    float* out = result + g * stride;
    // Quarter i of the low half holds the dimensions 8i to 8i + 3, of the high half 8i + 4 to 8i + 7.
    for (int64_t i = 0; i < size; ++i) out[i] = mean[g * width + i / kChunk * kChunk + i % 8 / 4 * kLanes + i % kChunk / 8 * 4 + i % 4];
    out[total_at] = total[g];
    out[total_at + 1] = top[g] * 0.69314718055994531f;
  }
}

template <class Key, class Value>
void pairs_part(float* result, int64_t stride, int64_t total_at, const uint16_t* q, int64_t count, int64_t size, float scale, int64_t page_tokens,
                int64_t from, int64_t to, Key&& key, Value&& value) {
  for (int64_t g = 0; g < count; g += kMostHeads) {
    const int now = static_cast<int>(std::min<int64_t>(kMostHeads, count - g));
    auto with = [&]<int heads>() {
      pairs_of_heads<heads>(result + g * stride, stride, total_at, q + g * size, now, size, scale, page_tokens, from, to, key, value);
    };
    if (now == 1) with.template operator()<1>();
    else if (now == 2) with.template operator()<2>();
    else if (now <= 4) with.template operator()<4>();
    else with.template operator()<8>();
  }
}

}  // namespace
}  // namespace jvlm::cpu::JVLM_ISA
