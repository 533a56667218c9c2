// Six of this Caffe's layers declare Forward_gpu and Backward_gpu, and have no .cu file that defines them. On a GPU they
// compute on the CPU: blobs are copied there and back by themselves.
#include <vector>

#include "caffe/layers/hardsigmoid_layer.hpp"
#include "caffe/layers/hardswish_layer.hpp"
#include "caffe/layers/maxunpool_layer.hpp"
#include "caffe/layers/pixelshuffle_layer.hpp"
#include "caffe/layers/relu6_layer.hpp"
#include "caffe/layers/upsample_layer.hpp"

#define ON_CPU(classname)                                                                         \
  template <typename Dtype>                                                                       \
  void classname<Dtype>::Forward_gpu(const vector<Blob<Dtype>*>& bottom,                          \
                                     const vector<Blob<Dtype>*>& top) {                           \
    this->Forward_cpu(bottom, top);                                                               \
  }                                                                                               \
  template <typename Dtype>                                                                       \
  void classname<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,                            \
                                      const vector<bool>& propagate_down,                         \
                                      const vector<Blob<Dtype>*>& bottom) {                       \
    this->Backward_cpu(top, propagate_down, bottom);                                              \
  }                                                                                               \
  INSTANTIATE_LAYER_GPU_FUNCS(classname)

namespace caffe {

ON_CPU(HardSigmoidLayer);
ON_CPU(HardSwishLayer);
ON_CPU(MaxUnPoolLayer);
ON_CPU(PixelShuffleLayer);
ON_CPU(ReLU6Layer);
ON_CPU(UpsampleLayer);

}  // namespace caffe
