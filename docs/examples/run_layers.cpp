// A C++ program that links Caffe and runs a net with generated layers:
//   run_layers NET.prototxt NET.caffemodel ./NET.layers.so
// feeds ones to all inputs, and prints each output's name and numbers.
#include <dlfcn.h>

#include <caffe/caffe.hpp>
#include <cstdio>

int main(int count, char** arguments) {
  google::InitGoogleLogging(arguments[0]);
  if (count != 4) LOG(FATAL) << "expected NET.prototxt NET.caffemodel ./NET.layers.so";

  // opening the library registers its layers; Caffe's own symbols are there, as this program is linked with it
  if (!dlopen(arguments[3], RTLD_NOW | RTLD_GLOBAL)) LOG(FATAL) << dlerror();

  caffe::Net<float> net(arguments[1], caffe::TEST);
  net.CopyTrainedLayersFrom(arguments[2]);
  for (caffe::Blob<float>* blob : net.input_blobs()) {
    for (int i = 0; i < blob->count(); ++i) blob->mutable_cpu_data()[i] = 1.0f;
  }
  net.Forward();
  for (int output : net.output_blob_indices()) {
    const caffe::Blob<float>& blob = *net.blobs()[output];
    std::printf("%s", net.blob_names()[output].c_str());
    for (int i = 0; i < blob.count(); ++i) std::printf(" %.9g", blob.cpu_data()[i]);
    std::printf("\n");
  }
}
