// The next token of every row of logits, chosen as dev.jvlm.sampling.Sampler chooses it, so that the id can feed the next step without leaving
// the card. Bias and bans, penalties, temperature, top-k, top-p, min-p, then the draw; n-gram bans, typical-p and H2OVL's rule stay in Java.
//
// Equal to Java: scores are float32 operations of IEEE, the same ones in the same order (products go through double, where they are exact, so
// that no compiler makes a product and a sum one operation); the order of survivors is that of integers; random numbers are Philox's. Not equal
// by construction: exp in double, which neither Java nor CUDA rounds correctly, and sums, which Java takes one by one. Weights are integers here,
// exp * 2^62, and sums are 128 bits wide: exact, whatever their order. So a choice differs from Java's only where u * sum lies within the error of
// Java's sums, some 2^-45 of the whole, of a border between two tokens: with 32,000 survivors about once in 10^9 draws by this estimate, with few
// survivors much less often.
//
// There is no sort. A border (the k-th score, the end of top-p, the token drawn) is the first key, descending score as an integer, at which what
// lies up to it satisfies a monotone condition: three pivots a pass quarter the interval. Passes read keys from the second cache until no more than
// kPool of them are left, which then come to shared memory. Equal scores stay together: how many of them are in is arithmetic, and only the
// drawn one is looked for by id.
//
// Bytes: 12 V of scratch written, 4 V read a pass: 0.5 MB for V = 32,010, a few passes a border. Made for latency: one block a row, except
// for exp in double, which cards with few double units want spread over all of them.
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::cuda {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr int kPrepareThreads = 1024, kWeighThreads = 256, kChooseThreads = 512, kChooseWarps = kChooseThreads / 32, kPool = 4096, kPivots = 3;
constexpr double kOne = 0x1p62;                            // the weight of the likeliest token
constexpr uint32_t kBanned = 0xff800000u;                  // the key of -infinity; all others are below

// The likeliest token before temperature; -1 where a logit is no finite number, -2 where nothing may be chosen.
struct Likeliest {
  float score;
  int32_t id;
};

struct Rows {
  const float* logits;
  const SampleRow* row;
  const float* bias;
  int32_t *counts, *ids;
  Likeliest* likeliest;
  uint32_t* keys;                                          // (rows, vocabulary): first the bits of scores, then keys
  uint64_t* weights;                                       // (rows, vocabulary)
  int64_t stride;
  int32_t vocabulary;
};

JVLM_DEVICE float infinity() { return ptx::bits_float(0x7f800000u); }
JVLM_DEVICE bool finite(float x) { return (ptx::float_bits(x) & 0x7f800000u) != 0x7f800000u; }

// Whether the likeliest token is the choice whatever is drawn: greedy, or so cold that quotients leave the range of floats.
JVLM_DEVICE bool decided(const SampleRow& row, const Likeliest& best) {
  return best.id < 0 || row.temperature == 0 || !finite(best.score / row.temperature);
}

// Where the answer's tokens are counted; null where no penalty looks at them.
JVLM_DEVICE int32_t* counts_of(const Rows& p, const SampleRow& row) {
  const bool penalties = row.repetition != 1 || row.presence != 0 || row.frequency != 0;
  return penalties ? p.counts + static_cast<int64_t>(row.slot) * p.vocabulary : nullptr;
}

// ---- scores -------------------------------------------------------------------------------------------------------------------------------
JVLM_DEVICE float penalised(float score, int32_t times, const SampleRow& row) {
  if (row.repetition != 1)
    score = score < 0 ? static_cast<float>(static_cast<double>(score) * static_cast<double>(row.repetition)) : score / row.repetition;
  return score - (row.presence + static_cast<float>(static_cast<double>(row.frequency) * static_cast<double>(static_cast<float>(times))));
}

JVLM_DEVICE void take(Likeliest& best, Likeliest other) {
  if (other.score > best.score || (other.score == best.score && other.id < best.id)) best = other;
}
JVLM_DEVICE Likeliest likeliest_of_warp(Likeliest best) {
  for (int bits = 16; bits; bits /= 2) {
    const float score = ptx::shuffle_xor(best.score, bits);
    const int32_t id = ptx::shuffle_xor(best.id, bits);
    take(best, {score, id});
  }
  return best;
}

// One row a block: scores and the largest of them.
__global__ void __launch_bounds__(kPrepareThreads) prepare_kernel(const Rows p) {
  JVLM_SHARED(shared);
  auto* warps = reinterpret_cast<Likeliest*>(shared);
  const SampleRow row = p.row[blockIdx.x];
  const float* logits = p.logits + blockIdx.x * p.stride;
  const float* bias = row.bias < 0 ? nullptr : p.bias + static_cast<int64_t>(row.bias) * p.vocabulary;
  int32_t* counts = counts_of(p, row);
  uint32_t* scores = p.keys + static_cast<int64_t>(blockIdx.x) * p.vocabulary;
  Likeliest best{-infinity(), INT32_MAX};
  for (int id = static_cast<int>(threadIdx.x); id < p.vocabulary; id += kPrepareThreads) {
    float score = logits[id];
    const bool good = finite(score);
    if (counts && row.index == 0) counts[id] = 0;          // the slot may have been another answer's
    if (counts && counts[id] > 0) score = penalised(score, counts[id], row);
    if (bias) score = bias[id] == -infinity() ? bias[id] : score + bias[id];
    scores[id] = ptx::float_bits(score);
    take(best, good ? Likeliest{score, id} : Likeliest{infinity(), -1});
  }
  best = likeliest_of_warp(best);
  if (ptx::lane() == 0) warps[threadIdx.x / 32] = best;
  ptx::barrier();
  if (threadIdx.x >= 32) return;
  best = likeliest_of_warp(warps[threadIdx.x]);
  if (best.score == -infinity()) best.id = -2;
  if (threadIdx.x == 0) p.likeliest[blockIdx.x] = best;
}

// ---- keys and weights -----------------------------------------------------------------------------------------------------------------------
// Larger scores have smaller keys; -0 and 0 have one.
JVLM_DEVICE uint32_t key_of(float score) {
  const uint32_t bits = ptx::float_bits(score + 0.f);
  return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}
JVLM_DEVICE float score_of(uint32_t key) { return ptx::bits_float(key & 0x80000000u ? key : ~key & 0x7fffffffu); }

JVLM_DEVICE uint64_t weight_of(float score, float largest) {
  return static_cast<uint64_t>(exp(static_cast<double>(score) - static_cast<double>(largest)) * kOne);
}

__global__ void __launch_bounds__(kWeighThreads) weigh_kernel(const Rows p) {
  const int id = static_cast<int>(blockIdx.x) * kWeighThreads + static_cast<int>(threadIdx.x);
  const Likeliest best = p.likeliest[blockIdx.y];
  const SampleRow& row = p.row[blockIdx.y];
  if (id >= p.vocabulary || decided(row, best)) return;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * p.vocabulary + id;
  const float score = ptx::bits_float(p.keys[at]) / row.temperature;
  p.keys[at] = key_of(score);
  p.weights[at] = weight_of(score, best.score / row.temperature);
}

// ---- sums -----------------------------------------------------------------------------------------------------------------------------------
struct Mass {
  uint32_t count = 0;
  Wide weight = 0;
  JVLM_DEVICE void add(uint64_t w) { ++count, weight += w; }
};
JVLM_DEVICE Mass operator+(const Mass& a, const Mass& b) { return {a.count + b.count, a.weight + b.weight}; }
JVLM_DEVICE double number(Wide w) { return static_cast<double>(static_cast<uint64_t>(w >> 64)) * 0x1p64 + static_cast<double>(static_cast<uint64_t>(w)); }

struct ChooseShared {
  uint64_t weight[kPool];
  uint32_t key[kPool];
  Mass warp[kChooseWarps][kPivots];
  uint32_t used;                                           // of the pool
};

JVLM_DEVICE Mass mass_of_warp(Mass m) {
  for (int bits = 16; bits; bits /= 2) {
    Mass other;
    other.count = ptx::shuffle_xor(m.count, bits);
    for (int word = 0; word < 128; word += 32) other.weight |= static_cast<Wide>(ptx::shuffle_xor(static_cast<uint32_t>(m.weight >> word), bits)) << word;
    m = m + other;
  }
  return m;
}

// The sums over the block, for every thread.
template <int Count>
JVLM_DEVICE void mass_of_block(Mass (&m)[Count], ChooseShared& shared) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    m[i] = mass_of_warp(m[i]);
    if (ptx::lane() == 0) shared.warp[threadIdx.x / 32][i] = m[i];
  }
  ptx::barrier();
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    m[i] = Mass();
    for (int w = 0; w < kChooseWarps; ++w) m[i] = m[i] + shared.warp[w][i];
  }
  ptx::barrier();                                          // before the next sums are written
}

