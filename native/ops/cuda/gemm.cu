// Products of many rows: out (T, n) = x (T, k) W^T with what follows it (End). 2 T n k operations on 2 (T k + n k) bytes: bound by the tensor cores.
//
// A block of BlockM x BlockN outputs passes over k in steps of 64: cp.async brings the next tiles of x and W into a ring of shared memory, ldmatrix and
// mma.sync m16n8k16 use them. A row of a tile is 128 bytes whose 16-byte pieces are XORed with the row's number, so that the eight rows of an ldmatrix
// lie in eight different sets of banks. Weights in int8 travel as they are and are widened, exactly, on the way into the fragments; their scale is
// applied to the sums.
#include "ops/cuda/activate.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kStep = 64;                                  // inputs at a time

struct Product {
  const uint16_t* x;
  const char* w;                                           // bf16 or int8, rows weight_stride(k) apart
  void* out;
  const float *scale, *bias, *layer_scale;                 // null: none
  int64_t x_stride, w_stride, out_stride;
  int rows, n, k;                                          // n: outputs; with `gate` half of the rows of W
  Act act;
};

template <int BlockM, int BlockN, bool Int8>
struct GemmTile {
  static constexpr int kWarpsM = 2, kWarpsN = BlockN / 32, kThreads = 32 * kWarpsM * kWarpsN, kStages = 3;
  static constexpr int kWarpM = BlockM / kWarpsM, kMmaM = kWarpM / 16, kMmaN = 4;        // a warp's share: kWarpM x 32
  static constexpr int kXBytes = BlockM * kStep * 2, kWBytes = BlockN * kStep * (Int8 ? 1 : 2), kStageBytes = kXBytes + kWBytes;
  static constexpr int kBytes = kStages * kStageBytes;
};

// Where piece `piece` (16 bytes) of row `row` lies in a tile of 128-byte rows.
JVLM_DEVICE int swizzled(int row, int piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }
// Rows of int8 weights are 64 bytes: two share the banks of one 128-byte row.
JVLM_DEVICE int swizzled_narrow(int row, int piece) { return row * 64 + ((piece ^ ((row >> 1) & 3)) << 4); }

// Two int8 to two bf16, which hold every such integer.
JVLM_DEVICE uint32_t widen(uint32_t two) {
  return ptx::pack_bf16(static_cast<float>(static_cast<int8_t>(two & 0xff)), static_cast<float>(static_cast<int8_t>(two >> 8 & 0xff)));
}

