#include "ops/cpu/packed.h"

#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "ops/cpu/act.h"
#include "ops/cpu/team.h"
#include "ops/cpu/vec.h"
#if defined(JVLM_ISA_amx)
#include "ops/cpu/tile_block.h"
#else
#include "ops/cpu/pair_block.h"
#endif

// A block of rows of x meets a panel, a few groups of W; its sums are finished (bias, activation, residual, rounding) row by row, before the next
// block's or, with tiles, between its steps.
//
// What is near: a panel passes over a slab of rows of x that stays in the second cache, while the next panel is fetched.
namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kPanelColumns = kPanelGroups * kGroupRows;

// ---- ends ----------------------------------------------------------------------------------------------------------------------------

inline Vec reciprocal(Vec d) {
  const Vec r = std::bit_cast<Vec>(_mm512_rcp14_ps(std::bit_cast<__m512>(d)));
  return r * (2.f - d * r);                               // 2^-28
}

inline Vec absolute(Vec x) { return std::bit_cast<Vec>(std::bit_cast<VecU>(x) & 0x7fffffffu); }

template <Act act>
inline Vec activate(Vec x) {
  if constexpr (act == Act::silu || act == Act::gelu_tanh) {
    const Vec y = act == Act::silu ? x : 1.5957691216f * (x + 0.044715f * x * x * x);
    const Vec e = exp_fast(-absolute(y));
    const Vec r = x * reciprocal(1.f + e);
    return y < 0.f ? r * e : r;
  }
  if constexpr (act == Act::gelu) {
    const Vec z = x * 0.70710678118654752f, a = absolute(z), s = z * z;
    const Vec t = reciprocal(1.f + 0.3275911f * a);
    const Vec tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t * exp_fast(-s);
    return 0.5f * x * (x < 0.f ? tail : 2.f - tail);      // tail is 1 - erf(a), to 1.5e-7
  }
  return x;
}

inline Vec load_some(const float* p, __mmask16 mask) { return std::bit_cast<Vec>(_mm512_maskz_loadu_ps(mask, p)); }
inline void store_some(float* p, __mmask16 mask, Vec v) { _mm512_mask_storeu_ps(p, mask, std::bit_cast<__m512>(v)); }
inline void store_some(uint16_t* p, __mmask16 mask, Vec v) {
  _mm256_mask_storeu_epi16(p, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(std::bit_cast<__m512>(v))));
}
inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

// What happens to row r of a block, whose sums of the panel's groups lie at `sum`; the first group's columns begin at `column`.
template <class T, Act act>
struct Store {
  Tensor out;
  const float *scale, *bias;
  bool past;                                              // whole lines, written past the caches
  void operator()(const float* sum, int64_t r, int64_t column) const {
    auto end = [&](int64_t c, __mmask16 mask) {
      Vec v = load(sum + c);
      if (scale) v *= load_some(scale + column + c, mask);
      if (bias) v += load_some(bias + column + c, mask);
      return activate<act>(v);
    };
    if constexpr (sizeof(T) == 2)
      if (past) {
        for (int64_t c = 0; c < kPanelColumns && column + c < out.cols; c += 2 * kGroupRows) {
          const Pairs line = to_pairs(end(c, 0xffff), end(c + kGroupRows, 0xffff));
          _mm512_stream_si512(reinterpret_cast<__m512i*>(out.row<T>(r) + column + c), std::bit_cast<__m512i>(line));
        }
        return;
      }
    for (int64_t c = 0; c < kPanelColumns; c += kGroupRows) {
      const __mmask16 mask = first_lanes(out.cols - column - c);
      if (!mask) return;
      store_some(out.row<T>(r) + column + c, mask, end(c, mask));
    }
  }
};

struct Add {
  Tensor out;
  const float *scale, *bias, *layer_scale;
  void operator()(const float* sum, int64_t r, int64_t column) const {
    for (int64_t c = 0; c < kPanelColumns; c += kGroupRows) {
      const __mmask16 mask = first_lanes(out.cols - column - c);
      if (!mask) return;
      Vec v = load(sum + c);
      if (scale) v *= load_some(scale + column + c, mask);
      if (bias) v += load_some(bias + column + c, mask);
      if (layer_scale) v *= load_some(layer_scale + column + c, mask);
      float* to = out.row<float>(r) + column + c;
      store_some(to, mask, load_some(to, mask) + v);
    }
  }
};

