#include "ops/cpu/rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "ops/cpu/act.h"
#include "ops/cpu/team.h"

namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kFewRows = 4;           // not worth a second thread

// Loops are plain so that the compiler vectorises them for each instruction set. Types are chosen outside the loops by these templates.
inline float load(const float* p, int64_t i) { return p[i]; }
inline float load(const uint16_t* p, int64_t i) { return from_bf16(p[i]); }
inline void store(float* p, int64_t i, float v) { p[i] = v; }
inline void store(uint16_t* p, int64_t i, float v) {
  // to_bf16 without its branch for NaN: a NaN stays one because its exponent does, unless rounding carries past it, which the mask stops.
  const uint32_t u = std::bit_cast<uint32_t>(v);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  p[i] = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40 : rounded);
}

template <class F>
void with_type(Dtype t, F&& body) {
  if (t == Dtype::f32)
    body(static_cast<float*>(nullptr));
  else
    body(static_cast<uint16_t*>(nullptr));
}

// e^x by 2^n * e^r, r in [-ln2/2, ln2/2], a polynomial of degree 6: relative error below 2e-7 (tested). Arguments are clamped to where the
// result is a normal number.
inline float exp_fast(float x) {
  x = std::min(std::max(x, -87.f), 88.f);
  const float n = std::nearbyint(x * 1.44269504088896341f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

// erf by Abramowitz and Stegun 7.1.26 is good to 1.5e-7 absolute only where computed in more precision; below 0.5 its series is used, so
// that the relative error stays near a float's.
inline float erf_fast(float x) {
  const float a = std::fabs(x);
  const float t = 1.f / (1.f + 0.3275911f * a);
  const float tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * exp_fast(-a * a);
  const float s = x * x;
  const float series = x * (1.1283791671f + s * (-0.3761263890f + s * (0.1128379167f + s * (-0.0268661706f + s * (0.0052239776f +
                       s * (-0.0008548327f + s * 0.0001205533f))))));
  return a < 0.75f ? series : std::copysign(1.f - tail, x);
}

template <Act act>
inline float activate(float x) {
  if constexpr (act == Act::gelu) return 0.5f * x * (1.f + erf_fast(x * 0.70710678118654752f));
  if constexpr (act == Act::gelu_tanh) {
    const float y = 0.7978845608f * (x + 0.044715f * x * x * x);
    return x / (1.f + exp_fast(-2.f * y));
  }
  if constexpr (act == Act::silu) return x / (1.f + exp_fast(-x));
  return x;
}

// Sums in sixteen lanes: vectorises without -ffast-math and errs less than one running sum.
template <class F>
float sum_of(int64_t n, F&& term) {
  float lane[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int l = 0; l < 16; ++l) lane[l] += term(i + l);
  for (; i < n; ++i) lane[i & 15] += term(i);
  for (int w = 8; w; w /= 2)
    for (int l = 0; l < w; ++l) lane[l] += lane[l + w];
  return lane[0];
}

template <class T, class S>
void norm_row(T* out, const S* x, int64_t n, const Norm& norm) {
  float mean = 0;
  if (norm.kind == NormKind::layer) mean = sum_of(n, [&](int64_t i) { return load(x, i); }) / static_cast<float>(n);
  const float square = sum_of(n, [&](int64_t i) { return (load(x, i) - mean) * (load(x, i) - mean); });
  const float factor = 1.f / std::sqrt(square / static_cast<float>(n) + norm.eps);
  if (norm.bias)
    for (int64_t i = 0; i < n; ++i) store(out, i, (load(x, i) - mean) * factor * norm.weight[i] + norm.bias[i]);
  else
    for (int64_t i = 0; i < n; ++i) store(out, i, (load(x, i) - mean) * factor * norm.weight[i]);
}

void norm(Tensor out, Tensor x, const Norm& n) {
  with_type(out.dtype, [&]<class T>(T*) {
    parallel_parts(x.rows, kFewRows, [&](int64_t r) { norm_row(out.row<T>(r), x.row<float>(r), x.cols, n); });
  });
}

void norm_qk(Tensor qkv, const Norm& q, const Norm& k) {
  const int64_t h = qkv.cols / 3;
  with_type(qkv.dtype, [&]<class T>(T*) {
    parallel_parts(qkv.rows, kFewRows, [&](int64_t r) {
      T* row = qkv.row<T>(r);
      norm_row(row, row, h, q);
      norm_row(row + h, row + h, h, k);
    });
  });
}

void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& n) {
  const int64_t h = x.cols, half = grid / 2, tokens = 1 + static_cast<int64_t>(grid) * grid;
  with_type(out.dtype, [&]<class T>(T*) {
    const int64_t rows = tiles * half * half;
    parallel_pieces(rows, (rows + team_size() - 1) / team_size(), [&](int64_t first, int64_t last) {
      float* wide = new float[static_cast<size_t>(4 * h)];
      for (int64_t row = first; row < last; ++row) {
        const int64_t b = row / (half * half), r = row / half % half, c = row % half;
        for (int64_t e = 0; e < 2; ++e)
          for (int64_t d = 0; d < 2; ++d)
            std::memcpy(wide + (e * 2 + d) * h, x.row<float>(b * tokens + 1 + (2 * r + e) * grid + 2 * c + d), static_cast<size_t>(h) * 4);
        norm_row(out.row<T>(row), wide, 4 * h, n);
      }
      delete[] wide;
    });
  });
}

void patches(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const float mean[3], const float std[3]) {
  // 256 values a channel: the reference's three roundings (x/255, - mean, / std) once each.
  float table[3][256];
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) table[c][v] = (static_cast<float>(v) / 255.f - mean[c]) / std[c];
  with_type(out.dtype, [&]<class T>(T*) {
    parallel_parts(out.rows, 1, [&](int64_t row) {
      const Patch p = patches[row];
      T* to = out.row<T>(row);
      if (p.right < patch || p.below < patch) std::fill(to, to + out.cols, T{0});
      for (int c = 0; c < 3; ++c)
        for (int64_t y = 0; y < p.below; ++y) {
          const uint8_t* from = rgb + p.first + y * p.pitch + c;
          for (int64_t x = 0; x < p.right; ++x) store(to, (c * patch + y) * patch + x, table[c][from[3 * x]]);
        }
    });
  });
}

