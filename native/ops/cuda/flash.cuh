// What the three attention kernels share: softmax attention of one warp's queries over keys that pass by in blocks, in one sweep (scores never
// reach memory), on tensor cores; and the copies that bring rows of a head into shared memory.
//
// Rows lie in shared memory as kPitch elements: the head size filled up with zeros to a multiple of 16, plus 8, so that rows are an odd number of
// 16-byte pieces apart and the eight rows of a matrix that ldmatrix reads lie in different banks.
//
// What a row's sums are depends on its own scores alone, key block by key block from a multiple of the block's size: not on which other rows share
// its warp, its launch or its batch.
#pragma once
#include <string>

#include "base/error.h"
#include "ops/cuda/kernels.h"
#include "ops/cuda/ptx/sm80.cuh"

namespace jvlm::cuda {

// HeadDim: a multiple of 8, at least the head size. Exact: it is the head size.
template <int HeadDim>
struct HeadRow {
  static constexpr int kPadded = (HeadDim + 15) / 16 * 16, kPitch = kPadded + 8, kPieces = kPadded / 8;
};

// 16 bytes into a row, of which the first `columns` elements exist (any number; the rest is zero). Rows of a head size that is no multiple of 8
// are aligned to pairs only. `valid`: some aligned global address.
template <bool Exact>
JVLM_DEVICE void copy_piece(uint16_t* to, const uint16_t* from, const uint16_t* valid, int columns) {
  if (Exact || (columns >= 8 && reinterpret_cast<uintptr_t>(from) % 16 == 0)) {
    ptx::cp_async16(to, columns > 0 ? from : valid, columns > 0 ? 16 : 0);
  } else {
    for (int i = 0; i < 8; i += 2) ptx::cp_async4(to + i, columns > i ? from + i : valid, columns > i ? 4 : 0);
  }
}

// A warp copies Rows rows of `size` columns; from(row) is where a row starts in global memory, null for a row of zeros.
template <int HeadDim, bool Exact, int Rows, class From>
JVLM_DEVICE void copy_rows(uint16_t* tile, int size, const uint16_t* valid, From from) {
  using Row = HeadRow<HeadDim>;
#pragma unroll(Exact ? Rows * Row::kPieces / 32 : 1)
  for (int i = ptx::lane(); i < Rows * Row::kPieces; i += 32) {
    const int row = i / Row::kPieces, column = i % Row::kPieces * 8;
    const uint16_t* start = from(row);
    copy_piece<Exact>(tile + row * Row::kPitch + column, start ? start + column : valid, valid, start ? size - column : 0);
  }
}

// A warp writes Rows rows of `size` columns to global memory; to(row) is where a row starts there, null for none.
template <int HeadDim, bool Exact, int Rows, class To>
JVLM_DEVICE void store_rows(const uint16_t* tile, int size, To to) {
  using Row = HeadRow<HeadDim>;
  for (int i = ptx::lane(); i < Rows * Row::kPieces; i += 32) {
    const int row = i / Row::kPieces, column = i % Row::kPieces * 8;
    uint16_t* start = to(row);
    if (!start || column >= size) continue;
    const uint16_t* piece = tile + row * Row::kPitch + column;
    if (Exact)
      *reinterpret_cast<uint4*>(start + column) = *reinterpret_cast<const uint4*>(piece);
    else
      for (int c = 0; c < 8 && column + c < size; ++c) start[column + c] = piece[c];
  }
}

// The shared memory of a block of four warps with Rows queries each, in elements: the queries, then two blocks of keys and two of values, one of
// which is read while the other one arrives. A block is 64 keys, 32 at the largest heads, whose sums leave no registers for more scores: 70 KB at
// most, which every card has (99 KB) and sm_80 and sm_90 twice.
template <int HeadDim, int Rows>
struct FlashTile {
  static constexpr int kWarps = 4, kQueries = kWarps * Rows, kKeys = HeadDim > 80 ? 32 : 64, kStages = 2, kShare = kKeys / kWarps;
  static constexpr int kBlock = kKeys * HeadRow<HeadDim>::kPitch;
  static constexpr int kQ = 0, kK = kQueries * HeadRow<HeadDim>::kPitch, kV = kK + kStages * kBlock, kBytes = 2 * (kV + kStages * kBlock);
  // 32 rows of larger heads leave no registers for queries.
  static constexpr bool kHoldQueries = HeadDim <= 64 || Rows == 16;
};

// Half-open range of a block's keys that a row sees.
struct Span {
  int from, to;
};

// Rows (16 or 32) queries of a warp against blocks of Keys keys. HoldQueries: their fragments stay in registers; else they are read again for each
// block, which at 32 rows is one matrix load in three more.
template <int HeadDim, int Rows, int Keys, bool HoldQueries>
struct Flash {
  static constexpr int kPitch = HeadRow<HeadDim>::kPitch, kSteps = HeadRow<HeadDim>::kPadded / 16, kTiles = Rows / 16, kColumns = HeadDim / 8;
  static constexpr float kNone = -1e30f;                    // below every score; finite, so that differences are
  // A row's greatest score is raised only when it is exceeded by 2^kSlack: until then weights of up to that are as exact, and the outputs
  // need not be scaled again.
  static constexpr float kSlack = 8;

