// Before inner_product_layer.cu: where there is one row, its Forward_gpu takes a transposed matrix as it is. Its other
// product of a matrix and a vector, for the gradient of the bias, is right.
#pragma once
#include "caffe/layers/inner_product_layer.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

struct OneRow {
  bool transposed;

  template <typename Dtype>
  void gemv(CBLAS_TRANSPOSE t, int m, int n, Dtype alpha, const Dtype* a, const Dtype* x, Dtype beta, Dtype* y) const {
    if (t == CblasNoTrans && transposed) {
      caffe_gpu_gemv<Dtype>(CblasTrans, n, m, alpha, a, x, beta, y);
    } else {
      caffe_gpu_gemv<Dtype>(t, m, n, alpha, a, x, beta, y);
    }
  }
};

}  // namespace caffe

#define caffe_gpu_gemv OneRow{this->transpose_}.template gemv
