// As much of cuBLAS as Caffe and generated layers use.
#pragma once
#include <cuda_runtime.h>

typedef struct cublasContext* cublasHandle_t;
enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_MAPPING_ERROR = 11,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
  CUBLAS_STATUS_LICENSE_ERROR = 16
};
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1, CUBLAS_OP_C = 2 };

#define EMULATED_BLAS(letter, T)                                                                                       \
  cublasStatus_t cublas##letter##gemm_v2(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m,      \
                                         int n, int k, const T* alpha, const T* a, int lda, const T* b, int ldb,        \
                                         const T* beta, T* c, int ldc);                                                 \
  cublasStatus_t cublas##letter##gemv_v2(cublasHandle_t handle, cublasOperation_t ta, int m, int n, const T* alpha,     \
                                         const T* a, int lda, const T* x, int incx, const T* beta, T* y, int incy);     \
  cublasStatus_t cublas##letter##axpy_v2(cublasHandle_t handle, int n, const T* alpha, const T* x, int incx, T* y,      \
                                         int incy);                                                                     \
  cublasStatus_t cublas##letter##scal_v2(cublasHandle_t handle, int n, const T* alpha, T* x, int incx);                 \
  cublasStatus_t cublas##letter##copy_v2(cublasHandle_t handle, int n, const T* x, int incx, T* y, int incy);           \
  cublasStatus_t cublas##letter##dot_v2(cublasHandle_t handle, int n, const T* x, int incx, const T* y, int incy,       \
                                        T* result);                                                                     \
  cublasStatus_t cublas##letter##asum_v2(cublasHandle_t handle, int n, const T* x, int incx, T* result);

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle);
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle);
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream);
EMULATED_BLAS(S, float)
EMULATED_BLAS(D, double)
}

#define cublasCreate cublasCreate_v2
#define cublasDestroy cublasDestroy_v2
#define cublasSetStream cublasSetStream_v2
#define cublasSgemm cublasSgemm_v2
#define cublasDgemm cublasDgemm_v2
#define cublasSgemv cublasSgemv_v2
#define cublasDgemv cublasDgemv_v2
#define cublasSaxpy cublasSaxpy_v2
#define cublasDaxpy cublasDaxpy_v2
#define cublasSscal cublasSscal_v2
#define cublasDscal cublasDscal_v2
#define cublasScopy cublasScopy_v2
#define cublasDcopy cublasDcopy_v2
#define cublasSdot cublasSdot_v2
#define cublasDdot cublasDdot_v2
#define cublasSasum cublasSasum_v2
#define cublasDasum cublasDasum_v2
