// The product of a few rows, T <= 16: out = end(x W^T) or end(norm(x) W^T), x (T, k) bf16 or float, W (n, k) bf16 or int8, sums float32.
//
// Bound by the weights' bytes, each of which is read once: 2 T operations for 2 bytes (1 of int8). The ceiling is the memory's speed; what is
// designed for it is bytes under way. A block of eight warps computes 16 outputs (of gates 16 of Wg and the 16 of Wu beside them) for all T rows;
// the warps share the inputs out in lines of 128 bytes of the 16 weight rows, and each holds one line in registers and has the next one coming,
// the first before the kernel before has ended.
//
// mma.sync m16n8k16 with the weights as a (16 rows) and x as b (8 or 16 columns). A sum knows no order of its terms, so that lane t may take any
// inputs for its own as long as a and b agree: it takes 16 neighbouring bytes of each weight row, straight from memory into fragments, with neither
// shared memory nor ldmatrix between. int8 is widened in registers; its scale meets the sums at the end.
//
// The norm is each block's own: statistics over all of x, then every warp normalises the x that it multiplies. That reads 4 T k bytes from the
// second cache twice beside a block's 32 k (16 k, of gates twice that) of weights: cheap up to T = 4, as dear as the weights above.
#include "ops/cuda/ends.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32, kBlockRows = 16, kLine = 128, kHalves = 2;
static_assert(kThreads == kMatvecRows * kBlockRows, "a thread ends one output of one row");

struct MatvecParams {
  const void* x;                                           // bf16, before a norm float
  const void* w;
  int64_t x_stride, w_bytes;                               // elements; bytes of a weight row
  int32_t rows, outputs, inputs;                           // T; n, of a gate m; k
  bool wide, centred;                                      // rows of x are 16-byte aligned; the norm subtracts the mean
  float eps;
  const float *norm_weight, *norm_bias;
  EndParams end;
};

template <int Tiles, int Tokens>
struct MatvecShared {
  static constexpr int token_floats = kBlockRows + 4;      // padded: the lanes of a quad and the eight quads write to 32 banks
  static constexpr int means = 0, squares = means + kWarps * kMatvecRows * 4, sums = squares + kWarps * kMatvecRows * 4;      // offsets in bytes
  static constexpr int bytes = sums + kWarps * Tiles * Tokens * token_floats * 4;
};

// Every warp's part of the sum of term(token, input) over all inputs, for each token; seen by all after a barrier.
template <class Term>
JVLM_DEVICE void sum_inputs(float* parts, int tokens, int inputs, Term term) {
  const int thread = threadIdx.x;
  for (int token = 0; token < tokens; ++token) {
    float s = 0;
#pragma unroll 4
    for (int c = thread; c < inputs; c += kThreads) s += term(token, c);
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) s += ptx::shuffle_xor(s, bits);
    if (thread % 32 == 0) parts[thread / 32 * kMatvecRows + token] = s;
  }
}
JVLM_DEVICE float joined(const float* parts, int token) {
  float s = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) s += parts[warp * kMatvecRows + token];
  return s;
}

