#include "ops/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"
#if defined(__AVX512BF16__)
#include "ops/cpu/paged_pairs.h"
#endif
#if defined(JVLM_ISA_amx)
#include "ops/cpu/tile_attention.h"
#endif

// Many queries (a picture, a prompt): the keys and values of one head are packed once so that register tiles of kRows queries by
// kVectors * kLanes keys, and by as many dimensions of the values, read them in order. A batch of queries passes over the keys in stretches,
// which stay in the second cache meanwhile; where a later stretch holds a larger score, what was summed before is scaled down. With bf16 and
// AVX512-BF16 both products take pairs: of dimensions for the keys, of keys for the values.
//
// One query (decoding): nothing would be used twice, so the cache is streamed as it lies, once for all query heads that share it.
namespace jvlm::cpu::JVLM_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kRows = 6, kVectors = 4;
#else
constexpr int kRows = 4, kVectors = 2;
#endif
constexpr int64_t kBlock = kVectors * kLanes, kHalf = kBlock / 2;
constexpr int64_t kFewest = 256;          // keys that are worth a thread of their own
constexpr int64_t kRun = 64;              // keys that a decoding query scores at a time
constexpr int64_t kBatch = 96;            // queries that pass over the keys together: whole register tiles (4 or 6 rows), whole AMX tiles (32)
constexpr int64_t kStretchKeys = 512;     // measured on Zen 4: 256 and 1,024 are 2 to 3 % slower, 64 12 %

// What one thread packs and computes.
struct Bench {
  char* keys;         // (n by kBlock, size, kBlock) floats, or pairs of dimensions
  char* values;       // (n, d) floats, or (n by 2, d) pairs of keys
  char* query;        // (kBatch, size)
  float* score;       // (kRows, kStretchKeys), then weights
  uint16_t* weight;   // the same as bf16
  float* out;         // (kBatch, d), to be divided by total
  float* top;         // (kBatch) the largest score so far, as the exponent that it is in
  float* total;       // (kBatch) of the weights
};

int64_t take_bench(Bench& b, uintptr_t at, int64_t keys, int64_t size) {
  const int64_t n = up(keys, kBlock), d = up(size, kLanes);
  int64_t used = 0;
  auto take = [&](auto*& p, int64_t numbers) {
    p = reinterpret_cast<std::remove_reference_t<decltype(p)>>(at + static_cast<uintptr_t>(used));
    used += up(numbers * 4, 64);
  };
  take(b.keys, n * size);
  take(b.values, n * d);
  take(b.query, kBatch * size);
  take(b.score, kRows * kStretchKeys);
  take(b.weight, kRows * kStretchKeys / 2);
  take(b.out, kBatch * d);
  take(b.top, kBatch);
  take(b.total, kBatch);
  return used;
}

int64_t bench_bytes(int64_t keys, int64_t size) {
  Bench b;
  const int64_t bytes = take_bench(b, 0, keys, size);
#if defined(JVLM_ISA_amx)
  return std::max(bytes, tile_bench_bytes(keys, size));
#else
  return bytes;
#endif
}

Bench bench_of(void* scratch, int64_t keys, int64_t size) {
  Bench b;
  take_bench(b, reinterpret_cast<uintptr_t>(static_cast<char*>(scratch) + team_member() * bench_bytes(keys, size)), keys, size);
  return b;
}

// The dimensions in parts of up to kVectors vectors, as even as they can be: from(first dimension, number of vectors).
template <class Part>
void parts_of(int64_t d, Part&& part) {
  int64_t vectors = d / kLanes;
  for (int64_t parts = (vectors + kVectors - 1) / kVectors, i = 0; parts; --parts) {
    const int64_t count = (vectors + parts - 1) / parts;
    if (count == kVectors) part.template operator()<kVectors>(i);
    if constexpr (kVectors > 2) {
      if (count == 3) part.template operator()<3>(i);
      if (count == 2) part.template operator()<2>(i);
    }
    if (count == 1) part.template operator()<1>(i);
    i += count * kLanes, vectors -= count;
  }
}

// ---- arithmetic in float32 -----------------------------------------------------------------------------------------------------------

struct Floats {
  static constexpr float kExponent = 1;                   // power(x) is e^(x / kExponent)
  static Vec power(Vec x) { return exp_fast(x); }