// ---- borders --------------------------------------------------------------------------------------------------------------------------------
struct Entries {
  const uint32_t* key;
  const uint64_t* weight;
  int32_t count;
};

// A border: the first key at which a condition holds, and what lies before it.
struct Border {
  uint32_t key;
  Mass before;
};

// The first key of low ... high (both taken by an entry or a bound) at which reached(what lies up to the key) holds; it holds at high.
// inside: how many entries lie between. The whole block comes here, with the same arguments.
template <class Reached>
JVLM_DEVICE Border border(Entries all, uint32_t low, uint32_t high, uint32_t inside, ChooseShared& shared, Reached reached) {
  Mass before;
  bool pooled = false;
  while (low < high) {
    if (!pooled && inside <= kPool) {
      if (threadIdx.x == 0) shared.used = 0;
      ptx::barrier();
      for (int i = static_cast<int>(threadIdx.x); i < all.count; i += kChooseThreads) {
        const uint32_t key = all.key[i];
        if (key < low || key > high) continue;
        const uint32_t at = ptx::atomic_add(&shared.used, 1u);
        shared.key[at] = key, shared.weight[at] = all.weight[i];
      }
      ptx::barrier();
      all = {shared.key, shared.weight, static_cast<int32_t>(inside)};
      pooled = true;
    }
    uint32_t pivot[kPivots];
    Mass upto[kPivots];
#pragma unroll
    for (int i = 0; i < kPivots; ++i) pivot[i] = low + static_cast<uint32_t>(static_cast<uint64_t>(high - low) * static_cast<uint64_t>(i + 1) / (kPivots + 1));
    for (int i = static_cast<int>(threadIdx.x); i < all.count; i += kChooseThreads) {
      const uint32_t key = all.key[i];
      if (key < low || key > pivot[kPivots - 1]) continue;
      const uint64_t weight = all.weight[i];
#pragma unroll
      for (int j = 0; j < kPivots; ++j)
        if (key <= pivot[j]) upto[j].add(weight);
    }
    mass_of_block(upto, shared);
    const Mass start = before;
    uint32_t end = inside;                                 // entries up to the new high, of those between
    bool found = false;
#pragma unroll
    for (int j = 0; j < kPivots; ++j) {
      if (found) continue;
      found = reached(start + upto[j]);
      if (found)
        high = pivot[j], end = upto[j].count;
      else
        low = pivot[j] + 1, before = start + upto[j];
    }
    inside = end - (before.count - start.count);
  }
  return {low, before};
}

