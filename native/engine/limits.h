// What an engine may hold at once, from the text that Java sends: one "key value" a line, every key below exactly once.
#pragma once
#include <cstdint>
#include <string>

#include "model/weights.h"

namespace jvlm {

struct Limits {
  Precision precision = Precision::bf16;   // precision: float32 | bf16 | int8
  int32_t pages = 0;                       // pages of the cache
  int32_t page_tokens = 0;                 // tokens a page
  int32_t sequences = 0;                   // sequences in one step, and rows of logits
  int32_t step_tokens = 0;                 // tokens in one step
  int32_t vision_rows = 0;                 // rows of the vision buffer
  int32_t encode_tiles = 0;                // tiles in one call of encode
  int32_t context = 0;                     // longest sequence
  bool deterministic = false;              // 0 | 1: a sequence's numbers do not depend on what else is in its steps
};

Limits parse_limits(const std::string& text);

}  // namespace jvlm
