// Causal softmax attention of new tokens over the paged cache, for any number of sequences and of new tokens each (a prompt, a part of one, single
// tokens beside them), with an optional sliding window.
//
// The query heads that share a key/value head ride together: row r of a sequence is head r % G of its new token r / G, G = H / K, so that a block's
// rows see nearly the same keys, short turns fill a tensor core's 16 rows, and keys are read once for the whole group. A block takes the rows of four
// warps (32 or 16 each) and lets the keys pass by in blocks of 64 or 32, two in shared memory, from the first that a row's window reaches to the last
// that its own position allows. Blocks of keys need a mask at the diagonal, at the window's edge and at the end only.
//
// Operations: 4 D H times the pairs of (token, position before it); bytes: q and out once, keys and values once for each block of rows, from the
// second cache. Bound by the tensor cores from some 100 new tokens on. The longest rows start first, and heads next to each other, so that short
// ones fill the end.
#include "ops/cuda/flash.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace jvlm::cuda {
namespace {

struct Prefill {
  const uint16_t* qkv;
  uint16_t* out;
  int64_t qkv_stride, out_stride;
  Cache cache;
  const int32_t *seq_start, *past, *page_start, *page;
  int32_t sequences, group, size, window;
  float scale;                                              // times log2(e)
};

// The sequence of the `item`-th block of rows (blocks of each sequence one after the other) and which of its blocks that is, its last one first.
struct Place {
  int sequence, block;                                      // sequence -1: there are fewer blocks
};
JVLM_DEVICE Place find_rows(const Prefill& p, int item, int block_rows) {
  const int lane = ptx::lane();
  int before = 0;                                           // blocks of the sequences looked at
  for (int first = 0; first < p.sequences; first += 32) {
    const int s = first + lane;
    const int own = s < p.sequences ? ((p.seq_start[s + 1] - p.seq_start[s]) * p.group + block_rows - 1) / block_rows : 0;
    int upto = own;                                         // of the lanes up to this one
    for (int by = 1; by < 32; by *= 2) {
      const int other = ptx::shuffle_up(upto, by);
      if (lane >= by) upto += other;
    }
    const uint32_t beyond = ptx::ballot(item < before + upto);
    if (beyond) {
      int found = 0;
      while (!(beyond >> found & 1)) ++found;
      return {first + found, before + ptx::shuffle(upto, found) - 1 - item};
    }
    before += ptx::shuffle(upto, 31);
  }
  return {-1, 0};
}

template <int HeadDim, bool Exact, int Rows>
__global__ void __launch_bounds__(128, 2) attention_prefill_kernel(const Prefill p) {
  using Tile = FlashTile<HeadDim, Rows>;
  constexpr int kPitch = HeadRow<HeadDim>::kPitch;
  JVLM_SHARED(arena);
  auto* shared = reinterpret_cast<uint16_t*>(arena);
  const Place place = find_rows(p, blockIdx.y, Tile::kQueries);
  if (place.sequence < 0) return;
  const int size = Exact ? HeadDim : p.size, warp = threadIdx.x / 32, lane = threadIdx.x % 32, kv_head = blockIdx.x;
  const int token = p.seq_start[place.sequence], rows = (p.seq_start[place.sequence + 1] - token) * p.group, past = p.past[place.sequence];
  const Pages pages = {p.cache, p.page + p.page_start[place.sequence], kv_head, size};

  // Keys of the block, of the warp, of a row: positions [from, to).
  const int block_row = place.block * Tile::kQueries, first = block_row + warp * Rows;
  auto span = [&](int row, int last) {                      // of rows row ... last
    const int low = past + row / p.group, high = past + last / p.group;
    return Span{p.window > 0 ? max(0, low - p.window + 1) : 0, high + 1};
  };
  const Span block_keys = span(block_row, min(block_row + Tile::kQueries, rows) - 1);
  const bool resting = first >= rows;
  const Span all = resting ? Span{0, 0} : span(first, min(first + Rows, rows) - 1);
  const int all_see = resting || p.window <= 0 ? 0 : max(0, past + min(first + Rows - 1, rows - 1) / p.group - p.window + 1);   // from here on

  auto copy = [&](int block, PagedRows<HeadDim, Exact, Tile::kShare>& ahead) {           // each warp its share of the keys and values
    const int stage = block % Tile::kStages * Tile::kBlock + warp * Tile::kShare * kPitch, key = block * Tile::kKeys + warp * Tile::kShare;
    ahead.copy(shared + Tile::kK + stage, shared + Tile::kV + stage, pages, key, block_keys.to);
    ptx::cp_async_commit();
    ahead.look_up(pages, key + Tile::kKeys, block_keys.to);
  };
  auto head = [&](auto* base, int64_t stride, int row) {                   // where row's head starts, null past the last row
    return row < rows ? base + (token + row / p.group) * stride + (kv_head * p.group + row % p.group) * size : nullptr;
  };
  uint16_t* queries = shared + Tile::kQ + warp * Rows * kPitch;
  const int first_block = block_keys.from / Tile::kKeys, end_block = (block_keys.to + Tile::kKeys - 1) / Tile::kKeys;
  PagedRows<HeadDim, Exact, Tile::kShare> ahead;
  ahead.look_up(pages, first_block * Tile::kKeys + warp * Tile::kShare, block_keys.to);
  copy_rows<HeadDim, Exact, Rows>(queries, size, p.qkv, [&](int row) { return head(p.qkv, p.qkv_stride, first + row); });
  copy(first_block, ahead);

  Flash<HeadDim, Rows, Tile::kKeys, Tile::kHoldQueries> flash;
  flash.clear();
  for (int block = first_block; block < end_block; ++block) {
    ptx::cp_async_wait<0>();
    ptx::barrier();                                         // this block is there for all, and the one before has been read by all
    if (block + 1 < end_block) copy(block + 1, ahead);
    if (block == first_block) flash.hold(queries);
    const int key = block * Tile::kKeys;
    if (key >= all.to || key + Tile::kKeys <= all.from) continue;
    const uint16_t *k = shared + Tile::kK + block % Tile::kStages * Tile::kBlock, *v = k + Tile::kV - Tile::kK;
    auto seen = [&](int tile, int half) {
      const Span row = span(first + tile * 16 + half * 8 + lane / 4, first + tile * 16 + half * 8 + lane / 4);
      return Span{row.from - key, row.to - key};
    };
    if (key >= all_see && key + Tile::kKeys <= past + first / p.group + 1)
      flash.template step<false>(queries, k, v, p.scale, Tile::kKeys, seen);
    else
      flash.template step<true>(queries, k, v, p.scale, min(Tile::kKeys, all.to - key), seen);
  }
  if (resting) return;
  flash.finish(queries);
  ptx::syncwarp();
  store_rows<HeadDim, Exact, Rows>(queries, size, [&](int row) { return head(p.out, p.out_stride, first + row); });
}

}  // namespace

void attention_prefill(const Queue& queue, Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) {
  if (step.tokens <= 0) return;
  const int32_t group = heads / cache.kv_heads;
  const Prefill p = {qkv.row<uint16_t>(0), out.row<uint16_t>(0), qkv.stride, out.stride,
                     {static_cast<uint16_t*>(cache.k), static_cast<uint16_t*>(cache.v), cache.kv_heads, cache.page_tokens},
                     step.seq_start, step.past, step.page_start, step.page, step.sequences, group, cache.head_size, window, scale * kLog2E};
  for_head_size(cache.head_size, [&](auto dim, auto exact) {
    for_rows(queue, static_cast<int64_t>(step.tokens) * heads, [&](auto rows) {
      using Tile = FlashTile<dim.value, rows.value>;
      // No more than this: a sequence's last block may be a part of one.
      const int64_t blocks = static_cast<int64_t>(step.tokens) * group / Tile::kQueries + step.sequences;
      launch(queue.stream, attention_prefill_kernel<dim.value, exact.value, rows.value>,
             {dim3(static_cast<uint32_t>(cache.kv_heads), static_cast<uint32_t>(blocks)), dim3(Tile::kWarps * 32), Tile::kBytes}, p);
    });
  });
}

}  // namespace jvlm::cuda
