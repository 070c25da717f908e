// The CUDA backend behind ops.h: memory, staging and the choice of a kernel by shape. The kernels stand in the files beside (kernels.h).
#include "ops/cuda/cuda_ops.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "ops/cuda/cublaslt.h"
#include "ops/cuda/kernels.h"

namespace jvlm {
namespace {

using namespace cuda;

// Pinned memory on the way to the card and back. Two halves in turn: one is filled while the other is read.
constexpr int64_t kHalf = 4 << 20;

// A block of a fused product takes the norm of every row for itself: of more rows than these that is more to read than its weights.
constexpr int64_t kFusedNormRows = 4;

class CudaOps : public Ops {
 public:
  CudaOps(int device, Dtype act, bool cublaslt, bool deterministic, bool warm) : info_(use_device(device)), warm_(warm) {
    if (act != Dtype::bf16)
      throw device_error("Precision float32 runs on the CPU only. Choose precision bf16 or int8 for this device, or the device cpu");
    queue_.stream = stream_;
    queue_.architecture = info_.architecture;
    queue_.multiprocessors = info_.multiprocessors;
    queue_.deterministic = deterministic;
    if (cublaslt && !deterministic) cublaslt_.emplace(info_.architecture);
    staging_ = static_cast<char*>(allocate_pinned(2 * kHalf));
  }

  ~CudaOps() override {
    for (void* block : blocks_) release(block);
    release_pinned(staging_);
    if (landing_) release_pinned(landing_);
  }

  // ---- memory -------------------------------------------------------------------------------------------------------------------
  void* allocate(int64_t bytes) override {
    blocks_.push_back(nullptr);
    blocks_.back() = cuda::allocate(std::max<int64_t>(bytes, 1));
    fill(stream_, blocks_.back(), 0, std::max<int64_t>(bytes, 1));
    return blocks_.back();
  }

  void upload(void* device, const void* host, int64_t bytes) override {
    for (int64_t done = 0, piece; done < bytes; done += piece) {
      piece = std::min(bytes - done, kHalf);
      char* at = stage(piece);
      std::memcpy(at, static_cast<const char*>(host) + done, static_cast<size_t>(piece));
      cuda::upload(stream_, static_cast<char*>(device) + done, at, piece);
    }
  }

  void download(void* host, const void* device, int64_t bytes) override {
    for (int64_t done = 0, piece; done < bytes; done += piece) {
      piece = std::min(bytes - done, kHalf);
      char* at = stage(piece);
      cuda::download(stream_, at, static_cast<const char*>(device) + done, piece);
      stream_.wait();
      std::memcpy(static_cast<char*>(host) + done, at, static_cast<size_t>(piece));
    }
  }

  bool download_later(int32_t index, void* host, const void* device, int64_t bytes) override {
    Download& d = downloads_[static_cast<size_t>(index)];
    d.host = host, d.bytes = bytes;
    cuda::download(stream_, landing_ + index * landing_bytes_, device, bytes);
    d.landed.record(stream_);
    return true;
  }
  void finish_download(int32_t index) override {
    const Download& d = downloads_[static_cast<size_t>(index)];
    d.landed.wait();
    std::memcpy(d.host, landing_ + index * landing_bytes_, static_cast<size_t>(d.bytes));
  }

  int64_t packed_bytes(Dtype dtype, int64_t n, int64_t k) const override {
    return dtype == Dtype::f32 ? 0 : n * weight_stride(k) * size_of(dtype);
  }

  void pack(const Matrix& w, int64_t first, int64_t rows, const void* host) override {
    const int64_t size = size_of(w.dtype), length = w.k * size, stride = weight_stride(w.k) * size;
    char* to = static_cast<char*>(const_cast<void*>(w.data)) + first * stride;
    if (length == stride) return upload(to, host, rows * stride);
    row_.assign(static_cast<size_t>(stride), 0);
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(row_.data(), static_cast<const char*>(host) + r * length, static_cast<size_t>(length));
      upload(to + r * stride, row_.data(), stride);
    }
  }

  int64_t scratch_bytes(const Scratch& s) const override { return patches_bytes(s) + decode_bytes(s) + sample_bytes(s) + workspace_bytes(); }

  void reserve(const Scratch& s) override {
    patches_ = allocate(patches_bytes(s));
    decode_ = allocate(decode_bytes(s));
    sample_ = allocate(sample_bytes(s));
    if (workspace_bytes()) workspace_ = allocate(workspace_bytes());
    landing_bytes_ = 4 * s.max_sequences;
    downloads_ = std::vector<Download>(static_cast<size_t>(s.max_downloads));
    landing_ = static_cast<char*>(allocate_pinned(landing_bytes_ * s.max_downloads));
  }

