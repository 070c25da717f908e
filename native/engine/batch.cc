#include "engine/batch.h"

#include <algorithm>

#include "base/error.h"

namespace jvlm {
namespace {

void range(const char* what, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    throw request_error(std::string("Step array ") + what + " holds " + std::to_string(value) + "; it must lie between " +
                        std::to_string(least) + " and " + std::to_string(most));
}

}  // namespace

void Batch::assign(int32_t tokens, const int32_t* token_in, const int32_t* vision_row_in, int32_t sequences, const int32_t* seq_start_in,
                   const int32_t* past_in, const int32_t* rope_length_in, const int32_t* page_start_in, const int32_t* page_in,
                   int32_t logits_rows, const int32_t* logits_row_in, const Limits& limits) {
  range("tokens", tokens, 1, limits.step_tokens);
  range("sequences", sequences, 1, limits.sequences);
  range("logits_rows", logits_rows, 0, limits.sequences);
  range("page_start", page_start_in[sequences], 0, limits.pages);
  token.assign(token_in, token_in + tokens);
  vision_row.assign(vision_row_in, vision_row_in + tokens);
  seq_start.assign(seq_start_in, seq_start_in + sequences + 1);
  past.assign(past_in, past_in + sequences);
  rope_length.assign(rope_length_in, rope_length_in + sequences);
  page_start.assign(page_start_in, page_start_in + sequences + 1);
  page.assign(page_in, page_in + page_start_in[sequences]);
  logits_row.assign(logits_row_in, logits_row_in + logits_rows);
}

void Batch::assign_sampling(const SampleRow* sample_in, int32_t biases, const int32_t* bias_slot_in, const float* bias_in, const Spec& spec) {
  sample.assign(sample_in, sample_in + (sample_in ? logits_row.size() : 0));
  range("biases", biases, 0, static_cast<int64_t>(sample.size()));
  bias_slot.assign(bias_slot_in, bias_slot_in + biases);
  bias.assign(bias_in, bias_in + static_cast<int64_t>(biases) * spec.decoder.vocabulary);
}

void Batch::check(const Spec& spec, const Limits& limits, int32_t last_rows) const {
  for (int32_t t : token) range("token", t, -last_rows, spec.decoder.vocabulary - 1);
  for (int32_t v : vision_row) range("vision_row", v, -1, limits.vision_rows - 1);
  for (int32_t p : page) range("page", p, 0, limits.pages - 1);
  for (int32_t r : logits_row) range("logits_row", r, 0, tokens() - 1);
  for (const SampleRow& r : sample) {
    range("sample (slot)", r.slot, 0, limits.sequences - 1);
    range("sample (bias)", r.bias, -1, limits.sequences - 1);
  }
  for (int32_t b : bias_slot) range("bias_slot", b, 0, limits.sequences - 1);
  range("seq_start", seq_start.front(), 0, 0);
  range("seq_start", seq_start.back(), tokens(), tokens());
  range("page_start", page_start.front(), 0, 0);
  for (size_t s = 0; s < past.size(); ++s) {
    range("seq_start", seq_start[s + 1], seq_start[s] + 1, tokens());
    range("page_start", page_start[s + 1], page_start[s], static_cast<int64_t>(page.size()));
    const int64_t held = static_cast<int64_t>(page_start[s + 1] - page_start[s]) * limits.page_tokens;
    const int64_t length = static_cast<int64_t>(past[s]) + seq_start[s + 1] - seq_start[s];
    range("past", past[s], 0, limits.context - 1);
    range("past + new tokens", length, 1, std::min<int64_t>(held, limits.context));
    range("rope_length", rope_length[s], 1, INT32_MAX);
  }
}

}  // namespace jvlm
