// The product of any number of rows: out = end(x W^T), x (T, k) bf16, W (n, k) bf16 or int8, sums float32.
//
// 2 T n k operations over 2 T k + size n k + T n bytes: above some 300 rows an H100 is bound by operations, below by the weights' bytes. The ceiling is
// the rate of mma.sync m16n8k16; sm_90's whole rate takes wgmma, which is cuBLASLt's to give.
//
// A block of four warps computes BlockM x BlockN sums. cp.async fills a ring of Stages slices of 32 inputs of x and W: three for 128 x 128 (48 KiB, so
// that two blocks share a multiprocessor everywhere; of int8 52 KiB, and one block where there are 100), more for small tiles, whose few blocks must
// have as many bytes under way. int8 comes through the ring too; the thread that copied 16 weights widens them, once a block and 2.5 instructions a
// weight, into one of two tiles of bf16 while the tensor cores work on the other; its rows' scales meet the sums at the end. Rows of 64 bytes have
// their 16-byte pieces XORed with row / 2, so that neither ldmatrix nor stores meet in a bank.
//
// Which weight row is which column of a tile is free to choose. Of 32 rows, tile j's columns 2t, 2t + 1 are rows 8t + 2j and + 1, so that lane t holds
// eight neighbouring results of four tiles: 16-byte stores without a way through shared memory. For gates, tiles 0, 1 are rows of Wg and 2, 3 the
// same of Wu: a lane holds four neighbouring pairs.
#include "ops/cuda/ends.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kThreads = 128, kBlockK = 32, kPieces = kBlockK / 8;
constexpr int kPass = kThreads / kPieces;                  // rows that a block copies at once, a piece of 8 inputs a thread
static_assert(kPass == 32, "a pass is a group of four tiles");

struct GemmParams {
  const uint16_t* x;
  const void* w;
  int64_t x_stride, w_stride;                              // elements
  int32_t rows, outputs, inputs;                           // T; n, of a gate m; k
  int32_t row_blocks, column_blocks;
  bool wide;                                               // rows of out are 16-byte aligned
  EndParams end;
};

template <int BlockM, int BlockN, int Stages, bool Int8>
struct GemmShared {
  static constexpr int row_bytes = kBlockK * 2;
  static constexpr int w = BlockM * row_bytes;             // inside a stage
  static constexpr int stage = w + BlockN * (Int8 ? kBlockK : row_bytes);
  static constexpr int wide = Stages * stage;              // two tiles of widened weights
  static constexpr int bytes = wide + (Int8 ? 2 * BlockN * row_bytes : 0);
};

// Byte offset of a piece of 16 bytes of a row.
JVLM_DEVICE int swizzled(int row, int piece) { return row * (kBlockK * 2) + ((piece ^ (row >> 1)) & (kPieces - 1)) * 16; }

// Blocks that run together share rows of x and of W in the second cache: columns of up to kBand row blocks, one after the other.
JVLM_DEVICE int2 block_place(int index, int row_blocks, int column_blocks) {
  constexpr int kBand = 16;
  const int band = index / (kBand * column_blocks), first = band * kBand, height = min(kBand, row_blocks - first);
  const int inside = index - first * column_blocks;
  return make_int2(first + inside % height, inside / height);
}

// N results of one row from column `column` on.
template <int N>
JVLM_DEVICE void store_row(const GemmParams& p, int row, int column, const float (&v)[N]) {
  const int count = min(N, p.outputs - column);
  if (row >= p.rows || count <= 0) return;
  const int64_t at = row * p.end.stride + column;
  if (p.end.out_float) {
    float* out = static_cast<float*>(p.end.out) + at;
    if (count == N && p.wide) {
#pragma unroll
      for (int i = 0; i < N; i += 4) {
        float4 four = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
        if (p.end.add) {
          const float4 old = *reinterpret_cast<const float4*>(out + i);
          four = make_float4(four.x + old.x, four.y + old.y, four.z + old.z, four.w + old.w);
        }
        *reinterpret_cast<float4*>(out + i) = four;
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (i < count) out[i] = p.end.add ? out[i] + v[i] : v[i];
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(p.end.out) + at;
  if (count == N && p.wide) {
    if constexpr (N == 8)
      *reinterpret_cast<uint4*>(out) =
          make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7]));
    else
      *reinterpret_cast<uint2*>(out) = make_uint2(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]));
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i)
    if (i < count) out[i] = ptx::to_bf16(v[i]);
}

