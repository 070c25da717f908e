#include "ops/cpu/packed.h"

#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/act.h"
#include "ops/cpu/team.h"
#include "ops/cpu/tiles.h"
#include "ops/cpu/vec.h"

// A block of 32 rows of x by two groups of W is four tiles of sums. Between the steps over k, which keep the tile unit busy for 64 cycles
// each, the vector units finish a row of the block before: bias, activation, residual and rounding cost next to nothing.
//
// What is near: a panel (two groups) passes over a slab of rows of x that stays in the second cache, while the next panel is fetched.
namespace jvlm::cpu::JVLM_ISA {
namespace {

constexpr int64_t kBlockRows = 32;

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

// What happens to row r of a block, whose sums of the two groups lie at `sum`; the first group's columns begin at `column`.
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
        const Pairs line = to_pairs(end(0, 0xffff), end(kGroupRows, 0xffff));
        return _mm512_stream_si512(reinterpret_cast<__m512i*>(out.row<T>(r) + column), std::bit_cast<__m512i>(line));
      }
    for (int64_t c = 0; c < 2 * kGroupRows; c += kGroupRows) {
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
    for (int64_t c = 0; c < 2 * kGroupRows; c += kGroupRows) {
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

// The first group is the gate's, the second the same columns' of up.
template <class T, Act act>
struct Gate {
  Tensor out;
  const float* scale;
  void operator()(const float* sum, int64_t r, int64_t column) const {
    Vec gate = load(sum), up = load(sum + kGroupRows);
    if (scale) gate *= load(scale + column), up *= load(scale + out.cols + column);
    store_some(out.row<T>(r) + column, 0xffff, activate<act>(gate) * up);
  }
};

// ---- blocks --------------------------------------------------------------------------------------------------------------------------

// The sums of a block that is not finished yet.
template <class End>
struct Pending {
  const End& end;
  alignas(64) float sum[kBlockRows * 2 * kGroupRows];
  int64_t row = 0, rows = 0, first_row = 0, column = 0;

  explicit Pending(const End& e) : end(e) {}
  void step() {
    if (row < rows) {
      end(sum + row * 2 * kGroupRows, first_row + row, column);
      ++row;
    }
  }
  void flush() {
    while (row < rows) step();
  }
};

// Lines of memory that will be read next, a few a step.
struct Ahead {
  const char *at = nullptr, *end = nullptr;
  int64_t bytes = 128;                                    // a step
  void step() {
    for (const char* to = std::min(at + bytes, end); at < to; at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

template <bool two_rows, bool two_groups, class End>
void block(const uint16_t* x, int64_t stride, const uint16_t* first, const uint16_t* second, int64_t tiles, Pending<End>& pending, Ahead ahead[2]) {
  _tile_zero(0);
  if (two_groups) _tile_zero(1);
  if (two_rows) _tile_zero(2);
  if (two_rows && two_groups) _tile_zero(3);
  const uint16_t* lower = x + kGroupRows * stride;
  for (int64_t t = 0; t < tiles; ++t) {
    _tile_loadd(4, x + t * kTileInputs, stride * 2);
    _tile_loadd(6, first + t * kTileNumbers, 64);
    if (two_groups) _tile_loadd(7, second + t * kTileNumbers, 64);
    if (two_rows) _tile_loadd(5, lower + t * kTileInputs, stride * 2);
    _tile_dpbf16ps(0, 4, 6);
    if (two_groups) _tile_dpbf16ps(1, 4, 7);
    if (two_rows) _tile_dpbf16ps(2, 5, 6);
    if (two_rows && two_groups) _tile_dpbf16ps(3, 5, 7);
    ahead[0].step();
    ahead[1].step();
    pending.step();
  }
  pending.flush();
  constexpr int64_t width = 2 * kGroupRows;
  _tile_stored(0, pending.sum, width * 4);
  if (two_groups) _tile_stored(1, pending.sum + kGroupRows, width * 4);
  if (two_rows) _tile_stored(2, pending.sum + kGroupRows * width, width * 4);
  if (two_rows && two_groups) _tile_stored(3, pending.sum + kGroupRows * width + kGroupRows, width * 4);
}

// int8 to bf16, which holds every such integer: both bytes of the magnitude's out of a table, then the sign. The table of a register ends at
// 63; from there on the bytes are 0x42 and twice the magnitude.
struct Widening {
  __m512i low, high;
  Widening() {
    alignas(64) uint8_t bytes[2][64];
    for (int v = 0; v < 64; ++v) {
      const uint16_t h = to_bf16(static_cast<float>(v));
      bytes[0][v] = static_cast<uint8_t>(h), bytes[1][v] = static_cast<uint8_t>(h >> 8);
    }
    low = _mm512_load_si512(bytes[0]), high = _mm512_load_si512(bytes[1]);
  }
  // 64 bytes to two pairs of inputs for sixteen rows.
  void operator()(Pairs& a, Pairs& b, const int8_t* from) const {
    const __m512i q = _mm512_loadu_si512(from), magnitude = _mm512_abs_epi8(q), twice = _mm512_add_epi8(magnitude, magnitude);
    const __mmask64 small = ~_mm512_movepi8_mask(twice);
    const __m512i l = _mm512_mask_permutexvar_epi8(twice, small, magnitude, low);
    // h | (q & 0x80)
    const __m512i h = _mm512_ternarylogic_epi32(_mm512_mask_permutexvar_epi8(_mm512_set1_epi8(0x42), small, magnitude, high), q,
                                                _mm512_set1_epi8(-128), 0xf8);
    a = std::bit_cast<Pairs>(_mm512_unpacklo_epi8(l, h)), b = std::bit_cast<Pairs>(_mm512_unpackhi_epi8(l, h));
  }
};

void widen(uint16_t* out, const int8_t* from, int64_t count) {
  const Widening widening;
  for (int64_t i = 0; i < count; i += 64) {
    Pairs a, b;
    widening(a, b, from + i);
    std::memcpy(out + i, &a, sizeof a);
    std::memcpy(out + i + 32, &b, sizeof b);
  }
}

// A panel over a slab of rows of x, inputs from tile `t0` on.
template <class End>
void panel(Tensor x, int64_t from, int64_t to, int64_t t0, int64_t tiles, const uint16_t* first, const uint16_t* second, int64_t column,
           Pending<End>& pending, Ahead ahead[2]) {
  for (int64_t r = from; r < to; r += kBlockRows) {
    const int64_t rows = std::min(kBlockRows, to - r);
    const uint16_t* at = x.row<uint16_t>(r) + t0 * kTileInputs;
    if (rows < kBlockRows) configure_tiles(static_cast<int>(rows));
    if (rows > kGroupRows)
      second ? block<true, true>(at, x.stride, first, second, tiles, pending, ahead) : block<true, false>(at, x.stride, first, second, tiles, pending, ahead);
    else
      second ? block<false, true>(at, x.stride, first, second, tiles, pending, ahead) : block<false, false>(at, x.stride, first, second, tiles, pending, ahead);
    pending.row = 0, pending.rows = rows, pending.first_row = r, pending.column = column;
    if (rows < kBlockRows) configure_tiles(kBlockRows);
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

// `panels` panels; panel p has the groups p*step and p*step + distance. ends(k0) is what happens to the sums of the inputs from k0 on.
template <class Ends>
void run(Tensor x, const Matrix& w, int64_t panels, int64_t step, int64_t distance, bool in_parts, void* scratch, Ends&& ends) {
  const int64_t all = (w.k + kTileInputs - 1) / kTileInputs, groups = (w.n + kGroupRows - 1) / kGroupRows;
  const int64_t parts = in_parts ? (all + kMostTiles - 1) / kMostTiles : 1, part = (all + parts - 1) / parts;
  const int64_t slab = std::max(second_cache() * 3 / 8 / (part * kTileInputs * 2), 2 * kBlockRows), slabs = std::max<int64_t>(1, (x.rows + slab / 2) / slab);
  const int64_t even = (x.rows + slabs - 1) / slabs, rows = (even + kBlockRows - 1) / kBlockRows * kBlockRows;
  const int64_t threads = team_size(), chunks = std::min(panels, threads * (parts > 1 ? 1 : 4));
  const int64_t size = size_of(w.dtype);
  const bool narrow = w.dtype == Dtype::i8;
  parallel_each(slabs * chunks, [&](int64_t work) {
    configure_tiles(kBlockRows);
    uint16_t* wide = reinterpret_cast<uint16_t*>(static_cast<char*>(scratch) + team_member() * (2 * all * kTileNumbers * 2));
    const int64_t from = work / chunks * rows, to = std::min(x.rows, from + rows), chunk = work % chunks;
    const int64_t begin = panels * chunk / chunks, end = panels * (chunk + 1) / chunks;
    for (int64_t t0 = 0; t0 < all && from < to; t0 += part) {
      const int64_t tiles = std::min(part, all - t0);
      const auto finish = ends(t0 == 0);
      Pending pending(finish);
      for (int64_t p = begin; p < end; ++p) {
        auto group = [&](int64_t g) -> const char* {
          return g < groups ? static_cast<const char*>(w.data) + (g * all + t0) * kTileNumbers * size : nullptr;
        };
        const char *first = group(p * step), *second = group(p * step + distance);
        Ahead ahead[2];
        if (p + 1 < end) {
          const char* next[2] = {group((p + 1) * step), group((p + 1) * step + distance)};
          for (int i = 0; i < 2; ++i)
            if (next[i]) {
              ahead[i].at = next[i], ahead[i].end = next[i] + tiles * kTileNumbers * size;
              if (to - from <= kBlockRows) ahead[i].bytes = kTileNumbers * size;
            }
        }
        const uint16_t *b0 = reinterpret_cast<const uint16_t*>(first), *b1 = reinterpret_cast<const uint16_t*>(second);
        if (narrow) {
          widen(wide, reinterpret_cast<const int8_t*>(first), tiles * kTileNumbers);
          if (second) widen(wide + tiles * kTileNumbers, reinterpret_cast<const int8_t*>(second), tiles * kTileNumbers);
          written();
          b0 = wide, b1 = second ? wide + tiles * kTileNumbers : nullptr;
        }
        panel(x, from, to, t0, tiles, b0, b1, p * step * kGroupRows, pending, ahead);
      }
      pending.flush();
    }
    _tile_release();
    _mm_sfence();                                         // after what was written past the caches
  });
}

int64_t scratch_bytes(int64_t max_inputs, int threads) { return threads * 2 * (max_inputs + kTileInputs) / kTileInputs * kTileNumbers * 2; }

void product(Tensor out, Tensor x, const Matrix& w, const Epilogue& end, void* scratch) {
  const int64_t panels = (w.n + 2 * kGroupRows - 1) / (2 * kGroupRows);
  if (end.add) {
    // The output holds the sums of the parts; the bias comes with the first.
    run(x, w, panels, 2, 1, true, scratch, [&](bool first) { return Add{out, w.scale, first ? end.bias : nullptr, end.layer_scale}; });
    return;
  }
  // An output that would not stay in the second cache goes past it: no line is fetched only to be overwritten, which the fetching of weights
  // and rows would wait for.
  const bool lines = out.cols % (2 * kGroupRows) == 0 && (reinterpret_cast<uintptr_t>(out.data) | static_cast<uintptr_t>(out.stride * 2)) % 64 == 0;
  const bool past = lines && out.rows * out.cols * 2 > second_cache();
  with_act(end.act, [&](auto act) {
    if (out.dtype == Dtype::f32)
      run(x, w, panels, 2, 1, false, scratch, [&](bool) { return Store<float, decltype(act)::value>{out, w.scale, end.bias, false}; });
    else
      run(x, w, panels, 2, 1, false, scratch, [&](bool) { return Store<uint16_t, decltype(act)::value>{out, w.scale, end.bias, past}; });
  });
}

void gate(Tensor out, Tensor x, const Matrix& w, Act act, void* scratch) {
  const int64_t groups = out.cols / kGroupRows;
  with_act(act, [&](auto a) {
    run(x, w, groups, 1, groups, false, scratch, [&](bool) { return Gate<uint16_t, decltype(a)::value>{out, w.scale}; });
  });
}

// ---- few rows ------------------------------------------------------------------------------------------------------------------------

// Two pairs of inputs for sixteen rows. bf16 is used as fast as memory gives it: what is fetched far ahead (kAhead, bytes) only takes the
// place of what is needed now, and two streams, of a group each, come faster than one. int8 leaves time in which the second cache is filled.
struct Two {
  static constexpr int64_t kAhead = 1024, kStreams = 2;
  void operator()(Pairs& a, Pairs& b, const uint16_t* from) const { a = load_pairs(from), b = load_pairs(from + 32); }
};
struct WideningTwo : Widening {
  static constexpr int64_t kAhead = 4096, kStreams = 1;
};

// Outputs of `groups` groups, `length` numbers apart, for `count` rows of x.
template <int count, int groups, class W, class Read>
void dot(float* out, int64_t stride, int64_t outputs, const W* w, int64_t length, const uint16_t* x, int64_t x_stride, int64_t k, const Read& read) {
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
      _mm_prefetch(reinterpret_cast<const char*>(at) + Read::kAhead, _MM_HINT_T1);
      if (sizeof(W) == 2) _mm_prefetch(reinterpret_cast<const char*>(at) + Read::kAhead + 64, _MM_HINT_T1);
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

template <class Read, class W>
void rows_of(float* out, int64_t stride, Tensor x, const Matrix& w, const W* data) {
  const Read read;
  const int64_t groups = (w.n + kGroupRows - 1) / kGroupRows, length = packed_numbers(kGroupRows, w.k);
  parallel_parts((groups + Read::kStreams - 1) / Read::kStreams, 1, [&](int64_t i) {
    const int64_t g = i * Read::kStreams, outputs = w.n - g * kGroupRows;
    auto rows = [&]<int count>(int64_t t) {
      float* to = out + t * stride + g * kGroupRows;
      if (g + Read::kStreams <= groups)
        dot<count, Read::kStreams>(to, stride, outputs, data + g * length, length, x.row<uint16_t>(t), x.stride, w.k, read);
      else
        dot<count, 1>(to, stride, outputs, data + g * length, length, x.row<uint16_t>(t), x.stride, w.k, read);
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
    rows_of<WideningTwo>(out, stride, x, w, static_cast<const int8_t*>(w.data));
  else
    rows_of<Two>(out, stride, x, w, static_cast<const uint16_t*>(w.data));
}

}  // namespace

extern const PackedKernels packed_table = {scratch_bytes, product, gate, matvec};

}  // namespace jvlm::cpu::JVLM_ISA
