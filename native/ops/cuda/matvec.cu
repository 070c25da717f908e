// Products of few rows: out (T, n) = x (T, k) W^T for T of at most 16, as decoding has them. Bytes: W once, 2 n k or n k with int8, against which
// everything else is small: bound by memory.
//
// A block owns sixteen rows of W and its eight warps share out k, 32 inputs (64 with int8) at a time: a lane loads 16 bytes of two rows, four such
// pieces under way, and the products run on tensor cores with W as the 16-row operand and the batch as its eight columns, so that a batch of eight
// costs no more than one. Which inputs a step of the tensor core takes is free as long as both operands agree: lane t's registers are eight (sixteen)
// neighbours, in order of memory, and nothing is shuffled.
//
// Norm and product in one launch: each block takes the norm's sums itself, from x in the second cache, rather than wait for another launch.
#include "ops/cuda/activate.cuh"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kRows = 16, kAhead = 4;

struct Few {
  const void* x;                                           // bf16; float with a norm
  const char* w;                                           // rows w_stride bytes apart
  void* out;
  const float *scale, *bias, *layer_scale;
  const float *norm_weight, *norm_bias;                    // null: no norm; no bias
  float eps;
  int64_t x_stride, w_stride, out_stride;
  int rows, n, k;                                          // n: outputs; with `gate` half of the rows of W
  bool layer;                                              // LayerNorm, else RMSNorm
  Act act;
};

// Eight inputs of a row of x from `input` on, as four pairs of bf16; nothing beyond k is read.
template <bool Normed>
JVLM_DEVICE void load_inputs(uint32_t (&pair)[4], const Few& p, int row, int input, float mean, float rstd) {
  for (int i = 0; i < 4; ++i) pair[i] = 0;
  if (row >= p.rows || input >= p.k) return;
  if constexpr (Normed) {
    const float* x = static_cast<const float*>(p.x) + row * p.x_stride;
    for (int i = 0; i < 4; ++i) {
      float v[2] = {};
      for (int j = 0; j < 2; ++j) {
        const int c = input + 2 * i + j;
        if (c < p.k) v[j] = (x[c] - mean) * rstd * p.norm_weight[c] + (p.norm_bias ? p.norm_bias[c] : 0.f);
      }
      pair[i] = ptx::pack_bf16(v[0], v[1]);
    }
  } else {
    const uint16_t* x = static_cast<const uint16_t*>(p.x) + row * p.x_stride + input;
    if (input + 8 <= p.k) {
      const uint4 all = *reinterpret_cast<const uint4*>(x);
      pair[0] = all.x, pair[1] = all.y, pair[2] = all.z, pair[3] = all.w;
    } else {
      for (int i = 0; i < p.k - input; ++i) pair[i / 2] |= static_cast<uint32_t>(x[i]) << i % 2 * 16;
    }
  }
}

JVLM_DEVICE uint32_t widen(uint32_t two) {
  return ptx::pack_bf16(static_cast<float>(static_cast<int8_t>(two & 0xff)), static_cast<float>(static_cast<int8_t>(two >> 8 & 0xff)));
}

// Sums that a row's norm needs, by one warp; two passes, so that a mean far from zero costs no digits.
JVLM_DEVICE void row_norm(const Few& p, int row, float* mean, float* rstd) {
  const float* x = static_cast<const float*>(p.x) + row * p.x_stride;
  auto all = [](float v) {
    for (int by = 16; by > 0; by /= 2) v += ptx::shuffle_xor(v, by);
    return v;
  };
  float centre = 0;
  if (p.layer) {
    for (int c = threadIdx.x % 32; c < p.k; c += 32) centre += x[c];
    centre = all(centre) / static_cast<float>(p.k);
  }
  float square = 0;
  for (int c = threadIdx.x % 32; c < p.k; c += 32) square += (x[c] - centre) * (x[c] - centre);
  *mean = centre;
  *rstd = 1.f / sqrtf(all(square) / static_cast<float>(p.k) + p.eps);
}

