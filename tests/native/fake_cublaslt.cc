// A libcublasLt over host memory, in plain loops, that holds its caller to the interface: every attribute's size, the order of calls, leading
// dimensions, alignment. FAKE_VERSION, FAKE_CREATE (status of cublasLtCreate) and FAKE_LACKING make the ones that cannot be used.
#include "fake_cublaslt.h"

#include <cmath>
#include <cstring>
#include <initializer_list>

#include "base/bf16.h"
#include "ops/cuda/cublaslt_abi.h"

#ifndef FAKE_VERSION
#define FAKE_VERSION 130100
#endif
#ifndef FAKE_CREATE
#define FAKE_CREATE 0
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace jvlm::cuda::lt;

EXPORT FakeCublasLt fake_cublaslt;
FakeCublasLt fake_cublaslt;

namespace {

constexpr int kInvalid = 7;                                // CUBLAS_STATUS_INVALID_VALUE
constexpr uint64_t kMagic = 0x6a766c6d;

struct Matmul {
  int compute, scale;
  int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N, bias_type = -1;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct Shape {
  int type;
  uint64_t rows, cols;
  int64_t leading;
};
struct Wishes {
  uint64_t workspace = 0;
  uint32_t reduction = 7, alignment[4] = {256, 256, 256, 256};
};

int broken(const char* what) {
  if (!fake_cublaslt.wrong) fake_cublaslt.wrong = what;
  return kInvalid;
}

template <class T>
int take(T& to, const void* value, size_t bytes) {
  if (bytes != sizeof to) return broken("an attribute's size");
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
int drop(void* object) {
  if (!object) return broken("null destroyed");
  delete static_cast<T*>(object);
  --fake_cublaslt.objects;
  return CUBLAS_STATUS_SUCCESS;
}

bool consistent(const Matmul& m, const Shape& a, const Shape& b, const Shape& c, const Shape& d) {
  for (const Shape* s : {&a, &b, &c, &d})
    if (s->leading < static_cast<int64_t>(s->rows)) return broken("a leading dimension"), false;
  if (m.compute != CUBLAS_COMPUTE_32F || m.scale != CUDA_R_32F) return broken("the compute type"), false;
  if (m.trans_a != CUBLAS_OP_T || m.trans_b != CUBLAS_OP_N) return broken("a transposition"), false;
  if (a.type != CUDA_R_16BF || b.type != CUDA_R_16BF || c.type != d.type) return broken("a type"), false;
  if (a.rows != b.rows || a.cols != d.rows || b.cols != d.cols || c.rows != d.rows || c.cols != d.cols || c.leading != d.leading)
    return broken("a shape"), false;
  return true;
}

const uint16_t* column(const void* p, const Shape& s, uint64_t c) { return static_cast<const uint16_t*>(p) + static_cast<int64_t>(c) * s.leading; }

}  // namespace

EXPORT size_t cublasLtGetVersion() { return FAKE_VERSION; }
EXPORT int cublasLtCreate(Handle* handle) {
  if (FAKE_CREATE) return FAKE_CREATE;
  *handle = &fake_cublaslt;
  ++fake_cublaslt.handles;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtDestroy(Handle handle) {
  if (handle != &fake_cublaslt) return broken("the handle");
  --fake_cublaslt.handles;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT int cublasLtMatmulDescCreate(Desc* desc, int compute, int scale) {
  *desc = new Matmul{compute, scale};
  ++fake_cublaslt.objects;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtMatmulDescDestroy(Desc desc) { return drop<Matmul>(desc); }
EXPORT int cublasLtMatmulDescSetAttribute(Desc desc, int attribute, const void* value, size_t bytes) {
  Matmul& m = *static_cast<Matmul*>(desc);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(m.trans_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(m.trans_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(m.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(m.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(m.bias_type, value, bytes);
    default: return broken("an attribute of a product");
  }
}

EXPORT int cublasLtMatrixLayoutCreate(Layout* layout, int type, uint64_t rows, uint64_t cols, int64_t leading) {
  *layout = new Shape{type, rows, cols, leading};
  ++fake_cublaslt.objects;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtMatrixLayoutDestroy(Layout layout) { return drop<Shape>(layout); }
EXPORT int cublasLtMatrixLayoutSetAttribute(Layout layout, int attribute, const void* value, size_t bytes) {
  if (attribute != CUBLASLT_MATRIX_LAYOUT_COLS) return broken("an attribute of a layout");
  return take(static_cast<Shape*>(layout)->cols, value, bytes);
}

EXPORT int cublasLtMatmulPreferenceCreate(Preference* preference) {
  *preference = new Wishes;
  ++fake_cublaslt.objects;
  return CUBLAS_STATUS_SUCCESS;
}
EXPORT int cublasLtMatmulPreferenceDestroy(Preference preference) { return drop<Wishes>(preference); }
EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference preference, int attribute, const void* value, size_t bytes) {
  Wishes& w = *static_cast<Wishes*>(preference);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return take(w.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return take(w.reduction, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(w.alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    default: return broken("an attribute of a preference");
  }
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
                                          HeuristicResult* results, int* found) {
  FakeCublasLt& f = fake_cublaslt;
  const Matmul& m = *static_cast<Matmul*>(desc);
  const Shape& out = *static_cast<Shape*>(d);
  const Wishes& w = *static_cast<Wishes*>(preference);
  if (handle != &f || wanted < 1) return broken("the heuristic's arguments");
  if (!consistent(m, *static_cast<Shape*>(a), *static_cast<Shape*>(b), *static_cast<Shape*>(c), out)) return kInvalid;
  ++f.heuristics;
  f.workspace_bytes = w.workspace, f.reduction = w.reduction;
  std::memcpy(f.alignment, w.alignment, sizeof f.alignment);
  *found = 0;
  if (!f.float_bias_on_bf16 && m.epilogue & CUBLASLT_EPILOGUE_BIAS && out.type == CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {{{kMagic, out.cols, m.epilogue}}, static_cast<size_t>(w.workspace), CUBLAS_STATUS_SUCCESS, 1, {}};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

EXPORT int cublasLtMatmul(Handle handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b, Layout b_layout, const void* beta,
                          const void* c, Layout c_layout, void* d, Layout d_layout, const Algo* algo, void* workspace, size_t workspace_bytes,
                          CUstream_st* stream) {
  FakeCublasLt& f = fake_cublaslt;
  const Matmul& m = *static_cast<Matmul*>(desc);
  const Shape &as = *static_cast<Shape*>(a_layout), &bs = *static_cast<Shape*>(b_layout), &ds = *static_cast<Shape*>(d_layout);
  if (handle != &f) return broken("the handle");
  if (!consistent(m, as, bs, *static_cast<Shape*>(c_layout), ds)) return kInvalid;
  if (algo->data[0] != kMagic || algo->data[1] < ds.cols || algo->data[2] != m.epilogue) return broken("another product's algorithm");
  if (workspace_bytes != f.workspace_bytes || !workspace) return broken("the workspace");
  for (const void* p : {a, b, c, static_cast<const void*>(d), m.bias})
    if (reinterpret_cast<uintptr_t>(p) % 16) return broken("an alignment");
  const bool biased = m.epilogue & CUBLASLT_EPILOGUE_BIAS, gelu = m.epilogue & CUBLASLT_EPILOGUE_GELU;
  if (biased && (!m.bias || m.bias_type != CUDA_R_32F)) return broken("the bias");
  const float by = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  if (keep != 0 && c != d) return broken("C is not D");
  if (f.product_status) return f.product_status;
  ++f.products;
  f.epilogue = static_cast<int>(m.epilogue), f.bias_type = m.bias_type, f.beta = keep, f.stream = stream;
  static_cast<char*>(workspace)[0] = static_cast<char*>(workspace)[workspace_bytes - 1] = 1;
  for (uint64_t t = 0; t < ds.cols; ++t)
    for (uint64_t i = 0; i < ds.rows; ++i) {
      const uint16_t *x = column(b, bs, t), *w = column(a, as, i);
      double sum = 0;
      for (uint64_t k = 0; k < as.rows; ++k) sum += static_cast<double>(jvlm::from_bf16(w[k])) * jvlm::from_bf16(x[k]);
      sum *= by;
      const int64_t at = static_cast<int64_t>(t) * ds.leading + static_cast<int64_t>(i);
      if (keep != 0) sum += keep * (ds.type == CUDA_R_32F ? static_cast<const float*>(c)[at] : jvlm::from_bf16(static_cast<const uint16_t*>(c)[at]));
      if (biased) sum += static_cast<const float*>(m.bias)[i];
      if (gelu) sum = 0.5 * sum * (1 + std::tanh(std::sqrt(2 / M_PI) * (sum + 0.044715 * sum * sum * sum)));
      if (ds.type == CUDA_R_32F)
        static_cast<float*>(d)[at] = static_cast<float>(sum);
      else
        static_cast<uint16_t*>(d)[at] = jvlm::to_bf16(static_cast<float>(sum));
    }
  return CUBLAS_STATUS_SUCCESS;
}

#ifndef FAKE_LACKING
EXPORT int cublasLtMatmulAlgoCheck(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, const Algo* algo, HeuristicResult* result) {
  FakeCublasLt& f = fake_cublaslt;
  const Shape& out = *static_cast<Shape*>(d);
  if (handle != &f || !consistent(*static_cast<Matmul*>(desc), *static_cast<Shape*>(a), *static_cast<Shape*>(b), *static_cast<Shape*>(c), out)) return kInvalid;
  ++f.checks;
  if (algo->data[0] != kMagic || algo->data[1] < out.cols || static_cast<int64_t>(out.cols) == f.refused_rows) return CUBLAS_STATUS_NOT_SUPPORTED;
  *result = {*algo, static_cast<size_t>(f.workspace_bytes), CUBLAS_STATUS_SUCCESS, 1, {}};
  return CUBLAS_STATUS_SUCCESS;
}
#endif
