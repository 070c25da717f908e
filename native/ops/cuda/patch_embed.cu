// Bytes to normalised patches, patches times weights plus positions: the input of a ViT, in two launches.
//
// First launch: bound by memory, 1 byte in and 2 out a number: seven tiles of 448x448 are 4.2 MB in, 9.2 MB out (640 columns for 588), 4 us at
// 3.35 TB/s. The patches could go to shared memory of the product instead, but each would be made again by every block of columns.
// Second launch: 2 * 7168 * 640 * 1024 = 9.4 GFLOP and 30 MB out, a thirtieth of one layer, once a picture; so a plain tensor-core product: tiles
// of 128 x 64, four warps of 32 x 64, three stages of cp.async, shared rows of 128 bytes whose 16-byte pieces are XORed with the row.
// The ceiling of mma.sync on sm_90 is about 60% of the card's, 16 us; on sm_80 to 89 it is the card's.
#include "base/error.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {
namespace {

struct Pixels {
  const uint8_t* rgb;
  const Patch* tokens;
  uint16_t* patches;                                       // (tokens, stride)
  int64_t pieces;                                          // of 8 columns, in all
  int32_t patch, columns, stride;
  float mean[3], std[3];
};

constexpr int kPixelThreads = 256;

// Eight columns (channel, y, x) of a token's patch a thread; those from `columns` on, those of pixels beyond the picture and those of class tokens are zero.
__global__ void __launch_bounds__(kPixelThreads) pixels_kernel(const Pixels p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kPixelThreads + threadIdx.x;
  if (i >= p.pieces) return;
  const int pieces = p.stride / 8;
  const int row = static_cast<int>(i / pieces), first = 8 * static_cast<int>(i - static_cast<int64_t>(row) * pieces);
  const Patch token = p.tokens[row];
  const uint8_t* corner = p.rgb + token.first;
  int channel = first / (p.patch * p.patch), y = first / p.patch % p.patch, x = first % p.patch;
  float v[8];
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    v[j] = 0;
    if (first + j < p.columns && y < token.below && x < token.right) {
      // Divided twice, as the references do: a multiplication by the reciprocal rounds to another bf16 now and then.
      const float byte = static_cast<float>(corner[y * token.pitch + x * 3 + channel]);
      const float mean = channel == 0 ? p.mean[0] : channel == 1 ? p.mean[1] : p.mean[2], std = channel == 0 ? p.std[0] : channel == 1 ? p.std[1] : p.std[2];
      v[j] = (byte / 255.f - mean) / std;
    }
    if (++x == p.patch) {
      x = 0;
      if (++y == p.patch) y = 0, ++channel;
    }
  }
  *reinterpret_cast<uint4*>(p.patches + 8 * i) = make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7]));
}

struct Product {
  const uint16_t *patches, *weights;                       // (m, k) and (n, k), k a multiple of BlockK
  float* out;
  const Patch* tokens;
  const float *bias, *class_token, *positions;
  int64_t out_stride;
  int32_t m, n, k;
};

constexpr int kBlockM = 128, kBlockN = 64, kBlockK = 64, kStages = 3, kProductThreads = 128;
constexpr int kWarpM = kBlockM / (kProductThreads / 32);   // a warp has all columns of 32 rows
struct ProductShared {
  uint16_t a[kStages][kBlockM * kBlockK], b[kStages][kBlockN * kBlockK];
};

// Where the 16-byte piece (row, piece of eight) of a tile lies: rows of 128 bytes, eight rows of one piece in eight different groups of banks.
JVLM_DEVICE int swizzled(int row, int piece) { return row * kBlockK + ((piece ^ row) & 7) * 8; }

// Rows first ... of a matrix with k columns, columns from `column` on, to a tile. Rows from `rows` on are zero.
template <int Rows>
JVLM_DEVICE void load_tile(uint16_t* tile, const uint16_t* matrix, int first, int rows, int k, int column) {
  for (int i = static_cast<int>(threadIdx.x); i < Rows * 8; i += kProductThreads) {
    const int row = i / 8, piece = i % 8, at = first + row;
    ptx::cp_async16(tile + swizzled(row, piece), matrix + static_cast<int64_t>(at < rows ? at : 0) * k + column + piece * 8, at < rows ? 16 : 0);
  }
}