template <bool Int8, bool Wide, bool Normed, End::Kind Kind, bool Float>
__global__ void __launch_bounds__(kThreads) matvec_kernel(const Few p) {
  constexpr bool kGate = Kind == End::gate;
  constexpr int kGroups = Wide ? 2 : 1, kColumns = 8 * kGroups, kPiece = Int8 ? 64 : 32;          // inputs of a warp at a time
  constexpr int kOutputs = kGate ? kRows / 2 : kRows;
  JVLM_SHARED(shared);
  auto* part = reinterpret_cast<float*>(shared);            // (warps, rows of W, columns)
  float* of_row = part + kWarps * kRows * kColumns;         // mean, rstd of each row of x
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4, output0 = blockIdx.x * kOutputs;

  // Rows g and g + 8 of the sixteen; with `gate` the second eight are the ups of the first.
  const int output = output0 + g;
  const int low = output < p.n ? output : -1, high = kGate ? (output < p.n ? p.n + output : -1) : (output + 8 < p.n ? output + 8 : -1);
  auto load = [&](int row, int piece) {
    return row < 0 ? make_uint4(0, 0, 0, 0) : ptx::load_stream16(p.w + row * p.w_stride + static_cast<int64_t>(piece) * 64 + t * 16);
  };
  const int pieces = (p.k + kPiece - 1) / kPiece;
  uint4 a[kAhead][2];
  for (int i = 0; i < kAhead; ++i) {                        // weights depend on nobody
    const int piece = warp + i * kWarps;
    if (piece < pieces) a[i][0] = load(low, piece), a[i][1] = load(high, piece);
  }
  ptx::grid_dependency_wait();

  if constexpr (Normed) {
    for (int row = warp; row < p.rows; row += kWarps) {
      float mean, rstd;
      row_norm(p, row, &mean, &rstd);
      if (lane == 0) of_row[2 * row] = mean, of_row[2 * row + 1] = rstd;
    }
    ptx::barrier();
  }
  float sum[kGroups][4] = {};
  for (int first = warp; first < pieces; first += kAhead * kWarps)
    for (int i = 0; i < kAhead; ++i) {
      const int piece = first + i * kWarps;
      if (piece >= pieces) break;
      const uint32_t lower[4] = {a[i][0].x, a[i][0].y, a[i][0].z, a[i][0].w}, upper[4] = {a[i][1].x, a[i][1].y, a[i][1].z, a[i][1].w};
      const int next = piece + kAhead * kWarps;
      if (next < pieces) a[i][0] = load(low, next), a[i][1] = load(high, next);
      for (int n = 0; n < kGroups; ++n) {
        const int row = n * 8 + g;
        const float mean = Normed && row < p.rows ? of_row[2 * row] : 0.f, rstd = Normed && row < p.rows ? of_row[2 * row + 1] : 0.f;
        for (int eight = 0; eight < (Int8 ? 2 : 1); ++eight) {
          uint32_t x[4];
          load_inputs<Normed>(x, p, row, piece * kPiece + t * (Int8 ? 16 : 8) + eight * 8, mean, rstd);
          for (int half = 0; half < 2; ++half) {
            const uint32_t b[2] = {x[2 * half], x[2 * half + 1]};
            if constexpr (Int8) {
              const uint32_t l = lower[eight * 2 + half], u = upper[eight * 2 + half];
              const uint32_t four[4] = {widen(l), widen(u), widen(l >> 16), widen(u >> 16)};
              ptx::mma_bf16(sum[n], four, b);
            } else {
              const uint32_t four[4] = {lower[2 * half], upper[2 * half], lower[2 * half + 1], upper[2 * half + 1]};
              ptx::mma_bf16(sum[n], four, b);
            }
          }
        }
      }
    }
  ptx::launch_dependents();

  for (int n = 0; n < kGroups; ++n)
    for (int i = 0; i < 4; ++i) part[(warp * kRows + g + i / 2 * 8) * kColumns + n * 8 + t * 2 + i % 2] = sum[n][i];
  ptx::barrier();
  for (int i = thread; i < kOutputs * p.rows; i += kThreads) {
    const int r = i % kOutputs, row = i / kOutputs, c = output0 + r;
    if (c >= p.n) continue;
    auto total = [&](int of) {
      float v = 0;
      for (int from = 0; from < kWarps; ++from) v += part[(from * kRows + of) * kColumns + row];
      return v;
    };
    float v = total(r);
    if (Int8) v *= p.scale[c];
    if constexpr (kGate) {
      float up = total(r + 8);
      if (Int8) up *= p.scale[p.n + c];
      v = activate(v, p.act) * up;
    } else {
      if (p.bias) v += p.bias[c];
      v = Kind == End::add ? (p.layer_scale ? p.layer_scale[c] * v : v) : activate(v, p.act);
    }
    if constexpr (Float) {
      float* to = static_cast<float*>(p.out) + row * p.out_stride + c;
      *to = Kind == End::add ? *to + v : v;
    } else {
      static_cast<uint16_t*>(p.out)[row * p.out_stride + c] = ptx::to_bf16(v);
    }
  }
}

