// A backend with memory of its own behind the tests' host memory: every operation copies its operands over, runs, and copies the results back.
// On the way rows get the alignment that the backend asks for; what lies between them stays NaN, before and after.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "check.h"
#include "ops/cuda/device.h"
#include "ops/ops.h"

namespace jvlm::test {

class Mirrored : public Ops {
 public:
  explicit Mirrored(std::unique_ptr<Ops> on) : on_(std::move(on)) {}

  void* allocate(int64_t bytes) override { return on_->allocate(bytes); }
  void upload(void* device, const void* host, int64_t bytes) override { on_->upload(device, host, bytes); }
  void download(void* host, const void* device, int64_t bytes) override { on_->download(host, device, bytes); }
  void reserve(const Scratch& scratch) override { on_->reserve(scratch); }
  int64_t scratch_bytes(const Scratch& scratch) const override { return on_->scratch_bytes(scratch); }
  std::string description() const override { return on_->description(); }
  int64_t packed_bytes(Dtype dtype, int64_t n, int64_t k) const override { return on_->packed_bytes(dtype, n, k); }
  void pack(const Matrix& w, int64_t first, int64_t rows, const void* host) override {
    Bytes memory(*on_, w.data, on_->packed_bytes(w.dtype, w.n, w.k));
    Matrix own = w;
    own.data = memory.data;
    on_->pack(own, first, rows, host);
    memory.back();
  }

