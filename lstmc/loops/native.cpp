// A host of loops without any other library: BLAS for what products.h leaves to one, and what a process calls.
#include <vector>

extern "C" __attribute__((visibility("default"))) const lstmc_layer* const* lstmc_native() { return lstmc_layers; }

// y = alpha A x + beta y for alpha 1 and beta 0 or 1, A [m, n] with rows lda apart; of A transposed where it is 112
extern "C" void cblas_sgemv(int, int transpose, int m, int n, float, const float* a, int lda, const float* x, int,
                            float beta, float* y, int) {
  const int outs = transpose == 111 ? m : n, ins = transpose == 111 ? n : m;
  std::vector<float> plus(y, y + (beta != 0.0f ? outs : 0));
  const float* const b = beta != 0.0f ? plus.data() : nullptr;
  if (transpose == 111 && ins >= LANES) {
    unpacked_product(1, outs, ins, x, ins, a, b, y, outs);
  } else if (transpose == 112 && outs >= WIDE) {
    straight_product(1, outs, ins, x, ins, a, lda, b, y, outs);
  } else {
    for (int i = 0; i < outs; ++i) {
      float sum = b ? b[i] : 0.0f;
      for (int k = 0; k < ins; ++k) sum += x[k] * (transpose == 111 ? a[i * lda + k] : a[k * lda + i]);
      y[i] = sum;
    }
  }
}

// c [m, n] = a b + beta c, with beta 0 or 1; a is [m, k], or with 112 [k, m] transposed, and b so too. Of a transposed
// a beta is 1, and rows of c are n apart.
extern "C" void cblas_sgemm(int, int transpose_a, int transpose_b, int m, int n, int k, float, const float* a, int lda,
                            const float* b, int ldb, float beta, float* c, int ldc) {
  if (transpose_a == 112) {
    own_outer(k, m, n, a, lda, b, ldb, c);
    return;
  }
  for (int i = 0; i < m; ++i) {
    float* const row = c + static_cast<long>(i) * ldc;
    if (beta == 0.0f) std::memset(row, 0, sizeof(float) * n);
    for (int p = 0; p < k; ++p) {
      const float left = a[static_cast<long>(i) * lda + p];
      const float* const right = transpose_b == 111 ? b + static_cast<long>(p) * ldb : b + p;
      const long step = transpose_b == 111 ? 1 : ldb;
      for (int j = 0; j < n; ++j) row[j] += left * right[j * step];
    }
  }
}
