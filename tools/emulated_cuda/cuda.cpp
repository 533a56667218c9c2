// libcuda.so.1: the driver, which has one device, or none where CUDA_VISIBLE_DEVICES is empty.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>

extern "C" {

void emulated_cuda() {}

CUresult cuDeviceGetCount(int* count) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  *count = visible != nullptr && (*visible == '\0' || *visible == '-') ? 0 : 1;
  return 0;
}

CUresult cuInit(unsigned) {
  int count;
  cuDeviceGetCount(&count);
  return count ? 0 : 100;
}

CUresult cuDeviceGetName(char* name, int size, CUdevice) {
  std::snprintf(name, size, "no GPU: emulated by the CPU");
  return 0;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  *text = error == 0 ? "no error" : "no CUDA-capable device is detected";
  return 0;
}
}