  float o[kTiles][kColumns][4];                             // sums of weight * value: mma's layout
  float most[kTiles][2], sum[kTiles][2];                    // of rows lane / 4 and + 8 of a tile; sum is this lane's part
  uint32_t held[HoldQueries ? kSteps : 1][HoldQueries ? kTiles : 1][4];

  JVLM_DEVICE void clear() {
    for (int m = 0; m < kTiles; ++m) {
      for (int c = 0; c < kColumns; ++c)
        for (int e = 0; e < 4; ++e) o[m][c][e] = 0;
      for (int h = 0; h < 2; ++h) most[m][h] = kNone, sum[m][h] = 0;
    }
  }

  static JVLM_DEVICE void load_queries(uint32_t (&a)[kTiles][4], const uint16_t* queries, int step) {
    const int lane = ptx::lane();
#pragma unroll
    for (int m = 0; m < kTiles; ++m) ptx::ldmatrix_x4(a[m], queries + (m * 16 + lane % 16) * kPitch + step * 16 + lane / 16 * 8);
  }
  JVLM_DEVICE void hold(const uint16_t* queries) {
    if constexpr (HoldQueries)
#pragma unroll
      for (int step = 0; step < kSteps; ++step) load_queries(held[step], queries, step);
  }

  static JVLM_DEVICE void multiply(float (&left)[4], float (&right)[4], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
    const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
    ptx::mma_bf16(left, a, first);
    ptx::mma_bf16(right, a, second);
  }

  // One block. scale: of scores, times log2(e). Masked: only the first `keys` keys of the block are looked at, in groups of 16, and of those each
  // row sees span(tile, half): rows lane / 4 + 8 * half of the tile.
  template <bool Masked, class Seen>
  JVLM_DEVICE void step(const uint16_t* queries, const uint16_t* k, const uint16_t* v, float scale, int keys, Seen span) {
    const int lane = ptx::lane();
    float s[kTiles][Keys / 8][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[kTiles][4];
      if constexpr (!HoldQueries) load_queries(a, queries, step);
#pragma unroll
      for (int n = 0; n < Keys / 16; ++n) {
        if (Masked && n * 16 >= keys) continue;
        uint32_t b[4];
        ptx::ldmatrix_x4(b, k + (n * 16 + lane / 16 * 8 + lane % 8) * kPitch + step * 16 + lane / 8 % 2 * 8);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          if constexpr (HoldQueries)
            multiply(s[m][2 * n], s[m][2 * n + 1], held[step][m], b);
          else
            multiply(s[m][2 * n], s[m][2 * n + 1], a[m], b);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      if constexpr (Masked) mask(s[m], span(m, 0), span(m, 1));
      weigh(m, s[m], scale);
    }
#pragma unroll
    for (int n = 0; n < Keys / 16; ++n) {
      if (Masked && n * 16 >= keys) continue;
      uint32_t weight[kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) weight[m][i] = ptx::pack_bf16(s[m][2 * n + i / 2][i % 2 * 2], s[m][2 * n + i / 2][i % 2 * 2 + 1]);
      const uint16_t* row = v + (n * 16 + lane % 16) * kPitch;
#pragma unroll
      for (int c = 0; c + 1 < kColumns; c += 2) {
        uint32_t b[4];
        ptx::ldmatrix_x4_trans(b, row + c * 8 + lane / 16 * 8);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) multiply(o[m][c], o[m][c + 1], weight[m], b);
      }
      if constexpr (kColumns % 2) {
        uint32_t b[2];
        ptx::ldmatrix_x2_trans(b, row + (kColumns - 1) * 8);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) ptx::mma_bf16(o[m][kColumns - 1], weight[m], b);
      }
    }
  }

  static JVLM_DEVICE void mask(float (&s)[Keys / 8][4], Span low, Span high) {
#pragma unroll
    for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = n * 8 + ptx::lane() % 4 * 2 + e % 2;
        const Span seen = e < 2 ? low : high;
        if (key < seen.from || key >= seen.to) s[n][e] = -INFINITY;
      }
  }

  // Scores become weights: 2^((score - most) * scale).
  JVLM_DEVICE void weigh(int m, float (&s)[Keys / 8][4], float scale) {
    float top[2] = {most[m][0], most[m][1]};
#pragma unroll
    for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) top[e / 2] = fmaxf(top[e / 2], s[n][e]);
    if (ptx::vote_any((top[0] - most[m][0]) * scale > kSlack || (top[1] - most[m][1]) * scale > kSlack)) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        top[h] = fmaxf(top[h], ptx::shuffle_xor(top[h], 1));
        top[h] = fmaxf(top[h], ptx::shuffle_xor(top[h], 2));
        float factor = 1;
        if ((top[h] - most[m][h]) * scale > kSlack) {
          factor = ptx::exp2_approx((most[m][h] - top[h]) * scale);
          most[m][h] = top[h];
        }
        sum[m][h] *= factor;