  // Columns of the packed keys, rows of the packed values: `keys` of them, and zeros up to n.
  template <class Key, class Value>
  static void pack(const Bench& b, int64_t keys, int64_t n, int64_t d, int64_t size, Key&& key, Value&& value) {
    for (int64_t j = 0; j < n; ++j) {
      float *k = reinterpret_cast<float*>(b.keys) + j / kBlock * kBlock * size + j % kBlock, *v = reinterpret_cast<float*>(b.values) + j * d;
      for (int64_t i = 0; i < size; ++i) k[i * kBlock] = j < keys ? one(key(j)[i]) : 0;
      for (int64_t i = 0; i < d; ++i) v[i] = j < keys && i < size ? one(value(j)[i]) : 0;
    }
  }
  template <class T>
  static void query(const Bench& b, int64_t r, int64_t size, const T* q) {
    for (int64_t i = 0; i < size; ++i) reinterpret_cast<float*>(b.query)[r * size + i] = one(q[i]);
  }
  // Of kRows queries from `row` on with vectors * kLanes keys from j on, which is a multiple of kHalf.
  template <int vectors>
  static void scores(const Bench& b, int64_t row, int64_t j, float* to, int64_t size) {
    const float* k = reinterpret_cast<const float*>(b.keys) + j / kBlock * kBlock * size + j % kBlock;
    const float* q = reinterpret_cast<const float*>(b.query) + row * size;
    Vec acc[kRows][vectors] = {};
    for (int64_t i = 0; i < size; ++i)
      for (int v = 0; v < vectors; ++v) {
        const Vec key = load(k + i * kBlock + v * kLanes);
        for (int r = 0; r < kRows; ++r) acc[r][v] += q[r * size + i] * key;
      }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) store(to + r * kStretchKeys + v * kLanes, acc[r][v]);
  }
  // The weights of row r of a stretch in place of its scores; their sum.
  static float weigh(const Bench& b, int r, int64_t from, int64_t to, float scale, float top) {
    float* s = b.score + r * kStretchKeys;
    Vec total = splat(0);
    for (int64_t j = from; j < to; j += kLanes) {
      const Vec x = load(s + j), e = x == splat(-std::numeric_limits<float>::infinity()) ? splat(0) : power(x * scale - top);
      total += e;
      store(s + j, e);
    }
    return sum(total);
  }
  static void nothing(const Bench& b, int r, int64_t from, int64_t to) {
    std::fill(b.score + r * kStretchKeys + from, b.score + r * kStretchKeys + to, 0.f);
  }
  // out = out * shrink + weights times values of the stretch that begins with key `start`.
  template <int vectors>
  static void mean(const Bench& b, float* out, const float* shrink, int64_t start, int64_t from, int64_t to, int64_t d, int64_t i) {
    const float* values = reinterpret_cast<const float*>(b.values) + start * d + i;
    Vec acc[kRows][vectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) acc[r][v] = load(out + r * d + i + v * kLanes) * shrink[r];
    for (int64_t j = from; j < to; ++j)
      for (int v = 0; v < vectors; ++v) {
        const Vec value = load(values + j * d + v * kLanes);
        for (int r = 0; r < kRows; ++r) acc[r][v] += b.score[r * kStretchKeys + j] * value;
      }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) store(out + r * d + i + v * kLanes, acc[r][v]);
  }
};

// ---- pairs of bf16 ---------------------------------------------------------------------------------------------------------------------

#ifdef JVLM_DOT_BF16

struct PairsOfBf16 {
  static constexpr float kExponent = 1.44269504088896341f;
  static Vec power(Vec x) { return exp2_coarse(x); }

