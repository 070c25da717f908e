#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ops/cpu/amx.h"

namespace jvlm::emu {
namespace {

struct Tile {
  int rows = 0, bytes = 0;                                // of a row
  alignas(64) char row[16][64];
};

struct Tiles {
  bool configured = false;
  Tile tile[8];
};
thread_local Tiles tiles;

[[noreturn]] void fault(const char* instruction, int tile, const char* what) {
  std::fprintf(stderr, "emulated AMX: %s of tile %d: %s\n", instruction, tile, what);
  std::abort();
}

Tile& used(const char* instruction, int tile) {
  if (!tiles.configured) fault(instruction, tile, "this thread has configured none");
  if (tile < 0 || tile > 7 || !tiles.tile[tile].rows) fault(instruction, tile, "it is not configured");
  return tiles.tile[tile];
}

// Denormals are zero, as inputs and as results.
__m512 flush(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __mmask16 denormal = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, denormal, bits, _mm512_set1_epi32(static_cast<int>(0x80000000))));
}
// The first and the second of sixteen pairs of bf16.
__m512 first(__m512i pairs) { return flush(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16))); }
__m512 second(__m512i pairs) { return flush(_mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000)))); }

}  // namespace

void tile_config(const void* config) {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } c;
  static_assert(sizeof c == 64);
  std::memcpy(&c, config, sizeof c);
  if (c.palette != 1 || c.start) fault("ldtilecfg", 0, "palette is not 1 or the start row not 0");
  for (uint8_t byte : c.reserved)
    if (byte) fault("ldtilecfg", 0, "a reserved byte is not 0");
  for (int t = 0; t < 16; ++t) {
    if (c.rows[t] > (t < 8 ? 16 : 0) || c.bytes[t] > (t < 8 ? 64 : 0)) fault("ldtilecfg", t, "too many rows or bytes");
    if (!c.rows[t] != !c.bytes[t]) fault("ldtilecfg", t, "rows without bytes or bytes without rows");
  }
  tiles.configured = true;
  for (int t = 0; t < 8; ++t) {
    tiles.tile[t].rows = c.rows[t], tiles.tile[t].bytes = c.bytes[t];
    // The processor's are zero now; NaN shows what is used without having been loaded or zeroed.
    std::memset(tiles.tile[t].row, 0xff, sizeof(Tile::row));
  }
}

void tile_release() { tiles.configured = false; }

void tile_zero(int tile) { std::memset(used("tilezero", tile).row, 0, sizeof(Tile::row)); }

void tile_load(int tile, const void* base, int64_t stride) {
  Tile& t = used("tileloadd", tile);
  for (int r = 0; r < t.rows; ++r) std::memcpy(t.row[r], static_cast<const char*>(base) + r * stride, static_cast<size_t>(t.bytes));
}

void tile_store(int tile, void* base, int64_t stride) {
  const Tile& t = used("tilestored", tile);
  for (int r = 0; r < t.rows; ++r) std::memcpy(static_cast<char*>(base) + r * stride, t.row[r], static_cast<size_t>(t.bytes));
}

// In the order of Intel's manual: products of the pairs' first and second numbers are summed apart over k by FMA, then added, then added to
// what the tile held. One difference: a result rounded up to the smallest normal number is kept, where the processor may flush it.
void tile_dpbf16ps(int sum, int left, int right) {
  Tile &c = used("tdpbf16ps", sum), &a = used("tdpbf16ps", left), &b = used("tdpbf16ps", right);
  if (sum == left || sum == right || left == right) fault("tdpbf16ps", sum, "it is two of the three");
  if (a.bytes % 4 || b.bytes % 4 || a.bytes / 4 != b.rows || c.rows != a.rows || c.bytes != b.bytes)
    fault("tdpbf16ps", sum, "the shapes do not match");
  for (int m = 0; m < c.rows; ++m) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int k = 0; k < b.rows; ++k) {
      int pair;
      std::memcpy(&pair, a.row[m] + 4 * k, sizeof pair);
      const __m512i pairs = _mm512_set1_epi32(pair), with = _mm512_load_si512(b.row[k]);
      even = flush(_mm512_fmadd_ps(first(pairs), first(with), even));
      odd = flush(_mm512_fmadd_ps(second(pairs), second(with), odd));
    }
    _mm512_store_ps(c.row[m], flush(_mm512_add_ps(flush(_mm512_load_ps(c.row[m])), flush(_mm512_add_ps(even, odd)))));
  }
}

}  // namespace jvlm::emu
