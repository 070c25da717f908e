// What cublaslt_abi.h declares by hand, against NVIDIA's header where the compiler finds it: values, sizes, places and signatures.
#include "ops/cuda/cublaslt_abi.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#include <type_traits>

namespace {

namespace lt = jvlm::cuda::lt;

#define SAME(name) static_assert(static_cast<int>(lt::name) == static_cast<int>(::name))
SAME(CUBLAS_STATUS_SUCCESS);
SAME(CUBLAS_STATUS_NOT_SUPPORTED);
SAME(CUBLAS_COMPUTE_32F);
SAME(CUDA_R_32F);
SAME(CUDA_R_16BF);
SAME(CUBLAS_OP_N);
SAME(CUBLAS_OP_T);
SAME(CUBLASLT_MATRIX_LAYOUT_COLS);
SAME(CUBLASLT_MATMUL_DESC_TRANSA);
SAME(CUBLASLT_MATMUL_DESC_TRANSB);
SAME(CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
SAME(CUBLASLT_EPILOGUE_DEFAULT);
SAME(CUBLASLT_EPILOGUE_BIAS);
SAME(CUBLASLT_EPILOGUE_GELU);
SAME(CUBLASLT_EPILOGUE_GELU_BIAS);
SAME(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);

static_assert(sizeof(lt::Algo) == sizeof(cublasLtMatmulAlgo_t) && sizeof(lt::HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(lt::HeuristicResult, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(lt::HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));

// The same number of parameters, each of the same size and kind: an enum is passed as the int that stands for it, an opaque handle as a pointer.
template <class Ours, class Theirs>
constexpr bool passed_alike() {
  if constexpr (std::is_pointer_v<Theirs>)
    return std::is_pointer_v<Ours>;
  else if constexpr (std::is_enum_v<Theirs>)
    return std::is_same_v<Ours, int> && sizeof(Theirs) == sizeof(int);
  else
    return std::is_same_v<Ours, Theirs> || (std::is_integral_v<Ours> && std::is_integral_v<Theirs> && sizeof(Ours) == sizeof(Theirs));
}
template <class Ours, class Theirs>
struct Alike : std::false_type {};
template <class R, class... A, class S, class... B>
  requires(sizeof...(A) == sizeof...(B))
struct Alike<R (*)(A...), S (*)(B...)> : std::bool_constant<passed_alike<R, S>() && (passed_alike<A, B>() && ...)> {};

#define ALIKE(function) static_assert(Alike<decltype(lt::Functions::function), decltype(&::function)>::value)
ALIKE(cublasLtGetVersion);
ALIKE(cublasLtCreate);
ALIKE(cublasLtDestroy);
ALIKE(cublasLtMatmulDescCreate);
ALIKE(cublasLtMatmulDescDestroy);
ALIKE(cublasLtMatmulDescSetAttribute);
ALIKE(cublasLtMatrixLayoutCreate);
ALIKE(cublasLtMatrixLayoutDestroy);
ALIKE(cublasLtMatrixLayoutSetAttribute);
ALIKE(cublasLtMatmulPreferenceCreate);
ALIKE(cublasLtMatmulPreferenceDestroy);
ALIKE(cublasLtMatmulPreferenceSetAttribute);
ALIKE(cublasLtMatmulAlgoGetHeuristic);
ALIKE(cublasLtMatmulAlgoCheck);
ALIKE(cublasLtMatmul);

}  // namespace
#endif
