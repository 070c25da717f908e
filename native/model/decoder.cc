#include "model/decoder.h"

#include <cmath>

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

void Decoder::prepare(Ops& ops, void* frequencies) {
  // As the reference computes them: exponent, power and reciprocal each rounded to float32. A position in the thousands turns the last
  // bit of a frequency into an angle that shows in the fourth digit of an activation.
  std::vector<float> host(static_cast<size_t>(spec_.head_size / 2));
  for (size_t i = 0; i < host.size(); ++i) {
    float exponent = static_cast<float>(2 * i) / static_cast<float>(spec_.head_size);
    host[i] = 1.f / static_cast<float>(std::pow(spec_.rope_theta, static_cast<double>(exponent)));
  }
  ops.upload(frequencies, host.data(), static_cast<int64_t>(host.size()) * 4);
  frequencies_ = static_cast<const float*>(frequencies);
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
    ops.rope_table(cos, sin, in.step, frequencies_, static_cast<int32_t>(half), 1.f);
    in.step.cos = cos, in.step.sin = sin;
    for (int32_t i = 0; i < spec_.layers; ++i) {
      block(ops, layers_[static_cast<size_t>(i)], s, x, cache[static_cast<size_t>(i)], in.step);
      tap("decoder", i, x);
    }
    if (tap.wants("decoder.norm")) {               // of every token, which the logits do not need
      ops.norm(s.normed, x, norm_);
      tap("decoder.norm", s.normed);
    }
    if (in.logits_rows) {
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
