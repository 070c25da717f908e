#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/os.h"
#include "ops/cpu/attention.h"
#include "ops/cpu/gemm.h"
#include "ops/cpu/matvec.h"
#include "ops/cpu/packed.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/team.h"

namespace jvlm {
namespace {

using namespace cpu;

// Products of at most so many rows go row by row of W: with plain weights, with packed ones, with tiles, whose blocks are worth while sooner.
constexpr int64_t kMatvecRows = 16, kPairRows = 4, kTileRows = 2;
// Rows of a weight matrix that are widened at a time: the panel and its sums stay in the caches.
constexpr int64_t kPanelRows = 512;

template <class T>
const T& pick(Isa isa, const T& portable_table, const T& avx2_table, const T& avx512_table, const T& amx_table) {
  return isa == Isa::amx ? amx_table : isa == Isa::avx512 ? avx512_table : isa == Isa::avx2 ? avx2_table : portable_table;
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Which type multiplies bf16 matrices faster: on CPUs with AVX512-BF16 but without AMX it is float32 on some (Intel) and bf16 on others
// (AMD), by a factor of two either way. Measured once a process, by the loops that will serve. JVLM_CPU_PRODUCT=f32|bf16 decides instead (tests run both).
Dtype faster_product(Isa isa, int threads) {
  const char* asked = std::getenv("JVLM_CPU_PRODUCT");
  if (asked && std::string(asked) == "f32") return Dtype::f32;
  if (asked && std::string(asked) == "bf16") return Dtype::bf16;
  if (isa < Isa::avx512) return Dtype::f32;
  if (isa == Isa::amx) return Dtype::bf16;
  static Dtype faster;
  static std::once_flag once;
  std::call_once(once, [&] {
    // Many short rounds: whoever else computes on the machine must hit all of one type's to turn the choice, which then holds for the process.
    constexpr int64_t m = 128, n = 1024, k = 1024;
    const int64_t weights = packed_numbers(n, k) * 2, rows = m * k * 4, sums = m * n * 4;
    const int64_t bytes = weights + rows + sums + avx512::packed_table.scratch_bytes(k, threads);
    char* memory = static_cast<char*>(os::map_memory(bytes));
    Matrix w;
    w.data = memory, w.dtype = Dtype::bf16, w.n = n, w.k = k, w.packed = true;
    double best[2] = {1e9, 1e9};
    for (int round = 0; round < 16; ++round)
      for (Dtype t : {Dtype::f32, Dtype::bf16}) {
        const double start = seconds();
        avx512::packed_table.product({memory + weights + rows, Dtype::f32, m, n}, {memory + weights, t, m, k}, w, Epilogue(), memory + weights + rows + sums);
        best[t == Dtype::bf16] = std::min(best[t == Dtype::bf16], seconds() - start);
      }
    os::unmap_memory(memory, bytes);
    faster = best[1] < best[0] ? Dtype::bf16 : Dtype::f32;
  });
  return faster;
}

class CpuOps : public Ops {
 public:
  explicit CpuOps(Dtype act)
      : act_(act), isa_(best_isa()), threads_(os::cpu_count()), rows_(pick(isa_, portable::row_table, avx2::row_table, avx512::row_table, amx::row_table)),
        matvec_(pick(isa_, portable::matvec_table, avx2::matvec_table, avx512::matvec_table, amx::matvec_table)),
        attention_(pick(isa_, portable::attention_table, avx2::attention_table, avx512::attention_table, amx::attention_table)),
        gemm_(make_gemm(isa_)) {
    omp_set_num_threads(threads_);
    product_ = act == Dtype::f32 ? Dtype::f32 : faster_product(isa_, threads_);
    if (act == Dtype::bf16 && isa_ >= Isa::avx512) packed_ = tiles() ? &amx::packed_table : &avx512::packed_table;
  }

  ~CpuOps() override {
    for (auto& [memory, bytes] : blocks_) os::unmap_memory(memory, bytes);
  }

  // ---- memory -------------------------------------------------------------------------------------------------------------------
  void* allocate(int64_t bytes) override {
    bytes = std::max<int64_t>(bytes, 1);
    void* p = os::map_memory(bytes);
    blocks_.emplace_back(p, bytes);
    return p;
  }
  void upload(void* device, const void* host, int64_t bytes) override { std::memcpy(device, host, static_cast<size_t>(bytes)); }
  int64_t packed_bytes(Dtype dtype, int64_t n, int64_t k) const override {
    return packed_ && dtype != Dtype::f32 ? packed_numbers(n, k) * size_of(dtype) : 0;
  }
  void pack(const Matrix& w, int64_t first, int64_t rows, const void* host) override {
    // Numbers lie in the same places in every tile.
    int64_t offset[kGroupRows][kTileInputs];
    for (int64_t r = 0; r < kGroupRows; ++r)
      for (int64_t i = 0; i < kTileInputs; ++i) offset[r][i] = packed_index(w.dtype, r, i, w.k);
    auto place = [&]<class T>(T* to, const T* from) {
      const int64_t group0 = first / kGroupRows;
      parallel_parts((first + rows - 1) / kGroupRows + 1 - group0, 1, [&](int64_t g) {
        const int64_t group = group0 + g, begin = std::max(first, group * kGroupRows), end = std::min(first + rows, (group + 1) * kGroupRows);
        for (int64_t i = 0; i < w.k; i += kTileInputs)
          for (int64_t r = begin; r < end; ++r) {
            T* tile = to + packed_index(w.dtype, group * kGroupRows, i, w.k);
            const T* row = from + (r - first) * w.k + i;
            for (int64_t c = 0; c < std::min(kTileInputs, w.k - i); ++c) tile[offset[r % kGroupRows][c]] = row[c];
          }
      });
    };
    void* to = const_cast<void*>(w.data);
    if (w.dtype == Dtype::i8)
      place(static_cast<int8_t*>(to), static_cast<const int8_t*>(host));
    else
      place(static_cast<uint16_t*>(to), static_cast<const uint16_t*>(host));
  }
  void download(void* host, const void* device, int64_t bytes) override { std::memcpy(host, device, static_cast<size_t>(bytes)); }

  int64_t scratch_bytes(const Scratch& s) const override {
    const Sizes z = sizes(s);
    // oneDNN packs a block of a plain weight matrix into memory of its own, which this bounds.
    const int64_t onednn = s.max_inputs * 1024 * 4 + (8 << 20);
    return z.input + z.patches + z.panel + z.sum + z.attention + onednn;
  }

  void reserve(const Scratch& s) override {
    omp_set_num_threads(threads_);                        // of the engine's thread, for oneDNN
    const Sizes z = sizes(s);
    input_ = allocate(z.input);
    patches_ = allocate(z.patches);
    panel_ = static_cast<float*>(allocate(z.panel));
    sum_ = static_cast<float*>(allocate(z.sum));
    sum_numbers_ = z.sum / 4;
    attention_scratch_ = allocate(z.attention);
  }

  std::string description() const override {
#ifdef JVLM_ONEDNN
    const char* by = isa_ == Isa::portable ? "" : " by oneDNN";
#else
    const char* by = "";
#endif
    if (packed_) by = tiles() ? " on tiles" : "";
    return std::string(name(isa_)) + ", " + std::to_string(threads_) + (threads_ == 1 ? " thread" : " threads") + ", products in " +
           (product_ == Dtype::f32 ? "float32" : "bf16") + by;
  }

  // ---- vision -------------------------------------------------------------------------------------------------------------------
  void patch_embed(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const Matrix& w, const float* bias,
                   const float* class_token, const float* positions, const float mean[3], const float std[3]) override {
    Tensor x(patches_, act_, out.rows, w.k);
    rows_.patches(x, rgb, patches, patch, mean, std);
    auto position = [&](int64_t r) { return positions + patches[r].position * w.n; };
    for (int64_t r = 0; r < out.rows; ++r) std::memcpy(out.row<float>(r), position(r), static_cast<size_t>(w.n) * 4);
    Epilogue end;
    end.bias = bias;
    end.add = true;
    product(out, x, w, end);
    for (int64_t r = 0; r < out.rows; ++r)
      if (patches[r].below == 0)
        for (int64_t c = 0; c < w.n; ++c) out.row<float>(r)[c] = class_token[c] + position(r)[c];
  }

  void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads,
                 int32_t head_size, float scale) override {
    attention_.attention(out, q, k, v, queries, keys, heads, kv_heads, head_size, scale, product_, attention_scratch_);
  }

  void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& norm) override {
    rows_.pixel_shuffle_norm(out, x, tiles, grid, norm);
  }

