// AMX tiles: tiles 0 to 3 hold sums, 4 and 5 rows of the left matrix, 6 and 7 the right one.
#pragma once
#include <algorithm>
#include <cstdint>

#include "ops/cpu/amx.h"

namespace jvlm::cpu::JVLM_ISA {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};                                // a row
  uint8_t rows[16] = {};
  void load() const { load_tile_config(this); }
};
static_assert(sizeof(TileConfig) == 64);

// For blocks of `rows` (1 to 32) rows of the left matrix: tiles 0, 1, 4 hold the first 16, tiles 2, 3, 5 the others.
inline void configure_tiles(int rows) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    const bool upper = t == 0 || t == 1 || t == 4, lower = t == 2 || t == 3 || t == 5;
    const int count = upper ? std::min(rows, 16) : lower ? std::max(rows - 16, 0) : 16;
    config.rows[t] = static_cast<uint8_t>(count);
    config.bytes[t] = count ? 64 : 0;
  }
  config.load();
}

// To be called between writing memory and loading tiles from it: the compiler does not see that the intrinsics read.
inline void written() { __asm__ volatile("" ::: "memory"); }

}  // namespace jvlm::cpu::JVLM_ISA