template <bool Int8, bool FusedNorm, bool Gate, int Tokens>
__global__ void __launch_bounds__(kThreads, FusedNorm && Tokens == 16 ? 1 : 2) matvec_kernel(__grid_constant__ const MatvecParams p) {
  constexpr int kTiles = Gate ? 2 : 1, kColumns = Tokens / 8;
  constexpr int kLaneInputs = Int8 ? 16 : 8;               // in the 16 bytes of a weight row that a lane loads
  using Shared = MatvecShared<kTiles, Tokens>;
  JVLM_SHARED(shared);

  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, g = lane / 4, t = lane % 4;
  const int first = static_cast<int>(blockIdx.x) * kBlockRows;
  const int lines = static_cast<int>((p.w_bytes + kLine - 1) / kLine);

  // Rows g and g + 8 of each tile; beyond the last output the last one again, for sums that nobody stores.
  const char* w_row[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int64_t row = min(first + g + 8 * r, p.outputs - 1) + (tile ? p.outputs : 0);
      w_row[tile][r] = static_cast<const char*>(p.w) + row * p.w_bytes + t * 16;
    }
  auto load = [&](uint4 (&w)[kHalves][kTiles][2], int line) {
#pragma unroll
    for (int half = 0; half < kHalves; ++half)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int64_t at = static_cast<int64_t>(line) * kLine + half * 64;
          w[half][tile][r] = at < p.w_bytes ? ptx::load_stream16(w_row[tile][r] + at) : make_uint4(0, 0, 0, 0);       // rows are multiples of 64 inputs
        }
  };

  uint4 now[kHalves][kTiles][2], next[kHalves][kTiles][2];
  load(now, warp);
  ptx::grid_dependency_wait();

  float mean[kColumns] = {}, factor[kColumns] = {};        // of the rows of x that this lane feeds: g, g + 8
  if constexpr (FusedNorm) {
    const float* const x = static_cast<const float*>(p.x);
    float* const means = reinterpret_cast<float*>(shared + Shared::means);
    float* const squares = reinterpret_cast<float*>(shared + Shared::squares);
    const float inverse = 1.f / static_cast<float>(p.inputs);
    if (p.centred) {
      sum_inputs(means, p.rows, p.inputs, [&](int token, int c) { return x[token * p.x_stride + c]; });
      ptx::barrier();
    }
    sum_inputs(squares, p.rows, p.inputs, [&](int token, int c) {
      const float v = x[token * p.x_stride + c] - (p.centred ? joined(means, token) * inverse : 0.f);
      return v * v;
    });
    ptx::barrier();
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int token = j * 8 + g;
      if (token >= p.rows) continue;
      if (p.centred) mean[j] = joined(means, token) * inverse;
      factor[j] = 1.f / sqrtf(joined(squares, token) * inverse + p.eps);
    }
  }

  // Inputs c ... c + 7 of row j * 8 + g of x, as pairs of bf16: zeros behind the last input and the last row.
  auto x_pairs = [&](uint32_t* pairs, int j, int c) {
    const int token = j * 8 + g, count = token < p.rows ? min(8, p.inputs - c) : 0;
    if constexpr (FusedNorm) {
      const float* const from = static_cast<const float*>(p.x) + token * p.x_stride + c;
      float v[8], weight[8];
      if (count == 8 && p.wide) {
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
          const float4 x4 = *reinterpret_cast<const float4*>(from + i), w4 = *reinterpret_cast<const float4*>(p.norm_weight + c + i);
          v[i] = x4.x, v[i + 1] = x4.y, v[i + 2] = x4.z, v[i + 3] = x4.w;
          weight[i] = w4.x, weight[i + 1] = w4.y, weight[i + 2] = w4.z, weight[i + 3] = w4.w;
        }
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = i < count ? from[i] : 0.f, weight[i] = i < count ? p.norm_weight[c + i] : 0.f;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = (v[i] - mean[j]) * factor[j] * weight[i] + (p.norm_bias && i < count ? p.norm_bias[c + i] : 0.f);
#pragma unroll
      for (int i = 0; i < 4; ++i) pairs[i] = ptx::pack_bf16(v[2 * i], v[2 * i + 1]);
    } else {
      const uint16_t* const from = static_cast<const uint16_t*>(p.x) + token * p.x_stride + c;
      if (count == 8) {
        const uint4 v = *reinterpret_cast<const uint4*>(from);
        pairs[0] = v.x, pairs[1] = v.y, pairs[2] = v.z, pairs[3] = v.w;
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          pairs[i] = (2 * i < count ? from[2 * i] : 0u) | (2 * i + 1 < count ? static_cast<uint32_t>(from[2 * i + 1]) << 16 : 0u);
      }
    }
  };

  float sum[kTiles][kColumns][4] = {};
  for (int line = warp; line < lines; line += kWarps) {
    if (line + kWarps < lines) load(next, line + kWarps);
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int c = ((line * kHalves + half) * 4 + t) * kLaneInputs;
      uint32_t x[kColumns][kLaneInputs / 2];
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
#pragma unroll
        for (int i = 0; i < kLaneInputs; i += 8) x_pairs(x[j] + i / 2, j, c + i);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4 v0 = now[half][tile][0], v1 = now[half][tile][1];
        const uint32_t row0[4] = {v0.x, v0.y, v0.z, v0.w}, row1[4] = {v1.x, v1.y, v1.z, v1.w};
#pragma unroll
        for (int i = 0; i < kLaneInputs / 4; ++i) {        // four inputs of each of the four lanes
          uint2 a0, a1;
          if constexpr (Int8)
            a0 = widen4(row0[i]), a1 = widen4(row1[i]);
          else
            a0 = make_uint2(row0[2 * i], row0[2 * i + 1]), a1 = make_uint2(row1[2 * i], row1[2 * i + 1]);
          const uint32_t a[4] = {a0.x, a1.x, a0.y, a1.y};
#pragma unroll
          for (int j = 0; j < kColumns; ++j) {
            const uint32_t b[2] = {x[j][2 * i], x[j][2 * i + 1]};
            ptx::mma_bf16(sum[tile][j], a, b);
          }
        }
      }
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int r = 0; r < 2; ++r) now[half][tile][r] = next[half][tile][r];
  }
  ptx::launch_dependents();

  // The warps' sums meet; then a thread has one output of one row.
  float* const sums = reinterpret_cast<float*>(shared + Shared::sums);
  auto place = [](int part, int tile, int token) { return ((part * kTiles + tile) * Tokens + token) * Shared::token_floats; };
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < kColumns; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[place(warp, tile, j * 8 + 2 * t + i % 2) + g + i / 2 * 8] = sum[tile][j][i];
  ptx::barrier();

  const int token = thread / kBlockRows, row = thread % kBlockRows, output = first + row;
  if (token >= p.rows || output >= p.outputs) return;
  float v[kTiles] = {};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int part = 0; part < kWarps; ++part) v[tile] += sums[place(part, tile, token) + row];
    if (p.end.scale) v[tile] *= p.end.scale[output + (tile ? p.outputs : 0)];
  }
  if (p.end.bias) v[0] += p.end.bias[output];
  float result = activate(v[0], p.end.act);
  if constexpr (Gate) result *= v[kTiles - 1];
  if (p.end.layer_scale) result *= p.end.layer_scale[output];
  const int64_t at = token * p.end.stride + output;
  if (!p.end.out_float) {
    static_cast<uint16_t*>(p.end.out)[at] = ptx::to_bf16(result);
    return;
  }
  float* const out = static_cast<float*>(p.end.out) + at;
  *out = p.end.add ? *out + result : result;
}