  int64_t available_bytes() const override { return free_memory(); }

  std::string description() const override {
    return info_.name + ", sm_" + std::to_string(info_.architecture) + ", " + std::to_string(info_.memory_bytes >> 20) + " MiB, " +
           (cublaslt_ ? cublaslt_->description() : "products by jvlm");
  }

  bool loads_late() const override { return warm_; }
  bool replays() const override { return true; }
  void replay(uint64_t key, const std::function<void()>& work) override {
    Graph& graph = graphs_[key];
    if (!graph) {
      graph.begin(stream_);
      try {
        work();
      } catch (...) {
        graph.drop(stream_);
        throw;
      }
      graph.end(stream_);
    }
    graph.launch(stream_);
  }

  // ---- vision -------------------------------------------------------------------------------------------------------------------
  void patch_embed(Tensor out, const uint8_t* rgb, const Patch* patches, int32_t patch, const Matrix& w, const float* bias,
                   const float* class_token, const float* positions, const float mean[3], const float std[3]) override {
    cuda::patch_embed(queue_, out, rgb, patches, patch, w, bias, class_token, positions, mean, std, patches_);
  }
  void attention(Tensor out, Tensor q, Tensor k, Tensor v, const PictureRows& queries, const PictureRows& keys, int32_t heads, int32_t kv_heads,
                 int32_t head_size, float scale) override {
    attention_dense(queue_, out, q, k, v, queries, keys, heads, kv_heads, head_size, scale);
  }
  void pixel_shuffle_norm(Tensor out, Tensor x, int32_t tiles, int32_t grid, const Norm& n) override {
    cuda::pixel_shuffle_norm(queue_, out, x, tiles, grid, n);
  }

  // ---- rows ---------------------------------------------------------------------------------------------------------------------
  void norm(Tensor out, Tensor x, const Norm& n) override { cuda::norm(queue_, out, x, n); }
  void norm_qk(Tensor qkv, const Norm& q, const Norm& k) override { cuda::norm_qk(queue_, qkv, q, k); }
  void gather(Tensor out, Tensor x, const int32_t* row) override { cuda::gather(queue_, out, x, row); }

  // ---- products -----------------------------------------------------------------------------------------------------------------
  void matmul(Tensor out, Tensor x, const Matrix& w, const float* bias, Act act) override {
    End end;
    end.bias = bias, end.act = act;
    product(out, x, w, end);
  }
  void matmul_add(Tensor x, Tensor a, const Matrix& w, const float* bias, const float* layer_scale) override {
    End end;
    end.kind = End::add, end.bias = bias, end.layer_scale = layer_scale;
    product(x, a, w, end);
  }
  void matmul_gate(Tensor out, Tensor x, const Matrix& w, Act act) override {
    End end;
    end.kind = End::gate, end.act = act;
    product(out, x, w, end);
  }
  void norm_matmul(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, const float* bias, Act act) override {
    if (split(x.rows, kFusedNormRows)) return Ops::norm_matmul(out, x, normed, n, w, bias, act);
    End end;
    end.bias = bias, end.act = act;
    matvec(queue_, out, x, &n, w, end);
  }
  void norm_matmul_gate(Tensor out, Tensor x, Tensor normed, const Norm& n, const Matrix& w, Act act) override {
    if (split(x.rows, kFusedNormRows)) return Ops::norm_matmul_gate(out, x, normed, n, w, act);
    End end;
    end.kind = End::gate, end.act = act;
    matvec(queue_, out, x, &n, w, end);
  }

  // ---- decoder ------------------------------------------------------------------------------------------------------------------
  void embed(Tensor out, const int32_t* token, const int32_t* vision_row, const int32_t* last_ids, const Matrix& table, Tensor vision) override {
    cuda::embed(queue_, out, token, vision_row, last_ids, table, vision);
  }
  void rope_table(float* cos, float* sin, const Step& step, const float* inverse_frequency, int32_t half, float magnitude) override {
    cuda::rope_table(queue_, cos, sin, step, inverse_frequency, half, magnitude);
  }
  void rope_append(Tensor qkv, const KvCache& cache, int32_t heads, const Step& step) override {
    cuda::rope_append(queue_, qkv, cache, heads, step);
  }
  void attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) override {
    if (decodes(step))
      attention_decode(queue_, out, qkv, cache, heads, scale, window, step, false, decode_);
    else
      attention_prefill(queue_, out, qkv, cache, heads, scale, window, step);
  }
  void rope_append_attend(Tensor out, Tensor qkv, const KvCache& cache, int32_t heads, float scale, int32_t window, const Step& step) override {
    if (decodes(step)) return attention_decode(queue_, out, qkv, cache, heads, scale, window, step, true, decode_);
    Ops::rope_append_attend(out, qkv, cache, heads, scale, window, step);
  }
  void argmax(int32_t* ids, Tensor logits) override { cuda::argmax(queue_, ids, logits); }
  bool samples() const override { return true; }
  void sample(int32_t* ids, Tensor logits, const SampleRow* row, int32_t* counts, const float* bias) override {
    cuda::sample(queue_, ids, logits, row, counts, bias, sample_);
  }

