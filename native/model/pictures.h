// The pictures of one encode: from the boundary's numbers to what operations read of them.
#pragma once
#include <vector>

#include "base/arena.h"
#include "model/spec.h"

namespace jvlm {

// Pixels, and the patches that the tower sees of them; the last row and column of patches may reach beyond the pixels, or leave some out.
struct Picture {
  int32_t height = 0, width = 0, rows = 0, cols = 0;
};

// What the tower and the connector get.
struct VisionInput {
  const uint8_t* rgb = nullptr;                           // the pictures' bytes, one after the other; on the device, as `patches`
  const Patch* patches = nullptr;                         // a token each
  PictureRows rows;                                       // which tokens are whose
  std::vector<int32_t> start;                             // rows.start on the host

  int64_t tokens() const { return start.back(); }
};

// `shape` holds four numbers a picture: pixel height, pixel width, patch rows, patch columns. Throws where the tower cannot see such a picture.
std::vector<Picture> read_pictures(const VisionSpec& spec, const int32_t* shape, int32_t count);

// Arrays for the pictures, taken from ws and uploaded; a counting arena only counts.
VisionInput place_pictures(Ops& ops, Arena& ws, const VisionSpec& spec, const std::vector<Picture>& pictures, const uint8_t* rgb);

// Where patch i of `patches` in a row (or column) stands in a position table of `grid` a side: SigLIP's positions, whatever the picture's size.
int32_t position_bucket(int32_t i, int32_t patches, int32_t grid);

}  // namespace jvlm
