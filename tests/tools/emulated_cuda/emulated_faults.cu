// A program that uses the emulated device rightly, and then makes the mistake that its argument names.
#include <cooperative_groups.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <curand.h>

#include <cstdio>
#include <string>

enum { N = 100, THREADS = 64 };

template <typename T>
__global__ void twice(int n, const T* x, T* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = 2 * x[i];
}

// reverses each block's part
static __global__ void reverse(float* y) {
  __shared__ float part[THREADS];
  float* const mine = y + blockIdx.x * THREADS;
  part[threadIdx.x] = mine[threadIdx.x];
  __syncthreads();
  mine[threadIdx.x] = part[THREADS - 1 - threadIdx.x];
  __syncthreads();
  if (threadIdx.x == 0) mine[0] += 1;
}

static __global__ void half_waits() {
  if (threadIdx.x % 2) __syncthreads();
}

static __global__ void second_wait() {
  __syncthreads();
  if (threadIdx.x % 2) __syncthreads();
}

// y[block] = the sum of what all blocks wrote; by shared memory of as many floats as a block has threads
static __global__ void sums(float* y, int more) {
  extern __shared__ float part[];
  part[threadIdx.x + more] = blockIdx.x + 1;
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = part[THREADS - 1];
  cooperative_groups::this_grid().sync();
  float sum = 0;
  for (int i = 0; i < gridDim.x; ++i) sum += y[i];
  cooperative_groups::this_grid().sync();
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

static __global__ void one_block_waits(float* y) {
  if (blockIdx.x == 0) cooperative_groups::this_grid().sync();
}

static __global__ void order(int* count, int* seen) { seen[threadIdx.x] = (*count)++; }

static __global__ void reads(const float* x, int at, float* y) { y[0] = x[at]; }

static __global__ void never_launched() {}

template <typename... Parameters, typename... Arguments>
static cudaError_t launch(void (*kernel)(Parameters...), int blocks, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(THREADS);
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <typename... Parameters, typename... Arguments>
static cudaError_t launch_together(void (*kernel)(Parameters...), int blocks, size_t shared, Arguments... arguments) {
  cudaLaunchAttribute together = {};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(THREADS);
  config.dynamicSmemBytes = shared;
  config.attrs = &together;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// A graph that doubles x into y, and adds x times its first number to that
static cudaGraphExec_t recorded(cublasHandle_t blas, cudaStream_t stream, const float* x, float* y) {
  const float one = 1;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cublasSetStream(blas, stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  twice<float><<<2, THREADS, 0, stream>>>(N, x, y);
  cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 1, N, 1, &one, x, 1, x, 1, &one, y, 1);
  cudaMemsetAsync(y + 4, 0, sizeof(float), stream);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  return executable;
}

int main(int, char** arguments) {
  const std::string mistake = arguments[1];
  int count;
  if (mistake == "count") return std::printf("%s\n", cudaGetErrorString(cudaGetDeviceCount(&count))), count;
  float host[2 * THREADS], *x, *y;
  int* seen;
  for (int i = 0; i < 2 * THREADS; ++i) host[i] = i;
  const size_t bytes = N * sizeof(float);
  cudaMalloc(&x, bytes);
  cudaMalloc(&y, sizeof host);
  cudaMalloc(&seen, (THREADS + 1) * sizeof(int));
  cublasHandle_t blas;
  cublasCreate(&blas);
  curandGenerator_t random;
  curandCreateGenerator(&random, CURAND_RNG_PSEUDO_DEFAULT);
  const float one = 1, zero = 0;

  if (mistake == "none") {
    cudaMemcpy(x, host, bytes, cudaMemcpyHostToDevice);
    cudaMemcpy(y, host, sizeof host, cudaMemcpyDefault);
    twice<float>
        <<<2, THREADS>>>(N, x, y);
    launch(reverse, 2, y);
    cudaMemcpy(host, y, sizeof host, cudaMemcpyDeviceToHost);
    std::printf("%g %g %g %g\n", host[0], host[63], host[64], host[127]);
    cudaMemset(seen, 0, (THREADS + 1) * sizeof(int));
    launch(order, 1, seen + THREADS, seen);
    int first;
    cudaMemcpy(&first, seen + THREADS - 1, sizeof first, cudaMemcpyDefault);
    cudaMemcpy(host, x, 4, cudaMemcpyDefault);
    // y [2, 2] = x [2, 3] times x [3, 2], by columns
    const int status = cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 3, &one, x, 2, x, 3, &zero, y, 2);
    cudaMemcpy(host, y, 4 * sizeof(float), cudaMemcpyDefault);
    std::printf("first %d, status %d, %g %g %g %g\n", first, status, host[0], host[1], host[2], host[3]);
    std::printf("%d\n", curandGenerateNormal(random, x, 3, 0, 1));
    launch_together(sums, 8, THREADS * sizeof(float), y, 0);
    cudaMemcpy(host, y, 8 * sizeof(float), cudaMemcpyDefault);
    std::printf("%g %g; %s; %s\n", host[0], host[7], cudaGetErrorString(launch_together(sums, 9, 4 * THREADS, y, 0)),
                cudaGetErrorString(launch_together(sums, 8, 49 * 1024, y, 0)));
    cudaFuncSetAttribute(sums, cudaFuncAttributeMaxDynamicSharedMemorySize, 49 * 1024);
    std::printf("%s\n", cudaGetErrorString(launch_together(sums, 8, 49 * 1024, y, 0)));
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    for (int i = 0; i < N; ++i) host[i] = i;
    const cudaGraphExec_t graph = recorded(blas, stream, x, y);
    for (int i = 1; i < 3; ++i) {
      host[0] = i;
      cudaMemcpy(x, host, bytes, cudaMemcpyDefault);
      cudaGraphLaunch(graph, nullptr);
      float found[5];
      cudaMemcpy(found, y, sizeof found, cudaMemcpyDefault);
      std::printf("%g %g %g, ", found[0], found[1], found[4]);
    }
    std::printf("recorded\n");
    std::printf("%s\n", cudaGetErrorString(launch(half_waits, 0)));
    std::printf("%s\n%s", cudaGetErrorString(cudaPeekAtLastError()), emulated_cuda_launches());
    cudaDeviceProp properties;
    cudaGetDeviceProperties(&properties, 0);
    std::printf("%s\n", properties.name);
  }
  if (mistake == "new memory is not zero") {
    cudaMemcpy(host, x, bytes, cudaMemcpyDefault);
    std::printf("%g\n", host[0]);
  }
  if (mistake == "the host reads") host[0] = x[0];
  if (mistake == "the host writes") x[0] = 1;
  if (mistake == "a host pointer") twice<float><<<2, THREADS>>>(N, host, y);
  if (mistake == "a freed pointer") cudaFree(x), twice<float><<<2, THREADS>>>(N, x, y);
  if (mistake == "writes one element too many") twice<float><<<2, THREADS>>>(N + 1, y, x);
  if (mistake == "reads far behind") launch(reads, 1, x, 500, y);
  if (mistake == "reads far before") launch(reads, 1, y, -20000, x);
  if (mistake == "half a block waits") launch(half_waits, 1);
  if (mistake == "half a block waits again") launch(second_wait, 1);
  if (mistake == "not all blocks wait") launch_together(one_block_waits, 2, 0, y);
  if (mistake == "blocks wait that may not be there") launch(one_block_waits, 2, y);
  if (mistake == "writes behind shared memory") launch_together(sums, 2, THREADS * sizeof(float), y, 1);
  if (mistake == "a graph with freed memory") {
    cudaStream_t stream;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    const cudaGraphExec_t graph = recorded(blas, stream, x, y);
    cudaFree(x);
    cudaGraphLaunch(graph, nullptr);
  }
  if (mistake == "freed twice") cudaFree(x), cudaFree(x);
  if (mistake == "a copy of the wrong kind") cudaMemcpy(host, y, bytes, cudaMemcpyHostToDevice);
  if (mistake == "a copy that is too long") cudaMemcpy(host, y + 1, sizeof host, cudaMemcpyDefault);
  if (mistake == "a copy onto itself") cudaMemcpy(y, y + 1, bytes, cudaMemcpyDefault);
  if (mistake == "memory set too far") cudaMemset(x, 0, bytes + 1);
  if (mistake == "a matrix that is too large")
    cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 10, 1, 11, &one, x, 10, y, 11, &zero, y, 10);
  if (mistake == "a host vector") cublasSaxpy(blas, 3, &one, host, 1, x, 1);
  if (mistake == "a device scalar") cublasSscal(blas, 3, y, x, 1);
  if (mistake == "random numbers for the host") curandGenerateUniform(random, host, 2);
  return 0;
}