  // ---- rows ---------------------------------------------------------------------------------------------------------------------
  void norm(Tensor out, Tensor x, const Norm& norm) override { rows_.norm(out, x, norm); }
  void norm_qk(Tensor qkv, const Norm& q, const Norm& k) override { rows_.norm_qk(qkv, q, k); }

  void gather(Tensor out, Tensor x, const int32_t* row) override {
    for (int64_t r = 0; r < out.rows; ++r) std::memcpy(out.row<float>(r), x.row<float>(row[r]), static_cast<size_t>(out.cols) * 4);
  }

  // ---- products -----------------------------------------------------------------------------------------------------------------
  void matmul(Tensor out, Tensor x, const Matrix& w, const float* bias, Act act) override {
    Epilogue end;
    end.bias = bias;
    end.act = act;
    product(out, x, w, end);
  }

  void matmul_add(Tensor x, Tensor a, const Matrix& w, const float* bias, const float* layer_scale) override {
    Epilogue end;
    end.bias = bias;
    end.layer_scale = layer_scale;
    end.add = true;
    product(x, a, w, end);
  }

  void matmul_gate(Tensor out, Tensor x, const Matrix& w, Act act) override {
    const int64_t m = w.n / 2;
    if (few(x, w)) {
      matvec(x, w);
      rows_.finish_gate(out, sum_, w.n, w.scale, act);
      return;
    }
    if (w.packed && m % kGroupRows == 0) {
      packed_->gate(out, filled(x), w, act, panel_);
      return;
    }
    if (w.packed) {                                       // a group of rows holds both gates and ups
      x = filled(x);
      const int64_t fit = sum_numbers_ / w.n;
      for (int64_t r = 0; r < x.rows; r += fit) {
        const int64_t rows = std::min(fit, x.rows - r);
        packed_->product({sum_, Dtype::f32, rows, w.n}, x.slice(r, rows), w, Epilogue(), panel_);
        rows_.finish_gate(out.slice(r, rows), sum_, w.n, nullptr, act);
      }
      return;
    }
    x = converted(x);
    for (int64_t first = 0; first < m; first += kPanelRows / 2) {
      const int64_t n = std::min(kPanelRows / 2, m - first);
      Tensor sum(sum_, Dtype::f32, x.rows, 2 * n);
      gemm_->product(sum.columns(0, n), x, panel(w, first, n));
      gemm_->product(sum.columns(n, n), x, panel(w, m + first, n));
      if (w.scale) {
        // Gate and up have scales of their own rows.
        scale_.resize(static_cast<size_t>(2 * n));
        std::copy_n(w.scale + first, n, scale_.begin());
        std::copy_n(w.scale + m + first, n, scale_.begin() + n);
      }
      rows_.finish_gate(out.columns(first, n), sum_, 2 * n, w.scale ? scale_.data() : nullptr, act);
    }
  }

