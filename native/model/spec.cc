#include "model/spec.h"

#include <sstream>

#include "base/error.h"
#include "base/lines.h"

namespace jvlm {
namespace {

int32_t i32(const Lines& lines, const std::string& key, int64_t least, int64_t most) {
  return static_cast<int32_t>(integer(lines, key, least, most));
}

Act activation(const Lines& lines, const std::string& key) {
  const std::string& text = word(lines, key);
  if (text == "gelu") return Act::gelu;
  if (text == "gelu_tanh") return Act::gelu_tanh;
  if (text == "silu") return Act::silu;
  throw model_unsupported("'" + key + "' is " + text + "; known are gelu, gelu_tanh and silu");
}

NormKind norm_kind(const Lines& lines, const std::string& key) {
  const std::string& text = word(lines, key);
  if (text == "layer_norm") return NormKind::layer;
  if (text == "rms_norm") return NormKind::rms;
  throw model_unsupported("'" + key + "' is " + text + "; known are layer_norm and rms_norm");
}

ConnectorSpec connector(const Lines& lines) {
  ConnectorSpec c;
  c.eps = static_cast<float>(number(lines, "connector.eps"));
  const std::string& kind = word(lines, "connector.kind");
  if (kind == "pixel_shuffle") return c;
  if (kind != "perceiver") throw model_unsupported("'connector.kind' is " + kind + "; known are pixel_shuffle and perceiver");
  c.kind = ConnectorKind::perceiver;
  c.projection = i32(lines, "connector.projection", 1, 1 << 18);
  c.latents = i32(lines, "connector.latents", 1, 1 << 12);
  c.layers = i32(lines, "connector.layers", 1, 1024);
  c.heads = i32(lines, "connector.heads", 1, 1024);
  c.kv_heads = i32(lines, "connector.kv_heads", 1, 1024);
  c.head_size = i32(lines, "connector.head_size", 1, 512);
  c.mlp = i32(lines, "connector.mlp", 1, 1 << 18);
  c.activation = activation(lines, "connector.activation");
  if (c.heads % c.kv_heads) throw model_format("connector.heads is no multiple of connector.kv_heads");
  return c;
}

void three(const Lines& lines, const std::string& key, float out[3]) {
  std::istringstream in(word(lines, key));
  if (!(in >> out[0] >> out[1] >> out[2]) || !(in >> std::ws).eof()) throw model_format("'" + key + "' must be three numbers");
}

}  // namespace

Spec parse_spec(const std::string& text) {
  Lines lines = parse_lines(text);
  Spec s;
  s.vision.hidden = i32(lines, "vision.hidden", 1, 1 << 16);
  s.vision.heads = i32(lines, "vision.heads", 1, 1024);
  s.vision.head_size = i32(lines, "vision.head_size", 1, 512);
  s.vision.mlp = i32(lines, "vision.mlp", 1, 1 << 18);
  s.vision.layers = i32(lines, "vision.layers", 0, 1024);
  s.vision.patch = i32(lines, "vision.patch", 1, 256);
  s.vision.image = i32(lines, "vision.image", 1, 1 << 13);
  s.vision.class_token = i32(lines, "vision.class_token", 0, 1);
  s.vision.norm = norm_kind(lines, "vision.norm");
  s.vision.eps = static_cast<float>(number(lines, "vision.eps"));
  s.vision.activation = activation(lines, "vision.activation");
  three(lines, "vision.mean", s.vision.mean);
  three(lines, "vision.std", s.vision.std);
  s.connector = connector(lines);
  s.decoder.hidden = i32(lines, "decoder.hidden", 1, 1 << 16);
  s.decoder.heads = i32(lines, "decoder.heads", 1, 1024);
  s.decoder.kv_heads = i32(lines, "decoder.kv_heads", 1, 1024);
  s.decoder.head_size = i32(lines, "decoder.head_size", 2, 512);
  s.decoder.mlp = i32(lines, "decoder.mlp", 1, 1 << 18);
  s.decoder.layers = i32(lines, "decoder.layers", 0, 1024);
  s.decoder.vocabulary = i32(lines, "decoder.vocabulary", 1, 1 << 24);
  s.decoder.eps = static_cast<float>(number(lines, "decoder.eps"));
  s.decoder.rope_theta = number(lines, "decoder.rope_theta");
  s.decoder.window = i32(lines, "decoder.window", 0, 1 << 24);
  s.decoder.context = i32(lines, "decoder.context", 1, 1 << 24);
  s.decoder.activation = activation(lines, "decoder.activation");
  refuse_unread(lines);
  if (s.vision.hidden != s.vision.heads * s.vision.head_size) throw model_format("vision.hidden is not heads times head_size");
  if (s.vision.image % s.vision.patch) throw model_format("vision.image is no whole number of patches");
  if (s.connector.kind == ConnectorKind::pixel_shuffle && s.vision.grid() % 2) throw model_format("vision.image is no even number of patches");
  if (s.decoder.heads % s.decoder.kv_heads) throw model_format("decoder.heads is no multiple of decoder.kv_heads");
  if (s.decoder.head_size % 2) throw model_format("decoder.head_size is odd");
  return s;
}

}  // namespace jvlm
