// Drops the class token, folds 2x2 patches into channels and normalises: the gather costs nothing, it only chooses where the norm's loads go.
//
// Bound by memory: 4 bytes in and 2 out a channel; seven tiles of InternViT-300M, (1792, 4096), are 44 MB, 13 us at 3.35 TB/s, once a picture.
// Designed as norm.cu is: every byte once, a block a row, loads of 16 bytes.
#include "base/error.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/row_norm.cuh"

namespace jvlm::cuda {
namespace {

struct Fold {
  const float* x;
  uint16_t* out;
  int64_t x_stride, out_stride;
  int32_t grid, hidden;
  Norm norm;
};

// One output row (tile, r, c) a block.
template <int Threads, NormKind Kind>
__global__ void __launch_bounds__(Threads, 1) pixel_shuffle_kernel(const Fold p) {
  JVLM_SHARED(shared);
  const int half = p.grid / 2, row = static_cast<int>(blockIdx.x);
  const int tile = row / (half * half), r = row / half % half, c = row % half;
  const float* corner = p.x + (static_cast<int64_t>(tile) * (1 + p.grid * p.grid) + 1 + 2 * r * p.grid + 2 * c) * p.x_stride;
  normalise_row<Threads, Kind>(p.out + row * p.out_stride, 4 * static_cast<int64_t>(p.hidden), p.norm, reinterpret_cast<NormShared*>(shared),
                               [&](int channel) {
                                 const int part = channel / p.hidden;   // of all four of a quad, hidden being a multiple of 4
                                 const int patch = (part >> 1) * p.grid + (part & 1);
                                 return *reinterpret_cast<const float4*>(corner + (patch * static_cast<int>(p.x_stride) + channel - part * p.hidden));
                               },
                               [] {});
}

template <int Threads, NormKind Kind>
void shuffle_rows(const Queue& queue, const Fold& p, int64_t rows) {
  launch(queue.stream, pixel_shuffle_kernel<Threads, Kind>, {dim3(static_cast<uint32_t>(rows)), dim3(Threads), sizeof(NormShared)}, p);
}

}  // namespace

void pixel_shuffle_norm(const Queue& queue, Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& n) {
  if (x.cols % 4 || 4 * x.cols > norm_width(512))
    throw device_error("A vision model of " + std::to_string(x.cols) + " channels does not run on this device. Run it on the device cpu");
  const int64_t rows = static_cast<int64_t>(tiles) * (grid / 2) * (grid / 2);
  if (rows == 0) return;
  const Fold p{x.row<const float>(0), out.row<uint16_t>(0), x.stride, out.stride, grid, static_cast<int32_t>(x.cols), n};
  const bool narrow = 4 * x.cols <= norm_width(128);
  if (n.kind == NormKind::layer)
    narrow ? shuffle_rows<128, NormKind::layer>(queue, p, rows) : shuffle_rows<512, NormKind::layer>(queue, p, rows);
  else
    narrow ? shuffle_rows<128, NormKind::rms>(queue, p, rows) : shuffle_rows<512, NormKind::rms>(queue, p, rows);
}

}  // namespace jvlm::cuda
