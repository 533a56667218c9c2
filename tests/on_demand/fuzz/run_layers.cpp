// Runs every generated layer of a source by itself, with memory of just its size, so that sanitizers see what is read
// or written beyond it: forward and backward, in two threads at once that share the weights.
//   run_layers T N
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include LAYERS

typedef std::vector<std::vector<float>> Arrays;

static std::vector<float*> pointers(Arrays& arrays) {
  std::vector<float*> found;
  for (std::vector<float>& array : arrays) found.push_back(array.data());
  return found;
}

static Arrays arrays_of(int count, const lstmc_shape* shapes, int T, int N, std::mt19937& random) {
  Arrays made;
  std::uniform_real_distribution<float> number(-0.5f, 0.5f);
  for (int i = 0; i < count; ++i) {
    long size = (shapes[i].time ? T : 1) * (shapes[i].rows ? N : 1);
    for (int axis = 0; axis < shapes[i].axes; ++axis) size *= shapes[i].sizes[axis];
    std::vector<float> array(size);
    for (float& element : array) element = number(random);
    made.push_back(std::move(array));
  }
  return made;
}

static double run(const lstmc_layer* layer, int T, int N, Arrays& weights) {
  std::mt19937 random(1);
  Arrays bottom = arrays_of(layer->bottoms, layer->bottom, T, N, random), bottom_diff = bottom;
  Arrays top = arrays_of(layer->tops, layer->top, T, N, random), top_diff = top, weight_diff = weights, buffer;
  for (int i = 0; i < layer->buffers; ++i) buffer.emplace_back(lstmc_floats(&layer->buffer[i], T, N));
  const std::vector<float*> in = pointers(bottom), d_in = pointers(bottom_diff), w = pointers(weights);
  const std::vector<float*> d_w = pointers(weight_diff), out = pointers(top), d_out = pointers(top_diff);
  const std::vector<float*> own = pointers(buffer);
  const std::vector<char> wanted(layer->bottoms + 1, 1);
  std::vector<unsigned long> seen(layer->buffers + 1);
  const lstmc_call call = {T,          N,          in.data(),    d_in.data(), wanted.data(), w.data(),
                           d_w.data(), out.data(), d_out.data(), own.data(),  nullptr,       seen.data()};
  layer->forward(&call);
  layer->forward(&call);  // with the weights that the first one packed
  layer->backward(&call);
  double sum = 0;
  for (const Arrays* group : {&top, &bottom_diff, &weight_diff}) {
    for (const std::vector<float>& array : *group) {
      for (float element : array) sum += element;
    }
  }
  return sum;
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const int T = std::atoi(arguments[1]), N = std::atoi(arguments[2]);
  for (const lstmc_layer* const* layer = lstmc_layers; *layer; ++layer) {
    std::mt19937 random(0);
    Arrays weights = arrays_of((*layer)->weights, (*layer)->weight, T, N, random);
    const int rows = (*layer)->fixed ? 1 : N;
    double sums[2];
    std::thread other([&] { sums[1] = run(*layer, T, rows, weights); });
    sums[0] = run(*layer, T, rows, weights);
    other.join();
    std::printf("%s %.9g %.9g\n", (*layer)->type, sums[0], sums[1]);
#ifndef ON_HOST_THREADS  // with these, atomic additions come in any order
    if (std::memcmp(&sums[0], &sums[1], sizeof(double)) != 0) return 1;
#endif
  }
  return 0;
}
