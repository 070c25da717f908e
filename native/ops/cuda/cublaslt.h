// Products by NVIDIA's cuBLASLt, which is opened at run time and may be absent: our own gemm() serves then. Looked for as libcublasLt.so.13,
// libcublasLt.so.12, libcublasLt.so, the first that can be used is taken: in the folder that JVLM_CUBLASLT names and nowhere else, where it names one
// (none there that can be used is an error), else where the loader looks (LD_LIBRARY_PATH, the system's folders).
#pragma once
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "ops/cuda/cublaslt_abi.h"
#include "ops/cuda/kernels.h"

namespace jvlm::cuda {

// Rows for which an algorithm is chosen: `rows` rounded up to four steps an octave, 16 at least. A product of fewer rows of the same bucket takes
// the same algorithm, after asking whether it may.
int64_t row_bucket(int64_t rows);

class CublasLt {
 public:
  // Opens it for the calling thread's card.
  explicit CublasLt(int architecture);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // "products by cuBLASLt 13.1", or "products by jvlm" and why.
  const std::string& description() const { return description_; }

  // Device memory that product() works in, 0 where there is no library.
  int64_t workspace_bytes() const;

  // Queues the product and gives true; false: nothing was queued, the caller's own product serves. It is taken where cuBLASLt computes what ops.h
  // says, sums and bias in float, rounded once: bf16 weights in packed rows; store without activation or with tanh GELU, add without a layer
  // scale. Declined: erf GELU and SiLU, gate, layer scale, int8, operands that are not 16-byte aligned, and what the library itself has no
  // algorithm for (a float bias on bf16 output may be such).
  bool product(const Queue& queue, Tensor out, Tensor x, const Matrix& w, const End& end, void* workspace);

 private:
  struct Plan;                                             // descriptors and algorithm of one kind of product
  // row bucket, n, k, stride of x, stride of out, type of out, epilogue
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int, int>;

  bool open(const std::string& name);
  std::unique_ptr<Plan> plan(const Key& key, int64_t weight_stride, const float* bias);

  const int64_t workspace_;
  lt::Functions lt_{};
  lt::Handle handle_ = nullptr;
  std::string description_, unusable_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace jvlm::cuda
