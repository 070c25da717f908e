// The vocabulary: every operation that a model is written in, with its shapes. Three implementations: reference (obvious loops, sums in
// double; tests only), cpu, cuda. Models know this page and nothing of what lies below it.
//
//   B pictures   G patches a side   T tokens of a step      S sequences      P tokens a page
//   H heads      K key/value heads  D head size             L layers         V vocabulary
//
// Types. The residual stream, norms' weights, biases, logits and everything named `float` are float32. "act" is the type of what
// passes between operations and of the cache: float32 with precision float32, else bfloat16. Weights: float32, bfloat16 or int8 (tensor.h).
// Arithmetic inside an operation is float32, of bfloat16 products too.
// Nothing here allocates: scratch is sized when the backend is made (Scratch).
#pragma once
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "base/tensor.h"

namespace jvlm {

enum class Act { none, gelu, gelu_tanh, silu };          // gelu is the erf form
enum class NormKind { layer, rms };

struct Norm {
  NormKind kind = NormKind::layer;
  const float* weight = nullptr;
  const float* bias = nullptr;                            // layer only
  float eps = 0;
};

// The paged cache of one layer: pages of (K, P, D), keys and values apart, act type.
struct KvCache {
  void* k = nullptr;
  void* v = nullptr;
  Dtype dtype = Dtype::f32;
  int32_t kv_heads = 0, head_size = 0, page_tokens = 0;
};

// One step's ragged batch, device pointers; see submit in jvlm.h. Token i of sequence s stands at position past[s] + i - seq_start[s].
struct Step {
  int32_t tokens = 0, sequences = 0;
  const int32_t* seq_start = nullptr;                     // S+1
  const int32_t* past = nullptr;                          // S
  const int32_t* page_start = nullptr;                    // S+1
  const int32_t* page = nullptr;
  const float* cos = nullptr;                             // (T, D/2), from rope_table
  const float* sin = nullptr;
  int32_t max_new = 0;                                    // largest number of new tokens of a sequence (host copy, for kernel choice)
  int32_t max_length = 0;                                 // largest past + new tokens
};

// Pictures of any sizes, one after the other: picture b has the rows start[b] ... start[b+1]-1 of a matrix.
struct PictureRows {
  int32_t count = 0;
  const int32_t* start = nullptr;                         // count+1, on the device
  int32_t most = 0;                                       // of one picture (host copy, for kernel choice and scratch)
};

// One token of a vision tower's input, on the device: the patch that it shows, or (right and below 0) the class token.
struct Patch {
  int64_t first = 0;                                      // byte of rgb where the patch's first pixel lies
  int32_t pitch = 0;                                      // bytes from a row of the picture to the next
  int32_t right = 0, below = 0;                           // pixels of the patch that lie in the picture; those beyond count as 0 after normalisation
  int32_t position = 0;                                   // row of the position table
};

// How one row's next token is chosen: dev.jvlm.request.Sampling as far as a device does it. The defaults take the likeliest. Java writes the
// words (DeviceSampling).
struct SampleRow {
  float temperature = 0, top_p = 1, min_p = 0;            // temperature 0: the likeliest, the lowest id on ties
  int32_t top_k = 0;                                      // 0: all
  float repetition = 1, presence = 0, frequency = 0;      // penalties
  int32_t slot = 0;                                       // the answer's row of `counts`
  int32_t bias = -1;                                      // its row of `bias`, -1: none
  int32_t index = 0;                                      // how many tokens the answer has
  uint32_t seed_low = 0, seed_high = 0;
};
static_assert(sizeof(SampleRow) == 4 * 12);

// What a backend must be able to hold at once; scratch is sized from it when the backend is made.
struct Scratch {
  int64_t max_rows = 0;                                   // rows of the largest product
  int64_t max_inputs = 0, max_outputs = 0;                // columns of the widest product's input and output
  int64_t max_tile_tokens = 0, max_tiles = 0;             // most queries or keys of a picture in dense attention; pictures
  int64_t max_sequences = 0, max_context = 0;             // paged attention
  int64_t max_heads = 0, max_head_size = 0;
  int64_t max_patch_inputs = 0;                           // columns of a patch
  int64_t max_vocabulary = 0;                             // columns of sampled logits, max_sequences rows
  int64_t max_downloads = 0;                              // begun by download_later and not finished
};

class Ops {
 public:
  virtual ~Ops() = default;