#pragma unroll
        for (int c = 0; c < kColumns; ++c) o[m][c][2 * h] *= factor, o[m][c][2 * h + 1] *= factor;
      }
    }
    const float base[2] = {most[m][0] * scale, most[m][1] * scale};
#pragma unroll
    for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[n][e] = ptx::exp2_approx(fmaf(s[n][e], scale, -base[e / 2]));
        sum[m][e / 2] += s[n][e];
      }
  }

  // Adds up the four lanes of a row.
  JVLM_DEVICE void join_sums() {
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum[m][h] += ptx::shuffle_xor(sum[m][h], 1);
        sum[m][h] += ptx::shuffle_xor(sum[m][h], 2);
      }
  }

  // The warp's outputs into rows of shared memory, as bf16: where its queries were, if it likes. Other lanes may read them after a syncwarp.
  JVLM_DEVICE void finish(uint16_t* rows) {
    const int lane = ptx::lane();
    join_sums();
    ptx::syncwarp();                                        // all lanes have read the queries
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float factor = 1 / sum[m][h];
        uint16_t* row = rows + (m * 16 + h * 8 + lane / 4) * kPitch + lane % 4 * 2;
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          *reinterpret_cast<uint32_t*>(row + c * 8) = ptx::pack_bf16(o[m][c][2 * h] * factor, o[m][c][2 * h + 1] * factor);
      }
  }
};

// ---- the paged cache ------------------------------------------------------------------------------------------------------------------------
struct Cache {
  uint16_t *k, *v;
  int kv_heads, page_tokens;
};

// One sequence's keys of one head, eight at a time: page_tokens is a multiple of 8, so that eight lie in one page, one behind the other.
struct Pages {
  Cache cache;
  const int32_t* table;                                     // the sequence's pages
  int kv_head, size;

  JVLM_DEVICE int32_t page(int position) const { return table[position / cache.page_tokens]; }
  // Where in k and v the slot of `position` starts, which lies in `page`.
  JVLM_DEVICE int64_t slot(int32_t page, int position) const {
    return ((static_cast<int64_t>(page) * cache.kv_heads + kv_head) * cache.page_tokens + position % cache.page_tokens) * size;
  }
};

// A warp's Keys (8 or 16) keys and values from `position` (a multiple of 8) on; nothing from `end` on is read. The pages are looked up ahead, so
// that the addresses of a copy need not wait for them.
template <int HeadDim, bool Exact, int Keys>
struct PagedRows {
  int32_t page[Keys / 8];

  JVLM_DEVICE void look_up(const Pages& pages, int position, int end) {
    for (int i = 0; i < Keys / 8; ++i) page[i] = position + 8 * i < end ? pages.page(position + 8 * i) : 0;
  }
  JVLM_DEVICE void copy(uint16_t* k, uint16_t* v, const Pages& pages, int position, int end) const {
    const int size = Exact ? HeadDim : pages.size;
    const int64_t first = pages.slot(page[0], position), second = Keys == 8 ? first : pages.slot(page[Keys / 8 - 1], position + 8);
    auto from = [&](const uint16_t* base) {
      return [=](int row) -> const uint16_t* { return position + row < end ? base + (row < 8 ? first : second) + row % 8 * size : nullptr; };
    };
    copy_rows<HeadDim, Exact, Keys>(k, size, pages.cache.k, from(pages.cache.k));
    copy_rows<HeadDim, Exact, Keys>(v, size, pages.cache.v, from(pages.cache.v));
  }
};

// ---- host -----------------------------------------------------------------------------------------------------------------------------------
constexpr float kLog2E = 1.4426950408889634f;

template <int Value>
struct Constant {
  static constexpr int value = Value;
};

// Queries of a warp for `rows` queries in all: 32 need fewer loads, 16 make more blocks, where there would be less than two for each multiprocessor.
template <class F>
void for_rows(const Queue& queue, int64_t rows, F f) {
  if (!queue.deterministic && rows >= static_cast<int64_t>(2) * 128 * queue.multiprocessors)
    f(Constant<32>());
  else
    f(Constant<16>());
}

// f(Constant<HeadDim>, Constant<Exact>): the head sizes of the models are compiled for themselves, others (tests') ride in the next larger form.
template <class F>
void for_head_size(int size, F f) {
  switch (size) {
    case 64: return f(Constant<64>(), Constant<true>());
    case 72: return f(Constant<72>(), Constant<true>());
    case 80: return f(Constant<80>(), Constant<true>());
    case 96: return f(Constant<96>(), Constant<true>());
    case 128: return f(Constant<128>(), Constant<true>());
  }
  if (size <= 0 || size > 128 || size % 2)
    throw model_unsupported("a head size of " + std::to_string(size) + " is not served on this device; even sizes up to 128 are");
  if (size <= 32) return f(Constant<32>(), Constant<false>());
  if (size <= 64) return f(Constant<64>(), Constant<false>());
  return f(Constant<128>(), Constant<false>());
}

}  // namespace jvlm::cuda
