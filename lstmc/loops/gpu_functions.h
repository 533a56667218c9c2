// All that these need is CUDA's runtime and cublasSgemm. Whatever fails ends the process, as it does in Caffe.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

extern "C" int cublasSetStream_v2(void* handle, cudaStream_t stream);
extern "C" int cublasGetStream_v2(void* handle, cudaStream_t* stream);
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
  THREADS = 256,         // of a block
  WARP = 32,             // threads for an element of a product that all blocks share
  PERSISTENT_ROWS = 64,  // of a batch: with more, each step has launches of its own
  COMMON_SHARED = 48 * 1024,  // bytes of shared memory that every kernel may have
  GRAPHS = 8  // of a pass, at most: the newest
};

// where everything is launched: that of the handle of cuBLAS, another one while a graph is recorded
static thread_local cudaStream_t stream = 0;

static inline void launch_where(void* blas) {
  expect(cublasGetStream_v2(blas, &stream), "asking for the stream of cuBLAS");
}

// With shared memory, all blocks run at the same time and may wait for each other.
template <typename... Wanted, typename... Given>
static inline void launch_blocks(void (*kernel)(Wanted...), long blocks, int threads, size_t shared, Given... given) {
  cudaLaunchAttribute together = {};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &together;
  config.numAttrs = shared ? 1 : 0;
  expect(cudaLaunchKernelEx(&config, kernel, given...), "a kernel");
}

// A kernel with a thread for each of ``count`` elements, which it is told first.
template <typename... Wanted, typename... Given>
static inline void launch(void (*kernel)(long, Wanted...), long count, Given... given) {
  launch_blocks(kernel, (count + THREADS - 1) / THREADS, THREADS, 0, count, given...);
}

// Of the columns of a product, how many each of so many blocks has, at most
static __device__ __host__ inline int share(int outs, int blocks) { return (outs + blocks - 1) / blocks; }

static inline int attribute(cudaDeviceAttr name) {
  int device, value;
  expect(cudaGetDevice(&device), "asking for the device");
  expect(cudaDeviceGetAttribute(&value, name, device), "asking for an attribute of the device");
  return value;
}

// Launches a kernel whose blocks share each row, of ``width`` threads. ``weights`` returns how many floats of weights a
// block keeps, of so many. Returns false where they do not fit into its shared memory.
template <typename... Wanted, typename Weights, typename... Given>
static inline bool launch_grid(void (*kernel)(Wanted...), long width, int threads, Weights weights, Given... given) {
  const long most = attribute(cudaDevAttrMultiProcessorCount), wanted = (width + threads - 1) / threads;
  const int blocks = static_cast<int>(wanted < most ? wanted : most);
  const size_t shared = sizeof(float) * (threads + weights(blocks));
  if (shared > static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))) return false;
  if (shared > COMMON_SHARED) {
    expect(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
           "asking for shared memory");
  }
  launch_blocks(kernel, blocks, threads, shared, given...);
  return true;
}

static inline void copy(float* into, const float* from, long count) {
  expect(cudaMemcpyAsync(into, from, sizeof(float) * count, cudaMemcpyDeviceToDevice, stream), "a copy");
}

static inline void zero(float* into, long count) {
  expect(cudaMemsetAsync(into, 0, sizeof(float) * count, stream), "setting memory to zero");
}

// What is launched for the steps of a pass. The first time that a key is seen the steps run as they are, the second time
// they are recorded as a graph, and from then on this launches the graph. The key has all that the launches depend on.
struct FreeGraph {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }  // fails where the process is ending
};
typedef std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, FreeGraph> Graph;
typedef std::vector<std::pair<std::vector<long>, Graph>> Graphs;

class Steps {
 public:
  Steps(void* blas, Graphs& graphs, const std::vector<long>& key) : blas_(blas) {
    for (auto& known : graphs) {
      if (known.first != key) continue;
      if (known.second) {
        expect(cudaGraphLaunch(known.second.get(), stream), "a graph");
        return;
      }
      recorded_ = &known.second;
      outside_ = stream;
      expect(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
      expect(cublasSetStream_v2(blas_, stream), "cublasSetStream");
      expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a graph");
    }
    left_ = true;
    if (recorded_) return;
    if (graphs.size() == GRAPHS) graphs.erase(graphs.begin());
    graphs.emplace_back(key, nullptr);
  }

  ~Steps() {
    if (!recorded_) return;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    expect(cudaStreamEndCapture(stream, &graph), "recording a graph");
    expect(cudaGraphInstantiate(&executable, graph, 0), "making a graph executable");
    recorded_->reset(executable);
    expect(cudaGraphDestroy(graph), "freeing a graph");
    expect(cudaStreamDestroy(stream), "freeing a stream");
    stream = outside_;
    expect(cublasSetStream_v2(blas_, stream), "cublasSetStream");
    expect(cudaGraphLaunch(executable, stream), "a graph");
  }

  bool left() const { return left_; }  // whether the steps are to be run

 private:
  void* const blas_;
  Graph* recorded_ = nullptr;
  cudaStream_t outside_ = 0;  // of the recording
  bool left_ = false;
};

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

// The shared memory of a block: a float for each of its threads, then its weights
static __device__ inline float* shared_memory() {
  extern __shared__ float memory[];
  return memory;
}

// The columns of w that a block has, one after the other, each of ``ins`` floats, for w as ``product`` takes it. Returns
// where the next ones go.
static __device__ inline float* keep_share(int outs, int ins, const float* w, bool transposed, float* into) {
  const int most = share(outs, gridDim.x), first = blockIdx.x * most;
  for (int i = threadIdx.x; i < most * ins; i += blockDim.x) {
    const int j = first + i / ins, k = i % ins;
    if (j < outs) into[i] = transposed ? w[static_cast<long>(j) * ins + k] : w[static_cast<long>(k) * outs + j];
  }
  return into + most * ins;
}

// The block's share of ``product``, whose weights are in ``kept``, by a warp for each element.
static __device__ inline void grid_product(long rows, int outs, int ins, const float* x, int ldx, const float* kept,
                                           const float* b, float* y, int ldy) {
  float* const sums = shared_memory();
  const int most = share(outs, gridDim.x), first = blockIdx.x * most;
  const int own = outs - first < most ? outs - first : most;  // below 0 where the blocks before have all
  const int elements = static_cast<int>(rows) * own;  // a quotient of 64 bits is a call, for which registers are spilled
  for (int begin = 0; begin < elements; begin += blockDim.x / WARP) {  // the same for all threads of the block
    const int element = begin + threadIdx.x / WARP, n = element / own, j = element % own;
    float sum = 0.0f;
    if (n < rows) {
      for (int k = threadIdx.x % WARP; k < ins; k += WARP) sum += x[static_cast<long>(n) * ldx + k] * kept[j * ins + k];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (n < rows && threadIdx.x % WARP == 0) {
      float whole = b ? b[first + j] : 0.0f;
#pragma unroll 8  // registers for all 32 at once would be spilled
      for (int i = 0; i < WARP; ++i) whole += sums[threadIdx.x + i];
      y[static_cast<long>(n) * ldy + first + j] = whole;
    }
    __syncthreads();
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
                           bool transposed, const float* b, float* y, int ldy, bool add = false) {
  const float alpha = 1.0f, beta = b || add ? 1.0f : 0.0f;
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
