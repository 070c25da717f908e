#include "model/pictures.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace jvlm {
namespace {

void check(const VisionSpec& spec, const Picture& p) {
  const int32_t image = spec.image, grid = spec.grid(), patch = spec.patch;
  const std::string is = "A picture of " + std::to_string(p.height) + " x " + std::to_string(p.width) + " pixels and " + std::to_string(p.rows) + " x " +
                         std::to_string(p.cols) + " patches ";
  // A class token's table holds the positions of whole tiles; for others they would have to be interpolated.
  if (spec.class_token && (p.height != image || p.width != image || p.rows != grid || p.cols != grid))
    throw request_error(is + "was given; the model takes tiles of " + std::to_string(image) + " x " + std::to_string(image) + " pixels and " +
                        std::to_string(grid) + " x " + std::to_string(grid) + " patches");
  if (p.height < 1 || p.width < 1 || p.height > image || p.width > image)
    throw request_error(is + "was given; the model takes 1 to " + std::to_string(image) + " pixels a side");
  if (p.rows < 1 || p.cols < 1 || p.rows > grid || p.cols > grid || std::abs(p.rows * patch - p.height) >= patch || std::abs(p.cols * patch - p.width) >= patch)
    throw request_error(is + "was given; there must be 1 to " + std::to_string(grid) + " patches of " + std::to_string(patch) +
                        " pixels a side, less than a patch more or fewer than its pixels fill");
}

// PyTorch's float32 arithmetic puts some patches one bucket below the ideal, floor(70 i / patches); the models are trained with that. For 70
// buckets, PyTorch 2.13 on x86 at any instruction set: bucketize(arange(0, 1 - 1e-6, 1 / patches), arange(1 / 70, 1, 1 / 70), right=True), compared with the
// ideal for all patches from 1 to 70.
constexpr int32_t kBuckets = 70;
constexpr struct {
  int32_t patches, i;
} kOneBelow[] = {{25, 5}, {25, 10}, {25, 15}, {25, 20}, {49, 7}, {49, 14}, {49, 35}, {49, 42}, {50, 5}, {50, 10}, {50, 15}, {50, 20}, {50, 30}, {50, 40},
                 {55, 11}, {55, 22}, {55, 33}, {55, 44}, {58, 29}};

}  // namespace

int32_t position_bucket(int32_t i, int32_t patches, int32_t grid) {
  const bool below = grid == kBuckets && std::any_of(std::begin(kOneBelow), std::end(kOneBelow), [&](auto at) { return at.patches == patches && at.i == i; });
  return grid * i / patches - below;
}

std::vector<Picture> read_pictures(const VisionSpec& spec, const int32_t* shape, int32_t count) {
  std::vector<Picture> pictures;
  for (int32_t b = 0; b < count; ++b, shape += 4) {
    pictures.push_back({shape[0], shape[1], shape[2], shape[3]});
    check(spec, pictures.back());
  }
  return pictures;
}

VisionInput place_pictures(Ops& ops, Arena& ws, const VisionSpec& spec, const std::vector<Picture>& pictures, const uint8_t* rgb) {
  VisionInput in;
  in.rgb = rgb;
  in.start.push_back(0);
  for (const Picture& p : pictures) {
    const int32_t tokens = spec.class_token + p.rows * p.cols;
    in.start.push_back(in.start.back() + tokens);
    in.rows.most = std::max(in.rows.most, tokens);
  }
  in.rows.count = static_cast<int32_t>(pictures.size());
  const int64_t patch_bytes = in.tokens() * static_cast<int64_t>(sizeof(Patch)), start_bytes = 4LL * (in.rows.count + 1);
  auto* patches = static_cast<Patch*>(ws.take(patch_bytes));
  auto* start = static_cast<int32_t*>(ws.take(start_bytes));
  in.patches = patches, in.rows.start = start;
  if (!patches) return in;

  std::vector<Patch> tokens;
  const int32_t patch = spec.patch, grid = spec.grid();
  int64_t first = 0;
  for (const Picture& p : pictures) {
    if (spec.class_token) tokens.push_back({});
    for (int32_t r = 0; r < p.rows; ++r)
      for (int32_t c = 0; c < p.cols; ++c) {
        Patch t;
        t.pitch = 3 * p.width;
        t.first = first + static_cast<int64_t>(r) * patch * t.pitch + 3 * c * patch;
        t.right = std::min(patch, p.width - c * patch), t.below = std::min(patch, p.height - r * patch);
        t.position = spec.class_token ? 1 + r * grid + c : position_bucket(r, p.rows, grid) * grid + position_bucket(c, p.cols, grid);
        tokens.push_back(t);
      }
    first += 3LL * p.height * p.width;
  }
  ops.upload(patches, tokens.data(), patch_bytes);
  ops.upload(start, in.start.data(), start_bytes);
  return in;
}

}  // namespace jvlm
