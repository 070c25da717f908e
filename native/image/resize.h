#pragma once
#include <cstdint>

namespace jvlm {

// Resizes 8-bit RGB exactly as Image.resize of Pillow 13 does: the filter widened when shrinking, two passes in the order that Pillow
// chooses, weights in 22-bit fixed point, 8-bit pixels between the passes. rgb (height, width, 3); sizes: `count` pairs (height, width); the results follow
// each other in out. filter: 0 bilinear, 1 bicubic (a = -0.5). Throws IMAGE for sizes that are not positive or too large.
void resize_rgb(const uint8_t* rgb, int32_t height, int32_t width, int32_t filter, const int32_t* sizes, int32_t count, uint8_t* out);

}  // namespace jvlm
