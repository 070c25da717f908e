// Softmax attention of a picture's queries over all its keys (the vision tower; the perceiver, whose queries are few and share key/value heads). A
// block takes 128 queries of one head, a warp 32 of them (16 where there are few), and lets the keys and values pass by in blocks of 64 (32), two in
// shared memory: one is read while the next one arrives. Blocks beyond the end of a picture that is smaller than the largest return at once.
//
// Operations: 4 T^2 D a head, on mma.sync; bytes: q, k, v and out once (8 T D), k and v again from the second cache for every block of queries. At
// T = 1,025, D = 64 that is 269 million operations to 0.5 MB: bound by the tensor cores and, at D = 64, as much by the T^2 exponentials, which
// is why scaling the outputs is rare (Flash::kSlack) and blocks are small enough that two share a multiprocessor, one's products under the other's
// exponentials. With 32 queries a warp one matrix load of keys feeds four products: shared memory is half busy when the tensor cores are full.
//
// Work beyond what is needed: keys are looked at in groups of 16 (1,025 are 1,040, 1.5 % more); warps whose queries lie past the end rest. Heads that share keys
// and values read them each for itself: 64 queries fill a block of 16 rows a warp, and a prompt's trick (attention_prefill) would cost towers divisions.
#include "ops/cuda/flash.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"

namespace jvlm::cuda {
namespace {

struct Dense {
  const uint16_t *q, *k, *v;
  uint16_t* out;
  int64_t q_stride, k_stride, v_stride, out_stride;
  const int32_t *q_start, *k_start;                         // of each picture
  int32_t group, size;                                      // query heads a key/value head
  float scale;                                              // times log2(e)
};

template <int HeadDim, bool Exact, int Rows>
__global__ void __launch_bounds__(128, 2) attention_dense_kernel(const Dense p) {
  using Tile = FlashTile<HeadDim, Rows>;
  constexpr int kPitch = HeadRow<HeadDim>::kPitch;
  const int first_row = p.q_start[blockIdx.z], rows = p.q_start[blockIdx.z + 1] - first_row;
  if (static_cast<int>(blockIdx.x) * Tile::kQueries >= rows) return;
  JVLM_SHARED(arena);
  auto* shared = reinterpret_cast<uint16_t*>(arena);
  const int size = Exact ? HeadDim : p.size, warp = threadIdx.x / 32, head = blockIdx.y;
  const int first = blockIdx.x * Tile::kQueries + warp * Rows;      // the warp's first query
  const int first_key = p.k_start[blockIdx.z], keys = p.k_start[blockIdx.z + 1] - first_key;
  const uint16_t *q_head = p.q + first_row * p.q_stride + head * size, *k_head = p.k + first_key * p.k_stride + head / p.group * size,
                 *v_head = p.v + first_key * p.v_stride + head / p.group * size;
  uint16_t* queries = shared + Tile::kQ + warp * Rows * kPitch;

  auto copy = [&](int block) {                              // each warp its share of the keys and values
    const int stage = block % Tile::kStages * Tile::kBlock + warp * Tile::kShare * kPitch, key = block * Tile::kKeys + warp * Tile::kShare;
    auto from = [&](const uint16_t* start, int64_t stride) {
      return [=](int row) { return key + row < keys ? start + (key + row) * stride : nullptr; };
    };
    copy_rows<HeadDim, Exact, Tile::kShare>(shared + Tile::kK + stage, size, p.k, from(k_head, p.k_stride));
    copy_rows<HeadDim, Exact, Tile::kShare>(shared + Tile::kV + stage, size, p.v, from(v_head, p.v_stride));
    ptx::cp_async_commit();
  };
  copy_rows<HeadDim, Exact, Rows>(queries, size, p.q, [&](int row) { return first + row < rows ? q_head + (first + row) * p.q_stride : nullptr; });
  copy(0);

  Flash<HeadDim, Rows, Tile::kKeys, Tile::kHoldQueries> flash;
  flash.clear();
  const int blocks = (keys + Tile::kKeys - 1) / Tile::kKeys;
  for (int block = 0; block < blocks; ++block) {
    ptx::cp_async_wait<0>();
    ptx::barrier();                                         // this block is there for all, and the one before has been read by all
    if (block + 1 < blocks) copy(block + 1);
    if (first >= rows) continue;
    if (block == 0) flash.hold(queries);
    const uint16_t *k = shared + Tile::kK + block % Tile::kStages * Tile::kBlock, *v = k + Tile::kV - Tile::kK;
    const int left = keys - block * Tile::kKeys;
    auto all = [&](int, int) { return Span{0, left}; };
    if (left >= Tile::kKeys)
      flash.template step<false>(queries, k, v, p.scale, Tile::kKeys, all);
    else
      flash.template step<true>(queries, k, v, p.scale, left, all);
  }
  if (first >= rows) return;
  flash.finish(queries);
  ptx::syncwarp();
  uint16_t* out = p.out + first_row * p.out_stride + head * size;
  store_rows<HeadDim, Exact, Rows>(queries, size, [&](int row) { return first + row < rows ? out + (first + row) * p.out_stride : nullptr; });
}

}  // namespace

void attention_dense(const Queue& queue, Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads,
                     int32_t kv_heads, int32_t head_size, float scale) {
  if (queries.count <= 0 || queries.most <= 0) return;
  const Dense p = {q.row<uint16_t>(0), k.row<uint16_t>(0), v.row<uint16_t>(0), out.row<uint16_t>(0), q.stride, k.stride, v.stride, out.stride,
                   queries.start, keys.start, heads / kv_heads, head_size, scale * kLog2E};
  for_head_size(head_size, [&](auto dim, auto exact) {
    for_rows(queue, q.rows * heads, [&](auto rows) {
      using Tile = FlashTile<dim.value, rows.value>;
      const auto blocks = static_cast<uint32_t>((queries.most + Tile::kQueries - 1) / Tile::kQueries);
      launch(queue.stream, attention_dense_kernel<dim.value, exact.value, rows.value>,
             {dim3(blocks, static_cast<uint32_t>(heads), static_cast<uint32_t>(queries.count)), dim3(Tile::kWarps * 32), Tile::kBytes}, p);
    });
  });
}

}  // namespace jvlm::cuda
