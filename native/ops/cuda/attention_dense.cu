// Softmax attention of every token over all tokens of its tile (the vision tower). A block takes 128 queries of one head, a warp 32 of them (16 where
// there are few), and lets the keys and values pass by in blocks of 64 (32), two in shared memory: one is read while the next one arrives.
//
// Operations: 4 T^2 D a head, on mma.sync; bytes: q, k, v and out once (8 T D), k and v again from the second cache for every block of queries. At
// T = 1,025, D = 64 that is 269 million operations to 0.5 MB: bound by the tensor cores and, at D = 64, as much by the T^2 exponentials, which
// is why scaling the outputs is rare (Flash::kSlack) and blocks are small enough that two share a multiprocessor, one's products under the other's
// exponentials. With 32 queries a warp one matrix load of keys feeds four products: shared memory is half busy when the tensor cores are full.
//
// Work beyond what is needed: keys are looked at in groups of 16 (1,025 are 1,040, 1.5 % more); warps whose queries lie past the end rest.
#include "ops/cuda/flash.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace jvlm::cuda {
namespace {

struct Dense {
  const uint16_t* qkv;
  uint16_t* out;
  int64_t qkv_stride, out_stride;
  int32_t tokens, heads, size;
  float scale;                                              // times log2(e)
};

template <int HeadDim, bool Exact, int Rows>
__global__ void __launch_bounds__(128, 2) attention_dense_kernel(const Dense p) {
  using Tile = FlashTile<HeadDim, Rows>;
  constexpr int kPitch = HeadRow<HeadDim>::kPitch;
  JVLM_SHARED(arena);
  auto* shared = reinterpret_cast<uint16_t*>(arena);
  const int size = Exact ? HeadDim : p.size, warp = threadIdx.x / 32, width = p.heads * size;
  const int first = blockIdx.x * Tile::kQueries + warp * Rows;      // the warp's first query
  const uint16_t* head = p.qkv + static_cast<int64_t>(blockIdx.z) * p.tokens * p.qkv_stride + blockIdx.y * size;
  uint16_t* queries = shared + Tile::kQ + warp * Rows * kPitch;

  auto copy = [&](int block) {                              // each warp its share of the keys and values
    const int stage = block % Tile::kStages * Tile::kBlock + warp * Tile::kShare * kPitch, key = block * Tile::kKeys + warp * Tile::kShare;
    for (int part = 1; part <= 2; ++part)
      copy_rows<HeadDim, Exact, Tile::kShare>(shared + (part == 1 ? Tile::kK : Tile::kV) + stage, size, p.qkv, [&](int row) {
        return key + row < p.tokens ? head + (key + row) * p.qkv_stride + part * width : nullptr;
      });
    ptx::cp_async_commit();
  };
  copy_rows<HeadDim, Exact, Rows>(queries, size, p.qkv,
                                         [&](int row) { return first + row < p.tokens ? head + (first + row) * p.qkv_stride : nullptr; });
  copy(0);

  Flash<HeadDim, Rows, Tile::kKeys, Tile::kHoldQueries> flash;
  flash.clear();
  const int blocks = (p.tokens + Tile::kKeys - 1) / Tile::kKeys;
  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<0>();
    ptx::barrier();                                         // this block is there for all, and the one before has been read by all
    if (block + 1 < blocks) copy(block + 1);
    if (first >= p.tokens) continue;
    if (block == 0) flash.hold(queries);
    const uint16_t *k = shared + Tile::kK + block % Tile::kStages * Tile::kBlock, *v = k + Tile::kV - Tile::kK;
    const int left = p.tokens - block * Tile::kKeys;
    auto all = [&](int, int) { return Span{0, left}; };
    if (left >= Tile::kKeys)
      flash.template step<false>(queries, k, v, p.scale, Tile::kKeys, all);
    else
      flash.template step<true>(queries, k, v, p.scale, left, all);
  }
  if (first >= p.tokens) return;
  flash.finish(queries);
  ptx::syncwarp();
  uint16_t* out = p.out + static_cast<int64_t>(blockIdx.z) * p.tokens * p.out_stride + blockIdx.y * size;
  store_rows<HeadDim, Exact, Rows>(queries, size, [&](int row) { return first + row < p.tokens ? out + (first + row) * p.out_stride : nullptr; });
}

}  // namespace

void attention_dense(const Queue& queue, Tensor out, Tensor qkv, int32_t tiles, int32_t tokens, int32_t heads, int32_t head_size, float scale) {
  if (tiles <= 0 || tokens <= 0) return;
  const Dense p = {qkv.row<uint16_t>(0), out.row<uint16_t>(0), qkv.stride, out.stride, tokens, heads, head_size, scale * kLog2E};
  for_head_size(head_size, [&](auto dim, auto exact) {
    for_rows(static_cast<int64_t>(tiles) * heads * tokens, queue.multiprocessors, [&](auto rows) {
      using Tile = FlashTile<dim.value, rows.value>;
      const auto blocks = static_cast<uint32_t>((tokens + Tile::kQueries - 1) / Tile::kQueries);
      launch(queue.stream, attention_dense_kernel<dim.value, exact.value, rows.value>,
             {dim3(blocks, static_cast<uint32_t>(heads), static_cast<uint32_t>(tiles)), dim3(Tile::kWarps * 32), Tile::kBytes}, p);
    });
  });
}

}  // namespace jvlm::cuda
