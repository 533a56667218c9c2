// All that these need is CUDA's runtime and cublasSgemm. Whatever fails ends the process, as it does in Caffe.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

extern "C" int cublasSgemm_v2(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const float* alpha,
                              const float* a, int lda, const float* b, int ldb, const float* beta, float* c, int ldc);

// Functions of one element. NaN stays NaN.
static __device__ inline float exp_(float x) { return expf(x); }
static __device__ inline float tanh_(float x) { return tanhf(x); }
static __device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
static __device__ inline float softplus(float x) {
  return (x > 0.0f ? x : x != x ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

static inline void expect(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "%s in a generated layer failed: status %d\n", what, status);
  std::abort();
}

enum {
  THREADS = 256,        // of a block
  PERSISTENT_ROWS = 64  // of a batch: with more, each step has launches of its own
};

template <typename... Wanted, typename... Given>
static inline void launch_blocks(void (*kernel)(Wanted...), long blocks, int threads, Given... given) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  expect(cudaLaunchKernelEx(&config, kernel, given...), "a kernel");
}

// A kernel with a thread for each of ``count`` elements, which it is told first.
template <typename... Wanted, typename... Given>
static inline void launch(void (*kernel)(long, Wanted...), long count, Given... given) {
  launch_blocks(kernel, (count + THREADS - 1) / THREADS, THREADS, count, given...);
}

static inline void copy(float* into, const float* from, long count) {
  expect(cudaMemcpyAsync(into, from, sizeof(float) * count, cudaMemcpyDeviceToDevice, 0), "a copy");
}

static inline void zero(float* into, long count) {
  expect(cudaMemsetAsync(into, 0, sizeof(float) * count, 0), "setting memory to zero");
}

namespace kernels {

static __global__ void fill(long count, float* into, float value) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i < count) into[i] = value;
}

// y [rows, outs] = b in each row
static __global__ void same_rows(long count, int outs, const float* b, float* y, int ldy) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i < count) y[i / outs * ldy + i % outs] = b[i % outs];
}

static __global__ void sum_of_rows(long count, long rows, const float* ct, int ldct, float* into) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  float sum = 0.0f;
  for (long n = 0; n < rows; ++n) sum += ct[n * ldct + i];
  into[i] += sum;
}

static __global__ void transposed(long count, int outs, int ins, const float* w, float* into) {
  const long i = blockIdx.x * static_cast<long>(blockDim.x) + threadIdx.x;
  if (i < count) into[i] = w[i % outs * ins + i / outs];
}

}  // namespace kernels

// y [lead, outs] = x [lead, ins] times w [ins, outs], plus b in each row, by all threads of a block
static __device__ inline void block_product(int lead, int outs, int ins, const float* x, const float* w, const float* b,
                                            float* y) {
  for (int i = threadIdx.x; i < lead * outs; i += blockDim.x) {
    const int n = i / outs, j = i % outs;
    float sum = b ? b[j] : 0.0f;
    for (int k = 0; k < ins; ++k) sum += x[n * ins + k] * w[k * outs + j];
    y[i] = sum;
  }
}

// into [ins, outs] = w [outs, ins] transposed
static inline void transpose(int outs, int ins, const float* w, float* into) {
  launch(kernels::transposed, static_cast<long>(outs) * ins, outs, ins, w, into);
}

static inline void fill(float* into, long count, float value) { launch(kernels::fill, count, into, value); }

// y [rows, outs] = x [rows, ins] times w: of [outs, ins] transposed, or of [ins, outs]; plus b in each row. To cuBLAS
// a matrix by rows is its transpose by columns.
static inline void product(void* blas, long rows, int outs, int ins, const float* x, int ldx, const float* w,
                           bool transposed, const float* b, float* y, int ldy) {
  const float alpha = 1.0f, beta = b ? 1.0f : 0.0f;
  if (b) launch(kernels::same_rows, rows * outs, outs, b, y, ldy);
  expect(cublasSgemm_v2(blas, transposed, 0, outs, static_cast<int>(rows), ins, &alpha, w, transposed ? ins : outs, x,
                        ldx, &beta, y, ldy), "cublasSgemm");
}

// into [outs, ins] += ct [rows, outs] transposed times x [rows, ins]
static inline void outer(void* blas, long rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx,
                         float* into) {
  const float one = 1.0f;
  expect(cublasSgemm_v2(blas, 0, 1, ins, outs, static_cast<int>(rows), &one, x, ldx, ct, ldct, &one, into, ins),
         "cublasSgemm");
}

// into [outs] += the rows of ct [rows, outs]
static inline void sum_of_rows(long rows, int outs, const float* ct, int ldct, float* into) {
  launch(kernels::sum_of_rows, outs, rows, ct, ldct, into);
}
