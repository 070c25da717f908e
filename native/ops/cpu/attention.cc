#include "ops/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"
#if defined(__AVX512BF16__)
#include "ops/cpu/paged_pairs.h"
#endif
#if defined(JVLM_ISA_amx)
#include "ops/cpu/tile_attention.h"
#endif

// Many queries (a picture, a prompt): the keys and values of one head are packed once so that register tiles of kRows queries by
// kVectors * kLanes keys, and by as many dimensions for the values, read them in order. With bf16 and AVX512-BF16 both products take pairs:
// of dimensions for the keys, of keys for the values. A row of scores is kept whole: at the lengths of these models it fits the caches.
//
// One query (decoding): nothing would be used twice, so the cache is streamed as it lies, once for all query heads that share it.
namespace jvlm::cpu::JVLM_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kRows = 6, kVectors = 4;
#else
constexpr int kRows = 4, kVectors = 2;
#endif
constexpr int64_t kBlock = kVectors * kLanes;
constexpr int64_t kFewest = 256;          // keys that are worth a thread of their own
constexpr int64_t kRun = 64;              // keys that a decoding query scores at a time
constexpr int64_t kSplit = 96;            // queries of a part are a multiple of it: whole register tiles (4 or 6), whole AMX tiles (32)

// What one thread packs and computes.
struct Bench {
  char* keys;
  char* values;
  float* score;       // (kRows, padded keys)
  uint16_t* weight;   // the same as bf16
  float* query;       // (kRows, D)
  float* out;         // (kRows, padded D)
};

int64_t bench_bytes(int64_t keys, int64_t size) {
  const int64_t n = up(keys, kBlock) + kBlock, d = up(size, kBlock);
  const int64_t bytes = up(n * d * 4, 64) * 2 + up(kRows * n * 4, 64) + up(kRows * n * 2, 64) + up(kRows * d * 4, 64) * 2;
#if defined(JVLM_ISA_amx)
  return std::max(bytes, tile_bench_bytes(keys, size));
#else
  return bytes;
#endif
}

Bench bench_of(void* scratch, int64_t keys, int64_t size) {
  const int64_t n = up(keys, kBlock) + kBlock, d = up(size, kBlock);
  char* at = static_cast<char*>(scratch) + team_member() * bench_bytes(keys, size);
  auto take = [&](int64_t bytes) {
    char* p = at;
    at += up(bytes, 64);
    return p;
  };
  Bench b;
  b.keys = take(n * d * 4);
  b.values = take(n * d * 4);
  b.score = reinterpret_cast<float*>(take(kRows * n * 4));
  b.weight = reinterpret_cast<uint16_t*>(take(kRows * n * 2));
  b.query = reinterpret_cast<float*>(take(kRows * d * 4));
  b.out = reinterpret_cast<float*>(take(kRows * d * 4));
  return b;
}

// ---- arithmetic in float32 -----------------------------------------------------------------------------------------------------------