void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) {
  for (int64_t r = 0; r < out.rows; ++r) {
    float* to = out.row<float>(r);
    if (vision_row[r] >= 0) {
      std::memcpy(to, vision.row<float>(vision_row[r]), static_cast<size_t>(out.cols) * 4);
      continue;
    }
    const int64_t id = token[r] < 0 ? last_ids[-1 - token[r]] : token[r];
    if (table.dtype == Dtype::f32)
      std::memcpy(to, static_cast<const float*>(table.data) + id * table.k, static_cast<size_t>(out.cols) * 4);
    else
      for (int64_t c = 0; c < out.cols; ++c) to[c] = from_bf16(static_cast<const uint16_t*>(table.data)[id * table.k + c]);
  }
}

void rope_append(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) {
  const int64_t size = cache.head_size, half = size / 2, kv = cache.kv_heads;
  with_type(qkv.dtype, [&]<class T>(T*) {
    for (int32_t s = 0; s < step.sequences; ++s) {
      parallel_parts(step.seq_start[s + 1] - step.seq_start[s], kFewRows, [&](int64_t i) {
        const int64_t t = step.seq_start[s] + i;
        const float *cos = step.cos + t * half, *sin = step.sin + t * half;
        const int64_t position = step.past[s] + t - step.seq_start[s];
        const int64_t page = step.page[step.page_start[s] + position / cache.page_tokens];
        T* row = qkv.row<T>(t);
        for (int64_t head = 0; head < heads + kv; ++head) {
          const T* from = row + head * size;
          T* to = row + head * size;
          if (head >= heads) {
            const int64_t at = ((page * kv + head - heads) * cache.page_tokens + position % cache.page_tokens) * size;
            to = static_cast<T*>(cache.k) + at;
            std::memcpy(static_cast<T*>(cache.v) + at, from + kv * size, static_cast<size_t>(size) * sizeof(T));
          }
          for (int64_t i = 0; i < half; ++i) {
            const float a = load(from, i), b = load(from, half + i);
            store(to, i, a * cos[i] - b * sin[i]);
            store(to, half + i, b * cos[i] + a * sin[i]);
          }
        }
      });
    }
  });
}

