#include "model/vit.h"

#include <cmath>

namespace jvlm {

Vit::Vit(const VisionSpec& spec, Weights& weights, Dtype act) : spec_(spec), act_(act) {
  const int64_t h = spec.hidden;
  patch_ = weights.matrix("vision.patch.weight", h, 3LL * spec.patch * spec.patch);
  patch_bias_ = weights.vector("vision.patch.bias", h);
  class_ = spec.class_token ? weights.vector("vision.class", h) : nullptr;
  positions_ = weights.table("vision.positions", spec.tokens(), h);
  for (int32_t i = 0; i < spec.layers; ++i) {
    const std::string at = "vision." + std::to_string(i) + ".";
    auto norm = [&](const std::string& name) {
      return Norm{spec.norm, weights.vector(at + name + ".weight", h),
                  spec.norm == NormKind::layer ? weights.vector(at + name + ".bias", h) : nullptr, spec.eps};
    };
    Layer w;
    w.norm1 = norm("norm1");
    w.qkv = weights.matrix(at + "attn.qkv.weight", 3 * h, h);
    w.qkv_bias = weights.optional(at + "attn.qkv.bias", 3 * h);
    w.q_norm = {NormKind::rms, weights.optional(at + "attn.q_norm.weight", h), nullptr, spec.eps};
    w.k_norm = {NormKind::rms, weights.optional(at + "attn.k_norm.weight", h), nullptr, spec.eps};
    w.out = weights.matrix(at + "attn.out.weight", h, h);
    w.out_bias = weights.optional(at + "attn.out.bias", h);
    w.scale1 = weights.optional(at + "scale1", h);
    w.norm2 = norm("norm2");
    w.up = weights.matrix(at + "mlp.up.weight", spec.mlp, h);
    w.up_bias = weights.optional(at + "mlp.up.bias", spec.mlp);
    w.down = weights.matrix(at + "mlp.down.weight", h, spec.mlp);
    w.down_bias = weights.optional(at + "mlp.down.bias", h);
    w.scale2 = weights.optional(at + "scale2", h);
    layers_.push_back(w);
  }
}

Tensor Vit::forward(Ops& ops, Arena& ws, const VisionInput& in, Taps& tap) const {
  const int64_t rows = in.tokens();
  Tensor x = ws.tensor(Dtype::f32, rows, spec_.hidden);
  const int64_t mark = ws.mark();
  Scratch s;
  s.normed = ws.spread(act_, rows, spec_.hidden);
  s.qkv = ws.spread(act_, rows, 3LL * spec_.hidden);
  s.att = ws.spread(act_, rows, spec_.hidden);
  s.mid = ws.spread(act_, rows, spec_.mlp);
  if (x.data) {
    ops.patch_embed(x, in.rgb, in.patches, spec_.patch, patch_, patch_bias_, class_, positions_, spec_.mean, spec_.std);
    tap("vision.embed", x);
    for (int32_t i = 0; i < spec_.layers; ++i) {
      const Range range(ops, "vision", i);
      block(ops, layers_[static_cast<size_t>(i)], s, x, in.rows);
      tap("vision", i, x);
    }
  }
  ws.rewind(mark);
  return x;
}

void Vit::block(Ops& ops, const Layer& w, const Scratch& s, Tensor x, const PictureRows& rows) const {
  const int64_t h = spec_.hidden;
  ops.norm_matmul(s.qkv, x, s.normed, w.norm1, w.qkv, w.qkv_bias, Act::none);
  if (w.q_norm.weight) ops.norm_qk(s.qkv, w.q_norm, w.k_norm);
  ops.attention(s.att, s.qkv.columns(0, h), s.qkv.columns(h, h), s.qkv.columns(2 * h, h), rows, rows, spec_.heads, spec_.heads, spec_.head_size,
                1.f / std::sqrt(static_cast<float>(spec_.head_size)));
  ops.matmul_add(x, s.att, w.out, w.out_bias, w.scale1);                                        // x += scale1 * (att W + b)
  ops.norm_matmul(s.mid, x, s.normed, w.norm2, w.up, w.up_bias, spec_.activation);
  ops.matmul_add(x, s.mid, w.down, w.down_bias, w.scale2);
}

}  // namespace jvlm