  template <class Key, class Value>
  static void pack(const Bench& b, int64_t keys, int64_t n, int64_t d, int64_t size, Key&& key, Value&& value) {
    auto* k = reinterpret_cast<uint16_t*>(b.keys);
    auto* v = reinterpret_cast<uint16_t*>(b.values);
    for (int64_t j = 0; j < n; j += 16)
      for (int64_t i = 0; i < size; i += 32) {
        __m512i row[16];
        for (int64_t r = 0; r < 16; ++r) row[r] = j + r < keys ? _mm512_maskz_loadu_epi16(first_numbers(size - i), key(j + r) + i) : _mm512_setzero_si512();
        transpose_pairs(k + j / kBlock * kBlock * size + (i / 2 * kBlock + j % kBlock) * 2, 2 * kBlock, (size - i) / 2, row);
      }
    for (int64_t j = 0; j < n; j += 2)
      for (int64_t i = 0; i < d; i += 16)
        _mm512_storeu_si512(v + j * d + 2 * i, interleaved(j < keys ? value(j) : nullptr, j + 1 < keys ? value(j + 1) : nullptr, i, size));
  }
  static void query(const Bench& b, int64_t r, int64_t size, const uint16_t* q) {
    std::memcpy(reinterpret_cast<uint16_t*>(b.query) + r * size, q, static_cast<size_t>(size) * 2);
  }
  template <int vectors>
  static void scores(const Bench& b, int64_t row, int64_t j, float* to, int64_t size) {
    const int64_t half = size / 2;
    const uint16_t* k = reinterpret_cast<const uint16_t*>(b.keys) + 2 * (j / kBlock * kBlock * half + j % kBlock);
    const uint32_t* q = reinterpret_cast<const uint32_t*>(b.query) + row * half;
    Vec acc[kRows][vectors] = {};
    for (int64_t i = 0; i < half; ++i) {
      Pairs key[vectors];
      for (int v = 0; v < vectors; ++v) key[v] = load_pairs(k + 2 * (i * kBlock + v * kLanes));
      for (int r = 0; r < kRows; ++r) {
        const Pairs pair = Pairs{} + q[r * half + i];
        for (int v = 0; v < vectors; ++v) acc[r][v] = dot_pairs(acc[r][v], key[v], pair);
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) store(to + r * kStretchKeys + v * kLanes, acc[r][v]);
  }
  static float weigh(const Bench& b, int r, int64_t from, int64_t to, float scale, float top) {
    const float* s = b.score + r * kStretchKeys;
    Vec total[2] = {};
    for (int64_t j = from; j < to; j += 2 * kLanes) {
      const Vec low = power(load(s + j) * scale - top), high = power(load(s + j + kLanes) * scale - top);
      total[0] += low, total[1] += high;
      const Pairs p = to_pairs(low, high);
      std::memcpy(b.weight + r * kStretchKeys + j, &p, sizeof p);
    }
    return sum(total[0] + total[1]);
  }
  static void nothing(const Bench& b, int r, int64_t from, int64_t to) {
    std::fill(b.weight + r * kStretchKeys + from, b.weight + r * kStretchKeys + to, uint16_t{0});
  }
  template <int vectors>
  static void mean(const Bench& b, float* out, const float* shrink, int64_t start, int64_t from, int64_t to, int64_t d, int64_t i) {
    const uint16_t* values = reinterpret_cast<const uint16_t*>(b.values) + start * d + 2 * i;
    const uint32_t* p = reinterpret_cast<const uint32_t*>(b.weight);
    Vec acc[kRows][vectors];
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) acc[r][v] = load(out + r * d + i + v * kLanes) * shrink[r];
    for (int64_t j = from / 2; j < to / 2; ++j) {
      Pairs value[vectors];
      for (int v = 0; v < vectors; ++v) value[v] = load_pairs(values + 2 * (j * d + v * kLanes));
      for (int r = 0; r < kRows; ++r) {
        const Pairs pair = Pairs{} + p[r * (kStretchKeys / 2) + j];
        for (int v = 0; v < vectors; ++v) acc[r][v] = dot_pairs(acc[r][v], value[v], pair);
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < vectors; ++v) store(out + r * d + i + v * kLanes, acc[r][v]);
  }
};

#endif

// body.operator()<T, A>(): the activations' type and the arithmetic, in pairs of bf16 where that is there and multiplies faster.
template <class F>
void with_arithmetic(const Tensor& x, Dtype product, F&& body) {
  if (x.dtype == Dtype::f32) return body.template operator()<float, Floats>();
#ifdef JVLM_DOT_BF16
  if (product == Dtype::bf16) return body.template operator()<uint16_t, PairsOfBf16>();
#endif
  static_cast<void>(product);
  body.template operator()<uint16_t, Floats>();
}

// Softmax of row r of a register tile over the keys first ... last-1 of a stretch; the others get weight 0 from `from` to `to`. Returns what
// the sums of earlier stretches are to be multiplied by.
template <class A>
float softmax(const Bench& b, int64_t row, int r, int64_t from, int64_t to, int64_t first, int64_t last, float scale) {
  if (first >= last) {
    A::nothing(b, r, from, to);
    return 1;
  }
  float* s = b.score + r * kStretchKeys;
  std::fill(s + from, s + first, -std::numeric_limits<float>::infinity());
  std::fill(s + last, s + to, -std::numeric_limits<float>::infinity());
  Vec most = splat(-std::numeric_limits<float>::infinity());
  for (int64_t j = from; j < to; j += kLanes) most = max(load(s + j), most);
  const float before = b.top[row + r], now = std::max(before, largest(most) * scale);
  const float shrink = now == before ? 1 : A::power(splat(before - now))[0];
  b.top[row + r] = now;
  b.total[row + r] = b.total[row + r] * shrink + A::weigh(b, r, from, to, scale, now);
  return shrink;
}

// kRows queries from `row` of the batch on over the keys of a stretch, start ... end-1. Row r sees the keys first[r] ... last[r]-1.
template <class A>
void rows_of(const Bench& b, int64_t row, int64_t start, int64_t end, int64_t d, int64_t size, float scale, const int64_t* first,
             const int64_t* last) {
  int64_t from = end, to = start;
  for (int r = 0; r < kRows; ++r) from = std::min(from, first[r]), to = std::max(to, std::min(last[r], end));
  from = (std::max(from, start) - start) / kBlock * kBlock, to = up(to - start, kHalf);
  if (from >= to) return;
  int64_t j = from;
  for (; j + kBlock <= to; j += kBlock) A::template scores<kVectors>(b, row, start + j, b.score + j, size);
  if (j < to) A::template scores<kVectors / 2>(b, row, start + j, b.score + j, size);
  float shrink[kRows];
  for (int r = 0; r < kRows; ++r)
    shrink[r] = softmax<A>(b, row, r, from, to, std::max(from, first[r] - start), std::min(last[r], end) - start, scale * A::kExponent);
  parts_of(d, [&]<int vectors>(int64_t i) { A::template mean<vectors>(b, b.out + row * d, shrink, start, from, to, d, i); });
}

// One query: where it lies, where its result goes, the keys first ... last-1 that it sees.
template <class T>
struct Query {
  const T* from;
  T* to;
  int64_t first, last;
};

#if defined(JVLM_ISA_amx)

template <class Key, class Value, class QueryAt>
void many_on_tiles(int64_t queries, int64_t keys, int64_t most, int64_t size, float scale, void* scratch, Key&& key, Value&& value, QueryAt&& query) {
  const TileBench b = tile_bench(scratch, bench_bytes(most, size), most, size);
  configure_tiles(kQueries);
  pack_tiles(b, keys, size, key, value);
  for (int64_t start = 0; start < queries; start += kQueries) {
    int64_t first[kQueries] = {}, last[kQueries] = {};
    uint16_t* to[kQueries] = {};
    for (int64_t r = 0; r < kQueries; ++r) {
      const bool there = start + r < queries;
      const Query<uint16_t> q = there ? query(start + r) : Query<uint16_t>{};
      first[r] = q.first, last[r] = q.last, to[r] = q.to;
      take_query(b, r, size, q.from);
    }
    tile_rows(b, keys, size, scale, first, last, to);
  }
  _tile_release();
}

#endif

// Queries over the keys of one head, which are packed first; key(j), value(j): where the numbers of key j lie; query(i): a Query. `most` keys lie
// in a thread's bench at most.
template <class T, class A, class Key, class Value, class QueryAt>
void many(int64_t queries, int64_t keys, int64_t most, int64_t size, float scale, void* scratch, Key&& key, Value&& value, QueryAt&& query) {
#if defined(JVLM_ISA_amx)
  if constexpr (std::is_same_v<A, PairsOfBf16>) return many_on_tiles(queries, keys, most, size, scale, scratch, key, value, query);
#endif
  const Bench b = bench_of(scratch, most, size);
  const int64_t n = up(keys, kHalf), d = up(size, kLanes);
  A::pack(b, keys, n, d, size, key, value);
  for (int64_t at = 0; at < queries; at += kBatch) {
    const int64_t count = std::min(kBatch, queries - at), rows = up(count, kRows);
    int64_t first[kBatch], last[kBatch], from = n, to = 0;
    T* out_row[kBatch];
    for (int64_t r = 0; r < rows; ++r) {
      const Query<T> q = query(std::min(at + r, queries - 1));                // rows that are not there repeat the last
      first[r] = q.first, last[r] = q.last, out_row[r] = q.to;
      from = std::min(from, q.first), to = std::max(to, q.last);
      A::query(b, r, size, q.from);
      b.top[r] = -std::numeric_limits<float>::infinity(), b.total[r] = 0;
    }
    std::fill(b.out, b.out + rows * d, 0.f);
    from = from / kBlock * kBlock;
    const int64_t stretches = (to - from + kStretchKeys - 1) / kStretchKeys, stretch = up((to - from + stretches - 1) / stretches, kBlock);
    for (int64_t start = from; start < to; start += stretch)
      for (int64_t r = 0; r < rows; r += kRows) rows_of<A>(b, r, start, std::min(start + stretch, to), d, size, scale, first + r, last + r);
    for (int64_t r = 0; r < count; ++r) {
      const float factor = 1 / b.total[r];
      for (int64_t i = 0; i < size; ++i) put(out_row[r] + i, b.out[r * d + i] * factor);
    }
  }
}

template <class T, class A>
void dense(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads, int32_t size,
           float scale, void* scratch) {
  const int64_t group = heads / kv_heads, units = static_cast<int64_t>(queries.count) * kv_heads;
  // Few heads on many threads: the queries of one are split, and each part packs the keys for itself.
  const int64_t splits = std::max<int64_t>(1, team_size() / units);
  parallel_each(units * splits, [&](int64_t work) {
    const int64_t picture = work / splits / kv_heads, head = work / splits % kv_heads, first_query = queries.start[picture], first_key = keys.start[picture];
    const int64_t count = keys.start[picture + 1] - first_key, rows = (queries.start[picture + 1] - first_query) * group;
    const int64_t each = up((rows + splits - 1) / splits, kBatch), from = std::min(rows, work % splits * each), to = std::min(rows, from + each);
    if (from == to) return;
    many<T, A>(
        to - from, count, keys.most, size, scale, scratch, [&](int64_t j) { return k.row<T>(first_key + j) + head * size; },
        [&](int64_t j) { return v.row<T>(first_key + j) + head * size; },
        [&](int64_t i) {
          const int64_t row = first_query + (from + i) / group, column = (head * group + (from + i) % group) * size;
          return Query<T>{q.row<T>(row) + column, out.row<T>(row) + column, 0, count};
        });
  });
}

void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads, int32_t size,
               float scale, Dtype product, void* scratch) {
  with_arithmetic(q, product, [&]<class T, class A>() { dense<T, A>(out, q, k, v, queries, keys, heads, kv_heads, size, scale, scratch); });
}