// The first half of the groups is the gate's, the second the same columns' of up.
template <class T, Act act>
struct Gate {
  Tensor out;
  const float* scale;
  void operator()(const float* sum, int64_t r, int64_t column) const {
    for (int64_t c = 0; c < kPanelColumns / 2 && column + c < out.cols; c += kGroupRows) {
      Vec gate = load(sum + c), up = load(sum + kPanelColumns / 2 + c);
      if (scale) gate *= load(scale + column + c), up *= load(scale + out.cols + column + c);
      store_some(out.row<T>(r) + column + c, 0xffff, activate<act>(gate) * up);
    }
  }
};

// ---- blocks --------------------------------------------------------------------------------------------------------------------------

// Lines of memory that will be read next, a few a step.
struct Ahead {
  const char *at = nullptr, *end = nullptr;
  int64_t bytes = 0;                                      // a step
  void step() {
    for (const char* to = std::min(at + bytes, end); at < to; at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// The sums of a block that is not finished yet, and the panel that comes next.
template <class End>
struct Pending {
  const End& end;
  alignas(64) float sum[kBlockRows * kPanelColumns];
  int64_t row = 0, rows = 0, first_row = 0, column = 0;
  Ahead ahead[kPanelGroups];

  explicit Pending(const End& e) : end(e) {}
  void fetch() {
    for (Ahead& a : ahead) a.step();
  }
  void finish_row() {
    if (row < rows) {
      end(sum + row * kPanelColumns, first_row + row, column);
      ++row;
    }
  }
  void finish() {
    while (row < rows) finish_row();
  }
};

// int8 (-127 to 127) to bf16, which holds every such integer: both bytes of the magnitude's out of a table, then the sign.
struct Widening {
  __m512i low[2], high[2];
  Widening() {
    alignas(64) uint8_t bytes[2][128];
    for (int v = 0; v < 128; ++v) {
      const uint16_t h = to_bf16(static_cast<float>(v));
      bytes[0][v] = static_cast<uint8_t>(h), bytes[1][v] = static_cast<uint8_t>(h >> 8);
    }
    for (int i = 0; i < 2; ++i) low[i] = _mm512_load_si512(bytes[0] + 64 * i), high[i] = _mm512_load_si512(bytes[1] + 64 * i);
  }
  // 64 bytes to two pairs of inputs for sixteen rows.
  void operator()(Pairs& a, Pairs& b, const int8_t* from) const {
    const __m512i q = _mm512_loadu_si512(from), magnitude = _mm512_abs_epi8(q);
    const __m512i l = _mm512_permutex2var_epi8(low[0], magnitude, low[1]);
    // h | (q & 0x80)
    const __m512i h = _mm512_ternarylogic_epi32(_mm512_permutex2var_epi8(high[0], magnitude, high[1]), q, _mm512_set1_epi8(-128), 0xf8);
    a = std::bit_cast<Pairs>(_mm512_unpacklo_epi8(l, h)), b = std::bit_cast<Pairs>(_mm512_unpackhi_epi8(l, h));
  }
};

// Two pairs of inputs for sixteen rows.
struct Same {
  void operator()(Pairs& a, Pairs& b, const uint16_t* from) const { a = load_pairs(from), b = load_pairs(from + 32); }
};

inline void put_pairs(uint16_t* out, Pairs pairs) { std::memcpy(out, &pairs, sizeof pairs); }
// As floats: the first inputs of all sixteen rows, then the second ones.
inline void put_pairs(float* out, Pairs pairs) { store(out, std::bit_cast<Vec>(pairs << 16)), store(out + kGroupRows, std::bit_cast<Vec>(pairs & 0xffff0000u)); }

template <class T, class W>
void widen(T* out, const W* from, int64_t count) {
  const std::conditional_t<sizeof(W) == 1, Widening, Same> read{};
  for (int64_t i = 0; i < count; i += 64) {
    Pairs a, b;
    read(a, b, from + i);
    put_pairs(out + i, a), put_pairs(out + i + 32, b);
  }
}

// A group as a unit takes it: where it lies, or widened to `room`.
template <class T>
const T* group_of(T* room, const void* from, Dtype dtype, int64_t count) {
  if (dtype == Dtype::i8) {
    widen(room, static_cast<const int8_t*>(from), count);
    return room;
  }
  if constexpr (sizeof(T) == 2) {
    return static_cast<const T*>(from);
  } else {
    widen(room, static_cast<const uint16_t*>(from), count);
    return room;
  }
}

int64_t second_cache() {
  static const int64_t bytes = [] {
    const int64_t found = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
    return found > 0 ? found : 1 << 20;
  }();
  return bytes;
}

constexpr int64_t kMostTiles = 48;                        // of k at a time, where sums can be added up in the output

// groups(p, group): numbers of panel p's groups; one that is there twice is multiplied twice. ends(first) is what happens to sums over a part of k.
template <class Unit, class Groups, class Ends>
void run(Tensor x, const Matrix& w, int64_t panels, int64_t columns, bool in_parts, void* scratch, Groups&& groups, Ends&& ends) {
  const int64_t all = (w.k + kTileInputs - 1) / kTileInputs;
  const int64_t parts = in_parts ? (all + kMostTiles - 1) / kMostTiles : 1, part = (all + parts - 1) / parts;
  using T = typename Unit::Number;
  const int64_t slab = std::max(second_cache() * 3 / 8 / (part * kTileInputs * static_cast<int64_t>(sizeof(T))), 2 * kBlockRows), slabs = std::max<int64_t>(1, (x.rows + slab / 2) / slab);
  const int64_t even = (x.rows + slabs - 1) / slabs, rows = up(even, kBlockRows);
  const int64_t threads = team_size(), chunks = std::min(panels, threads * (parts > 1 ? 1 : 4));
  const int64_t size = size_of(w.dtype);
  parallel_each(slabs * chunks, [&](int64_t work) {
    const Unit unit;
    T* wide = static_cast<T*>(scratch) + team_member() * kPanelGroups * all * kTileNumbers;
    const int64_t from = work / chunks * rows, to = std::min(x.rows, from + rows), chunk = work % chunks;
    const int64_t begin = panels * chunk / chunks, end = panels * (chunk + 1) / chunks;
    for (int64_t t0 = 0; t0 < all && from < to; t0 += part) {
      const int64_t tiles = std::min(part, all - t0), blocks = (to - from + kBlockRows - 1) / kBlockRows;
      const auto finish = ends(t0 == 0);
      Pending pending(finish);
      auto place = [&](int64_t g) { return static_cast<const char*>(w.data) + (g * all + t0) * kTileNumbers * size; };
      for (int64_t p = begin; p < end; ++p) {
        int64_t now[kPanelGroups], next[kPanelGroups];
        groups(p, now);
        groups(std::min(p + 1, end - 1), next);
        const T* group[kPanelGroups];
        for (int i = 0; i < kPanelGroups; ++i) {
          pending.ahead[i] = {place(next[i]), place(next[i]) + (p + 1 < end ? tiles * kTileNumbers * size : 0),
                              std::max<int64_t>(128, up(kTileNumbers * size / blocks, 64))};
          group[i] = group_of(wide + i * tiles * kTileNumbers, place(now[i]), w.dtype, tiles * kTileNumbers);
        }
        for (int64_t r = from; r < to; r += kBlockRows) {
          const int64_t there = std::min(kBlockRows, to - r);
          unit.multiply(pending, x.row<T>(r) + t0 * kTileInputs, x.stride, there, group, tiles);
          pending.row = 0, pending.rows = there, pending.first_row = r, pending.column = p * columns;
        }
      }
      pending.finish();
    }
    _mm_sfence();                                         // after what was written past the caches
  });
}

int64_t scratch_bytes(int64_t max_inputs, int threads) { return threads * kPanelGroups * (max_inputs + kTileInputs) / kTileInputs * kTileNumbers * 4; }

template <class Unit>
void product(Tensor out, Tensor x, const Matrix& w, const Epilogue& end, void* scratch) {
  const int64_t panels = (w.n + kPanelColumns - 1) / kPanelColumns, last = (w.n - 1) / kGroupRows;
  auto groups = [&](int64_t p, int64_t* group) {
    for (int64_t i = 0; i < kPanelGroups; ++i) group[i] = std::min(p * kPanelGroups + i, last);
  };
  if (end.add) {
    // The output holds the sums of the parts; the bias comes with the first.
    run<Unit>(x, w, panels, kPanelColumns, true, scratch, groups, [&](bool first) { return Add{out, w.scale, first ? end.bias : nullptr, end.layer_scale}; });
    return;
  }
  // An output that would not stay in the second cache goes past it: no line is fetched only to be overwritten, which the fetching of weights
  // and rows would wait for.
  const bool lines = out.cols % (2 * kGroupRows) == 0 && (reinterpret_cast<uintptr_t>(out.data) | static_cast<uintptr_t>(out.stride * 2)) % 64 == 0;
  const bool past = lines && out.rows * out.cols * 2 > second_cache();
  with_act(end.act, [&](auto act) {
    if (out.dtype == Dtype::f32)
      run<Unit>(x, w, panels, kPanelColumns, false, scratch, groups,
          [&](bool) { return Store<float, decltype(act)::value>{out, w.scale, end.bias, false}; });
    else
      run<Unit>(x, w, panels, kPanelColumns, false, scratch, groups,
          [&](bool) { return Store<uint16_t, decltype(act)::value>{out, w.scale, end.bias, past}; });
  });
}

template <class Unit>
void gate(Tensor out, Tensor x, const Matrix& w, Act act, void* scratch) {
  constexpr int64_t half = kPanelGroups / 2;
  const int64_t count = out.cols / kGroupRows;            // of the gate's groups; as many of up follow
  auto groups = [&](int64_t p, int64_t* group) {
    for (int64_t i = 0; i < half; ++i) {
      group[i] = std::min(p * half + i, count - 1);
      group[half + i] = count + group[i];
    }
  };
  with_act(act, [&](auto a) {
    run<Unit>(x, w, (count + half - 1) / half, kPanelColumns / 2, false, scratch, groups,
        [&](bool) { return Gate<uint16_t, decltype(a)::value>{out, w.scale}; });
  });
}

// The unit that multiplies numbers of x's type; tiles are of bf16 alone.
template <class F>
void with_unit(const Tensor& x, F&& body) {
#if !defined(JVLM_ISA_amx)
  if (x.dtype == Dtype::f32) return body.template operator()<FloatUnit>();
#endif
  static_cast<void>(x);
  body.template operator()<PairUnit>();
}

void product_of(Tensor out, Tensor x, const Matrix& w, const Epilogue& end, void* scratch) {
  with_unit(x, [&]<class Unit>() { product<Unit>(out, x, w, end, scratch); });
}
void gate_of(Tensor out, Tensor x, const Matrix& w, Act act, void* scratch) {
  with_unit(x, [&]<class Unit>() { gate<Unit>(out, x, w, act, scratch); });
}

// ---- few rows ------------------------------------------------------------------------------------------------------------------------

// How weights are read: groups side by side, each a stream of its own, and how many bytes ahead they are fetched, 0: left to the processor.
struct Reading {
  int64_t streams, ahead;
};
template <class W>
constexpr Reading reading(int rows) {
#if defined(JVLM_ISA_amx)
  // Measured on Sapphire Rapids. bf16 is used as fast as memory gives it: what is fetched far ahead only takes the place of what is needed now. int8
  // leaves time in which the second cache is filled.
  static_cast<void>(rows);
  return sizeof(W) == 2 ? Reading{2, 1024} : Reading{1, 4096};
#else
  // Measured on Zen 4: memory is read fastest in its own order; several rows of x take so long that the processor does not look far enough ahead.
  return rows == 1 ? Reading{1, 0} : Reading{2, 4096};
#endif
}

// Outputs of `groups` groups, `length` numbers apart, for `count` rows of x.
template <int count, int groups, class W, class Read>
void dot(float* out, int64_t stride, int64_t outputs, const W* w, int64_t length, const uint16_t* x, int64_t x_stride, int64_t k, const Read& read) {
  constexpr int64_t ahead = reading<W>(count).ahead;
  Vec even[groups][count] = {}, odd[groups][count] = {};
  auto times = [&](Vec& acc, Pairs weight, const uint16_t* pair) {
    uint32_t both;
    std::memcpy(&both, pair, sizeof both);
    acc = dot_pairs(acc, weight, Pairs{} + both);
  };
  int64_t p = 0;
  for (; p + 2 <= k / 2; p += 2) {
    Pairs a[groups], b[groups];
    for (int g = 0; g < groups; ++g) {
      const W* at = w + g * length + p * 2 * kGroupRows;
      if constexpr (ahead > 0)
        for (size_t line = 0; line < sizeof(W); ++line) _mm_prefetch(reinterpret_cast<const char*>(at) + ahead + 64 * line, _MM_HINT_T1);
      read(a[g], b[g], at);
    }
    for (int t = 0; t < count; ++t)
      for (int g = 0; g < groups; ++g) {
        times(even[g][t], a[g], x + t * x_stride + 2 * p);
        times(odd[g][t], b[g], x + t * x_stride + 2 * p + 2);
      }
  }
  if (2 * p < k)                                          // one to three inputs more; the weights beyond are zero
    for (int g = 0; g < groups; ++g) {
      Pairs a, b;
      read(a, b, w + g * length + p * 2 * kGroupRows);
      for (int t = 0; t < count; ++t) {
        uint16_t rest[4] = {};
        std::memcpy(rest, x + t * x_stride + 2 * p, static_cast<size_t>(k - 2 * p) * 2);
        times(even[g][t], a, rest);
        times(odd[g][t], b, rest + 2);
      }
    }
  for (int g = 0; g < groups; ++g)
    for (int t = 0; t < count; ++t)
      store_some(out + t * stride + g * kGroupRows, first_lanes(outputs - g * kGroupRows), even[g][t] + odd[g][t]);
}

template <class W, class Read>
void rows_of(float* out, int64_t stride, Tensor x, const Matrix& w, const W* data, const Read& read) {
  const int64_t groups = (w.n + kGroupRows - 1) / kGroupRows, length = packed_numbers(kGroupRows, w.k);
  parallel_parts((groups + 1) / 2, 1, [&](int64_t i) {
    auto rows = [&]<int count>(int64_t t) {
      constexpr int64_t streams = reading<W>(count).streams;
      const int64_t end = std::min(groups, 2 * i + 2);
      for (int64_t g = 2 * i; g < end; g += streams) {
        float* to = out + t * stride + g * kGroupRows;
        const int64_t outputs = w.n - g * kGroupRows;
        if (g + streams <= end)
          dot<count, streams>(to, stride, outputs, data + g * length, length, x.row<uint16_t>(t), x.stride, w.k, read);
        else
          dot<count, 1>(to, stride, outputs, data + g * length, length, x.row<uint16_t>(t), x.stride, w.k, read);
      }
    };
    int64_t t = 0;
    for (; t + 4 <= x.rows; t += 4) rows.template operator()<4>(t);
    if (x.rows - t == 3) rows.template operator()<3>(t);
    if (x.rows - t == 2) rows.template operator()<2>(t);
    if (x.rows - t == 1) rows.template operator()<1>(t);
  });
}

void matvec(float* out, int64_t stride, Tensor x, const Matrix& w) {
  if (w.dtype == Dtype::i8)
    rows_of(out, stride, x, w, static_cast<const int8_t*>(w.data), Widening());
  else
    rows_of(out, stride, x, w, static_cast<const uint16_t*>(w.data), Same());
}

}  // namespace

extern const PackedKernels packed_table = {scratch_bytes, product_of, gate_of, matvec};

}  // namespace jvlm::cpu::JVLM_ISA