  // ---- decoder ------------------------------------------------------------------------------------------------------------------
  void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) override {
    rows_.embed(out, token, vision_row, last_ids, table, vision);
  }

  void rope_table(float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) override {
    for (int32_t s = 0; s < step.sequences; ++s) {
      parallel_parts(step.seq_start[s + 1] - step.seq_start[s], 4, [&](int64_t token) {
        const int64_t t = step.seq_start[s] + token;
        for (int32_t i = 0; i < half; ++i) {
          const float angle = static_cast<float>(step.past[s] + token) * inverse_frequency[static_cast<int64_t>(s) * half + i];
          cos[t * half + i] = std::cos(angle) * magnitude;
          sin[t * half + i] = std::sin(angle) * magnitude;
        }
      });
    }
  }

  void rope_append(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) override { rows_.rope_append(qkv, cache, heads, step); }

  void attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) override {
    attention_.attend(out, qkv, cache, heads, scale, window, step, product_, attention_scratch_);
  }

  void argmax(int32_t* ids, Tensor logits) override { rows_.argmax(ids, logits); }

 private:
  struct Sizes {
    int64_t input, patches, panel, sum, attention;
  };

  Sizes sizes(const Scratch& s) const {
    Sizes z;
    z.input = s.max_rows * (s.max_inputs + kTileInputs) * 4;              // any input in the other type, or filled up
    z.patches = s.max_tiles * s.max_tile_tokens * s.max_patch_inputs * 4;
    z.panel = kPanelRows * s.max_inputs * 4;
    if (packed_) z.panel = std::max(z.panel, packed_->scratch_bytes(s.max_inputs, threads_));
    z.sum = std::max(s.max_rows * kPanelRows, kMatvecRows * s.max_outputs) * 4;
    z.attention = attention_.scratch_bytes(s, threads_);
    return z;
  }

  bool few(const Tensor& x, const Matrix& w) const { return x.rows <= (!w.packed ? kMatvecRows : tiles() ? kTileRows : kPairRows); }

  bool tiles() const { return isa_ == Isa::amx && product_ == Dtype::bf16; }

  // Plain weights multiply in float32.
  Tensor converted(const Tensor& x) {
    if (x.dtype == Dtype::f32) return x;
    Tensor to(input_, Dtype::f32, x.rows, x.cols);
    rows_.convert(to, x);
    return to;
  }

  // Rows of w in place where they are float32, else widened.
  const float* panel(const Matrix& w, int64_t first, int64_t rows) {
    if (w.dtype == Dtype::f32) return static_cast<const float*>(w.data) + first * w.k;
    rows_.widen(panel_, w, first, rows);
    return panel_;
  }

  // The same rows in the type of products and a length that is a multiple of a tile's, filled up with zeros.
  Tensor filled(const Tensor& x) {
    const int64_t cols = (x.cols + kTileInputs - 1) / kTileInputs * kTileInputs;
    if (cols == x.cols && x.dtype == product_) return x;
    const Tensor to(input_, product_, x.rows, cols);
    rows_.convert(to.columns(0, x.cols), x);
    for (int64_t r = 0; cols > x.cols && r < x.rows; ++r)
      std::memset(static_cast<char*>(to.data) + (r * to.stride + x.cols) * size_of(product_), 0, static_cast<size_t>((cols - x.cols) * size_of(product_)));
    return to;
  }

  void matvec(const Tensor& x, const Matrix& w) {
    w.packed ? packed_->matvec(sum_, w.n, x, w) : matvec_.matvec(sum_, w.n, x, w);
  }

  void product(Tensor out, Tensor x, const Matrix& w, const Epilogue& end) {
    if (few(x, w)) {
      matvec(x, w);
      finish(out, sum_, w.n, w.scale, end, 0);
      return;
    }
    if (w.packed) {
      packed_->product(out, filled(x), w, end, panel_);
      return;
    }
    if (w.dtype == Dtype::f32 && x.dtype == Dtype::f32 && gemm_->fused(out, x, static_cast<const float*>(w.data), end)) return;
    x = converted(x);
    for (int64_t first = 0; first < w.n; first += kPanelRows) {
      const int64_t n = std::min(kPanelRows, w.n - first);
      gemm_->product({sum_, Dtype::f32, x.rows, n}, x, panel(w, first, n));
      finish(out.columns(first, n), sum_, n, w.scale ? w.scale + first : nullptr, end, first);
    }
  }

  void finish(const Tensor& out, const float* sum, int64_t stride, const float* scale, const Epilogue& end, int64_t first) {
    const float* bias = end.bias ? end.bias + first : nullptr;
    if (end.add)
      rows_.finish_add(out, sum, stride, scale, bias, end.layer_scale ? end.layer_scale + first : nullptr);
    else
      rows_.finish(out, sum, stride, scale, bias, end.act);
  }

  Dtype act_, product_ = Dtype::f32;
  Isa isa_;
  int threads_;
  const RowKernels& rows_;
  const MatvecKernels& matvec_;
  const AttentionKernels& attention_;
  const PackedKernels* packed_ = nullptr;                 // where weights are packed: bf16 activations with AVX-512
  std::unique_ptr<Gemm> gemm_;
  std::vector<std::pair<void*, int64_t>> blocks_;
  void *input_ = nullptr, *patches_ = nullptr, *attention_scratch_ = nullptr;
  float *sum_ = nullptr, *panel_ = nullptr;
  int64_t sum_numbers_ = 0;
  std::vector<float> scale_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(Dtype act) { return std::make_unique<CpuOps>(act); }

}  // namespace jvlm