// ---- host -----------------------------------------------------------------------------------------------------------------------------
template <bool Int8, bool FusedNorm, bool Gate>
void start(const Queue& queue, const MatvecParams& p) {
  const dim3 grid(static_cast<uint32_t>((p.outputs + kBlockRows - 1) / kBlockRows));
  if (p.rows <= 8)
    launch(queue.stream, matvec_kernel<Int8, FusedNorm, Gate, 8>, Shape{grid, dim3(kThreads), MatvecShared<Gate ? 2 : 1, 8>::bytes, Mode::overlapping}, p);
  else
    launch(queue.stream, matvec_kernel<Int8, FusedNorm, Gate, 16>, Shape{grid, dim3(kThreads), MatvecShared<Gate ? 2 : 1, 16>::bytes, Mode::overlapping}, p);
}

template <bool Int8>
void start(const Queue& queue, const MatvecParams& p, bool norm, bool gate) {
  if (norm)
    gate ? start<Int8, true, true>(queue, p) : start<Int8, true, false>(queue, p);
  else
    gate ? start<Int8, false, true>(queue, p) : start<Int8, false, false>(queue, p);
}

}  // namespace

void matvec(const Queue& queue, Tensor out, Tensor x, const Norm* norm, const Matrix& w, const End& end) {
  const bool gate = end.kind == End::gate;
  const bool wide = x.stride * size_of(x.dtype) % 16 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
  const MatvecParams p{x.data, w.data, x.stride, weight_stride(w.k) * size_of(w.dtype), static_cast<int32_t>(x.rows), static_cast<int32_t>(gate ? w.n / 2 : w.n),
                       static_cast<int32_t>(w.k), wide, norm && norm->kind == NormKind::layer, norm ? norm->eps : 0.f, norm ? norm->weight : nullptr,
                       norm ? norm->bias : nullptr, EndParams(out, w, end)};
  if (p.rows == 0 || p.outputs == 0) return;
  w.dtype == Dtype::i8 ? start<true>(queue, p, norm, gate) : start<false>(queue, p, norm, gate);
}

}  // namespace jvlm::cuda
