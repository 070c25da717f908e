#pragma once
#include <cstdint>
#include <vector>

#include "engine/limits.h"
#include "model/spec.h"
#include "ops/ops.h"

namespace jvlm {

// The arrays of one step, copied from Java. `check` refuses whatever would make an operation read or write out of bounds: Java is
// trusted to decide well, not to be free of mistakes.
struct Batch {
  std::vector<int32_t> token, vision_row, seq_start, past, rope_length, page_start, page, logits_row, bias_slot;
  std::vector<SampleRow> sample;         // empty: all rows take the likeliest
  std::vector<float> bias;               // a row of the vocabulary for each bias_slot

  void assign(int32_t tokens, const int32_t* token, const int32_t* vision_row, int32_t sequences, const int32_t* seq_start,
              const int32_t* past, const int32_t* rope_length, const int32_t* page_start, const int32_t* page, int32_t logits_rows,
              const int32_t* logits_row, const Limits& limits);
  void assign_sampling(const SampleRow* sample, int32_t biases, const int32_t* bias_slot, const float* bias, const Spec& spec);
  void check(const Spec& spec, const Limits& limits, int32_t last_rows) const;

  int32_t tokens() const { return static_cast<int32_t>(token.size()); }
  int32_t sequences() const { return static_cast<int32_t>(past.size()); }
};

}  // namespace jvlm
