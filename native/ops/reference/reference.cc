// Every operation as it reads in ops.h: loops, sums in double, nothing clever. What the fast backends are compared with.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "base/bf16.h"
#include "ops/ops.h"

namespace jvlm {
namespace {

float get(const Tensor& t, int64_t r, int64_t c) {
  return t.dtype == Dtype::f32 ? t.row<float>(r)[c] : from_bf16(t.row<uint16_t>(r)[c]);
}

void set(const Tensor& t, int64_t r, int64_t c, double value) {
  if (t.dtype == Dtype::f32)
    t.row<float>(r)[c] = static_cast<float>(value);
  else
    t.row<uint16_t>(r)[c] = to_bf16(static_cast<float>(value));
}

double get(const Matrix& w, int64_t n, int64_t k) {
  const int64_t i = n * w.k + k;
  if (w.dtype == Dtype::f32) return static_cast<const float*>(w.data)[i];
  if (w.dtype == Dtype::bf16) return from_bf16(static_cast<const uint16_t*>(w.data)[i]);
  return static_cast<double>(static_cast<const int8_t*>(w.data)[i]) * w.scale[n];
}

double get(const void* cache, Dtype dtype, int64_t i) {
  return dtype == Dtype::f32 ? static_cast<const float*>(cache)[i] : from_bf16(static_cast<const uint16_t*>(cache)[i]);
}

double dot(const Tensor& x, int64_t row, const Matrix& w, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < w.k; ++k) sum += static_cast<double>(get(x, row, k)) * get(w, n, k);
  return sum;
}

double activate(double x, Act act) {
  switch (act) {
    case Act::none: return x;
    case Act::gelu: return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
    case Act::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Act::silu: return x / (1 + std::exp(-x));
  }
  return x;
}

// Weighted mean of values under softmax of the scores.
template <class Value>
void softmax_mean(const std::vector<double>& score, int64_t width, Value value, std::vector<double>& out) {
  const double most = *std::max_element(score.begin(), score.end());
  double sum = 0;
  out.assign(static_cast<size_t>(width), 0);
  for (size_t j = 0; j < score.size(); ++j) {
    const double p = std::exp(score[j] - most);
    sum += p;
    for (int64_t d = 0; d < width; ++d) out[static_cast<size_t>(d)] += p * value(static_cast<int64_t>(j), d);
  }
  for (double& o : out) o /= sum;
}

class ReferenceOps : public Ops {
 public:
  explicit ReferenceOps(Dtype act) : act_(act) {}
  ~ReferenceOps() override {
    for (void* p : blocks_) std::free(p);
  }

  void* allocate(int64_t bytes) override {
    const size_t size = static_cast<size_t>((std::max<int64_t>(bytes, 1) + 63) / 64 * 64);
    void* p = std::aligned_alloc(64, size);
    if (!p) throw std::bad_alloc();
    std::memset(p, 0, size);
    blocks_.push_back(p);
    return p;
  }
  void upload(void* device, const void* host, int64_t bytes) override { std::memcpy(device, host, static_cast<size_t>(bytes)); }
  void download(void* host, const void* device, int64_t bytes) override { std::memcpy(host, device, static_cast<size_t>(bytes)); }
  void reserve(const Scratch&) override {}
  int64_t scratch_bytes(const Scratch&) const override { return 0; }
  std::string description() const override { return "plain loops with sums in double, for tests"; }

  void patch_embed(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const Matrix& w, const float* bias,
                   const float* class_token, const float* positions, const float mean[3], const float std[3]) override {
    const int64_t h = w.n;
    std::vector<float> pixels(static_cast<size_t>(w.k));
    const Tensor pixels_of_patch(pixels.data(), Dtype::f32, 1, w.k);
    for (int64_t t = 0; t < out.rows; ++t) {
      const Patch& p = patches[t];
      const float* position = positions + p.position * h;
      if (p.below == 0) {
        for (int64_t n = 0; n < h; ++n) set(out, t, n, static_cast<double>(class_token[n]) + position[n]);
        continue;
      }
      size_t i = 0;
      for (int ch = 0; ch < 3; ++ch)
        for (int64_t y = 0; y < patch; ++y)
          for (int64_t x = 0; x < patch; ++x, ++i) {
            pixels[i] = 0;
            if (y >= p.below || x >= p.right) continue;
            const float v = static_cast<float>(rgb[p.first + y * p.pitch + x * 3 + ch]) / 255.f;
            const float normalised = (v - mean[ch]) / std[ch];
            pixels[i] = act_ == Dtype::f32 ? normalised : from_bf16(to_bf16(normalised));
          }
      for (int64_t n = 0; n < h; ++n) set(out, t, n, dot(pixels_of_patch, 0, w, n) + bias[n] + position[n]);
    }
  }

