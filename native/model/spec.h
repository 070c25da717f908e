// The shape of a model, from the text that Java sends: one "key value..." a line, every key of the tables below that its kinds have exactly
// once, no other.
#pragma once
#include <cstdint>
#include <string>

#include "ops/ops.h"

namespace jvlm {

// Keys: vision.hidden, .heads, .head_size, .mlp, .layers, .patch, .image (side in pixels of a tile, or of the largest
// picture), .class_token (0 | 1), .norm (layer_norm | rms_norm), .eps, .activation (gelu | gelu_tanh | silu),
// .mean (three numbers), .std (three)
struct VisionSpec {
  int32_t hidden = 0, heads = 0, head_size = 0, mlp = 0, layers = 0, patch = 0, image = 0, class_token = 1;
  NormKind norm = NormKind::layer;
  float eps = 0;
  Act activation = Act::gelu;
  float mean[3] = {}, std[3] = {};

  int32_t grid() const { return image / patch; }
  int32_t tokens() const { return class_token + grid() * grid(); }
};

// Pixel shuffle by two with its MLP (connector.cc), or a gated projection and a perceiver: learned queries, the latents, that look at a
// picture's patches.
enum class ConnectorKind { pixel_shuffle, perceiver };

// Keys: connector.kind (pixel_shuffle | perceiver), .eps; only with perceiver: .projection (width of the gated projection), .latents, .layers,
// .heads, .kv_heads, .head_size, .mlp, .activation
struct ConnectorSpec {
  ConnectorKind kind = ConnectorKind::pixel_shuffle;
  float eps = 0;
  int32_t projection = 0, latents = 0, layers = 0, heads = 0, kv_heads = 0, head_size = 0, mlp = 0;
  Act activation = Act::silu;
};

// Keys: decoder.hidden, .heads, .kv_heads, .head_size, .mlp, .layers, .vocabulary, .eps, .rope_theta, .window (0: none), .context,
// .activation
struct DecoderSpec {
  int32_t hidden = 0, heads = 0, kv_heads = 0, head_size = 0, mlp = 0, layers = 0, vocabulary = 0, window = 0, context = 0;
  float eps = 0;
  double rope_theta = 0;
  Act activation = Act::silu;

  int32_t attn_width() const { return heads * head_size; }
  int32_t qkv_width() const { return (heads + 2 * kv_heads) * head_size; }
};

struct Spec {
  VisionSpec vision;
  ConnectorSpec connector;
  DecoderSpec decoder;

  // Vision rows a picture.
  int32_t rows_per_tile() const {
    return connector.kind == ConnectorKind::perceiver ? connector.latents : (vision.grid() / 2) * (vision.grid() / 2);
  }
};

Spec parse_spec(const std::string& text);

}  // namespace jvlm
