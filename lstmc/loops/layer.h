// What generated code and Caffe's side of a generated layer know of each other. Plain C: no header is needed.
struct lstmc_shape {
  int time, rows;  // whether the axes T and N come first, in this order
  int axes;        // the others
  const int* sizes;
};

struct lstmc_buffer {
  long size;  // floats, for each row and each step if it has those
  int rows, time, more;  // time: 0, or each how many steps it has one; more: beyond these
};

// How many floats a buffer has.
static inline long lstmc_floats(const struct lstmc_buffer* buffer, long T, long N) {
  const long steps = buffer->time ? (T + buffer->time - 1) / buffer->time + buffer->more : 1;
  return buffer->size * (buffer->rows ? N : 1) * steps;
}

struct lstmc_call {
  int T, N;
  const float* const* bottom;
  float* const* bottom_diff;
  const char* wanted;  // of each bottom: whether its gradient is
  const float* const* weight;
  float* const* weight_diff;
  float* const* top;
  const float* const* top_diff;
  float* const* buffer;
  void* blas;  // on a GPU, where all pointers are of its memory: the handle of cuBLAS
  // of each buffer: 0, or a hash of the weights that are packed there, for the next pass with a buffer as it was left.
  // Null: nothing is kept from pass to pass.
  unsigned long* seen;
};

struct lstmc_layer {
  const char* type;
  int fixed;  // whether the rows of a batch depend on each other: then the whole batch is one row
  int bottoms, weights, tops, buffers;
  const lstmc_shape *bottom, *weight, *top;
  const lstmc_buffer* buffer;
  void (*forward)(const lstmc_call*);
  void (*backward)(const lstmc_call*);
};

// what a library holds, for the CPU, and, in the same order, for a GPU if it is for one; ended by a null pointer
extern __attribute__((visibility("hidden"))) const lstmc_layer* const lstmc_layers[];
extern __attribute__((visibility("hidden"))) const lstmc_layer* const lstmc_gpu_layers[];