struct Floats {
  // Column j of the packed keys, row j of the packed values; `n` padded keys, d padded dimensions.
  template <class T>
  static void pack(const Bench& b, int64_t j, int64_t n, int64_t d, int64_t size, const T* key, const T* value) {
    float *k = reinterpret_cast<float*>(b.keys), *v = reinterpret_cast<float*>(b.values) + j * d;
    for (int64_t i = 0; i < size; ++i) k[i * n + j] = one(key[i]);
    for (int64_t i = 0; i < size; ++i) v[i] = one(value[i]);
    for (int64_t i = size; i < d; ++i) v[i] = 0;
  }
  static void pad(const Bench& b, int64_t from, int64_t n, int64_t d, int64_t size) {
    float *k = reinterpret_cast<float*>(b.keys), *v = reinterpret_cast<float*>(b.values);
    for (int64_t i = 0; i < size; ++i) std::fill(k + i * n + from, k + i * n + n, 0.f);
    std::fill(v + from * d, v + n * d, 0.f);
  }
  template <class T>
  static void query(const Bench& b, int r, int64_t size, const T* q) {
    for (int64_t i = 0; i < size; ++i) b.query[r * size + i] = one(q[i]);
  }
  static void scores(const Bench& b, int64_t n, int64_t keys, int64_t size) {
    const float* k = reinterpret_cast<const float*>(b.keys);
    for (int64_t j = 0; j < keys; j += kBlock) {
      Vec acc[kRows][kVectors] = {};
      for (int64_t i = 0; i < size; ++i)
        for (int v = 0; v < kVectors; ++v) {
          const Vec key = load(k + i * n + j + v * kLanes);
          for (int r = 0; r < kRows; ++r) acc[r][v] += b.query[r * size + i] * key;
        }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(b.score + r * n + j + v * kLanes, acc[r][v]);
    }
  }
  static void weights(const Bench&, int, int64_t, int64_t, int64_t) {}
  static void mean(const Bench& b, int64_t n, int64_t from, int64_t keys, int64_t d) {
    const float* values = reinterpret_cast<const float*>(b.values);
    for (int64_t i = 0; i < d; i += kBlock) {
      Vec acc[kRows][kVectors] = {};
      for (int64_t j = from; j < keys; ++j)
        for (int v = 0; v < kVectors; ++v) {
          const Vec value = load(values + j * d + i + v * kLanes);
          for (int r = 0; r < kRows; ++r) acc[r][v] += b.score[r * n + j] * value;
        }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(b.out + r * d + i + v * kLanes, acc[r][v]);
    }
  }
};

// ---- pairs of bf16 ---------------------------------------------------------------------------------------------------------------------

#ifdef JVLM_DOT_BF16

struct PairsOfBf16 {
  static void pack(const Bench& b, int64_t j, int64_t n, int64_t d, int64_t size, const uint16_t* key, const uint16_t* value) {
    uint32_t* k = reinterpret_cast<uint32_t*>(b.keys);
    uint16_t* v = reinterpret_cast<uint16_t*>(b.values) + (j / 2) * 2 * d + j % 2;
    for (int64_t i = 0; i < size / 2; ++i) std::memcpy(k + i * n + j, key + 2 * i, 4);
    for (int64_t i = 0; i < size; ++i) v[2 * i] = value[i];
    for (int64_t i = size; i < d; ++i) v[2 * i] = 0;
  }
  static void pad(const Bench& b, int64_t from, int64_t n, int64_t d, int64_t size) {
    uint32_t* k = reinterpret_cast<uint32_t*>(b.keys);
    for (int64_t i = 0; i < size / 2; ++i) std::fill(k + i * n + from, k + i * n + n, 0u);
    uint16_t* v = reinterpret_cast<uint16_t*>(b.values);
    for (int64_t j = from; j < n; ++j)
      for (int64_t i = 0; i < d; ++i) v[(j / 2) * 2 * d + j % 2 + 2 * i] = 0;
  }
  static void query(const Bench& b, int r, int64_t size, const uint16_t* q) {
    std::memcpy(reinterpret_cast<uint16_t*>(b.query) + r * size, q, static_cast<size_t>(size) * 2);
  }
  static void scores(const Bench& b, int64_t n, int64_t keys, int64_t size) {
    const uint16_t* k = reinterpret_cast<const uint16_t*>(b.keys);
    const uint32_t* q = reinterpret_cast<const uint32_t*>(b.query);
    const int64_t half = size / 2;
    for (int64_t j = 0; j < keys; j += kBlock) {
      Vec acc[kRows][kVectors] = {};
      for (int64_t i = 0; i < half; ++i) {
        Pairs key[kVectors];
        for (int v = 0; v < kVectors; ++v) key[v] = load_pairs(k + 2 * (i * n + j + v * kLanes));
        for (int r = 0; r < kRows; ++r) {
          const Pairs pair = Pairs{} + q[r * half + i];
          for (int v = 0; v < kVectors; ++v) acc[r][v] = dot_pairs(acc[r][v], key[v], pair);
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(b.score + r * n + j + v * kLanes, acc[r][v]);
    }
  }
  static void weights(const Bench& b, int r, int64_t n, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j += 2 * kLanes) {
      const Pairs p = to_pairs(load(b.score + r * n + j), load(b.score + r * n + j + kLanes));
      std::memcpy(b.weight + r * n + j, &p, sizeof p);
    }
  }
  static void mean(const Bench& b, int64_t n, int64_t from, int64_t keys, int64_t d) {
    const uint16_t* values = reinterpret_cast<const uint16_t*>(b.values);
    const uint32_t* p = reinterpret_cast<const uint32_t*>(b.weight);
    const int64_t half = n / 2;
    for (int64_t i = 0; i < d; i += kBlock) {
      Vec acc[kRows][kVectors] = {};
      for (int64_t j = from / 2; j < (keys + 1) / 2; ++j) {
        Pairs value[kVectors];
        for (int v = 0; v < kVectors; ++v) value[v] = load_pairs(values + 2 * (j * d + i + v * kLanes));
        for (int r = 0; r < kRows; ++r) {
          const Pairs pair = Pairs{} + p[r * half + j];
          for (int v = 0; v < kVectors; ++v) acc[r][v] = dot_pairs(acc[r][v], value[v], pair);
        }
      }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) store(b.out + r * d + i + v * kLanes, acc[r][v]);
    }
  }
};