// ---- the paged cache -------------------------------------------------------------------------------------------------------------------

template <class T>
const T* slot(const void* cache, const KvCache& c, const Step& step, int32_t s, int64_t kv, int64_t position) {
  const int64_t page = step.page[step.page_start[s] + position / c.page_tokens];
  return static_cast<const T*>(cache) + ((page * c.kv_heads + kv) * c.page_tokens + position % c.page_tokens) * c.head_size;
}

// The new tokens of a sequence, all query heads of one key/value head.
template <class T, class A>
void prompt(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, int32_t s, int64_t kv,
            int64_t most, void* scratch) {
  const int64_t size = c.head_size, group = heads / c.kv_heads, fresh = step.seq_start[s + 1] - step.seq_start[s], past = step.past[s];
  // Keys before the first query's window are seen by none.
  const int64_t base = window > 0 ? std::max<int64_t>(0, past + 1 - window) : 0;
  many<T, A>(
      fresh * group, past + fresh - base, most, size, scale, scratch, [&](int64_t j) { return slot<T>(c.k, c, step, s, kv, base + j); },
      [&](int64_t j) { return slot<T>(c.v, c, step, s, kv, base + j); },
      [&](int64_t i) {
        const int64_t t = i / group, row = step.seq_start[s] + t, column = (kv * group + i % group) * size, last = past + t + 1 - base;
        return Query<T>{qkv.row<T>(row) + column, out.row<T>(row) + column, window > 0 ? std::max<int64_t>(0, last - window) : 0, last};
      });
}