  void begin_range(const char* stage, int32_t layer) override { cuda::begin_range(stage, layer); }
  void end_range() override { cuda::end_range(); }

 private:
  struct Download {
    Event landed;
    void* host = nullptr;
    int64_t bytes = 0;
  };

  // In deterministic mode one kernel does all products and one all causal attention, which goes through a row's keys by themselves: how many rows there
  // are, whether they are a prompt's or an answer's, and where a prompt was cut is nothing to them.
  bool decodes(const Step& step) const { return step.max_new == 1 && !queue_.deterministic; }
  bool split(int64_t rows, int64_t most) const { return rows > most || queue_.deterministic; }

  void product(Tensor out, Tensor x, const Matrix& w, const End& end) {
    if (!split(x.rows, kMatvecRows))
      matvec(queue_, out, x, nullptr, w, end);
    else if (!cublaslt_ || !cublaslt_->product(queue_, out, x, w, end, workspace_))
      gemm(queue_, out, x, w, end);
  }

  // `bytes` of pinned memory that the stream no longer uses.
  char* stage(int64_t bytes) {
    bytes = (bytes + 255) / 256 * 256;
    if (used_ + bytes > kHalf) {
      staged_[half_].record(stream_);
      half_ ^= 1, used_ = 0;
      if (filled_) staged_[half_].wait();
      filled_ = true;
    }
    char* at = staging_ + half_ * kHalf + used_;
    used_ += bytes;
    return at;
  }

  int64_t workspace_bytes() const { return cublaslt_ ? cublaslt_->workspace_bytes() : 0; }

  static int64_t patches_bytes(const Scratch& s) { return s.max_tiles * s.max_tile_tokens * weight_stride(s.max_patch_inputs) * 2; }

  static int64_t sample_bytes(const Scratch& s) { return sample_scratch_bytes(s.max_sequences, s.max_vocabulary); }

  // Fewer key/value heads are split into more parts; a scratch does not know how many there are.
  int64_t decode_bytes(const Scratch& s) const {
    int64_t most = 0;
    for (int64_t kv = 1; kv <= s.max_heads; ++kv)
      if (s.max_heads % kv == 0)
        most = std::max(most, attention_decode_scratch_bytes(static_cast<int32_t>(s.max_sequences), static_cast<int32_t>(s.max_heads), static_cast<int32_t>(kv),
                                                             static_cast<int32_t>(s.max_head_size), info_.multiprocessors));
    return most;
  }

  const DeviceInfo info_;
  const bool warm_;
  const Stream stream_;
  Queue queue_;
  std::map<uint64_t, Graph> graphs_;
  std::vector<void*> blocks_;
  std::vector<char> row_;
  char* staging_ = nullptr;
  Event staged_[2];
  int half_ = 0;
  int64_t used_ = 0;
  bool filled_ = false;                                   // both halves have been used
  std::vector<Download> downloads_;
  char* landing_ = nullptr;                               // pinned, a part of landing_bytes_ for each of downloads_
  int64_t landing_bytes_ = 0;
  std::optional<CublasLt> cublaslt_;
  void *patches_ = nullptr, *decode_ = nullptr, *sample_ = nullptr, *workspace_ = nullptr;
};

}  // namespace

Ops* make_cuda_ops(int device, Dtype act, bool cublaslt, bool deterministic, bool warm) { return new CudaOps(device, act, cublaslt, deterministic, warm); }

}  // namespace jvlm

extern "C" __attribute__((visibility("default"))) jvlm::Ops* jvlm_make_ops(int device, int act, int deterministic) {
#ifdef __CUDACC__
  const bool cublaslt = true, warm = true;
#else
  const bool cublaslt = false;                             // the emulation's memory and streams are not the driver's
  const bool warm = std::getenv("JVLM_EMU_WARM");          // which takes it seconds: a test asks for it
#endif
  return jvlm::make_cuda_ops(device, static_cast<jvlm::Dtype>(act), cublaslt, deterministic != 0, warm);
}