#endif

template <class T>
struct ArithmeticOf {
  using Type = Floats;
};
#ifdef JVLM_DOT_BF16
template <>
struct ArithmeticOf<uint16_t> {
  using Type = PairsOfBf16;
};
#endif

// Softmax of row r over the keys first ... last-1; the others get weight 0 from `from` to `to`. Returns 1 / sum.
float softmax(const Bench& b, int r, int64_t n, int64_t from, int64_t to, int64_t first, int64_t last, float scale) {
  float* s = b.score + r * n;
  std::fill(s + from, s + first, -std::numeric_limits<float>::infinity());
  std::fill(s + last, s + to, -std::numeric_limits<float>::infinity());
  Vec most = splat(-std::numeric_limits<float>::infinity());
  for (int64_t j = from; j < to; j += kLanes) most = max(most, load(s + j));
  float top = most[0];
  for (int i = 1; i < kLanes; ++i) top = std::max(top, most[i]);
  Vec total = splat(0);
  const Vec shift = splat(top * scale), least = splat(-std::numeric_limits<float>::infinity());
  for (int64_t j = from; j < to; j += kLanes) {
    const Vec x = load(s + j);
    const Vec e = exp_fast(x * scale - shift);
    const Vec kept = x == least ? splat(0) : e;
    total += kept;
    store(s + j, kept);
  }
  return 1.f / sum(total);
}