// mean (vectors * kLanes) = mean * shrink + the sum of `count` values, each times its score. A sum for every vector at once: one after the
// other they would wait for their own additions.
template <int vectors, class T>
void add_values(float* mean, float shrink, const float* score, const T* values, int64_t size, int64_t count) {
  Vec acc[vectors];
  for (int v = 0; v < vectors; ++v) acc[v] = load(mean + v * kLanes) * shrink;
  for (int64_t j = 0; j < count; ++j)
    for (int v = 0; v < vectors; ++v) acc[v] += score[j] * load(values + j * size + v * kLanes);
  for (int v = 0; v < vectors; ++v) store(mean + v * kLanes, acc[v]);
}

// A part of the keys of one token, for the query heads of one key/value head: unnormalised means, their weights' sum and the largest score.
template <class T>
void part(float* result, const float* query, const KvCache& c, int64_t group, float scale, const Step& step, int32_t s, int64_t kv,
          int64_t from, int64_t to) {
  const int64_t size = c.head_size, d = up(size, kLanes), width = d + 2;
  for (int64_t g = 0; g < group; ++g) {
    std::fill(result + g * width, result + g * width + d + 1, 0.f);
    result[g * width + d + 1] = -std::numeric_limits<float>::infinity();
  }
  float score[kRun + kLanes], rest[kLanes];
  for (int64_t start = from, count; start < to; start += count) {
    // Keys of a page follow each other.
    count = std::min({kRun, to - start, c.page_tokens - start % c.page_tokens});
    const T* keys = slot<T>(c.k, c, step, s, kv, start);
    const T* values = slot<T>(c.v, c, step, s, kv, start);
    for (int64_t g = 0; g < group; ++g) {
      const float* q = query + g * d;
      float top = -std::numeric_limits<float>::infinity();
      for (int64_t j = 0; j < count; ++j) {
        const T* key = keys + j * size;
        Vec acc = splat(0);
        int64_t i = 0;
        for (; i + kLanes <= size; i += kLanes) acc += load(q + i) * load(key + i);
        float dot = sum(acc);
        for (; i < size; ++i) dot += q[i] * one(key[i]);
        score[j] = dot * scale;
        top = std::max(top, score[j]);
      }
      float* mean = result + g * width;
      const float before = mean[d + 1], now = std::max(before, top);
      const float shrink = before == now ? 1.f : std::exp(before - now);
      std::fill(score + count, score + up(count, kLanes), -std::numeric_limits<float>::infinity());
      Vec total = splat(0);
      for (int64_t j = 0; j < count; j += kLanes) {
        Vec e = exp_fast(load(score + j) - now);
        for (int64_t l = count - j; l < kLanes; ++l) e[l] = 0;
        total += e;
        store(score + j, e);
      }
      mean[d] = mean[d] * shrink + sum(total);
      mean[d + 1] = now;
      int64_t i = 0;
      for (; i + 4 * kLanes <= size; i += 4 * kLanes) add_values<4>(mean + i, shrink, score, values + i, size, count);
      for (; i + 2 * kLanes <= size; i += 2 * kLanes) add_values<2>(mean + i, shrink, score, values + i, size, count);
      for (; i + kLanes <= size; i += kLanes) add_values<1>(mean + i, shrink, score, values + i, size, count);
      if (i < size) {
        Vec acc = load(mean + i) * shrink;
        std::fill(rest, rest + kLanes, 0.f);
        for (int64_t j = 0; j < count; ++j) {
          for (int64_t l = 0; i + l < size; ++l) rest[l] = one(values[j * size + i + l]);
          acc += score[j] * load(rest);
        }
        store(mean + i, acc);
      }
    }
  }
}

