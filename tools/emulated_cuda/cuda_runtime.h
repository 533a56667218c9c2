// As much of CUDA's runtime as Caffe and generated layers use, on the host. A kernel is a function that runs for one
// thread after the other. A pointer to device memory is an address that the host cannot access: each launch, copy and
// library function translates it.
#pragma once
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define CUDART_VERSION 13000
#ifndef EMULATED_NVCC  // which reads it
#define __global__
#define __shared__
#endif
#define __device__
#define __host__
#define __forceinline__ inline
#define __constant__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 : uint3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
};
extern "C" uint3 threadIdx, blockIdx;
extern "C" dim3 blockDim, gridDim;

enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorPeerAccessNotEnabled = 705,
  cudaErrorCooperativeLaunchTooLarge = 720,
  cudaErrorStreamCaptureUnsupported = 900
};
typedef cudaError cudaError_t;
enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrGpuOverlap = 15,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrKernelExecTimeout = 17,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
#define cudaStreamDefault 0
#define cudaStreamNonBlocking 1
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void *devicePointer, *hostPointer;
};
// as CUDA 13 has it: without clockRate and others that earlier ones have
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlock, memPitch, totalConstMem, textureAlignment;
  int regsPerBlock, warpSize, maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], major, minor, multiProcessorCount;
  int canMapHostMemory, concurrentKernels, integrated, isMultiGpuBoard, multiGpuBoardGroupID;
};
typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
typedef struct EmulatedGraph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaLaunchAttributeID { cudaLaunchAttributeIgnore = 0, cudaLaunchAttributeCooperative = 2 };
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

extern "C" {
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset(void* to, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int other);
cudaError_t cudaDeviceEnablePeerAccess(int other, unsigned flags);
cudaError_t cudaDeviceDisablePeerAccess(int other);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);
// Not of CUDA: the launches of each kernel and the calls of each library function in this process, as lines of a count
// and a name. Kernels that were compiled and not launched have 0.
const char* emulated_cuda_launches();
}

template <typename T>
inline cudaError_t cudaMalloc(T** memory, size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
template <typename T>
inline cudaError_t cudaMallocHost(T** memory, size_t bytes) {
  return cudaMallocHost(reinterpret_cast<void**>(memory), bytes);
}

// What the libraries of the emulation and the code that nvcc writes use.
namespace emulated {

// Ends the process with a message in the form of glog's.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Returns where the host has the device memory at ``memory``. Fails unless ``bytes`` of it are in one allocation.
void* device_memory(const char* function, const char* what, const void* memory, size_t bytes);
// Fails where ``memory`` is of the device.
void expect_host_memory(const char* function, const char* what, const void* memory);
// Counts a call of a library function.
void count_call(const char* function);

// A kernel in compiled code; ``function`` is null for a template.
struct Kernel {
  Kernel(const char* name, const void* function);
};

const char* kernel_name(const void* function);
void* kernel_argument(const char* kernel, int index, const void* memory);
void synchronize_threads(bool of_grid);
void* shared_memory();
void allow_shared_memory(const void* function, size_t bytes);
// Whether a graph is recorded; and adds to it what is to be done in a stream, which must be the one that is captured.
bool recording();
cudaError_t record(cudaStream_t stream, std::function<void()> work);

struct Launch {
  const char* kernel;
  dim3 grid, block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool cooperative = false;
  const void* function = nullptr;

  template <typename Function, typename... Arguments>
  cudaError_t operator()(Function function, Arguments... arguments) const {
    const Launch launch = *this;
    if (recording()) return record(stream, [=] { launch.now(function, arguments...); });
    const cudaError_t error = now(function, arguments...);
    if (error == cudaSuccess) count_call(kernel);
    return error;
  }

  template <typename Function, typename... Arguments>
  cudaError_t now(Function function, Arguments... arguments) const {
    int index = 0;
    (translate(index++, arguments), ...);
    auto thread = [&] { function(arguments...); };
    return run([](void* context) { (*static_cast<decltype(thread)*>(context))(); }, &thread);
  }

  // Runs ``thread(context)`` for each thread.
  cudaError_t run(void (*thread)(void*), void* context) const;

  template <typename T>
  void translate(int index, T& argument) const {
    if constexpr (std::is_pointer_v<T> && !std::is_function_v<std::remove_pointer_t<T>>)
      argument = static_cast<T>(kernel_argument(kernel, index, argument));
  }
};

}  // namespace emulated

template <typename... Parameters, typename... Arguments>
static cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                                      Arguments&&... arguments) {
  const void* const function = reinterpret_cast<const void*>(kernel);
  bool together = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeCooperative) together = config->attrs[i].val.cooperative;
  }
  return emulated::Launch{emulated::kernel_name(function), config->gridDim, config->blockDim,
                          config->dynamicSmemBytes,        config->stream,  together,
                          function}(kernel, static_cast<Parameters>(arguments)...);
}
template <typename T>
static cudaError_t cudaFuncSetAttribute(T* function, cudaFuncAttribute, int bytes) {
  emulated::allow_shared_memory(reinterpret_cast<const void*>(function), bytes);
  return cudaSuccess;
}

static inline void __syncthreads() { emulated::synchronize_threads(false); }
namespace cooperative_groups {
struct grid_group {
  void sync() const { emulated::synchronize_threads(true); }
};
static inline grid_group this_grid() { return {}; }
}  // namespace cooperative_groups

// One thread runs at a time.
template <typename T>
static inline T atomicAdd(T* to, std::common_type_t<T> value) {
  const T before = *to;
  *to = before + value;
  return before;
}
template <typename T>
static inline T atomicCAS(T* to, std::common_type_t<T> expected, std::common_type_t<T> value) {
  const T before = *to;
  if (before == expected) *to = value;
  return before;
}
static inline long long __double_as_longlong(double value) {
  long long bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static inline double __longlong_as_double(long long bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

#ifdef EMULATED_NVCC
// what nvcc declares in CUDA sources
template <typename A, typename B>
static inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <typename A, typename B>
static inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
#define __expf expf
#endif
