// Times every kernel at the true shapes of the H2OVL models, beside what the card can do at best, measured in the same run: a copy inside its
// memory (bytes read and written), and a bf16 product of cuBLAS, which also runs at each product's shape, where it can be opened.
//
//   kernels_bench [--small] [COMMIT DATE DRIVER]       one JSON object; --small: small shapes and no ceilings, to see that it runs
//   kernels_bench [--small] --ceilings                 the two ceilings alone, for `jvlm bench` and stages.py; without cuBLAS our own product is measured
//
// A kernel's launches are recorded into a graph, as decode runs them, and the graph is replayed; a figure is the median replay over the number of
// launches. Operands come in turn from as many copies as outgrow the card's cache. Bytes and operations are counted by formula: every operand read once,
// every result written once, causal attention at half. JVLM_CUBLAS names the library where the loader does not find it.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/cuda/kernels.h"

using namespace jvlm;

namespace {

bool small = false;
cuda::DeviceInfo card;
cuda::Queue queue;
std::string rows_of_json;

// ---- memory -----------------------------------------------------------------------------------------------------------------------------
constexpr int64_t kTurn = int64_t{256} << 20;              // bytes of operands used in turn: several times the cache of any card

// Random bf16 of about 1/32, or bytes, the same pattern over and over.
class Memory {
 public:
  explicit Memory(int64_t bytes, bool zero = false) : data(cuda::allocate(std::max<int64_t>(bytes, 256))) {
    static const std::vector<uint16_t> pattern = [] {
      std::vector<uint16_t> v(1 << 20);
      uint32_t seed = 1;
      for (uint16_t& x : v) seed = seed * 1664525u + 1013904223u, x = static_cast<uint16_t>((seed >> 16 & 0x80ffu) | 0x3c00u | (seed >> 8 & 0x100u));
      return v;
    }();
    const auto piece = static_cast<int64_t>(2 * pattern.size());
    for (int64_t at = 0; at < bytes; at += piece)
      if (zero)
        cuda::fill(queue.stream, static_cast<char*>(data) + at, 0, std::min(piece, bytes - at));
      else
        cuda::upload_now(static_cast<char*>(data) + at, pattern.data(), std::min(piece, bytes - at));
    cuda::synchronise();
  }
  template <class T>
  explicit Memory(const std::vector<T>& v) : data(cuda::allocate(static_cast<int64_t>(v.size() * sizeof(T)))) {
    cuda::upload_now(data, v.data(), static_cast<int64_t>(v.size() * sizeof(T)));
  }
  ~Memory() { cuda::release(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  float* floats() const { return static_cast<float*>(data); }
  int32_t* ints() const { return static_cast<int32_t*>(data); }
  void* data;
};

// As many copies of an operand as outgrow the cache.
class Turns {
 public:
  explicit Turns(int64_t bytes) : bytes_((bytes + 1023) / 1024 * 1024), count_(small ? 2 : std::max<int64_t>(2, std::min<int64_t>(64, kTurn / bytes_ + 1))), memory_(bytes_ * count_) {}
  void* at(int turn) const { return static_cast<char*>(memory_.data) + turn % count_ * bytes_; }

 private:
  int64_t bytes_, count_;
  Memory memory_;
};

// ---- time -------------------------------------------------------------------------------------------------------------------------------
// Seconds of one `work(turn)`.
double seconds(const std::function<void(int)>& work) {
  const int launches = small ? 2 : 64, replays = small ? 1 : 9;
  cuda::Graph graph;
  work(0);                                                 // loads what is loaded at the first launch
  cuda::synchronise();
  graph.begin(queue.stream);
  for (int i = 0; i < launches; ++i) work(i);
  graph.end(queue.stream);
  std::vector<double> times;
  for (int i = 0; i <= replays; ++i) {
    cuda::Event from(true), to(true);
    from.record(queue.stream);
    graph.launch(queue.stream);
    to.record(queue.stream);
    to.wait();
    if (i || small) times.push_back(static_cast<double>(to.milliseconds_since(from)) * 1e-3 / launches);   // the first warms up
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

double copy_bandwidth() {
  const int64_t bytes = small ? 1 << 20 : int64_t{2} << 30;
  Memory from(bytes), to(bytes, true);
  return 2.0 * static_cast<double>(bytes) / seconds([&](int) { cuda::copy(queue.stream, to.data, from.data, bytes); });
}

// ---- cuBLAS, opened by name; its constants are those of cublas_api.h and library_types.h -------------------------------------------------------------
class Blas {
 public:
  Blas() {
    if (small) return;
    const char* named = std::getenv("JVLM_CUBLAS");
    for (const char* name : {named ? named : "libcublas.so.13", "libcublas.so.13", "libcublas.so.12"})
      if (!library_) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library_) return;
    const auto create = reinterpret_cast<int (*)(void**)>(dlsym(library_, "cublasCreate_v2"));
    const auto set_stream = reinterpret_cast<int (*)(void*, void*)>(dlsym(library_, "cublasSetStream_v2"));
    const auto set_workspace = reinterpret_cast<int (*)(void*, void*, size_t)>(dlsym(library_, "cublasSetWorkspace_v2"));
    multiply_ = reinterpret_cast<Multiply>(dlsym(library_, "cublasGemmEx"));
    if (!create || !set_stream || !set_workspace || !multiply_ || create(&handle_)) return;
    workspace_ = std::make_unique<Memory>(int64_t{64} << 20, true);   // of our own, so that its products may be recorded
    good_ = !set_stream(handle_, queue.stream) && !set_workspace(handle_, workspace_->data, size_t{64} << 20);
  }
  explicit operator bool() const { return good_; }
  // out (rows, n) = x (rows, k) w^T; all bf16, row-major.
  void product(void* out, const void* x, const void* w, int64_t rows, int64_t n, int64_t k) const {
    constexpr int kNone = 0, kTransposed = 1, kBf16 = 14, kSumsInFloat = 68, kDefault = -1;
    const float one = 1, zero = 0;
    const int result = multiply_(handle_, kTransposed, kNone, static_cast<int>(n), static_cast<int>(rows), static_cast<int>(k), &one, w, kBf16, static_cast<int>(k), x, kBf16,
                                 static_cast<int>(k), &zero, out, kBf16, static_cast<int>(n), kSumsInFloat, kDefault);
    if (result) throw std::runtime_error("cuBLAS answers " + std::to_string(result));
  }
  double time(int64_t rows, int64_t n, int64_t k) const {
    const Turns x(2 * rows * k), w(2 * n * k), out(2 * rows * n);
    return seconds([&](int i) { product(out.at(i), x.at(i), w.at(i), rows, n, k); });
  }

 private:
  using Multiply = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int, const void*, void*, int, int, int, int);
  void* library_ = nullptr;
  void* handle_ = nullptr;
  Multiply multiply_ = nullptr;
  std::unique_ptr<Memory> workspace_;
  bool good_ = false;
};
std::unique_ptr<Blas> blas;

void report(const std::string& kernel, const std::string& shape, double bytes, double operations, double time, double other = 0) {
  char line[512];
  std::snprintf(line, sizeof line, "%s\n  {\"kernel\": \"%s\", \"shape\": \"%s\", \"bytes\": %.0f, \"operations\": %.0f, \"seconds\": %.4g, \"bytes_per_second\": %.4g, \"operations_per_second\": %.4g",
                rows_of_json.empty() ? "" : ",", kernel.c_str(), shape.c_str(), bytes, operations, time, bytes / time, operations / time);
  rows_of_json += line;
  if (other > 0) std::snprintf(line, sizeof line, ", \"cublas_seconds\": %.4g", other), rows_of_json += line;
  rows_of_json += "}";
  std::fprintf(stderr, "%-22s %-44s %10.2f us %8.1f GB/s %8.2f TFLOP/s%s\n", kernel.c_str(), shape.c_str(), time * 1e6, bytes / time * 1e-9, operations / time * 1e-12,
               other > 0 ? ("   cuBLAS " + std::to_string(other * 1e6) + " us").c_str() : "");
}

// ---- kernels ----------------------------------------------------------------------------------------------------------------------------
double of(int64_t a) { return static_cast<double>(a); }

Matrix matrix(const void* data, Dtype dtype, int64_t n, int64_t k, const float* scale = nullptr) {
  Matrix m;
  m.data = data, m.dtype = dtype, m.n = n, m.k = k, m.scale = scale, m.packed = true;
  return m;
}

// out: bf16 or (kind add) float; n columns of result.
void product(const std::string& name, int64_t rows, int64_t n, int64_t k, cuda::End end, Dtype weights = Dtype::bf16, bool normed = false, Dtype out_type = Dtype::bf16) {
  const bool gate = end.kind == cuda::End::gate, few = rows <= cuda::kMatvecRows;
  if (end.kind == cuda::End::add) out_type = Dtype::f32;
  const int64_t rows_of_w = gate ? 2 * n : n, w_bytes = rows_of_w * cuda::weight_stride(k) * size_of(weights);
  const Turns x((normed ? 4 : 2) * rows * k), w(w_bytes), out(rows * n * size_of(out_type));
  const Memory scale(4 * rows_of_w), bias(4 * rows_of_w), norm_weight(4 * k);
  if (!gate) end.bias = bias.floats();
  const Norm norm{NormKind::rms, norm_weight.floats(), nullptr, 1e-5f};
  const double time = seconds([&](int i) {
    const Matrix m = matrix(w.at(i), weights, rows_of_w, k, weights == Dtype::i8 ? scale.floats() : nullptr);
    const Tensor from(x.at(i), normed ? Dtype::f32 : Dtype::bf16, rows, k), to(out.at(i), out_type, rows, n);
    if (few)
      cuda::matvec(queue, to, from, normed ? &norm : nullptr, m, end);
    else
      cuda::gemm(queue, to, from, m, end);
  });
  const double bytes = of(rows * k * (normed ? 4 : 2) + rows_of_w * k * size_of(weights) + rows * n * size_of(out_type) * (end.kind == cuda::End::add ? 2 : 1));
  const double other = *blas && weights == Dtype::bf16 ? blas->time(rows, rows_of_w, k) : 0;
  report(few ? "matvec" : "gemm", name + " " + std::to_string(rows) + "x" + std::to_string(rows_of_w) + "x" + std::to_string(k), bytes, 2.0 * of(rows) * of(rows_of_w) * of(k), time, other);
}

cuda::End ends(cuda::End::Kind kind, Act act = Act::none) {
  cuda::End e;
  e.kind = kind, e.act = act;
  return e;
}

// Attention over pictures; queries, keys: where each picture's rows start, and end. Where they are the same (a tower), q, k and v are columns of one matrix.
void dense(const std::string& name, const std::vector<int32_t>& queries, const std::vector<int32_t>& keys, int32_t heads, int32_t kv_heads, int32_t size) {
  const auto count = static_cast<int32_t>(queries.size()) - 1;
  const int64_t q_rows = queries.back(), k_rows = keys.back(), width = int64_t{heads} * size, kv_width = int64_t{kv_heads} * size;
  PictureRows of_queries{count, nullptr, 0}, of_keys{count, nullptr, 0};
  double operations = 0;
  for (size_t b = 0; b + 1 < queries.size(); ++b) {
    const int32_t q = queries[b + 1] - queries[b], k = keys[b + 1] - keys[b];
    of_queries.most = std::max(of_queries.most, q), of_keys.most = std::max(of_keys.most, k);
    operations += 4.0 * of(q) * of(k) * of(width);
  }
  const Memory q_start(queries), k_start(keys);
  of_queries.start = q_start.ints(), of_keys.start = k_start.ints();
  const int64_t before = queries == keys ? width : 0;
  const Turns apart(before ? 1 : 2 * q_rows * width), all(2 * k_rows * (before + 2 * kv_width)), out(2 * q_rows * width);
  report("attention_dense", name + " " + std::to_string(of_queries.most) + " x " + std::to_string(of_keys.most) + " tokens " + std::to_string(heads) + "/" + std::to_string(kv_heads) + "x" + std::to_string(size),
         of(4 * q_rows * width + 4 * k_rows * kv_width), operations, seconds([&](int i) {
           const Tensor rows(all.at(i), Dtype::bf16, k_rows, before + 2 * kv_width), q = before ? rows.columns(0, width) : Tensor(apart.at(i), Dtype::bf16, q_rows, width);
           cuda::attention_dense(queue, Tensor(out.at(i), Dtype::bf16, q_rows, width), q, rows.columns(before, kv_width), rows.columns(before + kv_width, kv_width), of_queries,
                                 of_keys, heads, kv_heads, size, 1 / std::sqrt(static_cast<float>(size)));
         }));
}

// Idefics2's: a picture of 980 x 980 and its four quarters, through the tower and one layer of the perceiver.
void ragged() {
  const int32_t whole = small ? 49 : 4900, quarter = small ? 6 : 1225, latents = 64;
  std::vector<int32_t> patches{0}, queries{0}, keys{0};
  for (int32_t n : {quarter, quarter, quarter, quarter, whole}) {
    patches.push_back(patches.back() + n);
    queries.push_back(queries.back() + latents);
    keys.push_back(keys.back() + n + latents);
  }
  dense("5 pictures", patches, patches, small ? 2 : 16, small ? 2 : 16, 72);
  dense("5 pictures", queries, keys, small ? 4 : 16, small ? 1 : 4, 96);
}

void vision(int32_t tiles) {
  const int32_t size = small ? 56 : 448, patch = 14, hidden = small ? 128 : 1024, heads = hidden / 64, mlp = 4 * hidden, grid = size / patch, tokens = 1 + grid * grid;
  const int64_t rows = int64_t{tiles} * tokens, patch_k = 3 * patch * patch, patches = int64_t{tiles} * grid * grid;
  const std::string of_tiles = std::to_string(tiles) + " tiles";
  std::vector<int32_t> starts{0};
  std::vector<Patch> shown;
  for (int32_t tile = 0; tile < tiles; ++tile) {
    starts.push_back((tile + 1) * tokens);
    shown.push_back({});
    for (int32_t t = 0; t < grid * grid; ++t)
      shown.push_back({3LL * ((tile * size + t / grid * patch) * size + t % grid * patch), 3 * size, patch, patch, 1 + t});
  }
  const Memory tokens_shown(shown);
  {
    const Turns rgb(3LL * tiles * size * size), out(4 * rows * hidden);
    const Memory w(2 * hidden * cuda::weight_stride(patch_k)), vector(4LL * hidden), positions(4LL * tokens * hidden), scratch(2 * rows * cuda::weight_stride(patch_k));
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    report("patch_embed", of_tiles, of(3LL * tiles * size * size + 2 * hidden * patch_k + 4LL * tokens * hidden + 4 * rows * hidden), 2.0 * of(patches * patch_k) * hidden, seconds([&](int i) {
             cuda::patch_embed(queue, Tensor(out.at(i), Dtype::f32, rows, hidden), static_cast<const uint8_t*>(rgb.at(i)), static_cast<const Patch*>(tokens_shown.data), patch, matrix(w.data, Dtype::bf16, hidden, patch_k),
                               vector.floats(), vector.floats(), positions.floats(), mean, std, scratch.data);
           }));
  }
  {
    const Turns x(4 * rows * hidden), out(2 * rows * hidden), shuffled(2 * rows * hidden);
    const Memory weight(16LL * hidden), bias(16LL * hidden);
    const Norm norm{NormKind::layer, weight.floats(), bias.floats(), 1e-6f};
    report("norm", of_tiles + " layer " + std::to_string(rows) + "x" + std::to_string(hidden), of(rows * hidden * 6), of(rows * hidden * 8), seconds([&](int i) {
             cuda::norm(queue, Tensor(out.at(i), Dtype::bf16, rows, hidden), Tensor(x.at(i), Dtype::f32, rows, hidden), norm);
           }));
    report("pixel_shuffle_norm", of_tiles, of(patches * hidden * 6), of(patches * hidden * 8), seconds([&](int i) {
             cuda::pixel_shuffle_norm(queue, Tensor(shuffled.at(i), Dtype::bf16, patches / 4, 4LL * hidden), Tensor(x.at(i), Dtype::f32, rows, hidden), tiles, grid, norm);
           }));
  }
  {
    const int64_t width = small ? 72 : 3200;              // of InternViT-6B, the one that has it
    const Turns qkv(6 * rows * width);
    const Memory weight(4 * width);
    const Norm norm{NormKind::rms, weight.floats(), nullptr, 1e-6f};
    report("norm_qk", of_tiles + " " + std::to_string(rows) + "x2x" + std::to_string(width), of(rows * width * 8), of(rows * width * 12), seconds([&](int i) {
             cuda::norm_qk(queue, Tensor(qkv.at(i), Dtype::bf16, rows, 3 * width), norm, norm);
           }));
  }
  dense(of_tiles, starts, starts, heads, heads, 64);
  product("vision qkv", rows, 3 * hidden, hidden, ends(cuda::End::store));
  product("vision out", rows, hidden, hidden, ends(cuda::End::add));
  product("vision up", rows, mlp, hidden, ends(cuda::End::store, Act::gelu));
  product("vision down", rows, hidden, mlp, ends(cuda::End::add));
}

struct Decoder {
  const char* name;
  int32_t hidden, heads, kv_heads, head_size, mlp, vocabulary;
};

void connector(const Decoder& d, int64_t rows, int64_t inputs) {
  const std::string name = d.name;
  product(name + " connector up", rows, d.hidden, inputs, ends(cuda::End::store, Act::gelu));
  product(name + " connector down", rows, d.hidden, d.hidden, ends(cuda::End::store), Dtype::bf16, false, Dtype::f32);
}

// Attention and what goes with it for `sequences` of `past` cached tokens and `fresh` new ones each.
void paged(const Decoder& d, int32_t sequences, int32_t past, int32_t fresh) {
  constexpr int32_t page_tokens = 64;
  const int32_t length = past + fresh, pages = (length + page_tokens - 1) / page_tokens, half = d.head_size / 2, tokens = sequences * fresh;
  std::vector<int32_t> seq_start, pasts, page_start, page;
  for (int32_t s = 0; s <= sequences; ++s) seq_start.push_back(s * fresh), page_start.push_back(s * pages);
  for (int32_t s = 0; s < sequences; ++s) pasts.push_back(past);
  for (int32_t i = 0; i < sequences * pages; ++i) page.push_back((i * 7 + 3) % (sequences * pages));   // 7 may divide the count: checked below
  if (sequences * pages % 7 == 0)
    for (int32_t i = 0; i < sequences * pages; ++i) page[static_cast<size_t>(i)] = sequences * pages - 1 - i;
  const Memory d_seq(seq_start), d_past(pasts), d_page_start(page_start), d_page(page), cos(4LL * tokens * half), sin(4LL * tokens * half), frequency(4LL * sequences * half);
  Step step;
  step.tokens = tokens, step.sequences = sequences, step.max_new = fresh, step.max_length = length;
  step.seq_start = d_seq.ints(), step.past = d_past.ints(), step.page_start = d_page_start.ints(), step.page = d_page.ints(), step.cos = cos.floats(), step.sin = sin.floats();
  const int64_t width = int64_t{d.heads + 2 * d.kv_heads} * d.head_size, out_width = int64_t{d.heads} * d.head_size;
  const int64_t cached = 2LL * sequences * pages * page_tokens * d.kv_heads * d.head_size;
  const Turns k(cached), v(cached), qkv(2 * tokens * width), out(2 * tokens * out_width);
  const Memory scratch(cuda::attention_decode_scratch_bytes(sequences, d.heads, d.kv_heads, d.head_size, queue.multiprocessors), true);
  const float scale = 0.1f;
  auto cache = [&](int i) { return KvCache{k.at(i), v.at(i), Dtype::bf16, d.kv_heads, d.head_size, page_tokens}; };
  const std::string shape = std::string(d.name) + " " + std::to_string(sequences) + " of " + std::to_string(past) + "+" + std::to_string(fresh);
  const double appended = 4.0 * tokens * d.kv_heads * d.head_size, read = 4.0 * sequences * length * d.kv_heads * d.head_size;
  if (fresh == 1) {
    report("attention_decode", shape, read + appended + of(2 * tokens * (width + out_width)), 4.0 * sequences * length * of(out_width), seconds([&](int i) {
             cuda::attention_decode(queue, Tensor(out.at(i), Dtype::bf16, tokens, out_width), Tensor(qkv.at(i), Dtype::bf16, tokens, width), cache(i), d.heads, scale, 0, step, true, scratch.data);
           }));
    return;
  }
  report("rope_append", shape, of(2 * tokens * width) + of(4LL * tokens * d.head_size) + of(2 * tokens * out_width) + appended, 6.0 * tokens * of(width), seconds([&](int i) {
           cuda::rope_append(queue, Tensor(qkv.at(i), Dtype::bf16, tokens, width), cache(i), d.heads, step);
         }));
  report("attention_prefill", shape, read + of(4 * tokens * out_width), 4.0 * of(out_width) * sequences * fresh * (past + 0.5 * (fresh + 1)), seconds([&](int i) {
           cuda::attention_prefill(queue, Tensor(out.at(i), Dtype::bf16, tokens, out_width), Tensor(qkv.at(i), Dtype::bf16, tokens, width), cache(i), d.heads, scale, 0, step);
         }));
  report("rope_table", shape, of(8LL * tokens * half), of(2LL * tokens * half), seconds([&](int) { cuda::rope_table(queue, cos.floats(), sin.floats(), step, frequency.floats(), half, 1); }));
}

void products(const Decoder& d, int64_t rows, Dtype weights) {
  const std::string name = std::string(d.name) + (weights == Dtype::i8 ? " int8" : "");
  const bool few = rows <= cuda::kMatvecRows;
  const int64_t attention = int64_t{d.heads} * d.head_size, qkv = int64_t{d.heads + 2 * d.kv_heads} * d.head_size;
  product(name + " qkv", rows, qkv, d.hidden, ends(cuda::End::store), weights, few);
  product(name + " out", rows, d.hidden, attention, ends(cuda::End::add), weights);
  product(name + " gate_up", rows, d.mlp, d.hidden, ends(cuda::End::gate, Act::silu), weights, few);
  product(name + " down", rows, d.hidden, d.mlp, ends(cuda::End::add), weights);
  if (few) product(name + " head", rows, d.vocabulary, d.hidden, ends(cuda::End::store), weights, false, Dtype::f32);
}

void rows_of(const Decoder& d, int64_t tokens) {
  const Turns x(4 * tokens * d.hidden), out(4 * tokens * d.hidden), table(2LL * d.vocabulary * d.hidden), logits(4LL * d.vocabulary);
  std::vector<int32_t> token, none;
  for (int64_t i = 0; i < tokens; ++i) token.push_back(static_cast<int32_t>(i * 37 % tokens)), none.push_back(-1);
  const Memory d_token(token), d_none(none), ids(64);
  const std::string shape = std::string(d.name) + " " + std::to_string(tokens) + "x" + std::to_string(d.hidden);
  report("gather", shape, of(8 * tokens * d.hidden), 0, seconds([&](int i) {
           cuda::gather(queue, Tensor(out.at(i), Dtype::f32, tokens, d.hidden), Tensor(x.at(i), Dtype::f32, tokens, d.hidden), d_token.ints());
         }));
  report("embed", shape, of(6 * tokens * d.hidden), 0, seconds([&](int i) {
           cuda::embed(queue, Tensor(out.at(i), Dtype::f32, tokens, d.hidden), d_token.ints(), d_none.ints(), nullptr, matrix(table.at(i), Dtype::bf16, d.vocabulary, d.hidden),
                       Tensor(x.at(i), Dtype::f32, tokens, d.hidden));
         }));
  report("argmax", std::string(d.name) + " 1x" + std::to_string(d.vocabulary), of(4LL * d.vocabulary), of(d.vocabulary), seconds([&](int i) {
           cuda::argmax(queue, ids.ints(), Tensor(logits.at(i), Dtype::f32, 1, d.vocabulary));
         }));
  SampleRow choice;
  choice.temperature = 0.8f, choice.top_p = 0.9f, choice.top_k = 50;
  const Memory row(std::vector<SampleRow>{choice}), scratch(cuda::sample_scratch_bytes(1, d.vocabulary), true);
  report("sample", std::string(d.name) + " 1x" + std::to_string(d.vocabulary) + " top-k 50 top-p 0.9", of(16LL * d.vocabulary), of(d.vocabulary), seconds([&](int i) {
           cuda::sample(queue, ids.ints(), Tensor(logits.at(i), Dtype::f32, 1, d.vocabulary), static_cast<const SampleRow*>(row.data), nullptr, nullptr, scratch.data);
         }));
}

// Operations a second of the square product that is held to be the card's best.
double multiplied() {
  const int64_t n = small ? 64 : 8192;
  const auto of_ours = [=] {
    const Turns x(2 * n * n), w(2 * n * n), out(2 * n * n);
    return seconds([&](int i) { cuda::gemm(queue, Tensor(out.at(i), Dtype::bf16, n, n), Tensor(x.at(i), Dtype::bf16, n, n), matrix(w.at(i), Dtype::bf16, n, n), {}); });
  };
  return 2.0 * of(n * n * n) / (*blas ? blas->time(n, n, n) : of_ours());
}

void ceilings() {
  std::printf("{\"card\": \"%s\", \"multiprocessors\": %d, \"gemm_by\": \"%s\", \"gemm_bf16_gflops\": %.1f, \"copy_gbs\": %.2f}\n", card.name.c_str(), card.multiprocessors,
              *blas ? "cuBLAS" : "jvlm", multiplied() * 1e-9, copy_bandwidth() * 1e-9);
}

int run(int count, char** argument) {
  small = count > 1 && std::string(argument[1]) == "--small";
  auto given = [&](int i) { return count > i + small ? argument[i + small] : "unknown"; };
  card = cuda::use_device(0);
  cuda::Stream stream;
  queue.stream = stream, queue.architecture = card.architecture, queue.multiprocessors = card.multiprocessors;
  blas = std::make_unique<Blas>();
  if (std::string(given(1)) == "--ceilings") {
    ceilings();
    blas.reset();
    return 0;
  }
  const double copied = copy_bandwidth(), by_cublas = *blas ? multiplied() : 0;
  std::fprintf(stderr, "copy %.1f GB/s, cuBLAS bf16 %.1f TFLOP/s\n", copied * 1e-9, by_cublas * 1e-12);

  const Decoder models[] = {{"h2ovl-0.8b", 1536, 16, 8, 96, 4096, 32010}, {"h2ovl-2b", 2560, 32, 8, 80, 6912, 32010}};
  const Decoder tiny[] = {{"tiny", 192, 4, 2, 96, 256, 300}};
  vision(small ? 1 : 7);
  if (!small) vision(1);
  ragged();
  for (const Decoder* d = small ? tiny : models; d != (small ? tiny + 1 : models + 2); ++d) {
    const int64_t prompt = small ? 40 : 7 * 256 + 64;
    connector(*d, small ? 24 : 7 * 256, small ? 512 : 4096);
    products(*d, prompt, Dtype::bf16);
    paged(*d, 1, 0, static_cast<int32_t>(prompt));
    rows_of(*d, prompt);
    for (int64_t batch : {1, 8}) {
      products(*d, batch, Dtype::bf16);
      products(*d, batch, Dtype::i8);
      paged(*d, static_cast<int32_t>(batch), small ? 100 : 2048, 1);
    }
  }
  blas.reset();
  std::printf("{\"card\": \"%s\", \"architecture\": %d, \"multiprocessors\": %d, \"driver\": \"%s\", \"date\": \"%s\", \"commit\": \"%s\",\n \"copy_bytes_per_second\": %.4g, \"cublas_operations_per_second\": %.4g,\n \"kernels\": [%s\n ]}\n",
              card.name.c_str(), card.architecture, card.multiprocessors, given(3), given(2), given(1), copied, by_cublas, rows_of_json.c_str());
  return 0;
}

}  // namespace

int main(int count, char** argument) {
  try {
    return run(count, argument);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kernels_bench: %s\n", e.what());
    return 70;
  }
}
