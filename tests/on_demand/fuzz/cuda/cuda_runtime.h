// As much of CUDA as generated layers use, for sanitizers: each thread of a launch is a thread of the host, on ordinary
// memory, and cublasSgemm is a BLAS's. Two launches run one after the other, as in one stream; a graph is a list of them.
#pragma once
#include <math.h>
#include <pthread.h>

#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__  // of each block: tests/on_demand/fuzz/sanitized.py
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x = 1) : x(x), y(1), z(1) {}
};
static thread_local dim3 blockIdx, threadIdx, blockDim, gridDim;
static thread_local pthread_barrier_t *block_barrier, *grid_barrier;
static thread_local float* block_memory;

typedef struct Stream* cudaStream_t;
typedef std::vector<std::function<void()>>*cudaGraph_t, *cudaGraphExec_t;
static thread_local cudaGraph_t recorded;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum { cudaStreamNonBlocking = 1 };
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative = 2 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 3, cudaDevAttrMaxSharedMemoryPerBlockOptin = 1 << 20 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

static inline cudaError_t done(std::function<void()> work) {
  recorded ? recorded->push_back(work) : work();
  return cudaSuccess;
}

static inline void __syncthreads() { pthread_barrier_wait(block_barrier); }
namespace cooperative_groups {
struct grid_group {
  void sync() const { pthread_barrier_wait(grid_barrier); }
};
static inline grid_group this_grid() { return {}; }
}  // namespace cooperative_groups

template <typename... Wanted, typename... Given>
static void run(dim3 grid, dim3 block, size_t shared, void (*kernel)(Wanted...), Given... given) {
  std::vector<pthread_barrier_t> barriers(grid.x);
  std::vector<std::vector<float>> memory(grid.x, std::vector<float>(shared / sizeof(float)));
  pthread_barrier_t whole;
  pthread_barrier_init(&whole, nullptr, grid.x * block.x);
  std::vector<std::thread> threads;
  for (unsigned at = 0; at < grid.x; ++at) {
    pthread_barrier_init(&barriers[at], nullptr, block.x);
    for (unsigned thread = 0; thread < block.x; ++thread) {
      threads.emplace_back([=, &barriers, &memory, &whole] {
        gridDim = grid;
        blockDim = block;
        blockIdx.x = at;
        threadIdx.x = thread;
        block_barrier = &barriers[at];
        block_memory = memory[at].data();
        grid_barrier = &whole;
        kernel(given...);
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (pthread_barrier_t& barrier : barriers) pthread_barrier_destroy(&barrier);
  pthread_barrier_destroy(&whole);
}

template <typename... Wanted, typename... Given>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given... given) {
  if (config->gridDim.x == 0 || config->blockDim.x > 1024) return cudaErrorInvalidConfiguration;
  const dim3 grid = config->gridDim, block = config->blockDim;
  const size_t shared = config->dynamicSmemBytes;
  return done([=] { run(grid, block, shared, kernel, given...); });
}

static inline cudaError_t cudaMemcpyAsync(void* into, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return done([=] { std::memcpy(into, from, bytes); });
}

static inline cudaError_t cudaMemsetAsync(void* into, int value, size_t bytes, cudaStream_t) {
  return done([=] { std::memset(into, value, bytes); });
}

static inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
static inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int) {
  return *value = name, cudaSuccess;
}
template <typename T>
static cudaError_t cudaFuncSetAttribute(T*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) { return cudaSuccess; }
static inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  recorded = new std::vector<std::function<void()>>;
  return cudaSuccess;
}
static inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(recorded, nullptr);
  return cudaSuccess;
}
static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, int) {
  *executable = new std::vector<std::function<void()>>(*graph);
  return cudaSuccess;
}
static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : *executable) work();
  return cudaSuccess;
}
static inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) { return delete executable, cudaSuccess; }

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
  const float scale = *alpha, kept = *beta;
  return done([=] {
    cblas_sgemm(by_columns, as_it_is + transpose_a, as_it_is + transpose_b, m, n, k, scale, a, lda, b, ldb, kept, c, ldc);
  });
}
extern "C" __attribute__((visibility("hidden"))) inline int cublasSetStream_v2(void*, cudaStream_t) { return 0; }
extern "C" __attribute__((visibility("hidden"))) inline int cublasGetStream_v2(void*, cudaStream_t*) { return 0; }
