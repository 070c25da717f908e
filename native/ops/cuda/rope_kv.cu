// The rope's table of a step, and rope on queries and keys with the new keys and values written to their pages.
//
// rope_table: T * D/2 angles, 8 bytes written and some 30 operations each, once a step: never more than a few microseconds. The angle is a
// float32 product, as in the references, whose rounding is part of the result; everything after it is in double, so that the result is the
// reference's whatever the position: at 1e5 a float32 reduction would lose the last five digits. Cards with few double units (1/64 of float)
// still do the longest prefill's 120,000 angles in 10 us.
//
// rope_append: bound by memory, 4 (H + 2K) D bytes a token (read and written once), 8 D/2 of table; (1856, 32+16 heads of 80) is 29 MB, 9 us at
// 3.35 TB/s. One block a token, which looks position and page up once; 16 bytes a load where half a head allows it (64, 80, 96, 128), else 8 (72).
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx/common.cuh"

namespace jvlm::cuda {
namespace {

constexpr int kTableThreads = 128, kAppendThreads = 128;

// The sequence of token t: the last whose first token is not after it (sequences without tokens lie before their followers).
JVLM_DEVICE int sequence_of(const Step& step, int t) {
  int low = 0, high = step.sequences - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (step.seq_start[middle] <= t)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// cos and sin of x >= 0 below 1e6. x - n pi/2 with pi/2 in two parts, of which n times the first (33 bits) is exact; then Taylor's series on
// [-pi/4, pi/4], whose first missing terms are below 2e-10.
JVLM_DEVICE void cos_sin(double x, double& cos, double& sin) {
  const auto n = static_cast<int32_t>(x * 0.63661977236758134 + 0.5);
  const double r = x - n * 1.57079632673412561417 - n * 6.07710050650619224932e-11, z = r * r;
  const double s = r + r * z * (-1. / 6 + z * (1. / 120 + z * (-1. / 5040 + z * (1. / 362880 - z * (1. / 39916800)))));
  const double c = 1 - z * (1. / 2 - z * (1. / 24 - z * (1. / 720 - z * (1. / 40320 - z * (1. / 3628800)))));
  cos = n & 1 ? s : c, sin = n & 1 ? c : s;
  if ((n + 1) & 2) cos = -cos;
  if (n & 2) sin = -sin;
}

__global__ void __launch_bounds__(kTableThreads) rope_table_kernel(float* cos, float* sin, const Step step, const float* inverse_frequency, int32_t half, float magnitude) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kTableThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(step.tokens) * half) return;
  const int t = static_cast<int>(i / half), s = sequence_of(step, t);
  const float angle = static_cast<float>(step.past[s] + t - step.seq_start[s]) * inverse_frequency[i + static_cast<int64_t>(s - t) * half];
  double c, d;
  cos_sin(static_cast<double>(angle), c, d);
  cos[i] = static_cast<float>(c * static_cast<double>(magnitude));
  sin[i] = static_cast<float>(d * static_cast<double>(magnitude));
}

// Width (8 or 4) bf16 numbers, loaded and stored as one.
template <int Width>
struct Piece;
template <>
struct Piece<8> {
  using Raw = uint4;
  JVLM_DEVICE static void unpack(float (&v)[8], Raw r) {
    v[0] = ptx::low_bf16(r.x), v[1] = ptx::high_bf16(r.x), v[2] = ptx::low_bf16(r.y), v[3] = ptx::high_bf16(r.y);
    v[4] = ptx::low_bf16(r.z), v[5] = ptx::high_bf16(r.z), v[6] = ptx::low_bf16(r.w), v[7] = ptx::high_bf16(r.w);
  }
  JVLM_DEVICE static Raw pack(const float (&v)[8]) {
    return make_uint4(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3]), ptx::pack_bf16(v[4], v[5]), ptx::pack_bf16(v[6], v[7]));
  }
};
template <>
struct Piece<4> {
  using Raw = uint2;
  JVLM_DEVICE static void unpack(float (&v)[4], Raw r) {
    v[0] = ptx::low_bf16(r.x), v[1] = ptx::high_bf16(r.x), v[2] = ptx::low_bf16(r.y), v[3] = ptx::high_bf16(r.y);
  }
  JVLM_DEVICE static Raw pack(const float (&v)[4]) { return make_uint2(ptx::pack_bf16(v[0], v[1]), ptx::pack_bf16(v[2], v[3])); }
};