__global__ void __launch_bounds__(kProductThreads) product_kernel(const Product p) {
  JVLM_SHARED(arena);
  auto& shared = *reinterpret_cast<ProductShared*>(arena);
  const int n0 = static_cast<int>(blockIdx.x) * kBlockN, m0 = static_cast<int>(blockIdx.y) * kBlockM;
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x) / 32, steps = p.k / kBlockK;
  auto load = [&](int step) {
    if (step < steps) {
      load_tile<kBlockM>(shared.a[step % kStages], p.patches, m0, p.m, p.k, step * kBlockK);
      load_tile<kBlockN>(shared.b[step % kStages], p.weights, n0, p.n, p.k, step * kBlockK);
    }
    ptx::cp_async_commit();                                // an empty group too: the waits below count groups
  };

  float sum[kWarpM / 16][kBlockN / 8][4] = {};
  for (int s = 0; s < kStages - 1; ++s) load(s);
  for (int s = 0; s < steps; ++s) {
    ptx::cp_async_wait<kStages - 2>();
    ptx::barrier();                                        // everybody's part of stage s has come, and stage s - 1 has been read by all
    load(s + kStages - 1);
    const uint16_t *a = shared.a[s % kStages], *b = shared.b[s % kStages];
#pragma unroll
    for (int k = 0; k < kBlockK / 8; k += 2) {             // in pieces of eight
      uint32_t x[kWarpM / 16][4];
#pragma unroll
      for (int i = 0; i < kWarpM / 16; ++i) ptx::ldmatrix_x4(x[i], a + swizzled(warp * kWarpM + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
      for (int j = 0; j < kBlockN / 8; j += 2) {
        // Matrices 0, 1: k and k + 8 of columns j * 8 on; 2, 3: those of the next eight columns.
        uint32_t w[4];
        ptx::ldmatrix_x4(w, b + swizzled(j * 8 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
        const uint32_t left[2] = {w[0], w[1]}, right[2] = {w[2], w[3]};
#pragma unroll
        for (int i = 0; i < kWarpM / 16; ++i) {
          ptx::mma_bf16(sum[i][j], x[i], left);
          ptx::mma_bf16(sum[i][j + 1], x[i], right);
        }
      }
    }
  }

  // What is added to a class token's products, which are 0, takes the bias's place.
#pragma unroll
  for (int i = 0; i < kWarpM / 16; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int m = m0 + warp * kWarpM + i * 16 + half * 8 + lane / 4;
      if (m >= p.m) continue;
      float* out = p.out + m * p.out_stride;
      const float* positions = p.positions + static_cast<int64_t>(p.tokens[m].position) * p.n;
      const float* added = p.tokens[m].below == 0 ? p.class_token : p.bias;
#pragma unroll
      for (int j = 0; j < kBlockN / 8; ++j) {
        const int n = n0 + j * 8 + lane % 4 * 2;
        if (n >= p.n) continue;                            // n is even, so the pair is inside or outside
        const float2 more = *reinterpret_cast<const float2*>(added + n), position = *reinterpret_cast<const float2*>(positions + n);
        *reinterpret_cast<float2*>(out + n) = make_float2(sum[i][j][2 * half] + more.x + position.x, sum[i][j][2 * half + 1] + more.y + position.y);
      }
    }
}

constexpr uint32_t pieces_of(int64_t n, int64_t size) { return static_cast<uint32_t>((n + size - 1) / size); }

}  // namespace

void patch_embed(const Queue& queue, Tensor out, const uint8_t* rgb, const Patch* tokens, int32_t patch, const Matrix& w, const float* bias,
                 const float* class_token, const float* positions, const float mean[3], const float std[3], void* patches) {
  if (w.dtype != Dtype::bf16 || w.n % 2)
    throw device_error("A vision model with these patch weights does not run on this device. Run it on the device cpu");
  const int64_t rows = out.rows, stride = weight_stride(w.k);
  if (rows == 0) return;
  const Pixels pixels{rgb, tokens, static_cast<uint16_t*>(patches), rows * stride / 8, patch, static_cast<int32_t>(w.k), static_cast<int32_t>(stride),
                      {mean[0], mean[1], mean[2]}, {std[0], std[1], std[2]}};
  launch(queue.stream, pixels_kernel, {dim3(pieces_of(pixels.pieces, kPixelThreads)), dim3(kPixelThreads)}, pixels);
  static_assert(kWeightStride % kBlockK == 0);
  const Product product{pixels.patches, static_cast<const uint16_t*>(w.data), out.row<float>(0), tokens, bias, class_token, positions, out.stride,
                        static_cast<int32_t>(rows), static_cast<int32_t>(w.n), static_cast<int32_t>(stride)};
  launch(queue.stream, product_kernel, {dim3(pieces_of(w.n, kBlockN), pieces_of(rows, kBlockM)), dim3(kProductThreads), sizeof(ProductShared)}, product);
}

}  // namespace jvlm::cuda
