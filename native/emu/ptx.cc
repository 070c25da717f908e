// What a warp computes together.
#include "ops/cuda/ptx/sm80.cuh"

#include "base/bf16.h"

namespace jvlm::ptx {
namespace {

bool in(uint32_t lanes, int l) { return lanes >> l & 1; }

struct Shuffle {
  uint32_t value;
  int from;
  uint32_t result;
  const char* name;
  Where where;
};

void run_shuffle(void* const* operands, uint32_t lanes) {
  for (int l = 0; l < 32; ++l) {
    if (!in(lanes, l)) continue;
    auto& s = *static_cast<Shuffle*>(operands[l]);
    if (s.from < 0 || s.from > 31 || !in(lanes, s.from))
      emu::fail(std::string(s.name) + ": lane " + std::to_string(l) + " reads lane " + std::to_string(s.from) + ", which takes no part", s.where);
    s.result = static_cast<Shuffle*>(operands[s.from])->value;
  }
}

struct Vote {
  bool holds;
  uint32_t result;
};

void run_vote(void* const* operands, uint32_t lanes) {
  uint32_t holds = 0;
  for (int l = 0; l < 32; ++l)
    if (in(lanes, l) && static_cast<Vote*>(operands[l])->holds) holds |= 1u << l;
  for (int l = 0; l < 32; ++l)
    if (in(lanes, l)) static_cast<Vote*>(operands[l])->result = holds;
}

// Operations are told apart by name: by the pointer to it, one a kind.
emu::Operation named(const char* name, void (*run)(void* const*, uint32_t)) { return {name, false, run}; }

struct Load {
  const char* row;
  uint32_t* registers;
};

template <int count, bool transposed>
void run_load(void* const* operands, uint32_t) {
  const char* rows[32];
  for (int l = 0; l < 32; ++l) rows[l] = static_cast<Load*>(operands[l])->row;
  uint64_t conflicts = 0;
  for (int m = 0; m < count; ++m) {
    uint32_t seen = 0;                                     // of the eight groups of four banks, those that a row has taken
    for (int r = 0; r < 8; ++r) {
      const uint32_t bit = 1u << (reinterpret_cast<uintptr_t>(rows[8 * m + r]) >> 4 & 7);
      conflicts += (seen & bit) != 0;
      seen |= bit;
    }
    for (int l = 0; l < 32; ++l) {
      uint16_t pair[2];
      for (int j = 0; j < 2; ++j) {
        const int r = transposed ? 2 * (l % 4) + j : l / 4, c = transposed ? l / 4 : 2 * (l % 4) + j;
        pair[j] = reinterpret_cast<const uint16_t*>(rows[8 * m + r])[c];
      }
      static_cast<Load*>(operands[l])->registers[m] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
  emu::count_matrix_loads(count, conflicts);
}

template <class D>
struct Product {
  D* d;
  const uint32_t* a;
  const uint32_t* b;
};

typedef float Row __attribute__((vector_size(32)));        // the eight columns of b and d

// `per` elements in a register: 2 of 16 bits or 4 of 8. Products are summed in float32, k ascending; of int8 that is exact.
template <class D, int per, float (*element)(uint32_t, int)>
void run_product(void* const* operands, uint32_t) {
  constexpr int K = 8 * per;
  float a[16][K];
  Row b[K], d[16];
  for (int l = 0; l < 32; ++l) {
    const auto& o = *static_cast<Product<D>*>(operands[l]);
    const int g = l / 4, t = l % 4;
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < per; ++i) {
        const int k = per * t + i + 4 * per * half;
        a[g][k] = element(o.a[2 * half], i);
        a[g + 8][k] = element(o.a[2 * half + 1], i);
        b[k][g] = element(o.b[half], i);
      }
    for (int i = 0; i < 4; ++i) d[g + i / 2 * 8][2 * t + i % 2] = std::is_same_v<D, float> ? static_cast<float>(o.d[i]) : 0.f;
  }
  for (int i = 0; i < 16; i += 4) {                        // four sums at once: one waits for its own last addition
    Row sum[4] = {d[i], d[i + 1], d[i + 2], d[i + 3]};
    for (int k = 0; k < K; ++k)
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) sum[r] += a[i + r][k] * b[k];
    for (int r = 0; r < 4; ++r) d[i + r] = sum[r];
  }
  for (int l = 0; l < 32; ++l) {
    const auto& o = *static_cast<Product<D>*>(operands[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 4; ++i) {
      const float sum = d[g + i / 2 * 8][2 * t + i % 2];
      if constexpr (std::is_same_v<D, float>)
        o.d[i] = sum;
      else
        o.d[i] = static_cast<D>(static_cast<uint32_t>(o.d[i]) + static_cast<uint32_t>(static_cast<D>(sum)));   // wraps
    }
  }
}

float bf16_element(uint32_t r, int i) { return ptx::from_bf16(static_cast<uint16_t>(r >> 16 * i)); }
float f16_element(uint32_t r, int i) { return ptx::from_f16(static_cast<uint16_t>(r >> 16 * i)); }
float s8_element(uint32_t r, int i) { return static_cast<float>(static_cast<int8_t>(r >> 8 * i)); }

template <class D>
void product(const emu::Operation& operation, D (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  Product<D> p = {d, a, b};
  emu::collective(operation, kAllLanes, &p, where);
}

}  // namespace

uint32_t shuffle_bits(const char* name, uint32_t v, int from, uint32_t mask, Where where) {
  Shuffle s = {v, from, 0, name, where};
  emu::collective(named(name, run_shuffle), mask, &s, where);
  return s.result;
}

uint32_t vote(const char* name, bool p, uint32_t mask, Where where) {
  Vote v = {p, 0};
  emu::collective(named(name, run_vote), mask, &v, where);
  return v.result;
}

void load_matrices(uint32_t* r, int count, bool transposed, const void* row, Where where) {
  static const emu::Operation operations[] = {{"ldmatrix_x2", true, run_load<2, false>},
                                              {"ldmatrix_x2_trans", true, run_load<2, true>},
                                              {"ldmatrix_x4", true, run_load<4, false>},
                                              {"ldmatrix_x4_trans", true, run_load<4, true>}};
  const auto& operation = operations[(count == 4) * 2 + transposed];
  emu::check_shared(row, 16, 16, operation.name, where);
  if (emu::place->lane < 8 * count) emu::reads(row, 16);
  Load load = {static_cast<const char*>(row), r};
  emu::collective(operation, kAllLanes, &load, where);
}

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  static const emu::Operation operation = {"mma_bf16", true, run_product<float, 2, bf16_element>};
  product(operation, d, a, b, where);
}
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  static const emu::Operation operation = {"mma_f16", true, run_product<float, 2, f16_element>};
  product(operation, d, a, b, where);
}
void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  static const emu::Operation operation = {"mma_s8", true, run_product<int32_t, 4, s8_element>};
  product(operation, d, a, b, where);
}

float from_f16(uint16_t h) { return jvlm::from_f16(h); }

// Scaled so that the hardware's own rounding of float32 drops the right bits: the spacing of the result as a power of two.
uint16_t to_f16(float x) {
  if (std::isnan(x)) return 0x7fff;
  const auto sign = static_cast<uint16_t>(float_bits(x) >> 16 & 0x8000);
  const float m = std::fabs(x);
  if (m >= 65520.f) return sign | 0x7c00;
  if (m == 0) return sign;
  int exponent;
  std::frexp(m, &exponent);                                // m < 2^exponent
  const int spacing = std::max(exponent - 11, -24);
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(m, -spacing)));
  // Units are 1024 ... 2048 for normal numbers: one too many carries into the exponent by itself.
  return static_cast<uint16_t>(sign | (spacing == -24 ? units : (static_cast<uint32_t>(spacing + 24) << 10) + units));
}

}  // namespace jvlm::ptx