// What a part of the keys takes: the widened queries, then the results.
int64_t part_floats(int64_t group, int64_t size) { return group * (2 * up(size, kLanes) + 2); }

// One split of the keys of a sequence's only new token.
template <class T>
void split_of(float* room, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, int32_t s, int64_t kv,
              int64_t split, int64_t splits) {
  const int64_t group = heads / c.kv_heads, size = c.head_size, d = up(size, kLanes);
  const T* row = qkv.row<T>(step.seq_start[s]) + kv * group * size;
  for (int64_t g = 0; g < group; ++g)
    for (int64_t i = 0; i < d; ++i) room[g * d + i] = i < size ? one(row[g * size + i]) : 0.f;
  const int64_t length = step.past[s] + 1, begin = window > 0 ? std::max<int64_t>(0, length - window) : 0;
  const int64_t each = (length - begin + splits - 1) / splits;
  const int64_t from = std::min(length, begin + split * each), to = std::min(length, from + each);
#ifdef JVLM_DOT_BF16
  if constexpr (sizeof(T) == 2)
    pairs_part(room + group * d, d + 2, d, row, group, size, scale, c.page_tokens, from, to,
               [&](int64_t j) { return slot<T>(c.k, c, step, s, kv, j); }, [&](int64_t j) { return slot<T>(c.v, c, step, s, kv, j); });
  else
#endif
    part<T>(room + group * d, room, c, group, scale, step, s, kv, from, to);
}