  // ---- memory -------------------------------------------------------------------------------------------------------------------
  virtual void* allocate(int64_t bytes) = 0;              // zeroed, 64-byte aligned; freed with the backend
  virtual void upload(void* device, const void* host, int64_t bytes) = 0;
  virtual void download(void* host, const void* device, int64_t bytes) = 0;   // waits for the work queued before
  // A download of at most 4 * max_sequences bytes that waits for nothing where operations are queued: true if `host` holds it only after
  // finish_download(index), which waits for it and for nothing queued behind it. index: below max_downloads.
  virtual bool download_later(int32_t index, void* host, const void* device, int64_t bytes) {
    download(host, device, bytes);
    return false;
  }
  virtual void finish_download(int32_t index) {}
  virtual void reserve(const Scratch& scratch) = 0;       // once, before the first operation
  // Weights of products may lie in an order of the backend's own: the bytes that such a matrix takes (0: this backend wants rows), and how
  // rows first ... first + rows of it come into zeroed memory, from row-major host memory of the same type.
  virtual int64_t packed_bytes(Dtype dtype, int64_t n, int64_t k) const { return 0; }
  virtual void pack(const Matrix& w, int64_t first, int64_t rows, const void* host) {}

  // Work that queues operations and does nothing else, and whose arguments, but for a step's lengths, depend on `key` alone: recorded once and
  // queued again as a whole where replays() says so (CUDA graphs).
  virtual bool replays() const { return false; }
  virtual void replay(uint64_t key, const std::function<void()>& work) { work(); }

  // Whether a first time takes longer: kernels, libraries' algorithms and recordings are loaded then. Such a device runs everything once at open.
  virtual bool loads_late() const { return false; }

  // ---- vision -------------------------------------------------------------------------------------------------------------------
  // Pixels in rgb (bytes, 3 a pixel) -> out (T, h) float, one row for each of `patches` (T): W (h, 3*p*p; columns channel, y, x) *
  // ((byte/255 - mean[c]) / std[c]) + bias + positions[position], or class_token (null where there is none) + positions[position].
  virtual void patch_embed(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const Matrix& w, const float* bias,
                           const float* class_token, const float* positions, const float mean[3], const float std[3]) = 0;

  // Softmax attention of every query of a picture over all keys of the same picture, of which there is at least one. q, out (T, H*D),
  // k, v (U, K*D) act, views of wider matrices if need be (columns of qkv); `queries` says which rows of q and out belong to which picture, `keys` which
  // of k and v. Query head h reads key/value head h / (H/K).
  virtual void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads,
                         int32_t kv_heads, int32_t head_size, float scale) = 0;