  void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads,
                 int32_t head_size, float scale) override {
    std::vector<double> score, mean;
    for (int32_t b = 0; b < queries.count; ++b)
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t column = head * head_size, kv_column = head / (heads / kv_heads) * head_size, first_key = keys.start[b];
        for (int64_t i = queries.start[b]; i < queries.start[b + 1]; ++i) {
          score.clear();
          for (int64_t j = first_key; j < keys.start[b + 1]; ++j) {
            double s = 0;
            for (int64_t d = 0; d < head_size; ++d) s += static_cast<double>(get(q, i, column + d)) * get(k, j, kv_column + d);
            score.push_back(s * scale);
          }
          softmax_mean(score, head_size, [&](int64_t j, int64_t d) { return get(v, first_key + j, kv_column + d); }, mean);
          for (int64_t d = 0; d < head_size; ++d) set(out, i, column + d, mean[static_cast<size_t>(d)]);
        }
      }
  }

  void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& n) override {
    const int64_t h = x.cols, half = grid / 2, tokens = 1 + static_cast<int64_t>(grid) * grid;
    std::vector<float> wide(static_cast<size_t>(4 * h));
    for (int64_t b = 0; b < tiles; ++b)
      for (int64_t r = 0; r < half; ++r)
        for (int64_t c = 0; c < half; ++c) {
          for (int64_t e = 0; e < 2; ++e)
            for (int64_t d = 0; d < 2; ++d)
              for (int64_t ch = 0; ch < h; ++ch)
                wide[static_cast<size_t>((e * 2 + d) * h + ch)] = get(x, b * tokens + 1 + (2 * r + e) * grid + 2 * c + d, ch);
          norm(out.slice((b * half + r) * half + c, 1), {wide.data(), Dtype::f32, 1, 4 * h}, n);
        }
  }

  void norm(Tensor out, Tensor x, const Norm& n) override {
    for (int64_t r = 0; r < x.rows; ++r) {
      double mean = 0, square = 0;
      if (n.kind == NormKind::layer) {
        for (int64_t c = 0; c < x.cols; ++c) mean += get(x, r, c);
        mean /= static_cast<double>(x.cols);
      }
      for (int64_t c = 0; c < x.cols; ++c) square += (get(x, r, c) - mean) * (get(x, r, c) - mean);
      const double factor = 1 / std::sqrt(square / static_cast<double>(x.cols) + n.eps);
      for (int64_t c = 0; c < x.cols; ++c) set(out, r, c, (get(x, r, c) - mean) * factor * n.weight[c] + (n.bias ? n.bias[c] : 0));
    }
  }

  void norm_qk(Tensor qkv, const Norm& q, const Norm& k) override {
    const int64_t h = qkv.cols / 3;
    norm(qkv.columns(0, h), qkv.columns(0, h), q);
    norm(qkv.columns(h, h), qkv.columns(h, h), k);
  }

  void gather(Tensor out, Tensor x, const int32_t* row) override {
    for (int64_t r = 0; r < out.rows; ++r)
      for (int64_t c = 0; c < out.cols; ++c) set(out, r, c, get(x, row[r], c));
  }

  void matmul(Tensor out, Tensor x, const Matrix& w, const float* bias, Act act) override {
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t n = 0; n < w.n; ++n) set(out, r, n, activate(dot(x, r, w, n) + (bias ? bias[n] : 0), act));
  }

  void matmul_add(Tensor x, Tensor a, const Matrix& w, const float* bias, const float* layer_scale) override {
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t n = 0; n < w.n; ++n)
        set(x, r, n, get(x, r, n) + (layer_scale ? layer_scale[n] : 1.) * (dot(a, r, w, n) + (bias ? bias[n] : 0)));
  }

  void matmul_gate(Tensor out, Tensor x, const Matrix& w, Act act) override {
    const int64_t m = w.n / 2;
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t n = 0; n < m; ++n) set(out, r, n, activate(dot(x, r, w, n), act) * dot(x, r, w, m + n));
  }

  void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) override {
    for (int64_t r = 0; r < out.rows; ++r) {
      const int64_t id = token[r] < 0 ? last_ids[-1 - token[r]] : token[r];
      for (int64_t c = 0; c < out.cols; ++c) set(out, r, c, vision_row[r] >= 0 ? get(vision, vision_row[r], c) : get(table, id, c));
    }
  }

  void rope_table(float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) override {
    for (int32_t s = 0; s < step.sequences; ++s)
      for (int32_t t = step.seq_start[s]; t < step.seq_start[s + 1]; ++t)
        for (int32_t i = 0; i < half; ++i) {
          // The angle is a float32 product in the references; its rounding is part of the result.
          const float angle = static_cast<float>(step.past[s] + t - step.seq_start[s]) * inverse_frequency[static_cast<int64_t>(s) * half + i];
          cos[static_cast<int64_t>(t) * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)) * magnitude);
          sin[static_cast<int64_t>(t) * half + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * magnitude);
        }
  }

  static int64_t slot(const KvCache& c, const Step& step, int32_t s, int64_t position, int64_t kv_head) {
    const int64_t page = step.page[step.page_start[s] + position / c.page_tokens];
    return ((page * c.kv_heads + kv_head) * c.page_tokens + position % c.page_tokens) * c.head_size;
  }

  void rope_append(Tensor qkv, const KvCache& c, int32_t heads, const Step& step) override {
    const int64_t size = c.head_size, half = size / 2;
    Tensor k = {c.k, c.dtype, 1, 0}, v = {c.v, c.dtype, 1, 0};
    for (int32_t s = 0; s < step.sequences; ++s)
      for (int64_t t = step.seq_start[s]; t < step.seq_start[s + 1]; ++t)
        for (int64_t head = 0; head < heads + c.kv_heads; ++head) {
          const int64_t to = head < heads ? -1 : slot(c, step, s, step.past[s] + t - step.seq_start[s], head - heads);
          for (int64_t i = 0; i < half; ++i) {
            const double cos = step.cos[t * half + i], sin = step.sin[t * half + i];
            const double a = get(qkv, t, head * size + i), b = get(qkv, t, head * size + half + i);
            set(to < 0 ? qkv : k, to < 0 ? t : 0, to < 0 ? head * size + i : to + i, a * cos - b * sin);
            set(to < 0 ? qkv : k, to < 0 ? t : 0, to < 0 ? head * size + half + i : to + half + i, b * cos + a * sin);
          }
          for (int64_t i = 0; to >= 0 && i < size; ++i) set(v, 0, to + i, get(qkv, t, (head + c.kv_heads) * size + i));
        }
  }

  void attend(Tensor out, Tensor qkv, const KvCache& c, int32_t heads, float scale, int32_t window, const Step& step) override {
    const int64_t size = c.head_size, group = heads / c.kv_heads;
    std::vector<double> score, mean;
    for (int32_t s = 0; s < step.sequences; ++s)
      for (int64_t t = step.seq_start[s]; t < step.seq_start[s + 1]; ++t) {
        const int64_t position = step.past[s] + t - step.seq_start[s];
        const int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
        for (int64_t head = 0; head < heads; ++head) {
          score.clear();
          for (int64_t j = first; j <= position; ++j) {
            const int64_t at = slot(c, step, s, j, head / group);
            double sum = 0;
            for (int64_t d = 0; d < size; ++d) sum += get(qkv, t, head * size + d) * get(c.k, c.dtype, at + d);
            score.push_back(sum * scale);
          }
          softmax_mean(score, size, [&](int64_t j, int64_t d) { return get(c.v, c.dtype, slot(c, step, s, first + j, head / group) + d); }, mean);
          for (int64_t d = 0; d < size; ++d) set(out, t, head * size + d, mean[static_cast<size_t>(d)]);
        }
      }
  }

  void argmax(int32_t* ids, Tensor logits) override {
    for (int64_t r = 0; r < logits.rows; ++r) {
      int32_t best = 0;
      for (int64_t c = 0; c < logits.cols; ++c) {
        const float x = get(logits, r, c);
        if (std::isnan(x)) {
          best = -1;
          break;
        }
        if (x > get(logits, r, best)) best = static_cast<int32_t>(c);
      }
      ids[r] = best;
    }
  }

 private:
  Dtype act_;
  std::vector<void*> blocks_;
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops(Dtype act) { return std::make_unique<ReferenceOps>(act); }

}  // namespace jvlm
