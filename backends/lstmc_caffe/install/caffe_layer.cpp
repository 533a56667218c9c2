// Caffe's side of generated layers: one class for all of them, registered under the type of each that a library holds.
#include <link.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "layer.h"

namespace {

using caffe::Blob;
using std::string;
using std::vector;
typedef vector<Blob<float>*> Blobs;
enum { ALIGNED = 16 };  // floats of a line of the cache, where buffers begin

const lstmc_layer* find(const string& type, const lstmc_layer* const* layers) {
  for (; *layers; ++layers) {
    if (type == (*layers)->type) return *layers;
  }
  LOG(FATAL) << "this library has no layer of type " << type;
  return nullptr;
}

// Where memory is that a pass reads and writes.
struct OnCpu {
  static const float* data(const Blob<float>& blob) { return blob.cpu_data(); }
  static const float* diff(const Blob<float>& blob) { return blob.cpu_diff(); }
  static float* data_to_write(Blob<float>* blob) { return blob->mutable_cpu_data(); }
  static float* diff_to_write(Blob<float>* blob) { return blob->mutable_cpu_diff(); }
  static void* memory(caffe::SyncedMemory* buffer) { return buffer->mutable_cpu_data(); }
  static void* blas() { return nullptr; }
};

#ifndef CPU_ONLY
struct OnGpu {
  static const float* data(const Blob<float>& blob) { return blob.gpu_data(); }
  static const float* diff(const Blob<float>& blob) { return blob.gpu_diff(); }
  static float* data_to_write(Blob<float>* blob) { return blob->mutable_gpu_data(); }
  static float* diff_to_write(Blob<float>* blob) { return blob->mutable_gpu_diff(); }
  static void* memory(caffe::SyncedMemory* buffer) { return buffer->mutable_gpu_data(); }
  static void* blas() { return caffe::Caffe::cublas_handle(); }
};
#endif

string text(const vector<int>& shape) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  out << "]";
  return out.str();
}

class GeneratedLayer : public caffe::Layer<float> {
 public:
  explicit GeneratedLayer(const caffe::LayerParameter& param)
      : Layer<float>(param), code_(find(param.type(), lstmc_layers)) {}

  virtual inline const char* type() const { return code_->type; }
  virtual inline int ExactNumBottomBlobs() const { return code_->bottoms; }
  virtual inline int ExactNumTopBlobs() const { return code_->tops; }

  virtual void LayerSetUp(const Blobs& bottom, const Blobs& top) {
    const caffe::DummyDataParameter& given = this->layer_param_.dummy_data_param();
    if (this->blobs_.empty()) {
      for (int i = 0; i < code_->weights; ++i) {
        const lstmc_shape& shape = code_->weight[i];
        this->blobs_.emplace_back(new Blob<float>(vector<int>(shape.sizes, shape.sizes + shape.axes)));
        if (i < given.data_filler_size()) {
          boost::shared_ptr<caffe::Filler<float> > filler(caffe::GetFiller<float>(given.data_filler(i)));
          filler->Fill(this->blobs_[i].get());
        }
      }
    }
    this->param_propagate_down_.resize(code_->weights, true);
  }