template <int N>
JVLM_DEVICE void load_columns(float (&v)[N], const float* from, int column, int outputs, float otherwise) {
#pragma unroll
  for (int i = 0; i < N; ++i) v[i] = from && column + i < outputs ? from[column + i] : otherwise;
}

// The weight row of row `slot` of a tile, counted from the first one of the block's outputs; `outputs` rows of Wg come before those of Wu.
template <bool Gate>
JVLM_DEVICE int2 dealt(int slot) {
  const int group = slot / 32, tile = slot % 32 / 8, t = slot % 8 / 2, e = slot % 2;
  return Gate ? make_int2(group * 16 + 4 * t + 2 * (tile % 2) + e, tile / 2) : make_int2(group * 32 + 8 * t + 2 * tile + e, 0);
}

template <int BlockM, int BlockN, int Stages, bool Int8, bool Gate>
__global__ void __launch_bounds__(kThreads, 2) gemm_kernel(__grid_constant__ const GemmParams p) {
  using Shared = GemmShared<BlockM, BlockN, Stages, Int8>;
  constexpr int kWarpsN = BlockN == 32 ? 1 : 2, kWarpsM = kThreads / 32 / kWarpsN;
  constexpr int kWarpM = BlockM / kWarpsM, kWarpN = BlockN / kWarpsN, kTilesM = kWarpM / 16, kTilesN = kWarpN / 8;
  constexpr int kWeightsPiece = Int8 ? 16 : 8, kWeightPieces = kBlockK / kWeightsPiece, kWeightPass = kThreads / kWeightPieces;
  constexpr int kPassesM = BlockM / kPass, kPassesN = (BlockN + kWeightPass - 1) / kWeightPass;
  constexpr int kWeightBytes = Int8 ? 1 : 2;
  constexpr int kGroupOutputs = Gate ? 16 : 32;            // of a group of 32 weight rows
  static_assert(kWarpN % 32 == 0 && kWarpM % 16 == 0);
  JVLM_SHARED(shared);

  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int2 place = block_place(blockIdx.x, p.row_blocks, p.column_blocks);
  const int first_row = place.x * BlockM, first_output = place.y * (BlockN / 32 * kGroupOutputs);

  // What this thread copies of every slice: a piece of one row of each pass.
  const int x_slot = thread / kPieces, x_piece = thread % kPieces, w_slot = thread / kWeightPieces, w_piece = thread % kWeightPieces;
  const uint16_t* const x_from = p.x + (first_row + x_slot) * p.x_stride + x_piece * 8;
  const int2 w_row = dealt<Gate>(w_slot);
  const int w_output = first_output + w_row.x;
  const int64_t w_first = (w_output + static_cast<int64_t>(w_row.y) * p.outputs) * p.w_stride + w_piece * kWeightsPiece;
  const char* const w_from = static_cast<const char*>(p.w) + w_first * kWeightBytes;
  const int slices = (p.inputs + kBlockK - 1) / kBlockK;

  auto fetch = [&](int slice) {
    if (slice < slices) {
      char* const stage = shared + slice % Stages * Shared::stage;
      const int input = slice * kBlockK;
      const int valid = max(0, min(8, p.inputs - input - x_piece * 8)) * 2;        // what lies behind the last input is no number
#pragma unroll
      for (int i = 0; i < kPassesM; ++i) {
        const bool inside = valid > 0 && first_row + x_slot + i * kPass < p.rows;
        ptx::cp_async16(stage + swizzled(x_slot + i * kPass, x_piece), inside ? x_from + i * kPass * p.x_stride + input : p.x, inside ? valid : 0);
      }
#pragma unroll
      for (int i = 0; i < kPassesN; ++i) {
        const int step = i * (kWeightPass / 32 * kGroupOutputs);
        if (w_slot + i * kWeightPass >= BlockN) break;
        const bool inside = w_output + step < p.outputs;
        const void* const from = inside ? w_from + (step * p.w_stride + input) * kWeightBytes : p.w;
        char* const to = Int8 ? stage + Shared::w + (i * kThreads + thread) * 16 : stage + Shared::w + swizzled(w_slot + i * kWeightPass, w_piece);
        ptx::cp_async16(to, from, inside ? 16 : 0);
      }
    }
    ptx::cp_async_commit();
  };
  // What this thread copied itself, so that no barrier stands between.
  auto widen = [&](int slice) {
    if constexpr (Int8) {
      if (slice >= slices) return;
      ptx::cp_async_wait<Stages - 2>();
      const char* const raw = shared + slice % Stages * Shared::stage + Shared::w;
      char* const wide = shared + Shared::wide + slice % 2 * (BlockN * Shared::row_bytes);
#pragma unroll
      for (int i = 0; i < kPassesN; ++i) {
        const int slot = w_slot + i * kWeightPass;
        if (slot >= BlockN) break;
        const uint4 v = *reinterpret_cast<const uint4*>(raw + (i * kThreads + thread) * 16);
        const uint2 v0 = widen4(v.x), v1 = widen4(v.y), v2 = widen4(v.z), v3 = widen4(v.w);
        *reinterpret_cast<uint4*>(wide + swizzled(slot, w_piece * 2)) = make_uint4(v0.x, v0.y, v1.x, v1.y);
        *reinterpret_cast<uint4*>(wide + swizzled(slot, w_piece * 2 + 1)) = make_uint4(v2.x, v2.y, v3.x, v3.y);
      }
    }
  };

  const int warp_row = warp / kWarpsN * kWarpM, warp_column = warp % kWarpsN * kWarpN;
  float sum[kTilesM][kTilesN][4] = {};
  uint32_t a[2][kTilesM][4], b[2][kTilesN][2];             // of a step of 16 inputs and of the next one
  auto load = [&](const char* x, const char* w, int step) {
#pragma unroll
    for (int i = 0; i < kTilesM; ++i) ptx::ldmatrix_x4(a[step % 2][i], x + swizzled(warp_row + i * 16 + lane % 16, step * 2 + lane / 16));
#pragma unroll
    for (int j = 0; j < kTilesN; j += 2) {
      uint32_t r[4];
      ptx::ldmatrix_x4(r, w + swizzled(warp_column + j * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
      b[step % 2][j][0] = r[0], b[step % 2][j][1] = r[1], b[step % 2][j + 1][0] = r[2], b[step % 2][j + 1][1] = r[3];
    }
  };

#pragma unroll
  for (int s = 0; s < Stages - 1; ++s) fetch(s);
  widen(0);
  for (int slice = 0; slice < slices; ++slice) {
    ptx::cp_async_wait<Stages - 2>();
    ptx::barrier();                                        // this slice has come, and nobody reads the one before any more
    fetch(slice + Stages - 1);
    const char* const x = shared + slice % Stages * Shared::stage;
    const char* const w = Int8 ? shared + Shared::wide + slice % 2 * (BlockN * Shared::row_bytes) : x + Shared::w;
    load(x, w, 0);
#pragma unroll
    for (int step = 0; step < kBlockK / 16; ++step) {
      if (step + 1 < kBlockK / 16) load(x, w, step + 1);
#pragma unroll
      for (int i = 0; i < kTilesM; ++i)
#pragma unroll
        for (int j = 0; j < kTilesN; ++j) ptx::mma_bf16(sum[i][j], a[step % 2][i], b[step % 2][j]);
    }
    widen(slice + 1);
  }

  // Lane (g, t) holds rows g and g + 8 of every 16, and the columns that the head of this file deals to t.
  const int g = lane / 4, lane_t = lane % 4;
#pragma unroll
  for (int q = 0; q < kTilesN / 4; ++q) {
    const int column = first_output + (warp_column / 32 + q) * kGroupOutputs + lane_t * (kGroupOutputs / 4);
    if constexpr (Gate) {
      float gate_scale[4], up_scale[4];
      load_columns(gate_scale, p.end.scale, column, p.outputs, 1);
      load_columns(up_scale, p.end.scale ? p.end.scale + p.outputs : nullptr, column, p.outputs, 1);
#pragma unroll
      for (int i = 0; i < kTilesM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float v[4];
#pragma unroll
          for (int c = 0; c < 4; ++c)
            v[c] = activate(sum[i][q * 4 + c / 2][half * 2 + c % 2] * gate_scale[c], p.end.act) * (sum[i][q * 4 + 2 + c / 2][half * 2 + c % 2] * up_scale[c]);
          store_row(p, first_row + warp_row + i * 16 + half * 8 + g, column, v);
        }
    } else {
      float scale[8], bias[8], layer_scale[8];
      load_columns(scale, p.end.scale, column, p.outputs, 1);
      load_columns(bias, p.end.bias, column, p.outputs, 0);
      load_columns(layer_scale, p.end.layer_scale, column, p.outputs, 1);
#pragma unroll
      for (int i = 0; i < kTilesM; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float v[8];
#pragma unroll
          for (int c = 0; c < 8; ++c)
            v[c] = layer_scale[c] * activate(sum[i][q * 4 + c / 2][half * 2 + c % 2] * scale[c] + bias[c], p.end.act);
          store_row(p, first_row + warp_row + i * 16 + half * 8 + g, column, v);
        }
    }
  }
}

// ---- host -----------------------------------------------------------------------------------------------------------------------------
constexpr int32_t blocks_of(int64_t n, int64_t size) { return static_cast<int32_t>((n + size - 1) / size); }

struct Tile {
  int m, n;
  int cost;                                                // of a wave: m * n over how much of the rate the tile reaches
};
constexpr Tile kTiles[] = {{128, 128, 128 * 128}, {128, 64, 128 * 64 * 10 / 9}, {64, 64, 64 * 64 * 10 / 7}, {64, 32, 64 * 32 * 10 / 5}};
constexpr int kOneTile = 2;                                // for any number of rows

// The tile with which rows x columns of weights take the least time, two blocks a multiprocessor at once; the larger one on ties.
constexpr int choose_tile(int64_t rows, int64_t columns, int multiprocessors) {
  int best = 0;
  int64_t least = INT64_MAX;
  for (int i = 0; i < 4; ++i) {
    const int64_t blocks = static_cast<int64_t>(blocks_of(rows, kTiles[i].m)) * blocks_of(columns, kTiles[i].n);
    const int64_t time = (blocks + 2 * multiprocessors - 1) / (2 * multiprocessors) * kTiles[i].cost;
    if (time < least) least = time, best = i;
  }
  return best;
}
static_assert(choose_tile(17, 2048, 132) == 3 && choose_tile(257, 8192, 132) == 0 && choose_tile(1025, 3072, 132) == 0 && choose_tile(8192, 8192, 132) == 0);

template <int BlockM, int BlockN, int Stages>
void start(const Queue& queue, GemmParams& p, bool int8, bool gate) {
  p.row_blocks = blocks_of(p.rows, BlockM), p.column_blocks = blocks_of(p.outputs, gate ? BlockN / 2 : BlockN);
  const dim3 grid(static_cast<uint32_t>(p.row_blocks) * static_cast<uint32_t>(p.column_blocks)), block(kThreads);
  if (int8)
    launch(queue.stream, gate ? gemm_kernel<BlockM, BlockN, Stages, true, true> : gemm_kernel<BlockM, BlockN, Stages, true, false>,
           Shape{grid, block, GemmShared<BlockM, BlockN, Stages, true>::bytes}, p);
  else
    launch(queue.stream, gate ? gemm_kernel<BlockM, BlockN, Stages, false, true> : gemm_kernel<BlockM, BlockN, Stages, false, false>,
           Shape{grid, block, GemmShared<BlockM, BlockN, Stages, false>::bytes}, p);
}

}  // namespace

void gemm(const Queue& queue, Tensor out, Tensor x, const Matrix& w, const End& end) {
  const bool int8 = w.dtype == Dtype::i8, gate = end.kind == End::gate;
  const bool wide = out.stride * size_of(out.dtype) % 16 == 0 && reinterpret_cast<uintptr_t>(out.data) % 16 == 0;
  GemmParams p{static_cast<const uint16_t*>(x.data), w.data, x.stride, weight_stride(w.k), static_cast<int32_t>(x.rows), static_cast<int32_t>(gate ? w.n / 2 : w.n),
               static_cast<int32_t>(w.k), 0, 0, wide, EndParams(out, w, end)};
  if (p.rows == 0 || p.outputs == 0) return;
  // Every tile adds a row's products up in the same order, but only the same instructions are sure to round the ends in the same way.
  switch (queue.deterministic ? kOneTile : choose_tile(x.rows, w.n, queue.multiprocessors)) {
    case 0: return start<128, 128, 3>(queue, p, int8, gate);
    case 1: return start<128, 64, 4>(queue, p, int8, gate);
    case 2: return start<64, 64, 6>(queue, p, int8, gate);
    default: return start<64, 32, 8>(queue, p, int8, gate);
  }
}

}  // namespace jvlm::cuda
