#pragma once
#include <vector>

#include "base/arena.h"
#include "model/spec.h"
#include "model/taps.h"
#include "model/weights.h"

namespace jvlm {

// The arrays of a step that only the decoder reads, on the device.
struct StepInput {
  Step step;
  const int32_t* token = nullptr;
  const int32_t* vision_row = nullptr;
  const int32_t* last_ids = nullptr;
  const int32_t* logits_row = nullptr;
  int32_t logits_rows = 0;
};

// A Llama-shaped decoder: RMSNorm, grouped heads, half-split rope, gated MLP, paged cache.
class Decoder {
 public:
  Decoder(const DecoderSpec& spec, Weights& weights, Dtype act);

  // One step: logits (logits_rows, V) float. `tokens` and `logits_rows` of `in` size the workspace; a counting arena computes nothing.
  void forward(Ops& ops, Arena& ws, Tensor logits, StepInput in, const std::vector<KvCache>& cache, Tensor vision, Taps& tap) const;

  // Device memory for the rope frequencies of up to `sequences` sequences, and what takes it.
  static int64_t frequency_bytes(const DecoderSpec& spec, int32_t sequences) { return 2LL * spec.head_size * sequences; }
  void prepare(Ops& ops, void* memory, int32_t sequences);

  // Before forward: the frequencies of a step whose sequences have these lengths. Where they lie never changes.
  void set_lengths(Ops& ops, const std::vector<int32_t>& rope_length);

  // The head_size/2 frequencies of a sequence of this length.
  static std::vector<float> inverse_frequencies(const DecoderSpec& spec, int32_t rope_length);

 private:
  struct Layer {
    Norm attn_norm, mlp_norm;
    Matrix qkv, out, gate_up, down;
  };
  struct Scratch {
    Tensor normed, qkv, att, mid;
  };
  void block(Ops& ops, const Layer& w, const Scratch& s, Tensor x, const KvCache& cache, const Step& step) const;

  DecoderSpec spec_;
  Dtype act_;
  Matrix embed_, head_;
  Norm norm_;
  std::vector<Layer> layers_;
  float* frequencies_ = nullptr;        // (sequences, head_size/2)
  std::vector<int32_t> lengths_;        // by which each row of them was made
};

}  // namespace jvlm