// How many entries have this key.
JVLM_DEVICE uint32_t equal_to(const Entries& all, uint32_t key, ChooseShared& shared) {
  Mass m[1];
  for (int i = static_cast<int>(threadIdx.x); i < all.count; i += kChooseThreads)
    if (all.key[i] == key) m[0].add(0);
  mass_of_block(m, shared);
  return m[0].count;
}

// The first of low ... high - 1 for which a monotone condition holds, else high.
template <class T, class Holds>
JVLM_DEVICE T first_of(T low, T high, Holds holds) {
  while (low < high) {
    const T middle = low + (high - low) / 2;
    if (holds(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

// The id of entry number `rank` with this key, by one thread; -1 in the others. A warp has a range of ids, and reads it twice.
JVLM_DEVICE int32_t id_of(const Entries& all, uint32_t key, uint32_t rank, ChooseShared& shared) {
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x) / 32;
  const int range = (all.count + kChooseThreads - 1) / kChooseThreads * 32, first = warp * range, last = min(first + range, all.count);
  auto lanes_at = [&](int from) { return ptx::ballot(from + lane < last && all.key[from + lane] == key); };
  auto bits_of = [](uint32_t bits) {
    uint32_t count = 0;
    for (; bits; bits &= bits - 1) ++count;
    return count;
  };
  uint32_t own = 0;
  for (int from = first; from < last; from += 32) own += bits_of(lanes_at(from));
  if (lane == 0) shared.warp[warp][0].count = own;
  ptx::barrier();
  for (int w = 0; w < warp; ++w) {
    const uint32_t count = shared.warp[w][0].count;
    if (rank < count) return -1;                           // an earlier warp has it
    rank -= count;
  }
  if (rank >= own) return -1;
  for (int from = first; from < last; from += 32) {
    const uint32_t bits = lanes_at(from), count = bits_of(bits);
    if (rank < count) return (bits >> lane & 1) && bits_of(bits & ((1u << lane) - 1)) == rank ? from + lane : -1;
    rank -= count;
  }
  return -1;
}

// The first word of Philox4x32-10 (Salmon et al., 2011) for the counter (index, 0, 0, 0).
JVLM_DEVICE uint32_t philox(uint32_t k0, uint32_t k1, uint32_t index) {
  uint32_t c0 = index, c1 = 0, c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    const uint64_t p0 = uint64_t{c0} * 0xd2511f53u, p1 = uint64_t{c2} * 0xcd9e8d57u;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1, c3 = static_cast<uint32_t>(p0);
  }
  return c0;
}

// One row a block: the borders of top-k, top-p and min-p, then the draw.
__global__ void __launch_bounds__(kChooseThreads, 1) choose_kernel(const Rows p) {
  JVLM_SHARED(arena);
  auto& shared = *reinterpret_cast<ChooseShared*>(arena);
  const SampleRow row = p.row[blockIdx.x];
  const Likeliest best = p.likeliest[blockIdx.x];
  int32_t* counts = counts_of(p, row);
  auto chosen = [&](int32_t id) {
    p.ids[blockIdx.x] = id;
    if (counts && id >= 0) ++counts[id];
  };
  if (decided(row, best)) {
    if (threadIdx.x == 0) chosen(best.id);
    return;
  }
  const int64_t at = static_cast<int64_t>(blockIdx.x) * p.vocabulary;
  const Entries all{p.keys + at, p.weights + at, p.vocabulary};
  const float largest = best.score / row.temperature;
  const uint32_t lowest = key_of(largest);

  // Survivors are those whose key is at most `last` (`within` in number), but of those that have it or weigh little some may be out: `kept` counts
  // and weighs those that are in. Whoever is out comes after all who are in.
  uint32_t last = kBanned - 1;
  auto weigh_upto = [&](uint32_t key, uint64_t least) {
    Mass m[1];
    for (int i = static_cast<int>(threadIdx.x); i < all.count; i += kChooseThreads)
      if (all.key[i] <= key && all.weight[i] >= least) m[0].add(all.weight[i]);
    mass_of_block(m, shared);
    return m[0];
  };
  Mass kept = weigh_upto(last, 0);
  uint32_t within = kept.count;

  if (row.top_k > 0 && static_cast<uint32_t>(row.top_k) < kept.count) {
    // All that equal the k-th stay.
    last = border(all, lowest, last, within, shared, [&](const Mass& m) { return m.count >= static_cast<uint32_t>(row.top_k); }).key;
    kept = weigh_upto(last, 0);
    within = kept.count;
  }
  if (row.top_p < 1) {
    // From the least likely up, tokens are dropped while they sum to at most 1 - p.
    const Mass whole = kept;
    const float limit = static_cast<float>(1 - static_cast<double>(row.top_p));
    auto dropped = [&](Wide rest) { return static_cast<float>(number(rest) / number(whole.weight)) <= limit; };
    const Border b = border(all, lowest, last, within, shared, [&](const Mass& m) { return dropped(whole.weight - m.weight); });
    const uint64_t weight = weight_of(score_of(b.key), largest);
    const uint32_t equals = equal_to(all, b.key, shared);
    uint32_t equal = first_of(0u, equals, [&](uint32_t i) { return dropped(whole.weight - b.before.weight - static_cast<Wide>(weight) * i); });
    if (b.before.count + equal == 0) equal = 1;
    last = b.key;
    within = b.before.count + equals;
    kept = {b.before.count + equal, b.before.weight + static_cast<Wide>(weight) * equal};
  }
  if (row.min_p > 0) {
    const double whole = number(kept.weight);
    const float least = row.min_p * static_cast<float>(kOne / whole);
    const uint64_t least_weight = first_of(uint64_t{0}, static_cast<uint64_t>(kOne), [&](uint64_t w) { return static_cast<float>(static_cast<double>(w) / whole) >= least; });
    if (weight_of(score_of(last), largest) < least_weight) kept = weigh_upto(last, least_weight);
  }

  // The first token at which the running sum exceeds u / 2^32 of the whole.
  const Wide goal = kept.weight * philox(row.seed_low, row.seed_high, static_cast<uint32_t>(row.index));
  auto exceeds = [&](Wide sum) { return sum << 32 > goal; };
  const Border b = border(all, lowest, last, within, shared, [&](const Mass& m) { return exceeds(m.weight); });
  const uint64_t weight = weight_of(score_of(b.key), largest);
  const uint32_t rank = first_of(0u, equal_to(all, b.key, shared), [&](uint32_t i) { return exceeds(b.before.weight + static_cast<Wide>(weight) * (i + 1)); });
  const int32_t id = id_of(all, b.key, rank, shared);
  if (id >= 0) chosen(id);
}

int64_t rounded(int64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

int64_t sample_scratch_bytes(int64_t rows, int64_t vocabulary) {
  return rounded(rows * static_cast<int64_t>(sizeof(Likeliest))) + rounded(4 * rows * vocabulary) + rounded(8 * rows * vocabulary);
}

void sample(const Queue& queue, int32_t* ids, Tensor logits, const SampleRow* row, int32_t* counts, const float* bias, void* scratch) {
  if (logits.rows == 0) return;
  char* at = static_cast<char*>(scratch);
  auto part = [&](int64_t bytes) {
    char* begin = at;
    at += rounded(bytes);
    return static_cast<void*>(begin);
  };
  const auto rows = static_cast<uint32_t>(logits.rows), vocabulary = static_cast<uint32_t>(logits.cols);
  auto* likeliest = static_cast<Likeliest*>(part(logits.rows * static_cast<int64_t>(sizeof(Likeliest))));
  auto* keys = static_cast<uint32_t*>(part(4 * logits.rows * logits.cols));
  auto* weights = static_cast<uint64_t*>(part(8 * logits.rows * logits.cols));
  const Rows p{logits.row<const float>(0), row, bias, counts, ids, likeliest, keys, weights, logits.stride, static_cast<int32_t>(vocabulary)};
  launch(queue.stream, prepare_kernel, {dim3(rows), dim3(kPrepareThreads), kPrepareThreads / 32 * sizeof(Likeliest)}, p);
  launch(queue.stream, weigh_kernel, {dim3((vocabulary + kWeighThreads - 1) / kWeighThreads, rows), dim3(kWeighThreads)}, p);
  launch(queue.stream, choose_kernel, {dim3(rows), dim3(kChooseThreads), sizeof(ChooseShared)}, p);
}

}  // namespace jvlm::cuda
