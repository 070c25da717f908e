// The part of cuBLASLt's C interface that cublaslt.cc uses, declared by hand: neither a header nor a library of NVIDIA's is needed to build. The
// names of the constants are NVIDIA's. CublasLtConstantsTest reads them out of this file and compares them with the Bytedeco presets; where
// cublasLt.h can be found, cublaslt_header.cc compares values, sizes and signatures with it.
#pragma once
#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace jvlm::cuda::lt {

constexpr int CUBLAS_STATUS_SUCCESS = 0;
constexpr int CUBLAS_STATUS_NOT_SUPPORTED = 15;
constexpr int CUBLAS_COMPUTE_32F = 68;
constexpr int CUDA_R_32F = 0;
constexpr int CUDA_R_16BF = 14;
constexpr int CUBLAS_OP_N = 0;
constexpr int CUBLAS_OP_T = 1;

constexpr int CUBLASLT_MATRIX_LAYOUT_COLS = 3;             // uint64_t
constexpr int CUBLASLT_MATMUL_DESC_TRANSA = 3;             // int32_t
constexpr int CUBLASLT_MATMUL_DESC_TRANSB = 4;             // int32_t
constexpr int CUBLASLT_MATMUL_DESC_EPILOGUE = 7;           // uint32_t
constexpr int CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8;       // void*
constexpr int CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26;    // int32_t
constexpr int CUBLASLT_EPILOGUE_DEFAULT = 1;
constexpr int CUBLASLT_EPILOGUE_BIAS = 4;
constexpr int CUBLASLT_EPILOGUE_GELU = 32;                 // the tanh form
constexpr int CUBLASLT_EPILOGUE_GELU_BIAS = 36;
constexpr int CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1;       // uint64_t
constexpr int CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3;     // uint32_t
constexpr int CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5;     // uint32_t, and so the next three
constexpr int CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6;
constexpr int CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7;
constexpr int CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8;
constexpr int CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2;

using Handle = void*;                                      // cublasLtHandle_t
using Desc = void*;                                        // cublasLtMatmulDesc_t
using Layout = void*;                                      // cublasLtMatrixLayout_t
using Preference = void*;                                  // cublasLtMatmulPreference_t

struct Algo {                                              // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct HeuristicResult {                                   // cublasLtMatmulHeuristicResult_t
  Algo algo;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

// One pointer for each function, in a member of its name. Each gives a status unless it says otherwise.
struct Functions {
  size_t (*cublasLtGetVersion)();                          // 130100: 13.1.0
  int (*cublasLtCreate)(Handle* handle);
  int (*cublasLtDestroy)(Handle handle);
  int (*cublasLtMatmulDescCreate)(Desc* desc, int compute, int scale);
  int (*cublasLtMatmulDescDestroy)(Desc desc);
  int (*cublasLtMatmulDescSetAttribute)(Desc desc, int attribute, const void* value, size_t bytes);
  int (*cublasLtMatrixLayoutCreate)(Layout* layout, int type, uint64_t rows, uint64_t cols, int64_t leading);
  int (*cublasLtMatrixLayoutDestroy)(Layout layout);
  int (*cublasLtMatrixLayoutSetAttribute)(Layout layout, int attribute, const void* value, size_t bytes);
  int (*cublasLtMatmulPreferenceCreate)(Preference* preference);
  int (*cublasLtMatmulPreferenceDestroy)(Preference preference);
  int (*cublasLtMatmulPreferenceSetAttribute)(Preference preference, int attribute, const void* value, size_t bytes);
  int (*cublasLtMatmulAlgoGetHeuristic)(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
                                        HeuristicResult* results, int* found);
  int (*cublasLtMatmulAlgoCheck)(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d, const Algo* algo, HeuristicResult* result);
  int (*cublasLtMatmul)(Handle handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b, Layout b_layout, const void* beta,
                        const void* c, Layout c_layout, void* d, Layout d_layout, const Algo* algo, void* workspace, size_t workspace_bytes,
                        CUstream_st* stream);
};

}  // namespace jvlm::cuda::lt
