// libcurand.so.10 by generators of the host: other numbers than NVIDIA's, of the same distributions.
#include <curand.h>

#include <random>

struct curandGenerator_st {
  std::mt19937 engine;
};

namespace {

template <typename T, typename Draw>
curandStatus_t fill(const char* function, curandGenerator_t generator, T* target, size_t count, Draw&& draw) {
  if (generator == nullptr) return CURAND_STATUS_NOT_INITIALIZED;
  emulated::count_call(function);
  T* const numbers = static_cast<T*>(emulated::device_memory(function, "the target", target, count * sizeof(T)));
  for (size_t i = 0; i < count; ++i) numbers[i] = draw(generator->engine);
  return CURAND_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

curandStatus_t curandCreateGenerator(curandGenerator_t* generator, curandRngType_t) {
  int device;
  if (cudaGetDevice(&device) != cudaSuccess) return CURAND_STATUS_INITIALIZATION_FAILED;
  *generator = new curandGenerator_st;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t generator) {
  delete generator;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(curandGenerator_t generator, unsigned long long seed) {
  if (generator == nullptr) return CURAND_STATUS_NOT_INITIALIZED;
  generator->engine.seed(static_cast<unsigned>(seed));
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(curandGenerator_t generator, unsigned long long) {
  return generator == nullptr ? CURAND_STATUS_NOT_INITIALIZED : CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerate(curandGenerator_t generator, unsigned* target, size_t count) {
  return fill("curandGenerate", generator, target, count, [](auto& engine) { return static_cast<unsigned>(engine()); });
}
// in (0, 1], where the standard library's are in [0, 1)
curandStatus_t curandGenerateUniform(curandGenerator_t generator, float* target, size_t count) {
  std::uniform_real_distribution<float> draw;
  return fill("curandGenerateUniform", generator, target, count, [&](auto& engine) { return 1.0f - draw(engine); });
}
curandStatus_t curandGenerateUniformDouble(curandGenerator_t generator, double* target, size_t count) {
  std::uniform_real_distribution<double> draw;
  return fill("curandGenerateUniformDouble", generator, target, count, [&](auto& engine) { return 1.0 - draw(engine); });
}
// in pairs
curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* target, size_t count, float mean,
                                    float stddev) {
  if (count % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
  std::normal_distribution<float> draw(mean, stddev);
  return fill("curandGenerateNormal", generator, target, count, draw);
}
curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator, double* target, size_t count, double mean,
                                          double stddev) {
  if (count % 2) return CURAND_STATUS_LENGTH_NOT_MULTIPLE;
  std::normal_distribution<double> draw(mean, stddev);
  return fill("curandGenerateNormalDouble", generator, target, count, draw);
}
}