template <class T>
void join(Tensor out, const float* rooms, const KvCache& c, int32_t heads, const Step& step, int32_t s, int64_t kv, int64_t splits) {
  const int64_t group = heads / c.kv_heads, size = c.head_size, d = up(size, kLanes);
  for (int64_t g = 0; g < group; ++g) {
    auto mean = [&](int64_t split) { return rooms + split * part_floats(group, size) + group * d + g * (d + 2); };
    float top = -std::numeric_limits<float>::infinity(), total = 0;
    for (int64_t p = 0; p < splits; ++p) top = std::max(top, mean(p)[d + 1]);
    T* to = out.row<T>(step.seq_start[s]) + (kv * group + g) * size;
    float sums[kMostSize] = {};
    for (int64_t p = 0; p < splits; ++p) {
      const float* part = mean(p);
      const float factor = std::exp(part[d + 1] - top);
      total += part[d] * factor;
      for (int64_t i = 0; i < size; ++i) sums[i] += part[i] * factor;
    }
    for (int64_t i = 0; i < size; ++i) put(to + i, sums[i] / total);
  }
}

template <class T, class A>
void paged(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, void* scratch) {
  const int64_t kv_heads = c.kv_heads, group = heads / kv_heads, units = step.sequences * kv_heads, threads = team_size();
  float* rooms = static_cast<float*>(scratch);
  if (step.max_new > 1) {
    // A running answer may share the step with prompts; its part follows the threads' benches.
    rooms = reinterpret_cast<float*>(static_cast<char*>(scratch) + threads * bench_bytes(step.max_length, c.head_size));
    parallel_each(units, [&](int64_t unit) {
      const auto s = static_cast<int32_t>(unit / kv_heads);
      if (step.seq_start[s + 1] - step.seq_start[s] > 1) {
        prompt<T, A>(out, qkv, c, heads, scale, window, step, s, unit % kv_heads, step.max_length, scratch);
      } else {
        float* room = rooms + unit * part_floats(group, c.head_size);
        split_of<T>(room, qkv, c, heads, scale, window, step, s, unit % kv_heads, 0, 1);
        join<T>(out, room, c, heads, step, s, unit % kv_heads, 1);
      }
    });
    return;
  }
  // Few sequences on many threads: the keys of one are split.
  const int64_t splits = std::max<int64_t>(1, std::min((threads + units - 1) / units, step.max_length / kFewest));
  parallel_each(units * splits, [&](int64_t work) {
    split_of<T>(rooms + work * part_floats(group, c.head_size), qkv, c, heads, scale, window, step,
                static_cast<int32_t>(work / splits / kv_heads), work / splits % kv_heads, work % splits, splits);
  });
  for (int64_t unit = 0; unit < units; ++unit)
    join<T>(out, rooms + unit * splits * part_floats(group, c.head_size), c, heads, step, static_cast<int32_t>(unit / kv_heads),
            unit % kv_heads, splits);
}

void attend(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, Dtype product, void* scratch) {
  with_arithmetic(qkv, product, [&]<class T, class A>() { paged<T, A>(out, qkv, c, heads, scale, window, step, scratch); });
}

int64_t scratch_bytes(const Scratch& s, int threads) {
  const int64_t benches = threads * bench_bytes(std::max(s.max_tile_tokens, s.max_context), s.max_head_size);
  // units * splits <= units + threads, and a unit has at most all heads' floats divided by the key/value heads.
  const int64_t rooms = (s.max_sequences + threads) * s.max_heads * (2 * up(s.max_head_size, kLanes) + 2) * 4;
  return benches + rooms;
}

}  // namespace

extern const AttentionKernels attention_table = {scratch_bytes, attention, attend};

}  // namespace jvlm::cpu::JVLM_ISA
