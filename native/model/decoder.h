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

  // Uploads what the constructor could not: the rope frequencies.
  void prepare(Ops& ops, void* frequencies);

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
  const float* frequencies_ = nullptr;
};

}  // namespace jvlm
