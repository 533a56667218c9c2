// Before proposal_layer.cu: the layer declares Backward_gpu, and defines none. Its Backward_cpu is empty, and so is this.
#pragma once
#include "caffe/layers/proposal_layer.hpp"

namespace caffe {

template <typename Dtype>
void ProposalLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                        const vector<Blob<Dtype>*>& bottom) {}

}  // namespace caffe
