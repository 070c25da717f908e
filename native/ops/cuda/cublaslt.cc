#include "ops/cuda/cublaslt.h"

#include <bit>
#include <cstdlib>

#include "base/error.h"
#include "base/os.h"

namespace jvlm::cuda {

using namespace lt;

namespace {

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
constexpr size_t kOldest = 120000;                         // 12.0: its constants and signatures are those of 13
constexpr uint32_t kAlignment = 16;                        // of rows (kernels.h); the library takes 256 for granted unless told

void must(int status, const char* doing) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw device_error(std::string("cuBLASLt failed while ") + doing + " (status " + std::to_string(status) +
                       "); open the engine again, and if it returns, take another version of cuBLASLt or remove it: jvlm's own products serve then");
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % kAlignment == 0; }
bool aligned(const Tensor& t) { return aligned(t.data) && t.stride * size_of(t.dtype) % kAlignment == 0; }

}  // namespace

int64_t row_bucket(int64_t rows) {
  const auto step = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(rows > 64 ? rows : 64)) / 4);
  return (rows + step - 1) / step * step;
}

struct CublasLt::Plan {
  explicit Plan(const Functions& functions) : lt(functions) {}
  ~Plan() {
    if (desc) lt.cublasLtMatmulDescDestroy(desc);
    for (Layout layout : {weights, input, output})
      if (layout) lt.cublasLtMatrixLayoutDestroy(layout);
  }
  template <class T>
  void set(int attribute, T value) {
    must(lt.cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof value), "describing a product");
  }

  const Functions& lt;
  Desc desc = nullptr;
  Layout weights = nullptr, input = nullptr, output = nullptr;
  Algo algo{};
  bool served = false;                                     // the library has an algorithm
  int64_t rows = 0;                                        // what the layouts and the last answer are for
  bool fits = false;                                       // the algorithm serves so many rows
};

CublasLt::CublasLt(int architecture) : workspace_(architecture >= 90 ? 32 << 20 : 4 << 20) {
  // A folder that the user names is not replaced by what else lies on the machine.
  const char* folder = std::getenv("JVLM_CUBLASLT");
  if (folder && *folder) {
    for (const char* name : kNames)
      if (open(std::string(folder) + "/" + name)) return;
    throw device_error("The folder that JVLM_CUBLASLT names holds no libcublasLt.so.13, libcublasLt.so.12 or libcublasLt.so that can be used" +
                       (unusable_.empty() ? std::string() : " (" + unusable_ + ")") + "; name the folder of cuBLAS 12 or newer, or unset JVLM_CUBLASLT");
  }
  for (const char* name : kNames)
    if (open(name)) return;
  description_ = "products by jvlm (" + (unusable_.empty() ? "cuBLASLt was not found" : unusable_) + ")";
}

CublasLt::~CublasLt() {
  if (handle_ && !hung()) lt_.cublasLtDestroy(handle_);
}

// The first candidate that is there and cannot be used is remembered, for the sentence that tells so.
bool CublasLt::open(const std::string& name) {
  const os::Library library = os::open_library(name);
  if (!library.there) return false;
  auto unusable = [&](const std::string& why) {
    if (unusable_.empty()) unusable_ = name.substr(name.rfind('/') + 1) + " " + why;
    return false;
  };
  if (!library.handle) return unusable("cannot be loaded");
  bool all = true;
#define FIND(function) all &= (lt_.function = reinterpret_cast<decltype(lt_.function)>(library.symbol(#function))) != nullptr
  FIND(cublasLtGetVersion);
  FIND(cublasLtCreate);
  FIND(cublasLtDestroy);
  FIND(cublasLtMatmulDescCreate);
  FIND(cublasLtMatmulDescDestroy);
  FIND(cublasLtMatmulDescSetAttribute);
  FIND(cublasLtMatrixLayoutCreate);
  FIND(cublasLtMatrixLayoutDestroy);
  FIND(cublasLtMatrixLayoutSetAttribute);
  FIND(cublasLtMatmulPreferenceCreate);
  FIND(cublasLtMatmulPreferenceDestroy);
  FIND(cublasLtMatmulPreferenceSetAttribute);
  FIND(cublasLtMatmulAlgoGetHeuristic);
  FIND(cublasLtMatmulAlgoCheck);
  FIND(cublasLtMatmul);
#undef FIND
  if (!all) return unusable("lacks a function");
  const size_t version = lt_.cublasLtGetVersion();
  if (version < kOldest) return unusable("is older than 12");
  if (const int status = lt_.cublasLtCreate(&handle_)) {
    handle_ = nullptr;
    return unusable("does not start on this card and driver (status " + std::to_string(status) + ")");
  }
  description_ = "products by cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
  return true;
}

