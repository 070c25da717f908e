// Softmax attention of one new token a sequence over the paged cache, in one launch; with `append` rope on q and k and the write of the new key and
// value as well.
//
// Bytes: the keys and values of the cache once, 4 D K a position, against 4 D H operations: bound by memory, at short contexts by latencies. So:
//   the query heads that share a key/value head (up to 16, a tensor core's rows) are one block's, keys are read once for all of them;
//   the positions are split over blocks until about two a multiprocessor are busy, in parts of no less than 128;
//   a warp takes every fourth slice of 16 keys through a ring of its own, so that the main loop has no barrier and 24 to 48 KB are under way;
//   what the kernels before cannot have written, the step's arrays and the positions of earlier steps, is asked for before they have ended: a
//   step must begin with a launch that waits for all before it;
//   the last block of a (sequence, key/value head) to finish, told by a ticket, joins the parts: no second launch.
// The products run on tensor cores with most rows empty: at 16 rows they need a tenth of the time that the bytes take.
//
// The new token is a slice of its own, taken by the last block: from qkv with `append`, else from the cache.
#include <algorithm>

#include "ops/cuda/flash.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kHeads = 16;                                  // of a block
constexpr int kSlice = 16, kWarps = 4;                      // keys of a warp at a time
constexpr int kLeast = 128, kMostParts = 64;                // keys of a part but the last; parts of a sequence

struct Decode {
  const uint16_t* qkv;
  uint16_t* out;
  int64_t qkv_stride, out_stride;
  Cache cache;
  const int32_t *seq_start, *past, *page_start, *page;
  const float *cos, *sin;
  int32_t heads, group, bundles, size, window, parts;       // bundles: of at most kHeads heads that a key/value head's are cut into
  float scale;                                              // times log2(e)
  bool append;
  uint32_t* ticket;
  float* part;                                              // for each (sequence, bundle, part): sums of the heads, their greatest scores and weights
};

template <int HeadDim>
struct DecodeTile {
  // Two slices under way for each warp; one at 128, where a slice is long, so that 99 KB (sm_86, 89, 120) hold the block.
  static constexpr int kStages = HeadDim > 96 ? 2 : 3, kRows = kSlice * HeadRow<HeadDim>::kPitch;
  // Offsets in elements: queries, the new key and value in a slice each, the rings.
  static constexpr int kQ = 0, kNewK = kRows, kNewV = 2 * kRows, kRing = 3 * kRows, kWarpRing = 2 * kStages * kRows;
  static constexpr int kBytes = 2 * (kRing + kWarps * kWarpRing);
  // After the loop the rings hold each warp's sums, greatest scores and weights, as floats; later what each part of a sequence counts.
  static constexpr int kSumPitch = HeadDim + 8, kWarpFloats = kHeads * (kSumPitch + 2);
  static_assert(kWarpFloats * 4 <= kWarpRing * 2 && kMostParts * kHeads * 4 <= kWarps * kWarpRing * 2);
};

