// The perceiver connector; its class stands in connector.h.
#include "model/connector.h"

#include <cmath>

namespace jvlm {

Perceiver::Perceiver(const Spec& spec, Weights& weights, Dtype act) : spec_(spec), act_(act) {
  const ConnectorSpec& c = spec.connector;
  const int64_t h = spec.vision.hidden, wide = spec.decoder.hidden, inner = static_cast<int64_t>(c.heads) * c.head_size;
  auto rms = [&](const std::string& target) { return Norm{NormKind::rms, weights.vector(target, wide), nullptr, c.eps}; };
  tower_norm_ = {NormKind::layer, weights.vector("vision.norm.weight", h), weights.vector("vision.norm.bias", h), spec.vision.eps};
  project_ = weights.matrix("connector.projection.gate_up.weight", 2LL * c.projection, h);
  project_down_ = weights.matrix("connector.projection.down.weight", wide, c.projection);
  latents_ = weights.table("connector.latents", c.latents, wide);
  for (int32_t i = 0; i < c.layers; ++i) {
    const std::string at = "connector." + std::to_string(i) + ".";
    Layer w;
    w.latents_norm = rms(at + "latents_norm.weight");
    w.context_norm = rms(at + "context_norm.weight");
    w.q = weights.matrix(at + "attn.q.weight", inner, wide);
    w.kv = weights.matrix(at + "attn.kv.weight", 2LL * c.kv_heads * c.head_size, wide);
    w.out = weights.matrix(at + "attn.out.weight", wide, inner);
    w.mlp_norm = rms(at + "mlp_norm.weight");
    w.gate_up = weights.matrix(at + "mlp.gate_up.weight", 2LL * c.mlp, wide);
    w.down = weights.matrix(at + "mlp.down.weight", wide, c.mlp);
    layers_.push_back(w);
  }
  norm_ = rms("connector.norm.weight");
}

void Perceiver::forward(Ops& ops, Arena& ws, Tensor out, Tensor x, const VisionInput& in, Taps& tap) const {
  const ConnectorSpec& c = spec_.connector;
  const int32_t pictures = in.rows.count;
  const int64_t tokens = in.tokens(), rows = static_cast<int64_t>(pictures) * c.latents, wide = spec_.decoder.hidden;
  const int64_t inner = static_cast<int64_t>(c.heads) * c.head_size, kv_width = static_cast<int64_t>(c.kv_heads) * c.head_size;
  // Whose rows are whose: the keys of a picture are its patches, then its latents.
  std::vector<int32_t> query_start, key_start, latent;
  for (int32_t b = 0; b <= pictures; ++b) {
    query_start.push_back(b * c.latents);
    key_start.push_back(in.start[static_cast<size_t>(b)] + b * c.latents);
  }
  for (int64_t r = 0; r < rows; ++r) latent.push_back(static_cast<int32_t>(r % c.latents));

  const int64_t mark = ws.mark();
  auto indices = [&](const std::vector<int32_t>& host) {
    auto* device = static_cast<int32_t*>(ws.take(static_cast<int64_t>(host.size()) * 4));
    if (device) ops.upload(device, host.data(), static_cast<int64_t>(host.size()) * 4);
    return device;
  };
  const PictureRows queries{pictures, indices(query_start), c.latents}, keys{pictures, indices(key_start), in.rows.most + c.latents};
  const int32_t* latent_rows = indices(latent);
  Tensor context = ws.tensor(Dtype::f32, tokens, wide);
  const int64_t projected = ws.mark();
  Tensor normed = ws.spread(act_, tokens, spec_.vision.hidden);
  Tensor mid = ws.spread(act_, tokens, c.projection);
  if (x.data) {
    if (tap.wants("vision.out")) {
      ops.norm(normed, x, tower_norm_);
      tap("vision.out", normed);
    }
    ops.norm_matmul_gate(mid, x, normed, tower_norm_, project_, c.activation);
    ops.matmul(context, mid, project_down_, nullptr, Act::none);
  }
  ws.rewind(projected);

  Tensor latents = ws.tensor(Dtype::f32, rows, wide);
  Tensor latents_normed = ws.spread(act_, rows, wide);
  Tensor seen = ws.spread(act_, tokens + rows, wide);                       // what keys and values are made of
  Tensor q = ws.spread(act_, rows, inner);
  Tensor kv = ws.spread(act_, tokens + rows, 2 * kv_width);
  Tensor att = ws.spread(act_, rows, inner);
  Tensor gated = ws.spread(act_, rows, c.mlp);
  if (x.data) {
    ops.gather(latents, Tensor(const_cast<float*>(latents_), Dtype::f32, c.latents, wide), latent_rows);
    for (const Layer& w : layers_) {
      ops.norm(latents_normed, latents, w.latents_norm);
      for (int32_t b = 0; b < pictures; ++b) {
        const int64_t first = in.start[static_cast<size_t>(b)], count = in.start[static_cast<size_t>(b) + 1] - first;
        const int64_t at = key_start[static_cast<size_t>(b)];
        ops.norm(seen.slice(at, count), context.slice(first, count), w.context_norm);
        ops.norm(seen.slice(at + count, c.latents), latents.slice(b * c.latents, c.latents), w.latents_norm);
      }
      ops.matmul(q, latents_normed, w.q, nullptr, Act::none);
      ops.matmul(kv, seen, w.kv, nullptr, Act::none);
      ops.attention(att, q, kv.columns(0, kv_width), kv.columns(kv_width, kv_width), queries, keys, c.heads, c.kv_heads, c.head_size,
                    1.f / std::sqrt(static_cast<float>(c.head_size)));
      ops.matmul_add(latents, att, w.out, nullptr, nullptr);
      ops.norm_matmul_gate(gated, latents, latents_normed, w.mlp_norm, w.gate_up, c.activation);
      ops.matmul_add(latents, gated, w.down, nullptr, nullptr);
    }
    ops.norm(out, latents, norm_);
    tap("connector", out);
  }
  ws.rewind(mark);
}

}  // namespace jvlm
