// As much of CUDA as generated layers use, for sanitizers: CUDA_HOST_THREADS threads of the host share the threads of
// each launch, on ordinary memory, and cublasSgemm is a BLAS's.
#pragma once
#include <math.h>

#include <cstring>
#include <thread>
#include <vector>

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

#ifndef CUDA_HOST_THREADS  // where generated code is only compiled
#define CUDA_HOST_THREADS 1
#endif

template <typename... Wanted, typename... Given>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given&&... given) {
  if (config->gridDim.x == 0 || config->blockDim.x > 1024) return cudaErrorInvalidConfiguration;
  std::vector<std::thread> threads;
  for (unsigned own = 0; own < CUDA_HOST_THREADS; ++own) {
    threads.emplace_back([=] {
      blockDim = config->blockDim;
      for (unsigned i = 0; i < config->gridDim.x * blockDim.x; ++i) {
        if ((i * 2654435761u >> 16) % CUDA_HOST_THREADS != own) continue;  // neighbours, and rows, with different ones
        blockIdx.x = i / blockDim.x;
        threadIdx.x = i % blockDim.x;
        kernel(given...);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
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
  int known, wanted;
  float before;
  __atomic_load(reinterpret_cast<int*>(into), &known, __ATOMIC_RELAXED);
  do {
    std::memcpy(&before, &known, sizeof before);
    const float after = before + value;
    std::memcpy(&wanted, &after, sizeof wanted);
  } while (!__atomic_compare_exchange(reinterpret_cast<int*>(into), &known, &wanted, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED));
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