template <int HeadDim, bool Exact>
__global__ void __launch_bounds__(128) attention_decode_kernel(const Decode p) {
  using Tile = DecodeTile<HeadDim>;
  using Row = HeadRow<HeadDim>;
  JVLM_SHARED(arena);
  auto* shared = reinterpret_cast<uint16_t*>(arena);
  const int size = Exact ? HeadDim : p.size, warp = threadIdx.x / 32, lane = threadIdx.x % 32, s = blockIdx.z;
  const int kv_head = blockIdx.y / p.bundles, bundle = blockIdx.y % p.bundles, part = blockIdx.x;
  const int head = kv_head * p.group + bundle * kHeads, heads = min(p.group - bundle * kHeads, kHeads);

  // The block's positions before the new one: [from, to).
  const int past = p.past[s], token = p.seq_start[s];
  const int seen = p.window > 0 ? max(0, past - p.window + 1) : 0, start = seen / kSlice * kSlice;
  const int share = (past - start + p.parts - 1) / p.parts, each = max(kLeast, (share + kWarps * kSlice - 1) / (kWarps * kSlice) * (kWarps * kSlice));
  const int parts = max(1, (past - start + each - 1) / each);
  const int from = start + part * each, to = min(past, from + each);
  if (part >= parts || p.seq_start[s + 1] == token) {
    ptx::grid_dependency_wait();
    return;
  }

  const Pages pages = {p.cache, p.page + p.page_start[s], kv_head, size};
  uint16_t* ring = shared + Tile::kRing + warp * Tile::kWarpRing;
  const int first = from + warp * kSlice, slices = first < to ? (to - first + kWarps * kSlice - 1) / (kWarps * kSlice) : 0;
  PagedRows<HeadDim, Exact, kSlice> ahead;
  auto copy = [&](int slice) {
    const int position = first + slice * kWarps * kSlice;
    uint16_t* k = ring + slice % Tile::kStages * 2 * Tile::kRows;
    if (slice < slices) {
      ahead.copy(k, k + Tile::kRows, pages, position, to);
      ahead.look_up(pages, position + kWarps * kSlice, to);
    }
    ptx::cp_async_commit();
  };
  ahead.look_up(pages, first, to);
  for (int slice = 0; slice + 1 < Tile::kStages; ++slice) copy(slice);

  const bool last = part == parts - 1;
  const int64_t slot = last ? pages.slot(pages.page(past), past) : 0;
  for (int i = threadIdx.x; i < Tile::kRing / 8; i += kWarps * 32) reinterpret_cast<uint4*>(shared)[i] = uint4{};
  ptx::barrier();

  ptx::grid_dependency_wait();
  // Rows of the queries, then the new key and value, each thread the columns c and half + c of one.
  const int half = size / 2;
  const uint16_t* row = p.qkv + token * p.qkv_stride;
  const float *cos = p.cos + static_cast<int64_t>(token) * half, *sin = p.sin + static_cast<int64_t>(token) * half;
  for (int i = threadIdx.x; i < (heads + 2 * last) * half; i += kWarps * 32) {
    const int r = i / half, c = i % half;
    const bool query = r < heads, value = r > heads;
    uint16_t* to = shared + (query ? Tile::kQ + r * Row::kPitch : value ? Tile::kNewV : Tile::kNewK);
    uint16_t* cached = (value ? p.cache.v : p.cache.k) + slot;
    const uint16_t* from = query ? row + (head + r) * size : !p.append ? cached : row + (p.heads + kv_head + value * p.cache.kv_heads) * size;
    uint16_t low = from[c], high = from[half + c];
    if (p.append && !value) {
      const float x = ptx::from_bf16(low), y = ptx::from_bf16(high);
      low = ptx::to_bf16(x * cos[c] - y * sin[c]), high = ptx::to_bf16(y * cos[c] + x * sin[c]);
    }
    to[c] = low, to[half + c] = high;
    if (p.append && !query && bundle == 0) cached[c] = low, cached[half + c] = high;
  }
  ptx::barrier();

  Flash<HeadDim, kHeads, kSlice, true> flash;
  flash.clear();
  flash.hold(shared + Tile::kQ);
  for (int slice = 0; slice < slices; ++slice) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    ptx::syncwarp();                                        // this slice is there for all lanes, and the one before has been read by all
    copy(slice + Tile::kStages - 1);
    const int position = first + slice * kWarps * kSlice;
    const uint16_t* k = ring + slice % Tile::kStages * 2 * Tile::kRows;
    auto span = [&](int, int) { return Span{seen - position, to - position}; };
    if (position >= seen && position + kSlice <= to)
      flash.template step<false>(nullptr, k, k + Tile::kRows, p.scale, kSlice, span);
    else
      flash.template step<true>(nullptr, k, k + Tile::kRows, p.scale, kSlice, span);
  }
  if (last && warp == kWarps - 1)
    flash.template step<true>(nullptr, shared + Tile::kNewK, shared + Tile::kNewV, p.scale, kSlice, [](int, int) { return Span{0, 1}; });
  ptx::launch_dependents();

  // The warps' sums side by side.
  flash.join_sums();
  ptx::cp_async_wait<0>();
  ptx::barrier();
  auto* sums = reinterpret_cast<float*>(shared + Tile::kRing);
  for (int h = 0; h < 2; ++h) {
    const int r = h * 8 + lane / 4;
    float* own = sums + warp * Tile::kWarpFloats;
    for (int c = 0; c < HeadDim / 8; ++c)
      *reinterpret_cast<float2*>(own + r * Tile::kSumPitch + c * 8 + lane % 4 * 2) = make_float2(flash.o[0][c][2 * h], flash.o[0][c][2 * h + 1]);
    if (lane % 4 == 0) {
      own[kHeads * Tile::kSumPitch + r] = flash.most[0][h];
      own[kHeads * (Tile::kSumPitch + 1) + r] = flash.sum[0][h];
    }
  }
  ptx::barrier();

  // Joined: two columns a thread. A part's memory: sums (heads, size), then greatest score and weight of each head.
  const int floats = p.group < kHeads ? p.group * (size + 2) : kHeads * (size + 2), pairs = size / 2;
  float* parts_of_this = p.part + static_cast<int64_t>(s * gridDim.y + blockIdx.y) * p.parts * floats;
  float* own_part = parts_of_this + part * floats;
  uint16_t* out = p.out + token * p.out_stride + head * size;
  for (int i = threadIdx.x; i < heads * pairs; i += kWarps * 32) {
    const int r = i / pairs, c = i % pairs * 2;
    const float* of_head = sums + kHeads * Tile::kSumPitch + r;
    float most = of_head[0];
    for (int w = 1; w < kWarps; ++w) most = fmaxf(most, of_head[w * Tile::kWarpFloats]);
    float x = 0, y = 0, weight = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float factor = ptx::exp2_approx((of_head[w * Tile::kWarpFloats] - most) * p.scale);
      const float* of_warp = sums + w * Tile::kWarpFloats + r * Tile::kSumPitch + c;
      x += factor * of_warp[0], y += factor * of_warp[1];
      weight += factor * of_head[w * Tile::kWarpFloats + kHeads];
    }
    if (parts == 1) {
      *reinterpret_cast<uint32_t*>(out + r * size + c) = ptx::pack_bf16(x / weight, y / weight);
      continue;
    }
    own_part[r * size + c] = x, own_part[r * size + c + 1] = y;
    if (c == 0) own_part[heads * size + r] = most, own_part[heads * (size + 1) + r] = weight;
  }
  if (parts == 1) return;

  // A ticket tells who is last; the counter is zero again then.
  ptx::threadfence();
  ptx::barrier();
  auto* arrived = reinterpret_cast<uint32_t*>(shared + Tile::kQ);
  if (threadIdx.x == 0) *arrived = ptx::atomic_inc(p.ticket + s * gridDim.y + blockIdx.y, static_cast<uint32_t>(parts - 1));
  ptx::barrier();
  if (*arrived != static_cast<uint32_t>(parts - 1)) return;
  ptx::threadfence();
  for (int r = warp; r < heads; r += kWarps) {              // what each part counts, all together 1
    float score[2], weight[2], most = -INFINITY, sum = 0;
    for (int j = 0; j < 2; ++j) {
      const int of = j * 32 + lane;
      score[j] = of < parts ? parts_of_this[of * floats + heads * size + r] : -INFINITY;
      weight[j] = of < parts ? parts_of_this[of * floats + heads * (size + 1) + r] : 0;
      most = fmaxf(most, score[j]);
    }
    for (int by = 16; by > 0; by /= 2) most = fmaxf(most, ptx::shuffle_xor(most, by));
    for (int j = 0; j < 2; ++j) score[j] = ptx::exp2_approx((score[j] - most) * p.scale), sum += score[j] * weight[j];
    for (int by = 16; by > 0; by /= 2) sum += ptx::shuffle_xor(sum, by);
    for (int j = 0; j < 2; ++j) sums[r * kMostParts + j * 32 + lane] = score[j] / sum;
  }
  ptx::barrier();
  for (int i = threadIdx.x; i < heads * pairs; i += kWarps * 32) {
    const int r = i / pairs, c = i % pairs * 2;
    float x = 0, y = 0;
#pragma unroll 8
    for (int of = 0; of < parts; ++of) {
      const float2 v = *reinterpret_cast<const float2*>(parts_of_this + of * floats + r * size + c);
      x += sums[r * kMostParts + of] * v.x, y += sums[r * kMostParts + of] * v.y;
    }
    *reinterpret_cast<uint32_t*>(out + r * size + c) = ptx::pack_bf16(x, y);
  }
}

