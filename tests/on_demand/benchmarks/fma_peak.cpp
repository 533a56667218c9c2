// The rates at which this processor multiplies and adds in registers, and reads from a cache, with the vectors and flags of
// generated layers.
#include <chrono>

#include "vectors.h"

enum { SUMS = 20, TIMES = 20000 };  // enough sums that none waits for the one before it

extern "C" double flops_per_second(int rounds) {
  double least = 1e9;
  volatile float read = 0;
  for (int round = 0; round < rounds; ++round) {
    vector sum[SUMS], x = vector{} + 1.0000001f, y = vector{} + 1e-9f;
    in_register(x);
    in_register(y);
#pragma GCC unroll 20
    for (int i = 0; i < SUMS; ++i) sum[i] = y;
    const auto start = std::chrono::steady_clock::now();
    for (int time = 0; time < TIMES; ++time) {
#pragma GCC unroll 20
      for (int i = 0; i < SUMS; ++i) {
        sum[i] = sum[i] * x + y;
        in_register(sum[i]);
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    least = seconds < least ? seconds : least;
#pragma GCC unroll 20
    for (int i = 0; i < SUMS; ++i) read = read + sum[i][0];
  }
  return 2.0 * SUMS * TIMES * LANES / least;
}

// Reads an aligned array again and again, from the cache that has room for it.
extern "C" double bytes_per_second(const float* numbers, long count, int rounds) {
  enum { READS = 8 };  // sums of their own, so that no load waits for an addition
  const long step = READS * LANES, end = count / step * step, times = 1 + (1L << 20) / end;
  double least = 1e9;
  volatile float read = 0;
  for (int round = 0; round < rounds; ++round) {
    vector sum[READS] = {};
    const auto start = std::chrono::steady_clock::now();
    for (long time = 0; time < times; ++time) {
      for (long at = 0; at < end; at += step) {
#pragma GCC unroll 8
        for (int i = 0; i < READS; ++i) {
          sum[i] += *reinterpret_cast<const vector*>(numbers + at + i * LANES);
          in_register(sum[i]);
        }
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    least = seconds < least ? seconds : least;
    for (int i = 0; i < READS; ++i) read = read + sum[i][0];
  }
  return 4.0 * end * times / least;
}
