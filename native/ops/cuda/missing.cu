// What nobody has written yet; goes away entry by entry.
#include "base/error.h"
#include "ops/cuda/kernels.h"

#define MISSING(signature) __attribute__((weak)) signature { throw device_error("A kernel is missing"); }

namespace jvlm::cuda {
MISSING(void gemm(const Queue&, Tensor, Tensor, const Matrix&, const End&))
MISSING(void matvec(const Queue&, Tensor, Tensor, const Norm*, const Matrix&, const End&))
MISSING(void patch_embed(const Queue&, Tensor, const uint8_t*, int32_t, int32_t, int32_t, const Matrix&, const float*, const float*, const float*, const float[3], const float[3], void*))
MISSING(void attention_dense(const Queue&, Tensor, Tensor, int32_t, int32_t, int32_t, int32_t, float))
MISSING(void pixel_shuffle_norm(const Queue&, Tensor, Tensor, int32_t, int32_t, const Norm&))
MISSING(void norm(const Queue&, Tensor, Tensor, const Norm&))
MISSING(void gather(const Queue&, Tensor, Tensor, const int32_t*))
MISSING(void embed(const Queue&, Tensor, const int32_t*, const int32_t*, const int32_t*, const Matrix&, Tensor))
MISSING(void argmax(const Queue&, int32_t*, Tensor))
MISSING(void rope_table(const Queue&, float*, float*, const Step&, const float*, int32_t, float))
MISSING(void rope_append(const Queue&, Tensor, const KvCache&, int32_t, const Step&))
MISSING(void attention_prefill(const Queue&, Tensor, Tensor, const KvCache&, int32_t, float, int32_t, const Step&))
__attribute__((weak)) int64_t attention_decode_scratch_bytes(int32_t, int32_t, int32_t, int32_t, int32_t) { return 0; }
MISSING(void attention_decode(const Queue&, Tensor, Tensor, const KvCache&, int32_t, float, int32_t, const Step&, bool, void*))
}  // namespace jvlm::cuda
