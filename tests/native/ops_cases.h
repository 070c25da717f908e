// One case list for every operation, run on a backend against `reference`: ops_test.cc on the CPU's instruction sets, kernels_test.cu on the
// kernels.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "check.h"
#include "ops/ops.h"

namespace jvlm::test {

inline std::string at;      // the backend under test, for reports

struct Pair {
  std::unique_ptr<Ops> ops, reference;
  Dtype act;
  bool rows = true;         // takes weights as rows, besides its own order
  bool small = false;       // leaves the larger cases out: for sanitizers, under which a thread of a kernel costs most of a millisecond
};

// Weights (n, k) in a type, and the memory behind them.
struct Weight {
  Weight(Dtype dtype, int64_t n, int64_t k, uint32_t seed) : values(dtype == Dtype::i8 ? Dtype::f32 : dtype, n, k) {
    matrix.n = n, matrix.k = k, matrix.dtype = dtype;
    values.random(seed, 1 / std::sqrt(static_cast<float>(k)));
    matrix.data = values.tensor().data;
    if (dtype == Dtype::i8) {
      bytes.resize(static_cast<size_t>(n * k));
      for (int64_t r = 0; r < n; ++r) {
        scale.push_back(0.01f / std::sqrt(static_cast<float>(k)) * static_cast<float>(1 + r % 3));
        for (int64_t c = 0; c < k; ++c) bytes[static_cast<size_t>(r * k + c)] = static_cast<int8_t>((r * 37 + c * 11 + seed) % 255 - 127);
      }
      matrix.data = bytes.data(), matrix.scale = scale.data();
    }
  }
  Buffer values;
  std::vector<int8_t> bytes;
  std::vector<float> scale;
  Matrix matrix;
};

inline Buffer copy(const Buffer& b) { return b; }

// Zeros, behind which nothing can be read.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) : bytes_(static_cast<size_t>(bytes)), page_(static_cast<size_t>(::sysconf(_SC_PAGESIZE))), pages_((bytes_ + page_ - 1) / page_ * page_) {
    room_ = static_cast<char*>(::mmap(nullptr, pages_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(room_ + pages_, page_, PROT_NONE);
  }
  ~Guarded() { ::munmap(room_, pages_ + page_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  char* data() const { return room_ + pages_ - bytes_; }

 private:
  size_t bytes_, page_, pages_;
  char* room_;
};

// The matrix in the order that the backend likes, if that is not rows; the rows come in pieces, as they do from files.
inline Matrix packed(const Pair& p, const Matrix& m, std::optional<Guarded>& memory) {
  Matrix own = m;
  own.data = memory.emplace(p.ops->packed_bytes(m.dtype, m.n, m.k)).data();
  own.packed = true;
  constexpr int64_t piece = 23;
  for (int64_t r = 0; r < m.n; r += piece)
    p.ops->pack(own, r, std::min(piece, m.n - r), static_cast<const char*>(m.data) + r * m.k * size_of(m.dtype));
  return own;
}

inline void products(Pair& p) {
  const struct { int64_t t, k, n; } shapes[] = {{1, 64, 3},   {1, 1536, 72}, {2, 77, 80},   {3, 255, 17},   {4, 640, 257},   {5, 33, 16},     {7, 96, 33},
                                                {16, 200, 65}, {17, 65, 31},  {72, 588, 80}, {80, 257, 600}, {129, 72, 513}, {257, 96, 130}, {49, 3200, 48}, {580, 1056, 5},
                                                {1090, 40, 33}};
  for (auto [t, k, n] : shapes)
    for (Dtype weight : {Dtype::f32, Dtype::bf16, Dtype::i8})
      for (bool pack : {false, true}) {
        if (p.small && (t > 80 || k > 600)) continue;
        if ((weight == Dtype::f32) != (p.act == Dtype::f32) && weight != Dtype::i8) continue;
        if (pack ? !p.ops->packed_bytes(weight, n, k) : !p.rows) continue;
        const std::string name = at + " t" + std::to_string(t) + " k" + std::to_string(k) + " n" + std::to_string(n) + " w" + std::to_string(static_cast<int>(weight)) + (pack ? " packed" : "");
        Weight w(weight, n, k, 1), gate(weight, 2 * n, k, 5);
        std::optional<Guarded> memory, gate_memory;
        const Matrix own = pack ? packed(p, w.matrix, memory) : w.matrix, own_gate = pack ? packed(p, gate.matrix, gate_memory) : gate.matrix;
        Buffer x(p.act, t, k, k + 3), bias(Dtype::f32, 1, n), scale(Dtype::f32, 1, n);
        x.random(2);
        bias.random(3);
        scale.random(4);
        for (Act act : {Act::none, Act::gelu, Act::gelu_tanh, Act::silu})
          for (Dtype out : {Dtype::f32, p.act}) {
            if (p.small && act != (out == p.act ? Act::gelu : Act::silu)) continue;
            Buffer got(out, t, n, n + 5), want(out, t, n);
            p.ops->matmul(got, x, own, act == Act::gelu ? bias.floats() : nullptr, act);
            p.reference->matmul(want, x, w.matrix, act == Act::gelu ? bias.floats() : nullptr, act);
            compare("matmul act" + std::to_string(static_cast<int>(act)) + " out" + std::to_string(static_cast<int>(out)) + name, got, want, static_cast<double>(k), 3, 2e-6);
          }
        for (int variant = 0; variant < 3; ++variant) {
          Buffer got(Dtype::f32, t, n, n + 5);
          got.random(6);
          Buffer want = copy(got);
          p.ops->matmul_add(got, x, own, variant > 0 ? bias.floats() : nullptr, variant > 1 ? scale.floats() : nullptr);
          p.reference->matmul_add(want, x, w.matrix, variant > 0 ? bias.floats() : nullptr, variant > 1 ? scale.floats() : nullptr);
          compare("matmul_add" + name, got, want, static_cast<double>(k), 6);
        }
        Buffer got(p.act, t, n, n + 5), want(p.act, t, n);
        p.ops->matmul_gate(got, x, own_gate, Act::silu);
        p.reference->matmul_gate(want, x, gate.matrix, Act::silu);
        compare("matmul_gate" + name, got, want, static_cast<double>(k), 12, 2e-6);

        // The fused forms. What is normalised in between is rounded as the split forms round it, but not always to the same side: a spacing of bf16
        // here and there, each of which moves a sum by up to 2^-8 of one product.
        const double inner = p.act == Dtype::f32 ? 2e-6 : 0x1p-8 * 6 / std::sqrt(static_cast<double>(k));
        Buffer wide(Dtype::f32, t, k), norm_weight(Dtype::f32, 1, k), norm_bias(Dtype::f32, 1, k), normed(p.act, t, k);
        Buffer fused(p.act, t, n, n + 5), split(p.act, t, n);
        wide.random(7, 3), norm_weight.random(8, 0.2f, 1), norm_bias.random(9, 0.5f);
        for (NormKind kind : {NormKind::rms, NormKind::layer}) {
          if (kind == NormKind::layer && t > 16) continue;                                        // the split forms' norm has cases of its own
          const Norm norm{kind, norm_weight.floats(), kind == NormKind::layer ? norm_bias.floats() : nullptr, 1e-5f};
          p.ops->norm_matmul(fused, wide, normed, norm, own, bias.floats(), Act::none);
          p.reference->norm_matmul(split, wide, normed, norm, w.matrix, bias.floats(), Act::none);
          compare("norm_matmul" + name, fused, split, static_cast<double>(k), 6, inner);
          p.ops->norm_matmul_gate(fused, wide, normed, norm, own_gate, Act::silu);
          p.reference->norm_matmul_gate(split, wide, normed, norm, gate.matrix, Act::silu);
          compare("norm_matmul_gate" + name, fused, split, static_cast<double>(k), 12, 4 * inner);
        }
      }
}

// An output of whole lines that outgrows the second cache, which products write past it; the last panel is not full.
inline void large_product(Pair& p) {
  constexpr int64_t t = 1025, k = 40, n = 4128;
  if (p.small || !p.ops->packed_bytes(p.act, n, k)) return;
  Weight w(p.act, n, k, 1);
  std::optional<Guarded> memory;
  std::vector<char> lines(t * n * 2 + 64);
  const Matrix own = packed(p, w.matrix, memory);
  Buffer x(p.act, t, k), bias(Dtype::f32, 1, n), got(p.act, t, n), want(p.act, t, n);
  x.random(2), bias.random(3);
  Tensor out(lines.data() + 64 - reinterpret_cast<uintptr_t>(lines.data()) % 64, p.act, t, n);
  p.ops->matmul(out, x, own, bias.floats(), Act::gelu);
  p.reference->matmul(want, x, w.matrix, bias.floats(), Act::gelu);
  std::memcpy(got.tensor().data, out.data, static_cast<size_t>(out.bytes()));
  compare("matmul of whole lines" + at, got, want, static_cast<double>(k), 3, 2e-6);
}

// Tiles take 16 rows at a time: behind the last row of x nothing can be read.
inline void last_rows(Pair& p) {
  constexpr int64_t k = 96, n = 48;
  if (!p.ops->packed_bytes(p.act, n, k)) return;
  Weight w(p.act, n, k, 1);
  std::optional<Guarded> memory;
  const Matrix own = packed(p, w.matrix, memory);
  for (int64_t t : {3, 16, 17, 49}) {
    const Guarded room(t * k * 2);
    Buffer values(p.act, t, k), got(p.act, t, n), want(p.act, t, n);
    values.random(2);
    const Tensor x(room.data(), p.act, t, k);
    std::memcpy(x.data, values.tensor().data, static_cast<size_t>(x.bytes()));
    p.ops->matmul(got, x, own, nullptr, Act::none);
    p.reference->matmul(want, x, w.matrix, nullptr, Act::none);
    compare("matmul of last rows" + at, got, want, static_cast<double>(k), 3);
  }
}

inline void norms(Pair& p) {
  for (int64_t width : {1, 3, 17, 72, 255, 1025, 4096})
    for (int64_t rows : {1, 5, 33})
      for (bool layer : {true, false})
        for (float spread : {1e-3f, 1.f, 1e4f}) {
          if (p.small && (rows > 5 || spread != 1)) continue;
          Buffer x(Dtype::f32, rows, width), weight(Dtype::f32, 1, width), bias(Dtype::f32, 1, width), got(p.act, rows, width, width + 1), want(p.act, rows, width);
          x.random(1, spread, layer ? 3 * spread : 0);
          weight.random(2, 0.2f, 1);
          bias.random(3);
          Norm n{layer ? NormKind::layer : NormKind::rms, weight.floats(), layer ? bias.floats() : nullptr, 1e-5f};
          p.ops->norm(got, x, n);
          p.reference->norm(want, x, n);
          compare("norm" + at + " width " + std::to_string(width), got, want, static_cast<double>(width), 8, 1e-5);
        }
}

// In place; the values beside queries and keys stay as they were. Widths are multiples of 4.
inline void qk_norms(Pair& p) {
  for (int64_t width : {4, 40, 72, 384, 1024, 3200})
    for (int64_t rows : {1, 3, 17})
      for (float spread : {1e-4f, 1.f, 1e4f}) {
        if (p.small && (rows > 3 || spread != 1)) continue;
        Buffer got(p.act, rows, 3 * width, 3 * width + 5), q(Dtype::f32, 1, width), k(Dtype::f32, 1, width);
        got.random(1, spread);
        for (int64_t c = 0; c < width; ++c) got.set(rows - 1, c, 0);                              // a row of zeros stays one
        q.random(2, 0.2f, 1), k.random(3, 0.2f, -2);
        Buffer want = copy(got), before = copy(got);
        const Norm nq{NormKind::rms, q.floats(), nullptr, 1e-6f}, nk{NormKind::rms, k.floats(), nullptr, 1e-3f};
        p.ops->norm_qk(got, nq, nk);
        p.reference->norm_qk(want, nq, nk);
        compare("norm_qk" + at + " width " + std::to_string(width) + " rows " + std::to_string(rows), got, want, static_cast<double>(width), 8);
        bool untouched = true;
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 2 * width; c < 3 * width; ++c) untouched &= got.get(r, c) == before.get(r, c);
        expect("norm_qk leaves the values" + at, untouched);
      }
}

inline void patches(Pair& p) {
  // Grids of 14x14 patches and how many pixels beside the last column and below the last row are missing.
  struct Shape {
    int32_t rows, cols, right, below;
  };
  const struct {
    std::vector<Shape> pictures;
    int32_t hidden, class_token;
  } batches[] = {{{{2, 2, 0, 0}}, 128, 1},
                 {{{4, 4, 0, 0}, {4, 4, 0, 0}, {4, 4, 0, 0}}, 72, 1},
                 {{{32, 32, 0, 0}, {32, 32, 0, 0}}, 40, 1},
                 {{{1, 1, 13, 13}}, 72, 0},
                 {{{1, 5, 3, 0}, {3, 2, 0, 9}, {27, 27, 1, 13}, {1, 1, 0, 0}, {7, 13, 6, 2}}, 80, 0}};
  for (const auto& batch : batches) {
    const int32_t patch = 14, hidden = batch.hidden;
    std::vector<Patch> tokens;
    int32_t positions_used = 0;
    int64_t bytes = 0;
    for (const Shape& s : batch.pictures) {
      const int32_t width = s.cols * patch - s.right, height = s.rows * patch - s.below;
      if (batch.class_token) tokens.push_back({0, 0, 0, 0, positions_used++});
      for (int32_t r = 0; r < s.rows; ++r)
        for (int32_t c = 0; c < s.cols; ++c)
          tokens.push_back({bytes + (int64_t{r} * patch * width + c * patch) * 3, 3 * width, std::min(patch, width - c * patch), std::min(patch, height - r * patch),
                            (positions_used++ * 7) % 61});
      bytes += int64_t{3} * width * height;
    }
    std::vector<uint8_t> rgb(static_cast<size_t>(bytes));
    for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = static_cast<uint8_t>(i * 7919 >> 3);
    if (p.small && tokens.size() > 100) continue;
    Weight w(p.act, hidden, 3LL * patch * patch, 1);
    Buffer bias(Dtype::f32, 1, hidden), cls(Dtype::f32, 1, hidden), positions(Dtype::f32, std::max(61, positions_used), hidden);
    bias.random(2), cls.random(3), positions.random(4);
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    Buffer got(Dtype::f32, static_cast<int64_t>(tokens.size()), hidden), want(Dtype::f32, got.rows(), hidden);
    std::optional<Guarded> memory;
    const Matrix own = p.ops->packed_bytes(p.act, w.matrix.n, w.matrix.k) ? packed(p, w.matrix, memory) : w.matrix;
    const float* class_token = batch.class_token ? cls.floats() : nullptr;
    p.ops->patch_embed(got, rgb.data(), tokens.data(), patch, own, bias.floats(), class_token, positions.floats(), mean, std);
    p.reference->patch_embed(want, rgb.data(), tokens.data(), patch, w.matrix, bias.floats(), class_token, positions.floats(), mean, std);
    compare("patch_embed" + at + " pictures " + std::to_string(batch.pictures.size()) + " h " + std::to_string(hidden), got, want, 3. * patch * patch, 8);
  }
}

inline void pixel_shuffles(Pair& p) {
  const struct { int32_t tiles, grid, hidden; } shapes[] = {{1, 2, 128}, {3, 4, 72}, {2, 32, 40}};
  for (auto [tiles, grid, hidden] : shapes) {
    if (p.small && grid > 4) continue;
    Buffer x(Dtype::f32, static_cast<int64_t>(tiles) * (1 + grid * grid), hidden), weight(Dtype::f32, 1, 4 * hidden), shift(Dtype::f32, 1, 4 * hidden);
    x.random(4), weight.random(5, 0.2f, 1), shift.random(6);
    const Norm n{NormKind::layer, weight.floats(), shift.floats(), 1e-5f};
    const int64_t shuffled = static_cast<int64_t>(tiles) * (grid / 2) * (grid / 2);
    Buffer got(p.act, shuffled, 4 * hidden), want(p.act, shuffled, 4 * hidden);
    p.ops->pixel_shuffle_norm(got, x, tiles, grid, n);
    p.reference->pixel_shuffle_norm(want, x, tiles, grid, n);
    compare("pixel_shuffle_norm" + at, got, want, 4. * hidden, 8, 1e-5);
  }
}

// Weights of a softmax are rounded to bf16 on the way with bf16: an error of 2^-9 of the values' magnitude, which partly averages out.
inline double softmax_rounding(Dtype act) { return act == Dtype::f32 ? 4e-6 : 0x1p-8; }

// Scores that rise from key to key, so that what was summed so far must be scaled down again and again. bf16 only: the scores' own float32
// rounding grows with them.
inline float rising(const Pair& p, bool rises, int64_t position) { return rises && p.act == Dtype::bf16 ? 1 + static_cast<float>(position) / 16 : 1; }

// Pictures of so many queries and keys each; k and v are columns of one matrix, behind q's where the queries are the keys (a vision tower).
inline void dense(Pair& p, const std::vector<int32_t>& queries, const std::vector<int32_t>& keys, int32_t heads, int32_t kv_heads, int32_t size) {
  auto rows_of = [](const std::vector<int32_t>& counts, std::vector<int32_t>& start) {
    start.assign(1, 0);
    for (int32_t n : counts) start.push_back(start.back() + n);
    return PictureRows{static_cast<int32_t>(counts.size()), start.data(), *std::max_element(counts.begin(), counts.end())};
  };
  std::vector<int32_t> q_start, k_start;
  const PictureRows of_queries = rows_of(queries, q_start), of_keys = rows_of(keys, k_start);
  const int64_t width = static_cast<int64_t>(heads) * size, kv_width = static_cast<int64_t>(kv_heads) * size;
  if (p.small && k_start.back() > 600) return;
  const bool one = queries == keys;
  const auto seed = static_cast<uint32_t>(size + keys[0]);
  Buffer all(p.act, k_start.back(), (one ? width : 0) + 2 * kv_width), apart(p.act, one ? 0 : q_start.back(), width, width + 8);
  all.random(seed, 1.5f), apart.random(seed + 1, 1.5f);
  const Tensor q = one ? all.tensor().columns(0, width) : apart.tensor(), k = all.tensor().columns(one ? width : 0, kv_width),
               v = all.tensor().columns((one ? width : 0) + kv_width, kv_width);
  for (int64_t t = 0; t < keys[0]; ++t)                                                           // of the first picture
    for (int64_t c = 0; c < kv_width; ++c) all.set(t, (one ? width : 0) + c, all.get(t, (one ? width : 0) + c) * rising(p, keys.size() > 1, t));
  Buffer got(p.act, q_start.back(), width, width + 7), want(p.act, got.rows(), width);
  const float scale = 1 / std::sqrt(static_cast<float>(size));
  p.ops->attention(got, q, k, v, of_queries, of_keys, heads, kv_heads, size, scale);
  p.reference->attention(want, q, k, v, of_queries, of_keys, heads, kv_heads, size, scale);
  compare("attention" + at + " heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " size " + std::to_string(size) + " queries " + std::to_string(queries[0]) +
              " keys " + std::to_string(keys[0]) + " of " + std::to_string(keys.size()),
          got, want, size, 8, softmax_rounding(p.act) * 6);
}

inline void dense_attention(Pair& p) {
  for (int32_t size : {20, 64, 72, 80, 96, 128})
    for (int32_t tokens : {1, 3, 17, 65, 255, 257, 1025}) {
      if (p.small && tokens != (size % 64 ? 65 : 255)) continue;
      if (tokens > 300 && size != 64 && size != 80) continue;                                     // the reference takes its time
      if (tokens > 300)
        dense(p, {tokens}, {tokens}, 1, 1, size);
      else
        dense(p, {tokens, tokens}, {tokens, tokens}, 3, 3, size);
    }
  for (auto [heads, size] : {std::pair{2, 72}, std::pair{3, 128}}) dense(p, {1, 5, 6, 100, 3, 91}, {1, 5, 6, 100, 3, 91}, heads, heads, size);
  dense(p, {729, 1, 91}, {729, 1, 91}, 1, 1, 72);
  // Queries of their own, four a key/value head: a perceiver's, and the edges.
  dense(p, {64, 64, 64}, {129, 65, 230}, 4, 1, 96);
  dense(p, {64}, {1025}, 4, 1, 96);
  dense(p, {3, 33, 1, 64}, {1, 7, 70, 1}, 8, 2, 96);
  dense(p, {2, 40}, {31, 1}, 6, 2, 20);
  dense(p, {64}, {70}, 5, 1, 20);
}

struct Ragged {
  std::vector<int32_t> past, fresh;
};

inline void paged_attention(Pair& p) {
  const Ragged batches[] = {{{0}, {1}}, {{0}, {17}}, {{63}, {1}}, {{64, 0, 300}, {1, 1, 1}}, {{15, 1, 31}, {1, 1, 1}}, {{62}, {20}}, {{5, 0, 130, 2}, {1, 80, 3, 65}}, {{700}, {1}}, {{520}, {130}}, {{3}, {600}}};
  const struct { int32_t heads, kv; } groups[] = {{1, 1}, {4, 2}, {8, 1}, {6, 6}, {20, 1}};
  for (int32_t size : {24, 64, 72, 80, 96, 128})
    for (auto [heads, kv] : groups)
      for (const Ragged& b : batches)
        for (int32_t window : {0, 40}) {
          if ((b.past[0] > 400 || b.fresh[0] > 400) && (size != 96 || heads != 4)) continue;      // the reference takes its time
          if (heads > 8 && size != 24 && size != 72) continue;
          if (p.small && (kv > 1 || heads == 1 || (b.past[0] != 62 && b.past[0] != 64))) continue;
          const int32_t page = window ? 24 : 64;                                                  // any multiple of 8
          std::vector<int32_t> seq_start{0}, page_start{0}, pages;
          Step step;
          int32_t next = 0, total = 0;
          for (size_t s = 0; s < b.past.size(); ++s) {
            total += b.fresh[s];
            seq_start.push_back(total);
            const int32_t need = (b.past[s] + b.fresh[s] + page - 1) / page;
            for (int32_t i = 0; i < need; ++i) pages.push_back(next + need - 1 - i);     // out of order
            next += need;
            page_start.push_back(static_cast<int32_t>(pages.size()));
            step.max_new = std::max(step.max_new, b.fresh[s]);
            step.max_length = std::max(step.max_length, b.past[s] + b.fresh[s]);
          }
          step.tokens = total, step.sequences = static_cast<int32_t>(b.past.size());
          step.seq_start = seq_start.data(), step.past = b.past.data(), step.page_start = page_start.data(), step.page = pages.data();
          const int32_t half = size / 2;
          std::vector<float> cos(static_cast<size_t>(total) * static_cast<size_t>(half)), sin(cos), frequency(b.past.size() * static_cast<size_t>(half));
          for (int32_t i = 0; i < step.sequences * half; ++i)                                    // each sequence's are its own
            frequency[static_cast<size_t>(i)] = std::pow(1e4f + 1e3f * static_cast<float>(i / half), -static_cast<float>(i % half) / static_cast<float>(half));
          const float magnitude = window ? 1.19f : 1;
          p.reference->rope_table(cos.data(), sin.data(), step, frequency.data(), half, magnitude);
          step.cos = cos.data(), step.sin = sin.data();
          std::vector<float> cos2(cos.size()), sin2(sin.size());
          p.ops->rope_table(cos2.data(), sin2.data(), step, frequency.data(), half, magnitude);
          for (size_t i = 0; i < cos.size(); ++i)
            if (std::fabs(cos[i] - cos2[i]) > 2e-7 || std::fabs(sin[i] - sin2[i]) > 2e-7) {
              expect("rope_table" + at, false);
              break;
            }

          // The cache holds what came before; slots that nobody wrote stay NaN.
          const int64_t slots = static_cast<int64_t>(next) * kv * page;
          Buffer k(p.act, slots, size), v(p.act, slots, size);
          for (int32_t s = 0; s < step.sequences; ++s)
            for (int32_t position = 0; position < b.past[static_cast<size_t>(s)]; ++position)
              for (int32_t h = 0; h < kv; ++h) {
                const int64_t row = (static_cast<int64_t>(pages[static_cast<size_t>(page_start[static_cast<size_t>(s)] + position / page)]) * kv + h) * page + position % page;
                for (int32_t d = 0; d < size; ++d) {
                  k.set(row, d, std::sin(static_cast<float>(row * 131 + d * 17)) * 1.5f * rising(p, window == 0, position));
                  v.set(row, d, std::cos(static_cast<float>(row * 37 + d * 7)));
                }
              }
          Buffer k2 = copy(k), v2 = copy(v);
          Buffer qkv(p.act, total, static_cast<int64_t>(heads + 2 * kv) * size, (heads + 2 * kv) * size + 3);
          qkv.random(static_cast<uint32_t>(size + heads), 1.2f);
          Buffer qkv2 = copy(qkv), before = copy(qkv), before_k = copy(k), before_v = copy(v);
          KvCache cache{k.tensor().data, v.tensor().data, p.act, kv, size, page}, cache2{k2.tensor().data, v2.tensor().data, p.act, kv, size, page};
          p.ops->rope_append(qkv, cache, heads, step);
          p.reference->rope_append(qkv2, cache2, heads, step);
          const std::string name = at + " size " + std::to_string(size) + " heads " + std::to_string(heads) + "/" + std::to_string(kv) + " window " + std::to_string(window) +
                                   " past " + std::to_string(b.past[0]) + " new " + std::to_string(b.fresh[0]) + " of " + std::to_string(b.past.size());
          compare("rope_append q" + name, qkv, qkv2, 2, 4);
          compare("rope_append k" + name, k, k2, 2, 4);
          compare("rope_append v" + name, v, v2, 2, 4);
          Buffer got(p.act, total, static_cast<int64_t>(heads) * size, heads * size + 9), want(p.act, total, static_cast<int64_t>(heads) * size);
          p.ops->attend(got, qkv2, cache2, heads, 1 / std::sqrt(static_cast<float>(size)), window, step);
          p.reference->attend(want, qkv2, cache2, heads, 1 / std::sqrt(static_cast<float>(size)), window, step);
          compare("attend" + name, got, want, size, 8, softmax_rounding(p.act) * 6);
          Buffer fused(p.act, total, static_cast<int64_t>(heads) * size, heads * size + 9);
          KvCache cache3{before_k.tensor().data, before_v.tensor().data, p.act, kv, size, page};
          p.ops->rope_append_attend(fused, before, cache3, heads, 1 / std::sqrt(static_cast<float>(size)), window, step);
          compare("rope_append_attend" + name, fused, want, size, 8, softmax_rounding(p.act) * 6);
          compare("rope_append_attend k" + name, before_k, k2, 2, 4);
          compare("rope_append_attend v" + name, before_v, v2, 2, 4);
        }
}

inline void small_ones(Pair& p) {
  Buffer table(p.act, 50, 33), vision(Dtype::f32, 9, 33), got(Dtype::f32, 6, 33), want(Dtype::f32, 6, 33);
  table.random(1), vision.random(2);
  Matrix m;
  m.data = table.tensor().data, m.dtype = p.act, m.n = 50, m.k = 33;
  const int32_t token[] = {0, 49, -1, -3, 7, 7}, row[] = {-1, -1, -1, -1, 8, 0}, last[] = {11, 12, 13}, pick[] = {5, 0, 3, 3, 1, 2};
  p.ops->embed(got, token, row, last, m, vision);
  p.reference->embed(want, token, row, last, m, vision);
  compare("embed" + at, got, want, 0, 0);
  Buffer got2(Dtype::f32, 6, 33), want2(Dtype::f32, 6, 33);
  p.ops->gather(got2, want, pick);
  p.reference->gather(want2, want, pick);
  compare("gather" + at, got2, want2, 0, 0);

  for (int64_t width : {1, 15, 470, 32010}) {
    if (p.small && width > 500) continue;
    Buffer logits(Dtype::f32, 5, width);
    logits.random(static_cast<uint32_t>(width));
    logits.set(1, width / 2, 9), logits.set(1, width - 1, 9);                                     // a tie: the lowest id
    logits.set(2, width - 1, std::numeric_limits<float>::quiet_NaN());                            // no number: no id
    for (int64_t c = 0; c < width; ++c) logits.set(3, c, -std::numeric_limits<float>::infinity());
    int32_t ids[5], expected[5];
    p.ops->argmax(ids, logits);
    p.reference->argmax(expected, logits);
    expect("argmax" + at, std::equal(ids, ids + 5, expected) && ids[2] == -1 && ids[1] == width / 2 && ids[3] == 0);
  }
}

// All groups, or the one named.
inline void run_cases(Pair& p, const std::string& only = "") {
  const struct {
    const char* name;
    void (*run)(Pair&);
  } groups[] = {{"products", products}, {"large_product", large_product}, {"last_rows", last_rows}, {"norms", norms}, {"qk_norms", qk_norms}, {"patches", patches},
                {"pixel_shuffles", pixel_shuffles}, {"dense_attention", dense_attention}, {"paged_attention", paged_attention}, {"small_ones", small_ones}};
  for (const auto& group : groups)
    if (only.empty() || only == group.name) group.run(p);
}

inline Scratch case_scratch() {
  Scratch s;
  s.max_rows = 2100, s.max_inputs = 4096, s.max_outputs = 4096, s.max_tile_tokens = 1025, s.max_tiles = 3, s.max_sequences = 8, s.max_context = 1024;
  s.max_heads = 16, s.max_head_size = 128, s.max_patch_inputs = 588;
  return s;
}

}  // namespace jvlm::test