// Parts that a sequence may be split into. Of split sequences there are never more than two parts a multiprocessor, whatever their number: a scratch
// of that size serves every batch.
int parts_of(int sequences, int bundles, int multiprocessors) { return std::clamp(2 * multiprocessors / (sequences * bundles), 1, kMostParts); }

int64_t ticket_bytes(int multiprocessors) { return (static_cast<int64_t>(2 * multiprocessors) * 4 + 255) / 256 * 256; }

}  // namespace

int64_t attention_decode_scratch_bytes(int32_t max_sequences, int32_t heads, int32_t kv_heads, int32_t head_size, int32_t multiprocessors) {
  const int64_t of_part = std::min(heads / kv_heads, kHeads) * (head_size + 2) * static_cast<int64_t>(sizeof(float));
  return ticket_bytes(multiprocessors) + 2 * multiprocessors * of_part;
}

void attention_decode(const Queue& queue, Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step,
                      bool append, void* scratch) {
  if (step.sequences <= 0) return;
  const int32_t group = heads / cache.kv_heads, bundles = (group + kHeads - 1) / kHeads, columns = cache.kv_heads * bundles;
  const int32_t parts = parts_of(step.sequences, columns, queue.multiprocessors);
  auto* bytes = static_cast<char*>(scratch);
  const Decode p = {qkv.row<uint16_t>(0), out.row<uint16_t>(0), qkv.stride, out.stride,
                    {static_cast<uint16_t*>(cache.k), static_cast<uint16_t*>(cache.v), cache.kv_heads, cache.page_tokens},
                    step.seq_start, step.past, step.page_start, step.page, step.cos, step.sin, heads, group, bundles, cache.head_size, window, parts,
                    scale * kLog2E, append, reinterpret_cast<uint32_t*>(bytes), reinterpret_cast<float*>(bytes + ticket_bytes(queue.multiprocessors))};
  for_head_size(cache.head_size, [&](auto dim, auto exact) {
    launch(queue.stream, attention_decode_kernel<dim.value, exact.value>,
           {dim3(static_cast<uint32_t>(parts), static_cast<uint32_t>(columns), static_cast<uint32_t>(step.sequences)), dim3(kWarps * 32),
            DecodeTile<dim.value>::kBytes, Mode::overlapping}, p);
  });
}

}  // namespace jvlm::cuda