// One token a block. Pieces of the first half of a head meet those of the second in one thread: D/2/Width of them a query or key head, and
// D/Width of a value head, which is only copied.
template <int Width>
__global__ void __launch_bounds__(kAppendThreads) rope_append_kernel(uint16_t* qkv, int64_t stride, const KvCache cache, int32_t heads, const Step step) {
  using Raw = typename Piece<Width>::Raw;
  const int t = static_cast<int>(blockIdx.x), s = sequence_of(step, t), position = step.past[s] + t - step.seq_start[s];
  const int64_t page = step.page[step.page_start[s] + position / cache.page_tokens], slot = position % cache.page_tokens;
  const int size = cache.head_size, half = size / 2, pieces = half / Width, rotated = (heads + cache.kv_heads) * pieces;
  uint16_t* row = qkv + t * stride;
  auto place = [&](void* pages, int head) {
    return static_cast<uint16_t*>(pages) + ((page * cache.kv_heads + head) * cache.page_tokens + slot) * size;
  };

  for (int i = static_cast<int>(threadIdx.x); i < rotated + cache.kv_heads * 2 * pieces; i += kAppendThreads) {
    if (i < rotated) {
      const int head = i / pieces, at = (i - head * pieces) * Width;
      const uint16_t* from = row + head * size + at;
      uint16_t* to = head < heads ? row + head * size + at : place(cache.k, head - heads) + at;
      float a[Width], b[Width], x[Width], y[Width];
      Piece<Width>::unpack(a, *reinterpret_cast<const Raw*>(from));
      Piece<Width>::unpack(b, *reinterpret_cast<const Raw*>(from + half));
#pragma unroll
      for (int j = 0; j < Width; j += 4) {
        const int64_t entry = static_cast<int64_t>(t) * half + at + j;
        const float4 c = *reinterpret_cast<const float4*>(step.cos + entry), d = *reinterpret_cast<const float4*>(step.sin + entry);
        const float cos[4] = {c.x, c.y, c.z, c.w}, sin[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          x[j + e] = a[j + e] * cos[e] - b[j + e] * sin[e];
          y[j + e] = b[j + e] * cos[e] + a[j + e] * sin[e];
        }
      }
      *reinterpret_cast<Raw*>(to) = Piece<Width>::pack(x);
      *reinterpret_cast<Raw*>(to + half) = Piece<Width>::pack(y);
    } else {
      const int head = (i - rotated) / (2 * pieces), at = ((i - rotated) - head * 2 * pieces) * Width;
      *reinterpret_cast<Raw*>(place(cache.v, head) + at) = *reinterpret_cast<const Raw*>(row + (heads + cache.kv_heads + head) * size + at);
    }
  }
}

}  // namespace

void rope_table(const Queue& queue, float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) {
  const int64_t angles = static_cast<int64_t>(step.tokens) * half;
  if (angles == 0) return;
  const auto blocks = static_cast<uint32_t>((angles + kTableThreads - 1) / kTableThreads);
  launch(queue.stream, rope_table_kernel, {dim3(blocks), dim3(kTableThreads)}, cos, sin, step, inverse_frequency, half, magnitude);
}

// Head sizes are multiples of 8: halves of 4 columns at least.
void rope_append(const Queue& queue, Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) {
  if (step.tokens == 0) return;
  const Shape shape{dim3(static_cast<uint32_t>(step.tokens)), dim3(kAppendThreads)};
  uint16_t* rows = qkv.row<uint16_t>(0);
  if (cache.head_size % 16 == 0)
    launch(queue.stream, rope_append_kernel<8>, shape, rows, qkv.stride, cache, heads, step);
  else
    launch(queue.stream, rope_append_kernel<4>, shape, rows, qkv.stride, cache, heads, step);
}

}  // namespace jvlm::cuda