  // Drops the class token, folds 2x2 patches into channels, normalises. x (B*(1+G*G), h) float -> out (B*(G/2)^2, 4h) act;
  // token t = r*(G/2) + c, channel ((e*2)+d)*h + ch = x[2r+e][2c+d][ch].
  virtual void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& norm) = 0;

  // ---- rows ---------------------------------------------------------------------------------------------------------------------
  virtual void norm(Tensor out, Tensor x, const Norm& norm) = 0;                       // x (T, h) float -> out (T, h) act or float
  // RMSNorm in place of the q block and of the k block of qkv (T, 3h) act, each over its full width h, all heads together.
  virtual void norm_qk(Tensor qkv, const Norm& q, const Norm& k) = 0;
  virtual void gather(Tensor out, Tensor x, const int32_t* row) = 0;                   // out[i] = x[row[i]], float

  // ---- products -----------------------------------------------------------------------------------------------------------------
  // out (T, n) act or float = act(x W^T + bias); x (T, k) act. bias null: none.
  virtual void matmul(Tensor out, Tensor x, const Matrix& w, const float* bias, Act act) = 0;
  // x (T, n) float += layer_scale * (a W^T + bias); a (T, k) act. bias, layer_scale (n) null: none.
  virtual void matmul_add(Tensor x, Tensor a, const Matrix& w, const float* bias, const float* layer_scale) = 0;
  // out (T, m) act = act(x Wg^T) * (x Wu^T); w (2m, k): the rows of Wg, then those of Wu.
  virtual void matmul_gate(Tensor out, Tensor x, const Matrix& w, Act act) = 0;
  // norm, then product: the fused forms are the primary entries; the default bodies call the split ones.
  // normed (T, h) act is scratch that the split form writes.
  virtual void norm_matmul(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, const float* bias, Act act) {
    norm(normed, x, n);
    matmul(out, normed, w, bias, act);
  }
  virtual void norm_matmul_gate(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, Act act) {
    norm(normed, x, n);
    matmul_gate(out, normed, w, act);
  }

  // ---- decoder ------------------------------------------------------------------------------------------------------------------
  // out (T, h) float: row of the token table (V, h) float32 or bfloat16, or of `vision` (rows, h) float where vision_row[i] >= 0.
  // token[i] < 0 stands for last_ids[-1 - token[i]].
  virtual void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table,
                     Tensor vision) = 0;
  // cos, sin (T, D/2) of position * inverse_frequency, times magnitude, for every token of the step. inverse_frequency (S, D/2): scaled rope
  // goes by a sequence's length.
  virtual void rope_table(float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) = 0;
  // Half-split rope on q and k inside qkv (T, (H+2K)*D) act, in place for q; k and v go to the cache.
  virtual void rope_append(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) = 0;
  // Causal attention over the cache. out (T, H*D) act; q from qkv. Query head h reads key/value head h / (H/K). window > 0: only the last
  // `window` positions, the own one included.
  virtual void attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) = 0;
  virtual void rope_append_attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window,
                                  const Step& step) {
    rope_append(qkv, cache, heads, step);
    attend(out, qkv, cache, heads, scale, window, step);
  }
  // ids[r] = index of the largest of logits[r] (float), the lowest on ties; -1 where a row holds a NaN.
  virtual void argmax(int32_t* ids, Tensor logits) = 0;
  // Where samples() says so: ids[r] = the choice of dev.jvlm.sampling.Sampler for logits[r] (float); -1 where a logit is not finite, -2 where
  // nothing may be chosen. row: on the device. counts (slots, V): how often an answer has a token, kept here for rows with penalties, from zeros on
  // where index is 0; two such rows of a call never share a slot. bias (any, V): added to the logits, -infinity bans.
  virtual bool samples() const { return false; }
  virtual void sample(int32_t* ids, Tensor logits, const SampleRow* row, int32_t* counts, const float* bias) {}

  // For profilers: what is queued until end_range is part of `stage`, and of its layer where that is not below 0. Ranges nest.
  virtual void begin_range(const char* stage, int32_t layer) {}
  virtual void end_range() {}

  // Bytes that reserve(scratch) will take, for the memory plan; `act` and precision as in make.
  virtual int64_t scratch_bytes(const Scratch& scratch) const = 0;
  // Bytes that the device can still give, where its memory is not the host's.
  virtual int64_t available_bytes() const { return std::numeric_limits<int64_t>::max(); }
  virtual std::string description() const = 0;            // what serves: instruction set, threads, which product is fastest here
};

class Range {
 public:
  Range(Ops& ops, const char* stage, int32_t layer = -1) : ops_(ops) { ops_.begin_range(stage, layer); }
  ~Range() { ops_.end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Ops& ops_;
};

// precision: f32, bf16, or i8 (weight-only; act is bf16).
std::unique_ptr<Ops> make_reference_ops(Dtype act);
std::unique_ptr<Ops> make_cpu_ops(Dtype act);

}  // namespace jvlm