void argmax(int32_t* ids, Tensor logits) {
  parallel_each(logits.rows, [&](int64_t r) {
    const float* x = logits.row<float>(r);
    float most = x[0];
    bool numbers = true;
    for (int64_t c = 0; c < logits.cols; ++c) {
      most = x[c] > most ? x[c] : most;
      numbers &= x[c] == x[c];
    }
    int32_t best = -1;
    if (numbers)
      for (best = 0; x[best] != most;) ++best;
    ids[r] = best;
  });
}

void widen(float* out, const Matrix& w, int64_t first_row, int64_t rows) {
  const int64_t first = first_row * w.k, count = rows * w.k;
  constexpr int64_t kBlock = 4096;
  parallel_parts((count + kBlock - 1) / kBlock, 1, [&](int64_t block) {
    const int64_t b = block * kBlock, end = std::min(count, b + kBlock);
    if (w.dtype == Dtype::i8) {
      const int8_t* from = static_cast<const int8_t*>(w.data) + first;
      for (int64_t i = b; i < end; ++i) out[i] = static_cast<float>(from[i]);
    } else {
      const uint16_t* from = static_cast<const uint16_t*>(w.data) + first;
      for (int64_t i = b; i < end; ++i) out[i] = from_bf16(from[i]);
    }
  });
}

void convert(Tensor out, Tensor x) {
  with_type(out.dtype, [&]<class T>(T*) {
    with_type(x.dtype, [&]<class S>(S*) {
      parallel_parts(x.rows, kFewRows, [&](int64_t r) {
        for (int64_t c = 0; c < x.cols; ++c) store(out.row<T>(r), c, load(x.row<S>(r), c));
      });
    });
  });
}

void finish(Tensor out, const float* sum, int64_t stride, const float* scale, const float* bias, Act act) {
  with_type(out.dtype, [&]<class T>(T*) {
    with_act(act, [&](auto a) {
      parallel_parts(out.rows, kFewRows, [&](int64_t r) {
        T* to = out.row<T>(r);
        const float* from = sum + r * stride;
        for (int64_t c = 0; c < out.cols; ++c) {
          float v = from[c];
          if (scale) v *= scale[c];
          if (bias) v += bias[c];
          store(to, c, activate<decltype(a)::value>(v));
        }
      });
    });
  });
}

void finish_add(Tensor x, const float* sum, int64_t stride, const float* scale, const float* bias, const float* layer_scale) {
  parallel_parts(x.rows, kFewRows, [&](int64_t r) {
    float* to = x.row<float>(r);
    const float* from = sum + r * stride;
    for (int64_t c = 0; c < x.cols; ++c) {
      float v = from[c];
      if (scale) v *= scale[c];
      if (bias) v += bias[c];
      if (layer_scale) v *= layer_scale[c];
      to[c] += v;
    }
  });
}

void finish_gate(Tensor out, const float* sum, int64_t stride, const float* scale, Act act) {
  const int64_t m = out.cols;
  with_type(out.dtype, [&]<class T>(T*) {
    with_act(act, [&](auto a) {
      parallel_parts(out.rows, kFewRows, [&](int64_t r) {
        T* to = out.row<T>(r);
        const float* from = sum + r * stride;
        for (int64_t c = 0; c < m; ++c) {
          float gate = from[c], up = from[m + c];
          if (scale) gate *= scale[c], up *= scale[m + c];
          store(to, c, activate<decltype(a)::value>(gate) * up);
        }
      });
    });
  });
}

}  // namespace

extern const RowKernels row_table = {norm,  norm_qk, pixel_shuffle_norm, patches,    embed,      rope_append, argmax,
                                     widen, convert, finish,             finish_add, finish_gate};

}  // namespace jvlm::cpu::JVLM_ISA