// kRows queries over packed keys. Row r sees the keys first[r] ... last[r]-1; out_row[r] null: no such row.
template <class A, class T>
void rows_of(const Bench& b, int64_t n, int64_t d, int64_t size, float scale, const int64_t* first, const int64_t* last, T* const* out_row) {
  int64_t from = n, to = 0;
  for (int r = 0; r < kRows; ++r)
    if (out_row[r]) from = std::min(from, first[r]), to = std::max(to, last[r]);
  from = from / kBlock * kBlock;
  to = up(to, kBlock);
  A::scores(b, n, to, size);
  float factor[kRows];
  for (int r = 0; r < kRows; ++r) {
    factor[r] = out_row[r] ? softmax(b, r, n, from, to, first[r], last[r], scale) : 0.f;
    if (!out_row[r]) std::fill(b.score + r * n + from, b.score + r * n + to, 0.f);
    A::weights(b, r, n, from, to);
  }
  A::mean(b, n, from, to, d);
  for (int r = 0; r < kRows; ++r)
    if (out_row[r])
      for (int64_t i = 0; i < size; ++i) put(out_row[r] + i, b.out[r * d + i] * factor[r]);
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
template <class T, class Key, class Value, class QueryAt>
void many(int64_t queries, int64_t keys, int64_t most, int64_t size, float scale, void* scratch, Key&& key, Value&& value, QueryAt&& query) {
#if defined(JVLM_ISA_amx)
  if constexpr (sizeof(T) == 2) return many_on_tiles(queries, keys, most, size, scale, scratch, key, value, query);
#endif
  using A = typename ArithmeticOf<T>::Type;
  const Bench b = bench_of(scratch, most, size);
  const int64_t n = up(keys, kBlock), d = up(size, kBlock);
  for (int64_t j = 0; j < keys; ++j) A::pack(b, j, n, d, size, key(j), value(j));
  A::pad(b, keys, n, d, size);
  for (int64_t start = 0; start < queries; start += kRows) {
    int64_t first[kRows], last[kRows];
    T* to[kRows];
    for (int r = 0; r < kRows; ++r) {
      const Query<T> q = query(std::min(start + r, queries - 1));
      first[r] = q.first, last[r] = q.last, to[r] = start + r < queries ? q.to : nullptr;
      A::query(b, r, size, q.from);
    }
    rows_of<A, T>(b, n, d, size, scale, first, last, to);
  }
}

template <class T>
void dense(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads, int32_t size,
           float scale, void* scratch) {
  const int64_t group = heads / kv_heads, units = static_cast<int64_t>(queries.count) * kv_heads;
  // Few heads on many threads: the queries of one are split, and each part packs the keys for itself.
  const int64_t splits = std::max<int64_t>(1, team_size() / units);
  parallel_each(units * splits, [&](int64_t work) {
    const int64_t picture = work / splits / kv_heads, head = work / splits % kv_heads, first_query = queries.start[picture], first_key = keys.start[picture];
    const int64_t count = keys.start[picture + 1] - first_key, rows = (queries.start[picture + 1] - first_query) * group;
    const int64_t each = up((rows + splits - 1) / splits, kSplit), from = std::min(rows, work % splits * each), to = std::min(rows, from + each);
    if (from == to) return;
    many<T>(
        to - from, count, keys.most, size, scale, scratch, [&](int64_t j) { return k.row<T>(first_key + j) + head * size; },
        [&](int64_t j) { return v.row<T>(first_key + j) + head * size; },
        [&](int64_t i) {
          const int64_t row = first_query + (from + i) / group, column = (head * group + (from + i) % group) * size;
          return Query<T>{q.row<T>(row) + column, out.row<T>(row) + column, 0, count};
        });
  });
}

void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads, int32_t size,
               float scale, void* scratch) {
  if (q.dtype == Dtype::f32)
    dense<float>(out, q, k, v, queries, keys, heads, kv_heads, size, scale, scratch);
  else
    dense<uint16_t>(out, q, k, v, queries, keys, heads, kv_heads, size, scale, scratch);
}

// ---- the paged cache -------------------------------------------------------------------------------------------------------------------

template <class T>
const T* slot(const void* cache, const KvCache& c, const Step& step, int32_t s, int64_t kv, int64_t position) {
  const int64_t page = step.page[step.page_start[s] + position / c.page_tokens];
  return static_cast<const T*>(cache) + ((page * c.kv_heads + kv) * c.page_tokens + position % c.page_tokens) * c.head_size;
}

// The new tokens of a sequence, all query heads of one key/value head.
template <class T>
void prompt(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, int32_t s, int64_t kv,
            int64_t most, void* scratch) {
  const int64_t size = c.head_size, group = heads / c.kv_heads, fresh = step.seq_start[s + 1] - step.seq_start[s], past = step.past[s];
  // Keys before the first query's window are seen by none.
  const int64_t base = window > 0 ? std::max<int64_t>(0, past + 1 - window) : 0;
  many<T>(
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

template <class T>
void paged(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, void* scratch) {
  const int64_t kv_heads = c.kv_heads, group = heads / kv_heads, units = step.sequences * kv_heads, threads = team_size();
  float* rooms = static_cast<float*>(scratch);
  if (step.max_new > 1) {
    // A running answer may share the step with prompts; its part follows the threads' benches.
    rooms = reinterpret_cast<float*>(static_cast<char*>(scratch) + threads * bench_bytes(step.max_length, c.head_size));
    parallel_each(units, [&](int64_t unit) {
      const auto s = static_cast<int32_t>(unit / kv_heads);
      if (step.seq_start[s + 1] - step.seq_start[s] > 1) {
        prompt<T>(out, qkv, c, heads, scale, window, step, s, unit % kv_heads, step.max_length, scratch);
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

void attend(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step, void* scratch) {
  if (qkv.dtype == Dtype::f32)
    paged<float>(out, qkv, c, heads, scale, window, step, scratch);
  else
    paged<uint16_t>(out, qkv, c, heads, scale, window, step, scratch);
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