template <bool Int8, bool Wide, bool Normed, End::Kind Kind, bool Float>
void start(const Queue& queue, const Few& p) {
  constexpr int kOutputs = Kind == End::gate ? kRows / 2 : kRows;
  constexpr size_t kBytes = (kWarps * kRows * (Wide ? 16 : 8) + 2 * kMatvecRows) * sizeof(float);
  launch(queue.stream, matvec_kernel<Int8, Wide, Normed, Kind, Float>,
         {dim3(static_cast<uint32_t>((p.n + kOutputs - 1) / kOutputs)), dim3(kThreads), kBytes, Mode::overlapping}, p);
}

template <bool Int8, bool Wide, bool Normed>
void choose(const Queue& queue, const Few& p, End::Kind kind, bool is_float) {
  if (kind == End::gate) return start<Int8, Wide, Normed, End::gate, false>(queue, p);
  if (is_float) return kind == End::add ? start<Int8, Wide, Normed, End::add, true>(queue, p) : start<Int8, Wide, Normed, End::store, true>(queue, p);
  start<Int8, Wide, Normed, End::store, false>(queue, p);
}

}  // namespace

void matvec(const Queue& queue, Tensor out, Tensor x, const Norm* norm, const Matrix& w, const End& end) {
  if (!out.rows || !out.cols) return;
  Few p;
  p.x = x.data, p.w = static_cast<const char*>(w.data), p.out = out.data;
  p.scale = w.scale, p.bias = end.bias, p.layer_scale = end.layer_scale;
  p.norm_weight = norm ? norm->weight : nullptr, p.norm_bias = norm && norm->kind == NormKind::layer ? norm->bias : nullptr;
  p.eps = norm ? norm->eps : 0.f, p.layer = norm && norm->kind == NormKind::layer;
  p.x_stride = x.stride, p.w_stride = weight_stride(w.k) * size_of(w.dtype), p.out_stride = out.stride;
  p.rows = static_cast<int>(x.rows), p.n = static_cast<int>(out.cols), p.k = static_cast<int>(w.k), p.act = end.act;
  const bool is_float = out.dtype == Dtype::f32;
  auto by_rows = [&](auto int8, auto normed) {
    if (p.rows > 8)
      choose<int8.value, true, normed.value>(queue, p, end.kind, is_float);
    else
      choose<int8.value, false, normed.value>(queue, p, end.kind, is_float);
  };
  auto by_norm = [&](auto int8) { norm ? by_rows(int8, std::true_type()) : by_rows(int8, std::false_type()); };
  w.dtype == Dtype::i8 ? by_norm(std::true_type()) : by_norm(std::false_type());
}

}  // namespace jvlm::cuda