int64_t CublasLt::workspace_bytes() const { return handle_ ? workspace_ : 0; }

// The library knows columns only. Rows of `stride` elements are columns of that leading dimension, so that out^T = W x^T reads: D (n, T), ld out's
// stride, = A^T B with A (k, n), ld the weights' stride, and B (k, T), ld x's stride. The bias is one number for each row of D.
std::unique_ptr<CublasLt::Plan> CublasLt::plan(const Key& key, int64_t weight_stride, const float* bias) {
  const auto& [rows, n, k, x_stride, out_stride, type, epilogue] = key;
  const char* doing = "describing a product";
  auto p = std::make_unique<Plan>(lt_);
  must(lt_.cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), doing);
  p->set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  p->set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  p->set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(epilogue));
  if (bias) {
    p->set<int32_t>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, CUDA_R_32F);
    p->set<const void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  auto unsigned_ = [](int64_t v) { return static_cast<uint64_t>(v); };
  must(lt_.cublasLtMatrixLayoutCreate(&p->weights, CUDA_R_16BF, unsigned_(k), unsigned_(n), weight_stride), doing);
  must(lt_.cublasLtMatrixLayoutCreate(&p->input, CUDA_R_16BF, unsigned_(k), unsigned_(rows), x_stride), doing);
  must(lt_.cublasLtMatrixLayoutCreate(&p->output, type, unsigned_(n), unsigned_(rows), out_stride), doing);

  Preference preference = nullptr;
  must(lt_.cublasLtMatmulPreferenceCreate(&preference), doing);
  const std::unique_ptr<void, int (*)(Preference)> owner(preference, lt_.cublasLtMatmulPreferenceDestroy);
  auto prefer = [&](int attribute, auto value) { must(lt_.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), doing); };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, unsigned_(workspace_));
  // Parts of a sum that is split over blocks are joined as floats, not in the output's type.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (int operand : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(operand, kAlignment);
  HeuristicResult best{};
  int found = 0;
  const int status = lt_.cublasLtMatmulAlgoGetHeuristic(handle_, p->desc, p->weights, p->input, p->output, p->output, preference, 1, &best, &found);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) must(status, "choosing an algorithm");
  p->served = p->fits = status == CUBLAS_STATUS_SUCCESS && found > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  p->algo = best.algo;
  p->rows = rows;
  return p;
}

bool CublasLt::product(const Queue& queue, Tensor out, Tensor x, const Matrix& w, const End& end, void* workspace) {
  if (!handle_ || !workspace) return false;
  const bool add = end.kind == End::add;
  if (end.kind == End::gate || end.layer_scale || w.dtype != Dtype::bf16 || !w.packed || x.dtype != Dtype::bf16) return false;
  if (end.act != Act::none && (end.act != Act::gelu_tanh || add)) return false;
  if (add ? out.dtype != Dtype::f32 : out.dtype != Dtype::f32 && out.dtype != Dtype::bf16) return false;
  if (!aligned(out) || !aligned(x) || !aligned(w.data) || !aligned(end.bias)) return false;

  const int epilogue = end.act == Act::none ? (end.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT)
                                            : (end.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU);
  const Key key{row_bucket(x.rows), w.n, w.k, x.stride, out.stride, out.dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF, epilogue};
  std::unique_ptr<Plan>& p = plans_[key];
  if (!p) p = plan(key, weight_stride(w.k), end.bias);
  if (!p->served) return false;
  if (end.bias) p->set<const void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, end.bias);
  if (p->rows != x.rows) {
    const auto rows = static_cast<uint64_t>(x.rows);
    for (Layout layout : {p->input, p->output})
      must(lt_.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &rows, sizeof rows), "describing a product");
    HeuristicResult answer{};
    const int status = lt_.cublasLtMatmulAlgoCheck(handle_, p->desc, p->weights, p->input, p->output, p->output, &p->algo, &answer);
    p->fits = status == CUBLAS_STATUS_SUCCESS && answer.workspace <= static_cast<size_t>(workspace_);
    p->rows = x.rows;
  }
  if (!p->fits) return false;
  const float alpha = 1, beta = add ? 1 : 0;
  must(lt_.cublasLtMatmul(handle_, p->desc, &alpha, w.data, p->weights, x.data, p->input, &beta, out.data, p->output, out.data, p->output, &p->algo,
                           workspace, static_cast<size_t>(workspace_), queue.stream),
        "queueing a product");
  return true;
}

}  // namespace jvlm::cuda
