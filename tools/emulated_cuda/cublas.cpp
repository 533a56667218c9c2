// libcublas.so.13 by a BLAS of the host: matrices by columns, scalars and results on the host. Each matrix and vector
// must be in one allocation of device memory.
#include <cblas.h>
#include <cublas_v2.h>

#include <cstdlib>

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace {

void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
          const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
          const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void gemv(CBLAS_TRANSPOSE ta, int m, int n, float alpha, const float* a, int lda, const float* x, int incx, float beta,
          float* y, int incy) {
  cblas_sgemv(CblasColMajor, ta, m, n, alpha, a, lda, x, incx, beta, y, incy);
}
void gemv(CBLAS_TRANSPOSE ta, int m, int n, double alpha, const double* a, int lda, const double* x, int incx,
          double beta, double* y, int incy) {
  cblas_dgemv(CblasColMajor, ta, m, n, alpha, a, lda, x, incx, beta, y, incy);
}

CBLAS_TRANSPOSE operation(cublasOperation_t t) { return t == CUBLAS_OP_N ? CblasNoTrans : CblasTrans; }

// A library function that is being called, with its operands.
template <typename T>
struct Call {
  const char* function;
  cudaStream_t stream;

  const T* host(const char* what, const T* scalar) const {
    emulated::expect_host_memory(function, what, scalar);
    return scalar;
  }
  T* host(const char* what, T* result) const {
    emulated::expect_host_memory(function, what, result);
    return result;
  }
  T* matrix(const char* what, const T* a, long rows, long columns, long ld) const {
    const size_t count = rows > 0 && columns > 0 ? (columns - 1) * ld + rows : 0;
    return static_cast<T*>(emulated::device_memory(function, what, a, count * sizeof(T)));
  }
  T* vector(const char* what, const T* x, long n, long inc) const {
    if (emulated::recording()) emulated::fail("%s: this emulation records matrix products alone", function);
    const size_t count = n > 0 ? (n - 1) * std::abs(inc) + 1 : 0;
    return static_cast<T*>(emulated::device_memory(function, what, x, count * sizeof(T)));
  }
};

template <typename T>
cublasStatus_t gemm(const Call<T>& call, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                    const T* alpha, const T* a, int lda, const T* b, int ldb, const T* beta, T* c, int ldc) {
  const int ra = ta ? k : m, ca = ta ? m : k, rb = tb ? n : k, cb = tb ? k : n;
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, ra) || ldb < std::max(1, rb) || ldc < std::max(1, m))
    return CUBLAS_STATUS_INVALID_VALUE;
  call.host("alpha", alpha);
  call.host("beta", beta);
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  if (emulated::recording()) {
    const T scale = *alpha, kept = *beta;
    auto work = [=] { gemm(call, ta, tb, m, n, k, &scale, a, lda, b, ldb, &kept, c, ldc); };
    return emulated::record(call.stream, work) ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
  }
  const bool used = *alpha != 0;
  a = used ? call.matrix("a", a, ra, ca, lda) : nullptr;
  b = used ? call.matrix("b", b, rb, cb, ldb) : nullptr;
  gemm(operation(ta), operation(tb), m, n, k, *alpha, a, lda, b, ldb, *beta, call.matrix("c", c, m, n, ldc), ldc);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t gemv(const Call<T>& call, cublasOperation_t ta, int m, int n, const T* alpha, const T* a, int lda,
                    const T* x, int incx, const T* beta, T* y, int incy) {
  if (m < 0 || n < 0 || lda < std::max(1, m) || incx == 0 || incy == 0) return CUBLAS_STATUS_INVALID_VALUE;
  call.host("alpha", alpha);
  call.host("beta", beta);
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  a = call.matrix("a", a, m, n, lda);
  x = call.vector("x", x, ta ? m : n, incx);
  gemv(operation(ta), m, n, *alpha, a, lda, x, incx, *beta, call.vector("y", y, ta ? n : m, incy), incy);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t axpy(const Call<T>& call, int n, const T* alpha, const T* x, int incx, T* y, int incy) {
  call.host("alpha", alpha);
  x = call.vector("x", x, n, incx);
  y = call.vector("y", y, n, incy);
  for (long i = 0; i < n; ++i) y[i * incy] += *alpha * x[i * incx];
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t scal(const Call<T>& call, int n, const T* alpha, T* x, int incx) {
  call.host("alpha", alpha);
  x = call.vector("x", x, n, incx);
  for (long i = 0; i < n; ++i) x[i * incx] *= *alpha;  // also by 0: NaN stays, as it does in cuBLAS
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t copy(const Call<T>& call, int n, const T* x, int incx, T* y, int incy) {
  x = call.vector("x", x, n, incx);
  y = call.vector("y", y, n, incy);
  for (long i = 0; i < n; ++i) y[i * incy] = x[i * incx];
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t dot(const Call<T>& call, int n, const T* x, int incx, const T* y, int incy, T* result) {
  call.host("the result", result);
  x = call.vector("x", x, n, incx);
  y = call.vector("y", y, n, incy);
  double sum = 0;
  for (long i = 0; i < n; ++i) sum += static_cast<double>(x[i * incx]) * y[i * incy];
  *result = static_cast<T>(sum);
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T>
cublasStatus_t asum(const Call<T>& call, int n, const T* x, int incx, T* result) {
  call.host("the result", result);
  x = call.vector("x", x, n, incx);
  double sum = 0;
  for (long i = 0; i < n; ++i) sum += std::abs(x[i * incx]);
  *result = static_cast<T>(sum);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  int device;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}

#define FUNCTION(letter, T, name, parameters, ...)                              \
  cublasStatus_t cublas##letter##name##_v2 parameters {                         \
    if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;                \
    if (!emulated::recording()) emulated::count_call("cublas" #letter #name);   \
    return name(Call<T>{"cublas" #letter #name, handle->stream}, __VA_ARGS__);  \
  }

#define FUNCTIONS(letter, T)                                                                                           \
  FUNCTION(letter, T, gemm,                                                                                            \
           (cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, const T* alpha,    \
            const T* a, int lda, const T* b, int ldb, const T* beta, T* c, int ldc),                                   \
           ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)                                                       \
  FUNCTION(letter, T, gemv,                                                                                            \
           (cublasHandle_t handle, cublasOperation_t ta, int m, int n, const T* alpha, const T* a, int lda,            \
            const T* x, int incx, const T* beta, T* y, int incy),                                                      \
           ta, m, n, alpha, a, lda, x, incx, beta, y, incy)                                                            \
  FUNCTION(letter, T, axpy, (cublasHandle_t handle, int n, const T* alpha, const T* x, int incx, T* y, int incy), n,   \
           alpha, x, incx, y, incy)                                                                                    \
  FUNCTION(letter, T, scal, (cublasHandle_t handle, int n, const T* alpha, T* x, int incx), n, alpha, x, incx)         \
  FUNCTION(letter, T, copy, (cublasHandle_t handle, int n, const T* x, int incx, T* y, int incy), n, x, incx, y, incy) \
  FUNCTION(letter, T, dot,                                                                                             \
           (cublasHandle_t handle, int n, const T* x, int incx, const T* y, int incy, T* result), n, x, incx, y, incy, \
           result)                                                                                                     \
  FUNCTION(letter, T, asum, (cublasHandle_t handle, int n, const T* x, int incx, T* result), n, x, incx, result)

FUNCTIONS(S, float)
FUNCTIONS(D, double)
}
