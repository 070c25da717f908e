// Where the weights lie and how they come into memory.
//
// Manifest, one piece a line, fields separated by TAB:  target  first_row  rows  cols  dtype  file  offset
// A piece fills the rows first_row ... first_row + rows of the target tensor with rows*cols numbers of `dtype` (F32, BF16, F16) that
// start at byte `offset` of `file`. Pieces cover a target exactly. A vector is a target of n rows and one column.
// A file "seed:N" stands for seeded pseudo-random weights of the size that a trained model would have (benchmarks).
//
// An adapter's part in a piece, somewhere behind the piece's own line:
//   adapter  target  first_row  rank  scale  file  dtype  offset  dtype  offset  [dtype  offset]
// With A (rank, cols) and B (rank numbers for each of the piece's rows), at the first and the second offset, the piece becomes
// V = W + scale * B * A (LoRA); with magnitudes m, one a row, at the third, row o becomes m[o] * V[o] / ||V[o]|| (DoRA). Biases stay.
//
// Targets (shapes: see the model's spec; h vision hidden, H decoder hidden):
//   vision.patch.weight (h, 3*p*p)  vision.patch.bias  vision.class  vision.positions (tokens, h)
//   vision.N.norm1.weight|bias  vision.N.attn.qkv.weight|bias (3h, h)  vision.N.attn.out.weight|bias (h, h)  vision.N.scale1
//   vision.N.attn.q_norm.weight (h)  vision.N.attn.k_norm.weight (h)
//   vision.N.norm2.weight|bias  vision.N.mlp.up.weight|bias (mlp, h)  vision.N.mlp.down.weight|bias (h, mlp)  vision.N.scale2
//   connector.norm.weight|bias (4h)  connector.up.weight|bias (H, 4h)  connector.down.weight|bias (H, H)
// and with a perceiver (P its projection's width, D its head size) instead:
//   vision.norm.weight|bias (h)  connector.projection.gate_up.weight (2P, h: gate, then up)  connector.projection.down.weight (H, P)
//   connector.latents (latents, H)  connector.N.latents_norm.weight  connector.N.context_norm.weight  connector.N.attn.q.weight (heads D, H)
//   connector.N.attn.kv.weight (2 kv_heads D, H: k, then v)  connector.N.attn.out.weight (H, heads D)  connector.N.mlp_norm.weight
//   connector.N.mlp.gate_up.weight (2 mlp, H: gate, then up)  connector.N.mlp.down.weight (H, mlp)  connector.norm.weight
// decoder:
//   decoder.embed.weight (V, H)
//   decoder.N.attn_norm.weight  decoder.N.attn.qkv.weight ((heads + 2 kv_heads) * head_size, H)  decoder.N.attn.out.weight
//   decoder.N.mlp_norm.weight  decoder.N.mlp.gate_up.weight (2 mlp, H: gate, then up)  decoder.N.mlp.down.weight (H, mlp)
//   decoder.norm.weight  decoder.head.weight (V, H)
// Biases, scales and norms of queries and keys that a family lacks are absent from the manifest and not applied; vision.class is there exactly
// with vision.class_token 1.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/arena.h"
#include "ops/ops.h"

namespace jvlm {

enum class Precision { f32, bf16, i8 };

// Loads the tensors of a manifest one after the other, each straight into its place in the type that it is used in. Without a manifest
// it only counts bytes: the memory plan is made by the same calls.
class Weights {
 public:
  // Counts what `ops` will want.
  Weights(Precision precision, const Ops& ops) : precision_(precision), counted_(&ops) {}
  // Loads; progress (two counters: done, all) may be null.
  Weights(Precision precision, const std::string& manifest, Ops* ops, Arena arena, int64_t* progress);

  // A weight matrix; one that may be quantised becomes int8 with precision i8.
  Matrix matrix(const std::string& target, int64_t n, int64_t k, bool quantised = false);
  // A matrix that rows are taken from, not a factor of products: row-major.
  Matrix rows(const std::string& target, int64_t n, int64_t k);
  const float* vector(const std::string& target, int64_t n);
  // As vector; null where the manifest has no such target.
  const float* optional(const std::string& target, int64_t n);
  // (n, k) float32, whatever the precision.
  const float* table(const std::string& target, int64_t n, int64_t k);
  // After the last: throws if the manifest has a target that nobody asked for.
  void finish() const;

  int64_t bytes() const { return arena_.peak(); }

 private:
  struct Numbers {
    Dtype dtype;
    int64_t offset;
  };
  struct Update {
    int64_t rank;
    float scale;
    std::string file;
    Numbers a, b;
    std::optional<Numbers> magnitude;
  };
  struct Piece {
    int64_t first_row, rows, cols;
    Dtype dtype;
    std::string file;
    int64_t offset;
    std::optional<Update> update;
  };

  void parse_update(const std::string& line);

  Matrix take(const std::string& target, int64_t n, int64_t k, Dtype dtype, bool may_pack);
  void fill(const Matrix& m, const std::string& target);

  Precision precision_;
  const Ops* counted_;
  Ops* ops_ = nullptr;
  Arena arena_;
  int64_t* progress_ = nullptr;
  std::map<std::string, std::vector<Piece>> pieces_;
  std::map<std::string, bool> used_;
  std::vector<char> read_, made_;
};

}  // namespace jvlm
