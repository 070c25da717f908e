// Breaks every rule of cmake/Kernels.cmake once; never compiled.
#include <cuda_bf16.h>
__global__ void kernel(int* out) {
  __shared__ int s[32];
  asm volatile("bar.sync 0;");
  __syncthreads();
  ptx::an_instruction_that_is_not_there();
}
void start() {
  kernel<<<1, 1>>>(nullptr);
  cudaDeviceSynchronize();
}
