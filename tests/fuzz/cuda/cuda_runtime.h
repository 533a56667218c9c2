// As much of CUDA as generated layers use, for sanitizers: each thread of a launch is a thread of the host, on ordinary
// memory, and cublasSgemm is a BLAS's. Two launches run one after the other, as in one stream.
#pragma once
#include <math.h>
#include <pthread.h>

#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x = 1) : x(x), y(1), z(1) {}
};
static thread_local dim3 blockIdx, threadIdx, blockDim;
static thread_local pthread_barrier_t* block_barrier;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
};
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };

static inline void __syncthreads() { pthread_barrier_wait(block_barrier); }

template <typename... Wanted, typename... Given>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given&&... given) {
  if (config->gridDim.x == 0 || config->blockDim.x > 1024) return cudaErrorInvalidConfiguration;
  std::vector<pthread_barrier_t> barriers(config->gridDim.x);
  std::vector<std::thread> threads;
  for (unsigned block = 0; block < config->gridDim.x; ++block) {
    pthread_barrier_init(&barriers[block], nullptr, config->blockDim.x);
    for (unsigned thread = 0; thread < config->blockDim.x; ++thread) {
      threads.emplace_back([=, &barriers] {
        blockDim = config->blockDim;
        blockIdx.x = block;
        threadIdx.x = thread;
        block_barrier = &barriers[block];
        kernel(given...);
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (pthread_barrier_t& barrier : barriers) pthread_barrier_destroy(&barrier);
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
