// The inner loop of packed.cc on AMX: 32 rows of x by two groups of W are four tiles of sums.
#pragma once
#include <cstdint>

#include "ops/cpu/packed.h"
#include "ops/cpu/tiles.h"

namespace jvlm::cpu::JVLM_ISA {

constexpr int64_t kBlockRows = 32, kPanelGroups = 2;

template <bool two_rows, class Before>
void block(Before& before, const uint16_t* x, int64_t stride, const uint16_t* const* group, int64_t tiles) {
  _tile_zero(0);
  _tile_zero(1);
  if (two_rows) _tile_zero(2);
  if (two_rows) _tile_zero(3);
  const uint16_t* lower = x + kGroupRows * stride;
  for (int64_t t = 0; t < tiles; ++t) {
    _tile_loadd(4, x + t * kTileInputs, stride * 2);
    _tile_loadd(6, group[0] + t * kTileNumbers, 64);
    _tile_loadd(7, group[1] + t * kTileNumbers, 64);
    if (two_rows) _tile_loadd(5, lower + t * kTileInputs, stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (two_rows) _tile_dpbf16ps(2, 5, 6);
    if (two_rows) _tile_dpbf16ps(3, 5, 7);
    before.fetch();
    before.finish_row();
  }
  before.finish();
  constexpr int64_t width = kPanelGroups * kGroupRows;
  _tile_stored(0, before.sum, width * 4);
  _tile_stored(1, before.sum + kGroupRows, width * 4);
  if (two_rows) _tile_stored(2, before.sum + kGroupRows * width, width * 4);
  if (two_rows) _tile_stored(3, before.sum + kGroupRows * width + kGroupRows, width * 4);
}

// The tiles of a thread, while it multiplies.
struct PairUnit {
  using Number = uint16_t;

  PairUnit() { configure_tiles(kBlockRows); }
  ~PairUnit() { _tile_release(); }

  // before.sum (rows, kPanelGroups * kGroupRows) = `rows` (1 to kBlockRows) rows of x times the groups' `tiles` tiles. What `sum` holds is finished
  // first, a row between two steps: a step keeps the tile unit busy for 64 cycles, in which the vector units have nothing else to do.
  template <class Before>
  void multiply(Before& before, const uint16_t* x, int64_t stride, int64_t rows, const uint16_t* const* group, int64_t tiles) const {
    written();
    if (rows < kBlockRows) configure_tiles(static_cast<int>(rows));
    rows > kGroupRows ? block<true>(before, x, stride, group, tiles) : block<false>(before, x, stride, group, tiles);
    if (rows < kBlockRows) configure_tiles(kBlockRows);
  }
};

}  // namespace jvlm::cpu::JVLM_ISA