  // T and N are what the bottoms have; where none has them, what the prototxt says (dummy_data_param.shape)
  virtual void Reshape(const Blobs& bottom, const Blobs& top) {
    const caffe::DummyDataParameter& given = this->layer_param_.dummy_data_param();
    int T = given.shape_size() ? static_cast<int>(given.shape(0).dim(0)) : 1;
    int N = given.shape_size() ? static_cast<int>(given.shape(0).dim(1)) : 1;
    for (int i = 0; i < code_->bottoms; ++i) {
      const lstmc_shape& shape = code_->bottom[i];
      const vector<int>& found = bottom[i]->shape();
      if (shape.time && !found.empty()) T = found[0];
      if (shape.rows && static_cast<int>(found.size()) > shape.time) N = found[shape.time];
    }
    if (code_->fixed) N = 1;
    for (int i = 0; i < code_->bottoms; ++i) {
      const vector<int> wanted = sized(code_->bottom[i], T, N);
      CHECK(bottom[i]->shape() == wanted) << this->layer_param_.name() << ": bottom " << i << " must be "
                                          << text(wanted) << ", found " << text(bottom[i]->shape());
    }
    for (int i = 0; i < code_->tops; ++i) top[i]->Reshape(sized(code_->top[i], T, N));
    T_ = T;
    N_ = N;
    buffers_.resize(code_->buffers);
    seen_.resize(code_->buffers);
    for (int i = 0; i < code_->buffers; ++i) {
      const lstmc_buffer& buffer = code_->buffer[i];
      const size_t steps = buffer.time ? (T + buffer.time - 1) / buffer.time + buffer.more : 1;
      const size_t floats = size_t(buffer.size) * (buffer.rows ? N : 1) * steps;
      const size_t bytes = sizeof(float) * (floats + ALIGNED);
      // memory of the CPU or of a GPU: of that where a pass first wants it
      if (buffers_[i] && buffers_[i]->size() == bytes) continue;
      buffers_[i].reset(new caffe::SyncedMemory(bytes));
      seen_[i] = 0;
    }
  }

 protected:
  virtual void Forward_cpu(const Blobs& bottom, const Blobs& top) { forward<OnCpu>(code_, bottom, top); }

  virtual void Backward_cpu(const Blobs& top, const vector<bool>& propagate_down, const Blobs& bottom) {
    backward<OnCpu>(code_, top, propagate_down, bottom);
  }

#ifndef CPU_ONLY
  virtual void Forward_gpu(const Blobs& bottom, const Blobs& top) {
    forward<OnGpu>(find(code_->type, lstmc_gpu_layers), bottom, top);
    CUDA_POST_KERNEL_CHECK;
  }

  virtual void Backward_gpu(const Blobs& top, const vector<bool>& propagate_down, const Blobs& bottom) {
    backward<OnGpu>(find(code_->type, lstmc_gpu_layers), top, propagate_down, bottom);
    CUDA_POST_KERNEL_CHECK;
  }
#endif

 private:
  static vector<int> sized(const lstmc_shape& shape, int T, int N) {
    vector<int> found;
    if (shape.time) found.push_back(T);
    if (shape.rows) found.push_back(N);
    found.insert(found.end(), shape.sizes, shape.sizes + shape.axes);
    return found;
  }

  template <class Place>
  void forward(const lstmc_layer* code, const Blobs& bottom, const Blobs& top) {
    const lstmc_call call = called<Place>(code, bottom);
    for (size_t i = 0; i < top.size(); ++i) top_[i] = Place::data_to_write(top[i]);
    code->forward(&call);
  }

  template <class Place>
  void backward(const lstmc_layer* code, const Blobs& top, const vector<bool>& propagate_down, const Blobs& bottom) {
    const lstmc_call call = called<Place>(code, bottom);
    for (size_t i = 0; i < top.size(); ++i) {
      top_[i] = const_cast<float*>(Place::data(*top[i]));
      top_diff_[i] = Place::diff(*top[i]);
    }
    for (size_t i = 0; i < bottom.size(); ++i) {
      bottom_diff_[i] = Place::diff_to_write(bottom[i]);
      wanted_[i] = propagate_down[i];
    }
    for (int i = 0; i < code->weights; ++i) weight_diff_[i] = Place::diff_to_write(this->blobs_[i].get());
    code->backward(&call);
  }

