// LayerNorm and RMSNorm of rows, and RMSNorm of the queries and of the keys inside qkv (InternViT-6B).
//
// Bound by memory: a row of h columns takes 4 h bytes in, 2 h out, 4 to 8 h of weights that stay in the caches, and about 8 h operations. At
// InternViT-300M's (7175, 1024) that is 44 MB a launch, 13 us at 3.35 TB/s. What it is designed for: every byte once, a warp a row up to 1,024
// columns (no barrier at all, four rows a block), a block of 128 or 512 threads a row above, eight loads of 16 bytes in flight a thread.
// A row of a decode step is a single block: there the launch is what costs, so it may begin before the kernel before has ended.
#include "base/error.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/row_norm.cuh"

namespace jvlm::cuda {
namespace {

template <class Out>
struct NormRows {
  const float* x;
  Out* out;
  int64_t x_stride, out_stride, rows, cols;
  Norm norm;
};

// Threads threads a row, blockDim.x / Threads rows a block.
template <int Threads, NormKind Kind, class Out>
__global__ void __launch_bounds__(Threads > 128 ? Threads : 128, 1) norm_kernel(const NormRows<Out> p) {
  JVLM_SHARED(shared);
  ptx::grid_dependency_wait();
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (blockDim.x / Threads) + threadIdx.x / Threads;
  if (r >= p.rows) return;                                 // whole rows: nobody waits for those who leave
  const float* x = p.x + r * p.x_stride;
  normalise_row<Threads, Kind>(p.out + r * p.out_stride, p.cols, p.norm, reinterpret_cast<NormShared*>(shared),
                               [&](int c) { return load_quad(x, c, p.cols); }, [] { ptx::launch_dependents(); });
}

struct QkRows {
  uint16_t* qkv;
  int64_t stride, rows, width;                             // rows: two a token, its queries and its keys
  Norm q, k;
};

template <int Threads>
__global__ void __launch_bounds__(Threads > 128 ? Threads : 128, 1) qk_norm_kernel(const QkRows p) {
  JVLM_SHARED(shared);
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (blockDim.x / Threads) + threadIdx.x / Threads;
  if (r >= p.rows) return;
  uint16_t* row = p.qkv + r / 2 * p.stride + r % 2 * p.width;
  // A thread writes what it has read itself, after everything has been read: in place is safe.
  normalise_row<Threads, NormKind::rms>(row, p.width, r % 2 ? p.k : p.q, reinterpret_cast<NormShared*>(shared),
                                        [&](int c) { return load_quad(static_cast<const uint16_t*>(row), c, p.width); }, [] {});
}

// Calls start with the number of threads that hold a row of this width.
template <class Start>
void choose_threads(int64_t width, Start start) {
  if (width <= norm_width(32)) return start(std::integral_constant<int, 32>());
  if (width <= norm_width(128)) return start(std::integral_constant<int, 128>());
  if (width <= norm_width(512)) return start(std::integral_constant<int, 512>());
  throw device_error("Rows of " + std::to_string(width) + " columns are wider than the norm of this device takes (16384). Run the model on the device cpu");
}

template <int Threads>
Shape norm_shape(int64_t rows, Mode mode) {
  constexpr int block = Threads > 128 ? Threads : 128, rows_a_block = block / Threads;
  return {dim3(static_cast<uint32_t>((rows + rows_a_block - 1) / rows_a_block)), dim3(block), sizeof(NormShared), mode};
}

template <NormKind Kind, class Out>
void norm_rows(const Queue& queue, const Tensor& out, const Tensor& x, const Norm& n) {
  const NormRows<Out> p{x.row<const float>(0), out.row<Out>(0), x.stride, out.stride, x.rows, x.cols, n};
  choose_threads(x.cols, [&](auto threads) {
    launch(queue.stream, norm_kernel<threads.value, Kind, Out>, norm_shape<threads.value>(x.rows, Mode::overlapping), p);
  });
}

}  // namespace

void norm(const Queue& queue, Tensor out, Tensor x, const Norm& n) {
  if (x.rows == 0) return;
  const bool layer = n.kind == NormKind::layer;
  if (out.dtype == Dtype::f32)
    layer ? norm_rows<NormKind::layer, float>(queue, out, x, n) : norm_rows<NormKind::rms, float>(queue, out, x, n);
  else
    layer ? norm_rows<NormKind::layer, uint16_t>(queue, out, x, n) : norm_rows<NormKind::rms, uint16_t>(queue, out, x, n);
}

// The width is a multiple of 4, so that the keys' rows are aligned as the queries' are.
void norm_qk(const Queue& queue, Tensor qkv, const Norm& q, const Norm& k) {
  if (qkv.rows == 0) return;
  const QkRows p{qkv.row<uint16_t>(0), qkv.stride, 2 * qkv.rows, qkv.cols / 3, q, k};
  choose_threads(p.width, [&](auto threads) {
    launch(queue.stream, qk_norm_kernel<threads.value>, norm_shape<threads.value>(p.rows, Mode::plain), p);
  });
}

}  // namespace jvlm::cuda
