// As much of the driver's interface as lstmc uses: Caffe only includes it.
#pragma once
#define CUDA_VERSION 13000
typedef int CUresult;
typedef int CUdevice;
extern "C" {
CUresult cuInit(unsigned flags);
CUresult cuGetErrorString(CUresult error, const char** text);
CUresult cuDeviceGetCount(int* count);
CUresult cuDeviceGetName(char* name, int size, CUdevice device);
void emulated_cuda();  // not of CUDA: by it a process knows that its device is emulated
}