  // A call that knows where all is but tops and gradients, for which it has room.
  template <class Place>
  lstmc_call called(const lstmc_layer* code, const Blobs& bottom) {
    bottom_.resize(code->bottoms + 1);
    bottom_diff_.resize(code->bottoms + 1);
    wanted_.resize(code->bottoms + 1);
    weight_.resize(code->weights + 1);
    weight_diff_.resize(code->weights + 1);
    top_.resize(code->tops + 1);
    top_diff_.resize(code->tops + 1);
    buffer_.resize(code->buffers + 1);
    for (size_t i = 0; i < bottom.size(); ++i) bottom_[i] = Place::data(*bottom[i]);
    for (int i = 0; i < code->weights; ++i) weight_[i] = Place::data(*this->blobs_[i]);
    for (int i = 0; i < code->buffers; ++i) {
      if (!code->buffer[i].size) continue;  // it uses none
      float* const begin = static_cast<float*>(Place::memory(buffers_[i].get()));
      const size_t beyond = reinterpret_cast<size_t>(begin) / sizeof(float) % ALIGNED;
      buffer_[i] = begin + (beyond ? ALIGNED - beyond : 0);
    }
    const lstmc_call call = {T_,
                             N_,
                             bottom_.data(),
                             bottom_diff_.data(),
                             wanted_.data(),
                             weight_.data(),
                             weight_diff_.data(),
                             top_.data(),
                             top_diff_.data(),
                             buffer_.data(),
                             Place::blas(),
                             this->phase_ == caffe::TEST ? seen_.data() : nullptr};  // training changes weights
    return call;
  }

  const lstmc_layer* const code_;
  int T_ = 1, N_ = 1;
  vector<boost::shared_ptr<caffe::SyncedMemory> > buffers_;
  vector<const float*> bottom_, weight_, top_diff_;
  vector<char> wanted_;
  vector<float*> bottom_diff_, weight_diff_, top_, buffer_;
  vector<unsigned long> seen_;
};

boost::shared_ptr<caffe::Layer<float> > create(const caffe::LayerParameter& param) {
  return boost::shared_ptr<caffe::Layer<float> >(new GeneratedLayer(param));
}

// By this text a library is known before it is opened, and the id is compared when it is.
const char made_for[] __attribute__((used)) = "lstmc layers for Caffe of build " LSTMC_CAFFE_BUILD;

// What the linker wrote into the file that this process has Caffe's code from, to tell it from any other.
int find_build_id(struct dl_phdr_info* file, size_t, void* into) {
  const ElfW(Addr) inside = reinterpret_cast<ElfW(Addr)>(&caffe::Caffe::Get) - file->dlpi_addr;
  bool here = false;
  for (int i = 0; i < file->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = file->dlpi_phdr[i];
    here = here || (part.p_type == PT_LOAD && inside >= part.p_vaddr && inside - part.p_vaddr < part.p_memsz);
  }
  for (int i = 0; here && i < file->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = file->dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const char* note = reinterpret_cast<const char*>(file->dlpi_addr + part.p_vaddr);
    for (const char* const end = note + part.p_memsz; note < end;) {
      const ElfW(Nhdr)* const head = reinterpret_cast<const ElfW(Nhdr)*>(note);
      const char* const name = note + sizeof *head;
      const unsigned char* const id = reinterpret_cast<const unsigned char*>(name + (head->n_namesz + 3) / 4 * 4);
      note = reinterpret_cast<const char*>(id) + (head->n_descsz + 3) / 4 * 4;
      if (head->n_type != NT_GNU_BUILD_ID || head->n_namesz != 4 || std::memcmp(name, "GNU", 4) != 0) continue;
      for (unsigned k = 0; k < head->n_descsz; ++k) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", id[k]);
        *static_cast<string*>(into) += digits;
      }
      return 1;
    }
  }
  return here;
}

struct Registered {
  Registered() {
    string build;
    dl_iterate_phdr(find_build_id, &build);
    if (build != LSTMC_CAFFE_BUILD) {
      std::fprintf(stderr, "generated layers are refused: they were made for the Caffe of build %s, found build %s: "
                   "make them for this one, by python -m lstmc_caffe.layers\n", LSTMC_CAFFE_BUILD, build.c_str());
      return;
    }
    for (const lstmc_layer* const* layer = lstmc_layers; *layer; ++layer) {
      // its name says what its code is: one that is there already is the same
      if (!caffe::LayerRegistry<float>::Registry().count((*layer)->type)) {
        caffe::LayerRegistry<float>::AddCreator((*layer)->type, create);
      }
    }
  }
} registered;

}  // namespace
