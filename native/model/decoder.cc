#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "model/powers.h"

namespace jvlm {

Decoder::Decoder(const DecoderSpec& spec, Weights& weights, Dtype act) : spec_(spec), act_(act) {
  const int64_t h = spec.hidden;
  auto norm = [&](const std::string& target) { return Norm{NormKind::rms, weights.vector(target, h), nullptr, spec.eps}; };
  embed_ = weights.rows("decoder.embed.weight", spec.vocabulary, h);
  for (int32_t i = 0; i < spec.layers; ++i) {
    const std::string at = "decoder." + std::to_string(i) + ".";
    Layer w;
    w.attn_norm = norm(at + "attn_norm.weight");
    w.qkv = weights.matrix(at + "attn.qkv.weight", spec.qkv_width(), h, true);
    w.out = weights.matrix(at + "attn.out.weight", h, spec.attn_width(), true);
    w.mlp_norm = norm(at + "mlp_norm.weight");
    w.gate_up = weights.matrix(at + "mlp.gate_up.weight", 2LL * spec.mlp, h, true);
    w.down = weights.matrix(at + "mlp.down.weight", h, spec.mlp, true);
    layers_.push_back(w);
  }
  norm_ = norm("decoder.norm.weight");
  head_ = weights.matrix("decoder.head.weight", spec.vocabulary, h, true);
}

std::vector<float> Decoder::inverse_frequencies(const DecoderSpec& spec, int32_t rope_length) {
  double base = spec.rope_theta;
  const std::vector<float>* factor = nullptr;
  if (spec.rope == Rope::dynamic_ntk && rope_length > spec.rope_limit) {
    const double size = spec.head_size, stretch = spec.rope_factor * rope_length / spec.rope_limit - (spec.rope_factor - 1);
    base *= std::pow(stretch, size / (size - 2));
  } else if (spec.rope == Rope::long_rope) {
    factor = rope_length > spec.rope_limit ? &spec.rope_long : &spec.rope_short;
  }
  // To the bit as the reference computes them: base, exponents, powers, products and reciprocals each rounded to float32. A position in the
  // thousands turns the last bit of a frequency into an angle that shows in the fourth digit of an activation.
  std::vector<float> out(static_cast<size_t>(spec.head_size / 2));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(2 * i) / static_cast<float>(spec.head_size);
  out = powers(static_cast<float>(base), out);
  for (size_t i = 0; i < out.size(); ++i) out[i] = 1.f / (factor ? (*factor)[i] * out[i] : out[i]);
  return out;
}

void Decoder::prepare(Ops& ops, void* memory, int32_t sequences) {
  frequencies_ = static_cast<float*>(memory);
  set_lengths(ops, std::vector<int32_t>(static_cast<size_t>(sequences), 1));
}

void Decoder::set_lengths(Ops& ops, const std::vector<int32_t>& rope_length) {
  const int64_t bytes = frequency_bytes(spec_, 1);
  lengths_.resize(std::max(lengths_.size(), rope_length.size()));
  for (size_t s = 0; s < rope_length.size(); ++s) {
    // Lengths that give the same frequencies count as one.
    const bool beyond = rope_length[s] > spec_.rope_limit;
    const int32_t length = spec_.rope == Rope::plain || !beyond ? 1 : spec_.rope == Rope::long_rope ? spec_.rope_limit + 1 : rope_length[s];
    if (length == lengths_[s]) continue;
    ops.upload(reinterpret_cast<char*>(frequencies_) + static_cast<int64_t>(s) * bytes, inverse_frequencies(spec_, length).data(), bytes);
    lengths_[s] = length;
  }
}

void Decoder::forward(Ops& ops, Arena& ws, Tensor logits, StepInput in, const std::vector<KvCache>& cache, Tensor vision, Taps& tap) const {
  const int64_t rows = in.step.tokens, half = spec_.head_size / 2, mark = ws.mark();
  Tensor x = ws.tensor(Dtype::f32, rows, spec_.hidden);
  Tensor last = ws.tensor(Dtype::f32, in.logits_rows, spec_.hidden);
  auto* cos = static_cast<float*>(ws.take(rows * half * 4));
  auto* sin = static_cast<float*>(ws.take(rows * half * 4));
  Scratch s;
  s.normed = ws.spread(act_, rows, spec_.hidden);
  s.qkv = ws.spread(act_, rows, spec_.qkv_width());
  s.att = ws.spread(act_, rows, spec_.attn_width());
  s.mid = ws.spread(act_, rows, spec_.mlp);
  if (x.data) {
    ops.embed(x, in.token, in.vision_row, in.last_ids, embed_, vision);
    tap("decoder.embed", x);
    ops.rope_table(cos, sin, in.step, frequencies_, static_cast<int32_t>(half), spec_.rope_magnitude);
    in.step.cos = cos, in.step.sin = sin;
    for (int32_t i = 0; i < spec_.layers; ++i) {
      const Range range(ops, "decoder", i);
      block(ops, layers_[static_cast<size_t>(i)], s, x, cache[static_cast<size_t>(i)], in.step);
      tap("decoder", i, x);
    }
    if (tap.wants("decoder.norm")) {               // of every token, which the logits do not need
      ops.norm(s.normed, x, norm_);
      tap("decoder.norm", s.normed);
    }
    if (in.logits_rows) {
      const Range range(ops, "logits");
      ops.gather(last, x, in.logits_row);
      ops.norm_matmul(logits, last, s.normed.slice(0, in.logits_rows), norm_, head_, nullptr, Act::none);
      tap("logits", logits);
    }
  }
  ws.rewind(mark);
}

void Decoder::block(Ops& ops, const Layer& w, const Scratch& s, Tensor x, const KvCache& cache, const Step& step) const {
  ops.norm_matmul(s.qkv, x, s.normed, w.attn_norm, w.qkv, nullptr, Act::none);
  ops.rope_append_attend(s.att, s.qkv, cache, spec_.heads, 1.f / std::sqrt(static_cast<float>(spec_.head_size)), spec_.window, step);
  ops.matmul_add(x, s.att, w.out, nullptr, nullptr);
  ops.norm_matmul_gate(s.mid, x, s.normed, w.mlp_norm, w.gate_up, spec_.activation);
  ops.matmul_add(x, s.mid, w.down, nullptr, nullptr);
}

}  // namespace jvlm
