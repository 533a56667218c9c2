// Caffe's side of generated layers: one class for all of them, registered under the type of each that a library holds.
// And the loop of Caffe's Adam for nets with such layers.
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/sgd_solvers.hpp"
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

enum { PAGE = 1 << 21 };

// Memory for a large buffer, in pages of 2 MB where the system has them: a processor remembers too few addresses of
// pages of 4 KB.
boost::shared_ptr<caffe::SyncedMemory> in_large_pages(size_t bytes) {
  void* const memory = std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
  CHECK(memory) << "no memory for a buffer of " << bytes << " bytes";
  madvise(memory, bytes, MADV_HUGEPAGE);
  caffe::SyncedMemory* const buffer = new caffe::SyncedMemory(bytes);
  buffer->set_cpu_data(memory);
  return boost::shared_ptr<caffe::SyncedMemory>(buffer, [memory](caffe::SyncedMemory* with) {
    delete with;
    std::free(memory);
  });
}

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
    const auto& fillers = this->layer_param_.dummy_data_param().data_filler();
    for (int i = this->blobs_.size(); i < code_->weights; ++i) {
      this->blobs_.emplace_back(new Blob<float>(sized(code_->weight[i])));
      if (i >= fillers.size()) continue;
      std::unique_ptr<caffe::Filler<float>>(caffe::GetFiller<float>(fillers[i]))->Fill(this->blobs_[i].get());
    }
    this->param_propagate_down_.resize(code_->weights, true);
  }

  // T and N are what the bottoms have; where none has them, what the prototxt says (dummy_data_param.shape)
  virtual void Reshape(const Blobs& bottom, const Blobs& top) {
    for (const caffe::BlobShape& shape : this->layer_param_.dummy_data_param().shape()) {
      T_ = shape.dim(0);
      N_ = shape.dim(1);
    }
    for (int i = 0; i < code_->bottoms; ++i) {
      if (code_->bottom[i].time) T_ = bottom[i]->shape(0);
      if (code_->bottom[i].rows) N_ = bottom[i]->shape(code_->bottom[i].time);
    }
    if (code_->fixed) N_ = 1;
    for (int i = 0; i < code_->bottoms; ++i) {
      const vector<int> wanted = sized(code_->bottom[i]);
      CHECK(bottom[i]->shape() == wanted) << this->layer_param_.name() << ": bottom " << i << " must be "
                                          << text(wanted) << ", found " << text(bottom[i]->shape());
    }
    for (int i = 0; i < code_->tops; ++i) top[i]->Reshape(sized(code_->top[i]));
    buffers_.resize(code_->buffers);
    seen_.resize(code_->buffers);
    for (int i = 0; i < code_->buffers; ++i) {
      const size_t bytes = sizeof(float) * (lstmc_floats(&code_->buffer[i], T_, N_) + ALIGNED);
      // memory of the CPU or of a GPU: of that where a pass first wants it
      if (buffers_[i] && buffers_[i]->size() == bytes) continue;
      if (bytes >= PAGE && caffe::Caffe::mode() == caffe::Caffe::CPU) {
        buffers_[i] = in_large_pages(bytes);
      } else {
        buffers_[i].reset(new caffe::SyncedMemory(bytes));
      }
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
  vector<int> sized(const lstmc_shape& shape) const {
    vector<int> found;
    if (shape.time) found.push_back(T_);
    if (shape.rows) found.push_back(N_);
    found.insert(found.end(), shape.sizes, shape.sizes + shape.axes);
    return found;
  }

  template <class Place>
  void forward(const lstmc_layer* code, const Blobs& bottom, const Blobs& top) {
    lstmc_call call = called<Place>(code, bottom);
    vector<float*> tops;
    for (Blob<float>* blob : top) tops.push_back(Place::data_to_write(blob));
    call.top = tops.data();
    code->forward(&call);
  }

  template <class Place>
  void backward(const lstmc_layer* code, const Blobs& top, const vector<bool>& propagate_down, const Blobs& bottom) {
    lstmc_call call = called<Place>(code, bottom);
    vector<float*> tops, bottom_diffs, weight_diffs;
    vector<const float*> top_diffs;
    for (const Blob<float>* blob : top) {
      tops.push_back(const_cast<float*>(Place::data(*blob)));
      top_diffs.push_back(Place::diff(*blob));
    }
    for (Blob<float>* blob : bottom) bottom_diffs.push_back(Place::diff_to_write(blob));
    for (const auto& blob : this->blobs_) weight_diffs.push_back(Place::diff_to_write(blob.get()));
    const vector<char> wanted(propagate_down.begin(), propagate_down.end());
    call.top = tops.data(), call.top_diff = top_diffs.data(), call.wanted = wanted.data();
    call.bottom_diff = bottom_diffs.data(), call.weight_diff = weight_diffs.data();
    code->backward(&call);
  }

  // A call that knows where all is but tops and gradients.
  template <class Place>
  lstmc_call called(const lstmc_layer* code, const Blobs& bottom) {
    bottom_.clear(), weight_.clear(), buffer_.clear();
    for (const Blob<float>* blob : bottom) bottom_.push_back(Place::data(*blob));
    for (const auto& blob : this->blobs_) weight_.push_back(Place::data(*blob));
    for (const auto& buffer : buffers_) {
      float* begin = nullptr;
      if (code->buffer[buffer_.size()].size) {  // it uses it
        begin = static_cast<float*>(Place::memory(buffer.get()));
        begin += ALIGNED - reinterpret_cast<size_t>(begin) / sizeof(float) % ALIGNED;
      }
      buffer_.push_back(begin);
    }
    lstmc_call call = {};
    call.T = T_, call.N = N_, call.blas = Place::blas();
    call.bottom = bottom_.data(), call.weight = weight_.data(), call.buffer = buffer_.data();
    if (this->phase_ == caffe::TEST) call.seen = seen_.data();  // training changes weights
    return call;
  }

  const lstmc_layer* const code_;
  int T_ = 1, N_ = 1;
  vector<boost::shared_ptr<caffe::SyncedMemory>> buffers_;
  vector<const float*> bottom_, weight_;
  vector<float*> buffer_;
  vector<unsigned long> seen_;
};

boost::shared_ptr<caffe::Layer<float>> create(const caffe::LayerParameter& param) {
  return boost::shared_ptr<caffe::Layer<float>>(new GeneratedLayer(param));
}

// What Caffe's own Adam does on a CPU in ten loops over memory, one of them of powf.
void adam(long count, float beta1, float beta2, float epsilon, float rate, float* __restrict diff, float* __restrict m,
          float* __restrict v) {
  for (long i = 0; i < count; ++i) {
    m[i] = beta1 * m[i] + (1 - beta1) * diff[i];
    v[i] = beta2 * v[i] + (1 - beta2) * (diff[i] * diff[i]);
    diff[i] = rate * (m[i] / (std::sqrt(v[i]) + epsilon));
  }
}

// Caffe's Adam, with that loop for nets with generated layers: a net's updates do not depend on what else is open.
class AdamSolver : public caffe::AdamSolver<float> {
 public:
  using caffe::AdamSolver<float>::AdamSolver;

 protected:
  virtual void ComputeUpdateValue(int param, float rate) {
    if (!generated_ || caffe::Caffe::mode() == caffe::Caffe::GPU) {
      return caffe::AdamSolver<float>::ComputeUpdateValue(param, rate);
    }
    const Blobs& params = this->net_->learnable_params();
    const float beta1 = this->param_.momentum(), beta2 = this->param_.momentum2();
    const int t = this->iter_ + 1;
    const float correction = std::sqrt(1.f - std::pow(beta2, t)) / (1.f - std::pow(beta1, t));
    adam(params[param]->count(), beta1, beta2, this->param_.delta(),
         rate * this->net_->params_lr()[param] * correction, params[param]->mutable_cpu_diff(),
         this->history_[param]->mutable_cpu_data(), this->history_[param + params.size()]->mutable_cpu_data());
  }

 private:
  static bool is_generated(const boost::shared_ptr<caffe::Layer<float>>& layer) {
    return !std::strncmp(layer->type(), "Fused_", 6);
  }

  const bool generated_ = std::any_of(this->net_->layers().begin(), this->net_->layers().end(), is_generated);
};

caffe::Solver<float>* create_adam(const caffe::SolverParameter& param) { return new AdamSolver(param); }

// By this text a library is known before it is opened, and the id is compared when it is.
const char made_for[] __attribute__((used)) = "lstmc layers for Caffe of build " LSTMC_CAFFE_BUILD;

// The linker's id of the file that this process has Caffe's code from, to tell it from any other.
string build_id() {
  Dl_info file;
  link_map* map;
  dladdr1(reinterpret_cast<void*>(&caffe::Caffe::Get), &file, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP);
  const char* const begin = static_cast<const char*>(file.dli_fbase);
  const ElfW(Ehdr)* const head = reinterpret_cast<const ElfW(Ehdr)*>(begin);
  const ElfW(Phdr)* const parts = reinterpret_cast<const ElfW(Phdr)*>(begin + head->e_phoff);
  const std::string_view mark("\3\0\0\0GNU", 8);  // of a note: NT_GNU_BUILD_ID, and whose it is
  string found;
  for (const ElfW(Phdr)* part = parts; part != parts + head->e_phnum; ++part) {
    if (part->p_type != PT_NOTE) continue;
    const std::string_view notes(reinterpret_cast<const char*>(map->l_addr + part->p_vaddr), part->p_memsz);
    const size_t at = notes.find(mark);
    if (at == notes.npos) continue;
    uint32_t length;
    std::memcpy(&length, notes.data() + at - sizeof length, sizeof length);
    for (const unsigned char byte : notes.substr(at + mark.size(), length)) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", byte);
      found += digits;
    }
  }
  return found;
}

struct Registered {
  Registered() {
    const string build = build_id();
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
    auto& solvers = caffe::SolverRegistry<float>::Registry();
    if (solvers.count("Adam")) solvers["Adam"] = create_adam;  // else Caffe would register its own after it, and abort
  }
} registered;

}  // namespace