  void patch_embed(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const Matrix& w, const float* bias, const float* class_token,
                   const float* positions, const float mean[3], const float std[3]) override {
    int64_t end = 0, rows = 0;                              // of the pixels and positions that are used: the memory ends there
    for (const Patch* p = patches; p < patches + out.rows; ++p) {
      if (p->below) end = std::max(end, p->first + int64_t{p->below - 1} * p->pitch + 3 * p->right);
      rows = std::max<int64_t>(rows, p->position + 1);
    }
    Rows o(*on_, out);
    Bytes pixels(*on_, rgb, end), tokens(*on_, patches, out.rows * static_cast<int64_t>(sizeof(Patch)));
    Bytes b(*on_, bias, w.n * 4), c(*on_, class_token, w.n * 4), p(*on_, positions, rows * w.n * 4);
    Weights m(*on_, w);
    on_->patch_embed(o.tensor, static_cast<uint8_t*>(pixels.data), static_cast<Patch*>(tokens.data), patch, m.matrix, b.floats(), c.floats(), p.floats(), mean, std);
    o.back();
  }
  void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads,
                 int32_t head_size, float scale) override {
    Rows o(*on_, out), own_q(*on_, q, 64), own_k(*on_, k), own_v(*on_, v, 32);      // each with a stride of its own
    Bytes q_start(*on_, queries.start, (queries.count + 1) * 4), k_start(*on_, keys.start, (keys.count + 1) * 4);
    on_->attention(o.tensor, own_q.tensor, own_k.tensor, own_v.tensor, {queries.count, q_start.ints(), queries.most}, {keys.count, k_start.ints(), keys.most}, heads,
                   kv_heads, head_size, scale);
    o.back();
  }
  void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& n) override {
    Rows o(*on_, out), in(*on_, x);
    Bytes w(*on_, n.weight, out.cols * 4), b(*on_, n.bias, out.cols * 4);
    on_->pixel_shuffle_norm(o.tensor, in.tensor, tiles, grid, {n.kind, w.floats(), b.floats(), n.eps});
    o.back();
  }
  void norm(Tensor out, Tensor x, const Norm& n) override {
    Rows o(*on_, out), in(*on_, x);
    Bytes w(*on_, n.weight, out.cols * 4), b(*on_, n.bias, out.cols * 4);
    on_->norm(o.tensor, in.tensor, {n.kind, w.floats(), b.floats(), n.eps});
    o.back();
  }
  void norm_qk(Tensor qkv, const Norm& q, const Norm& k) override {
    Rows rows(*on_, qkv);
    Bytes qw(*on_, q.weight, qkv.cols / 3 * 4), kw(*on_, k.weight, qkv.cols / 3 * 4);
    on_->norm_qk(rows.tensor, {q.kind, qw.floats(), nullptr, q.eps}, {k.kind, kw.floats(), nullptr, k.eps});
    rows.back();
  }
  void gather(Tensor out, Tensor x, const int32_t* row) override {
    Rows o(*on_, out), in(*on_, x);
    Bytes r(*on_, row, out.rows * 4);
    on_->gather(o.tensor, in.tensor, r.ints());
    o.back();
  }
  void matmul(Tensor out, Tensor x, const Matrix& w, const float* bias, Act act) override {
    Rows o(*on_, out, out.dtype == Dtype::f32 && act == Act::none ? 4 : 16), in(*on_, x);       // logits are aligned to nothing
    Weights m(*on_, w);
    Bytes b(*on_, bias, w.n * 4);
    on_->matmul(o.tensor, in.tensor, m.matrix, b.floats(), act);
    o.back();
  }
  void matmul_add(Tensor x, Tensor a, const Matrix& w, const float* bias, const float* layer_scale) override {
    Rows o(*on_, x), in(*on_, a);
    Weights m(*on_, w);
    Bytes b(*on_, bias, w.n * 4), s(*on_, layer_scale, w.n * 4);
    on_->matmul_add(o.tensor, in.tensor, m.matrix, b.floats(), s.floats());
    o.back();
  }
  void matmul_gate(Tensor out, Tensor x, const Matrix& w, Act act) override {
    Rows o(*on_, out), in(*on_, x);
    Weights m(*on_, w);
    on_->matmul_gate(o.tensor, in.tensor, m.matrix, act);
    o.back();
  }
  void norm_matmul(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, const float* bias, Act act) override {
    Rows o(*on_, out), in(*on_, x), s(*on_, normed);
    Weights m(*on_, w);
    Bytes nw(*on_, n.weight, x.cols * 4), nb(*on_, n.bias, x.cols * 4), b(*on_, bias, w.n * 4);
    on_->norm_matmul(o.tensor, in.tensor, s.tensor, {n.kind, nw.floats(), nb.floats(), n.eps}, m.matrix, b.floats(), act);
    o.back();
  }
  void norm_matmul_gate(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, Act act) override {
    Rows o(*on_, out), in(*on_, x), s(*on_, normed);
    Weights m(*on_, w);
    Bytes nw(*on_, n.weight, x.cols * 4), nb(*on_, n.bias, x.cols * 4);
    on_->norm_matmul_gate(o.tensor, in.tensor, s.tensor, {n.kind, nw.floats(), nb.floats(), n.eps}, m.matrix, act);
    o.back();
  }
  void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) override {
    Rows o(*on_, out), v(*on_, vision);
    int32_t last = 0;
    for (int64_t i = 0; i < out.rows; ++i) last = std::max(last, -token[i]);
    Bytes t(*on_, token, out.rows * 4), r(*on_, vision_row, out.rows * 4), l(*on_, last ? last_ids : nullptr, last * 4);
    Bytes rows(*on_, table.data, table.n * table.k * size_of(table.dtype));
    Matrix m = table;
    m.data = rows.data;
    on_->embed(o.tensor, t.ints(), r.ints(), l.ints(), m, v.tensor);
    o.back();
  }
  void rope_table(float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) override {
    const int64_t bytes = 4LL * step.tokens * half;
    Bytes c(*on_, cos, bytes), s(*on_, sin, bytes), f(*on_, inverse_frequency, 4LL * step.sequences * half);
    Steps own(*on_, step, 0);
    on_->rope_table(c.floats(), s.floats(), own.step, f.floats(), half, magnitude);
    c.back(), s.back();
  }
  void rope_append(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) override {
    Rows q(*on_, qkv);
    Cache c(*on_, cache, step);
    Steps own(*on_, step, cache.head_size / 2);
    on_->rope_append(q.tensor, c.cache, heads, own.step);
    q.back(), c.k.back(), c.v.back();
  }
  void attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) override {
    Rows o(*on_, out), q(*on_, qkv);
    Cache c(*on_, cache, step);
    Steps own(*on_, step, cache.head_size / 2);
    on_->attend(o.tensor, q.tensor, c.cache, heads, scale, window, own.step);
    o.back();
  }
  void rope_append_attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) override {
    Rows o(*on_, out), q(*on_, qkv);
    Cache c(*on_, cache, step);
    Steps own(*on_, step, cache.head_size / 2);
    on_->rope_append_attend(o.tensor, q.tensor, c.cache, heads, scale, window, own.step);
    o.back(), c.k.back(), c.v.back();
  }
  void argmax(int32_t* ids, Tensor logits) override {
    Rows in(*on_, logits);
    Bytes i(*on_, ids, logits.rows * 4);
    on_->argmax(i.ints(), in.tensor);
    i.back();
  }

 private:
  // Memory as it is; null stays null.
  struct Bytes {
    Bytes(Ops& ops, const void* memory, int64_t count) : on(ops), host(const_cast<void*>(memory)), bytes(count) {
      if (!host) return;
      data = cuda::allocate(std::max<int64_t>(bytes, 1));
      if (bytes) on.upload(data, host, bytes);
    }
    ~Bytes() {
      if (data) cuda::release(data);
    }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    void back() { on.download(host, data, bytes); }
    float* floats() const { return static_cast<float*>(data); }
    int32_t* ints() const { return static_cast<int32_t*>(data); }
    Ops& on;
    void* host;
    int64_t bytes;
    void* data = nullptr;
  };

  // A matrix whose rows begin at multiples of `unit` bytes, with NaN between them.
  struct Rows {
    Rows(Ops& ops, Tensor t, int64_t unit = 16)
        : on(ops), host(t), stride((t.cols * size_of(t.dtype) + unit - 1) / unit * unit + unit), bytes(static_cast<size_t>(t.rows * stride), '\xff') {
      for (int64_t r = 0; r < t.rows; ++r) std::memcpy(bytes.data() + r * stride, t.row<char>(0) + r * t.stride * size_of(t.dtype), length());
      data = cuda::allocate(std::max<int64_t>(t.rows * stride, 1));
      on.upload(data, bytes.data(), t.rows * stride);
      tensor = Tensor(data, t.dtype, t.rows, t.cols, stride / size_of(t.dtype));
    }
    ~Rows() { cuda::release(data); }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    size_t length() const { return static_cast<size_t>(host.cols * size_of(host.dtype)); }
    void back() {
      on.download(bytes.data(), data, host.rows * stride);
      for (int64_t r = 0; r < host.rows; ++r) {
        std::memcpy(host.row<char>(0) + r * host.stride * size_of(host.dtype), bytes.data() + r * stride, length());
        for (auto i = static_cast<int64_t>(length()); i < stride; ++i)
          if (bytes[static_cast<size_t>(r * stride + i)] != '\xff') return expect("nothing is written between rows", false);
      }
    }
    Ops& on;
    Tensor host;
    int64_t stride;
    std::vector<char> bytes;
    void* data = nullptr;
    Tensor tensor;
  };

  struct Weights {
    Weights(Ops& ops, const Matrix& w)
        : memory(ops, w.packed ? w.data : std::vector<char>(static_cast<size_t>(ops.packed_bytes(w.dtype, w.n, w.k))).data(), ops.packed_bytes(w.dtype, w.n, w.k)),
          scale(ops, w.scale, w.n * 4), matrix(w) {
      matrix.data = memory.data, matrix.scale = scale.floats(), matrix.packed = true;
      if (!w.packed) ops.pack(matrix, 0, w.n, w.data);
    }
    Bytes memory, scale;
    Matrix matrix;
  };

  struct Cache {
    Cache(Ops& ops, const KvCache& c, const Step& s) : k(ops, c.k, bytes(c, s)), v(ops, c.v, bytes(c, s)), cache(c) { cache.k = k.data, cache.v = v.data; }
    static int64_t bytes(const KvCache& c, const Step& s) {
      int32_t last = 0;
      for (int32_t i = 0; i < s.page_start[s.sequences]; ++i) last = std::max(last, s.page[i]);
      return (last + 1LL) * c.kv_heads * c.page_tokens * c.head_size * size_of(c.dtype);
    }
    Bytes k, v;
    KvCache cache;
  };

  struct Steps {
    Steps(Ops& ops, const Step& s, int64_t half)
        : seq_start(ops, s.seq_start, (s.sequences + 1) * 4), past(ops, s.past, s.sequences * 4), page_start(ops, s.page_start, (s.sequences + 1) * 4),
          page(ops, s.page, s.page_start[s.sequences] * 4), cos(ops, half ? s.cos : nullptr, s.tokens * half * 4),
          sin(ops, half ? s.sin : nullptr, s.tokens * half * 4), step(s) {
      step.seq_start = seq_start.ints(), step.past = past.ints(), step.page_start = page_start.ints(), step.page = page.ints();
      step.cos = cos.floats(), step.sin = sin.floats();
    }
    Bytes seq_start, past, page_start, page, cos, sin;
    Step step;
  };

  const std::unique_ptr<Ops> on_;
};

}  // namespace jvlm::test
