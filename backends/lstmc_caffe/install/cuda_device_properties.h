// Before common.cpp: CUDA 13 took three fields out of cudaDeviceProp that Caffe's DeviceQuery prints. They are device
// attributes now, so this gives the struct them back, filled by the same call.
#pragma once
#include <cuda_runtime.h>

namespace lstmc {

struct DeviceProperties : cudaDeviceProp {
  int clockRate;
  int deviceOverlap;
  int kernelExecTimeoutEnabled;
};

}  // namespace lstmc

inline cudaError_t cudaGetDeviceProperties(lstmc::DeviceProperties* found, int device) {
  cudaError_t status = cudaGetDeviceProperties(static_cast<cudaDeviceProp*>(found), device);
  const auto ask = [&](int* field, cudaDeviceAttr attribute) {
    if (status == cudaSuccess) status = cudaDeviceGetAttribute(field, attribute, device);
  };
  ask(&found->clockRate, cudaDevAttrClockRate);
  ask(&found->deviceOverlap, cudaDevAttrGpuOverlap);
  ask(&found->kernelExecTimeoutEnabled, cudaDevAttrKernelExecTimeout);
  return status;
}

#define cudaDeviceProp lstmc::DeviceProperties