template <int BlockM, int BlockN, bool Int8, End::Kind Kind, bool Float>
__global__ void __launch_bounds__(GemmTile<BlockM, BlockN, Int8>::kThreads) gemm_kernel(const Product p) {
  using Tile = GemmTile<BlockM, BlockN, Int8>;
  constexpr bool kGate = Kind == End::gate;
  JVLM_SHARED(shared);
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, warp_m = warp / Tile::kWarpsN, warp_n = warp % Tile::kWarpsN;
  const int row0 = blockIdx.y * BlockM, column0 = blockIdx.x * (kGate ? BlockN / 2 : BlockN);

  // The row of W behind row r of the tile; with `gate`, eights of gates and of ups take turns, so that a thread holds both of an output. -1: none.
  auto weight_row = [&](int r) {
    const int output = column0 + (kGate ? r / 16 * 8 + r % 8 : r);
    return output >= p.n ? -1 : kGate && r / 8 % 2 ? p.n + output : output;
  };
  const int steps = static_cast<int>((p.k + kStep - 1) / kStep);
  auto fetch = [&](int step) {
    if (step < steps) {
      char* x_tile = shared + step % Tile::kStages * Tile::kStageBytes;
      for (int i = thread; i < BlockM * 8; i += Tile::kThreads) {
        const int r = i / 8, piece = i % 8, row = row0 + r, input = step * kStep + piece * 8;
        const int bytes = row < p.rows ? max(0, min(16, (p.k - input) * 2)) : 0;
        ptx::cp_async16(x_tile + swizzled(r, piece), bytes ? p.x + row * p.x_stride + input : p.x, bytes);
      }
      char* w_tile = x_tile + Tile::kXBytes;
      constexpr int kPieces = Int8 ? 4 : 8;
      for (int i = thread; i < BlockN * kPieces; i += Tile::kThreads) {
        const int r = i / kPieces, piece = i % kPieces, row = weight_row(r);
        const char* from = row < 0 ? p.w : p.w + row * p.w_stride + step * kPieces * 16 + piece * 16;
        ptx::cp_async16(w_tile + (Int8 ? swizzled_narrow(r, piece) : swizzled(r, piece)), from, row < 0 ? 0 : 16);
      }
    }
    ptx::cp_async_commit();
  };

  float sum[Tile::kMmaM][Tile::kMmaN][4] = {};
  for (int step = 0; step < Tile::kStages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<Tile::kStages - 2>();
    ptx::barrier();                                        // this step's tiles are there, and the last step's have been read by all
    fetch(step + Tile::kStages - 1);
    const char* x_tile = shared + step % Tile::kStages * Tile::kStageBytes;
    const char* w_tile = x_tile + Tile::kXBytes;
    for (int k = 0; k < kStep / 16; ++k) {
      uint32_t a[Tile::kMmaM][4], b[Tile::kMmaN][2];
      for (int m = 0; m < Tile::kMmaM; ++m) ptx::ldmatrix_x4(a[m], x_tile + swizzled(warp_m * Tile::kWarpM + m * 16 + lane % 16, k * 2 + lane / 16));
      if constexpr (Int8) {
        for (int n = 0; n < Tile::kMmaN; ++n) {
          const int r = warp_n * 32 + n * 8 + lane / 4;
          const char* from = w_tile + swizzled_narrow(r, k) + lane % 4 * 2;
          b[n][0] = widen(*reinterpret_cast<const uint16_t*>(from));
          b[n][1] = widen(*reinterpret_cast<const uint16_t*>(from + 8));
        }
      } else {
        for (int n = 0; n < Tile::kMmaN; n += 2) {
          uint32_t r[4];                                   // two groups of eight rows of W, both halves of 16 inputs
          ptx::ldmatrix_x4(r, w_tile + swizzled(warp_n * 32 + n * 8 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
          b[n][0] = r[0], b[n][1] = r[1], b[n + 1][0] = r[2], b[n + 1][1] = r[3];
        }
      }
      for (int m = 0; m < Tile::kMmaM; ++m)
        for (int n = 0; n < Tile::kMmaN; ++n) ptx::mma_bf16(sum[m][n], a[m], b[n]);
    }
  }

  // Two neighbouring outputs of a row at a time: columns 2t, 2t + 1 of each group of eight.
  for (int m = 0; m < Tile::kMmaM; ++m)
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + warp_m * Tile::kWarpM + m * 16 + half * 8 + lane / 4;
      if (row >= p.rows) continue;
      for (int n = 0; n < Tile::kMmaN; n += kGate ? 2 : 1) {
        const int group = warp_n * 4 + n, column = column0 + (kGate ? group / 2 : group) * 8 + lane % 4 * 2;
        float result[2];
        for (int i = 0; i < 2 && column + i < p.n; ++i) {
          const int c = column + i;
          float v = sum[m][n][half * 2 + i];
          if (Int8) v *= p.scale[c];
          if constexpr (kGate) {
            float up = sum[m][n + 1][half * 2 + i];
            if (Int8) up *= p.scale[p.n + c];
            result[i] = activate(v, p.act) * up;
          } else {
            if (p.bias) v += p.bias[c];
            result[i] = Kind == End::add ? (p.layer_scale ? p.layer_scale[c] * v : v) : activate(v, p.act);
          }
        }
        if (column >= p.n) continue;
        const bool both = column + 1 < p.n;
        if constexpr (Float) {
          float* to = static_cast<float*>(p.out) + row * p.out_stride + column;
          to[0] = Kind == End::add ? to[0] + result[0] : result[0];
          if (both) to[1] = Kind == End::add ? to[1] + result[1] : result[1];
        } else {
          uint16_t* to = static_cast<uint16_t*>(p.out) + row * p.out_stride + column;
          if (both)
            *reinterpret_cast<uint32_t*>(to) = ptx::pack_bf16(result[0], result[1]);
          else
            *to = ptx::to_bf16(result[0]);
        }
      }
    }
  ptx::cp_async_wait<0>();
}

// ---- choice ---------------------------------------------------------------------------------------------------------------------------

// Large blocks do most with what they read; where they would leave multiprocessors idle, small ones serve.
bool large(int64_t rows, int64_t columns, int multiprocessors) { return (rows + 127) / 128 * ((columns + 127) / 128) >= multiprocessors; }

template <int BlockM, int BlockN, bool Int8, End::Kind Kind, bool Float>
void start(const Queue& queue, const Product& p) {
  using Tile = GemmTile<BlockM, BlockN, Int8>;
  constexpr int kOutputs = Kind == End::gate ? BlockN / 2 : BlockN;
  launch(queue.stream, gemm_kernel<BlockM, BlockN, Int8, Kind, Float>,
         {dim3(static_cast<uint32_t>((p.n + kOutputs - 1) / kOutputs), static_cast<uint32_t>((p.rows + BlockM - 1) / BlockM)), dim3(Tile::kThreads),
          Tile::kBytes},
         p);
}

template <bool Int8, End::Kind Kind, bool Float>
void choose(const Queue& queue, const Product& p) {
  const int64_t columns = Kind == End::gate ? 2LL * p.n : p.n;
  if (large(p.rows, columns, queue.multiprocessors))
    start<128, 128, Int8, Kind, Float>(queue, p);
  else
    start<64, 64, Int8, Kind, Float>(queue, p);
}

template <bool Int8>
void choose(const Queue& queue, const Product& p, End::Kind kind, bool is_float) {
  if (kind == End::gate) return choose<Int8, End::gate, false>(queue, p);
  if (kind == End::add) return choose<Int8, End::add, true>(queue, p);
  is_float ? choose<Int8, End::store, true>(queue, p) : choose<Int8, End::store, false>(queue, p);
}

}  // namespace

void gemm(const Queue& queue, Tensor out, Tensor x, const Matrix& w, const End& end) {
  if (!out.rows || !out.cols) return;
  Product p;
  p.x = x.row<uint16_t>(0), p.w = static_cast<const char*>(w.data), p.out = out.data;
  p.scale = w.scale, p.bias = end.bias, p.layer_scale = end.layer_scale;
  p.x_stride = x.stride, p.w_stride = weight_stride(w.k) * size_of(w.dtype), p.out_stride = out.stride;
  p.rows = static_cast<int>(x.rows), p.n = static_cast<int>(out.cols), p.k = static_cast<int>(w.k);
  p.act = end.act;
  if (w.dtype == Dtype::i8)
    choose<true>(queue, p, end.kind, out.dtype == Dtype::f32);
  else
    choose<false>(queue, p, end.kind, out.dtype == Dtype::f32);
}

}  // namespace jvlm::cuda
