// As much of CUDA as generated layers use, on the host: a kernel is run for one thread after the other, on ordinary
// memory, and cublasSgemm is a BLAS's. It shows what generated CUDA computes, and nothing about a GPU.
#pragma once
#include <math.h>

#include <cstring>

#define __global__
#define __device__

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x = 1) : x(x), y(1), z(1) {}
};
static thread_local dim3 blockIdx, threadIdx, blockDim;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
};
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };

template <typename... Wanted, typename... Given>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given&&... given) {
  if (config->gridDim.x == 0 || config->blockDim.x > 1024) return cudaErrorInvalidConfiguration;
  blockDim = config->blockDim;
  for (blockIdx.x = config->gridDim.x; blockIdx.x-- > 0;) {  // in an order that nobody may count on
    for (threadIdx.x = config->blockDim.x; threadIdx.x-- > 0;) kernel(given...);
  }
  return cudaSuccess;
}

static inline cudaError_t cudaMemcpyAsync(void* into, const void* from, size_t bytes, cudaMemcpyKind, int) {
  std::memcpy(into, from, bytes);
  return cudaSuccess;
}

static inline cudaError_t cudaMemsetAsync(void* into, int value, size_t bytes, int) {
  std::memset(into, value, bytes);
  return cudaSuccess;
}

static inline float atomicAdd(float* into, float value) {
  const float before = *into;
  *into += value;
  return before;
}

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);

// By columns, as cuBLAS has matrices; an operation is 0 for a matrix as it is, 1 for its transpose.
extern "C" __attribute__((visibility("hidden"))) inline int cublasSgemm_v2(
    void*, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha, const float* a, int lda,
    const float* b, int ldb, const float* beta, float* c, int ldc) {
  const int by_columns = 102, as_it_is = 111;
  if (lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m) return 7;  // as cuBLAS says it
  cblas_sgemm(by_columns, as_it_is + transpose_a, as_it_is + transpose_b, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc);
  return 0;
}
