// The inner loops of packed.cc without tiles: six rows of x by four groups of W, in pairs of bf16 or in float32. 24 sums, four registers of weights and
// one number or pair of x fill the registers; a step multiplies 24 times and loads ten. Measured on Zen 4 with pairs: 95 % of what the multiplier alone
// reaches; 12 rows by two groups 91 %, for they load fourteen times.
#pragma once
#include <cstdint>
#include <cstring>

#include "ops/cpu/packed.h"
#include "ops/cpu/vec.h"

namespace jvlm::cpu::JVLM_ISA {

constexpr int64_t kBlockRows = 6, kPanelGroups = 4;

// A pair of bf16 or a float, `kInputs` inputs: a step over k.
struct PairStep {
  using Number = uint16_t;
  static constexpr int64_t kInputs = 2;
  static Pairs all(const uint16_t* x) {
    uint32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return Pairs{} + pair;
  }
  static Pairs weights(const uint16_t* w) { return load_pairs(w); }
  static Vec times(Vec sum, Pairs x, Pairs w) { return dot_pairs(sum, w, x); }
};
struct FloatStep {
  using Number = float;
  static constexpr int64_t kInputs = 1;
  static Vec all(const float* x) { return splat(*x); }
  static Vec weights(const float* w) { return load(w); }
  static Vec times(Vec sum, Vec x, Vec w) { return sum + x * w; }
};

template <class Step, int rows, class Before>
void block(Before& before, const typename Step::Number* x, int64_t stride, const typename Step::Number* const* group, int64_t tiles) {
  before.finish();
  Vec acc[rows][kPanelGroups] = {};
  for (int64_t t = 0; t < tiles; ++t) {
    for (int64_t i = t * kTileInputs; i < (t + 1) * kTileInputs; i += Step::kInputs) {
      decltype(Step::weights(group[0])) weight[kPanelGroups];
      for (int g = 0; g < kPanelGroups; ++g) weight[g] = Step::weights(group[g] + i * kGroupRows);
      for (int r = 0; r < rows; ++r) {
        const auto all = Step::all(x + r * stride + i);
        for (int g = 0; g < kPanelGroups; ++g) acc[r][g] = Step::times(acc[r][g], all, weight[g]);
      }
    }
    before.fetch();
  }
  for (int r = 0; r < rows; ++r)
    for (int g = 0; g < kPanelGroups; ++g) store(before.sum + (r * kPanelGroups + g) * kGroupRows, acc[r][g]);
}

template <class Step>
struct Unit {
  using Number = typename Step::Number;

  // before.sum (rows, kPanelGroups * kGroupRows) = `rows` (1 to kBlockRows) rows of x times the groups' `tiles` tiles. What `sum` holds is finished first.
  template <class Before>
  void multiply(Before& before, const Number* x, int64_t stride, int64_t rows, const Number* const* group, int64_t tiles) const {
    switch (rows) {
      case 1: return block<Step, 1>(before, x, stride, group, tiles);
      case 2: return block<Step, 2>(before, x, stride, group, tiles);
      case 3: return block<Step, 3>(before, x, stride, group, tiles);
      case 4: return block<Step, 4>(before, x, stride, group, tiles);
      case 5: return block<Step, 5>(before, x, stride, group, tiles);
      default: return block<Step, 6>(before, x, stride, group, tiles);
    }
  }
};
using PairUnit = Unit<PairStep>;
using FloatUnit = Unit<FloatStep>;

}  // namespace jvlm::cpu::JVLM_ISA
