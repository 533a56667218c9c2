#pragma once
#include "elements.h"
#include <omp.h>

#include <cstdlib>
#include <utility>

#if defined(__AVX512F__)
enum { LANES = 16, MOST = 10 };  // floats of a register, and rows that are done at once: what fits the registers
#elif defined(__AVX__)
enum { LANES = 8, MOST = 6 };
#else
enum { LANES = 4, MOST = 6 };
#endif
enum { WIDE = 2 * LANES };  // columns of a panel
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define ONCE __attribute__((noinline, noclone, unused))  // one copy of its code, which is long
#define INLINE __attribute__((always_inline))

static inline long ceil_div(long a, long b) { return (a + b - 1) / b; }

static inline vector& at(float* x) { return *reinterpret_cast<vector*>(x); }
static inline const vector& at(const float* x) { return *reinterpret_cast<const vector*>(x); }
static inline void put(float* x, vector value) { at(x) = value; }
static inline void put(float* x, float value) { at(x) = vector{} + value; }

// Have the lines of so many floats in the cache soon, to write them: stores wait in a queue behind one that has not its
// line there.
static inline void fetch(const float* x, int floats) {
  for (int i = 0; i < floats; i += 16) __builtin_prefetch(x + i, 1);
}

typedef int indices __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef std::make_integer_sequence<int, LANES> each_lane;

template <int STEP, int... LANE>
static inline void exchange(vector& a, vector& b, std::integer_sequence<int, LANE...>) {
  const vector upper = __builtin_shuffle(a, b, indices{(LANE & STEP ? LANES + LANE - STEP : LANE)...});
  b = __builtin_shuffle(a, b, indices{(LANE & STEP ? LANES + LANE : LANE + STEP)...});
  a = upper;
}

// Rows and columns of LANES vectors change places.
template <int STEP>
static inline void turn(vector* v) {
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) {
    if (!(i & STEP)) exchange<STEP>(v[i], v[i + STEP], each_lane());
  }
  if constexpr (2 * STEP < LANES) turn<2 * STEP>(v);
}

// Of each group of 2 * HALF lanes the sum of its halves: of a in the first half of the group, of b in the second.
template <int HALF, int... LANE>
static inline vector halves(vector a, vector b, std::integer_sequence<int, LANE...>) {
  return __builtin_shuffle(a, b, indices{(LANE % (2 * HALF) < HALF ? LANE : LANES + LANE - HALF)...}) +
         __builtin_shuffle(a, b, indices{(LANE % (2 * HALF) < HALF ? LANE + HALF : LANES + LANE)...});
}

// The sums of COUNT vectors, a power of two up to LANES: each is in LANES / COUNT lanes, one after the other.
template <int COUNT, int HALF = LANES / 2>
static inline vector sums_of(const vector* v) {
  if constexpr (COUNT > 1) {
    alignas(4 * LANES) vector fewer[COUNT / 2];
#pragma GCC unroll 8
    for (int i = 0; i < COUNT / 2; ++i) fewer[i] = halves<HALF>(v[i], v[i + COUNT / 2], each_lane());
    return sums_of<COUNT / 2, HALF / 2>(fewer);
  } else if constexpr (HALF > 0) {
    const vector twice = halves<HALF>(v[0], v[0], each_lane());
    return sums_of<1, HALF / 2>(&twice);
  } else {
    return v[0];
  }
}

// Otherwise g++ reads it from memory again for each use.
static inline void in_register(vector& v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__SSE__)
  __asm__("" : "+x"(v));
#endif
}

// How many threads share out so many units: as many as OMP_NUM_THREADS says, if each has enough to do. ``fit`` is the
// whole work by what is enough for one, which takes 20 to 40 us; waiting for another takes 2 to 10.
static inline int threads_for(double fit, long units) {
  // where nothing is said OpenMP would take all cores, which another's threads may be busy on
  static const bool told = std::getenv("OMP_NUM_THREADS") != nullptr;
  if (fit < 2 || !told) return 1;
  return lesser<long>(lesser<long>(omp_get_max_threads(), static_cast<long>(fit)), units);
}

// of(begin, end) for parts of ``outs`` columns that are together all of them, with so many products with each column, by
// several threads. All but the last part are a multiple of WIDE, so what is computed of a column does not depend on how
// many parts there are.
template <class Of>
static inline void in_parts(int outs, double products, const Of& of) {
  enum { ENOUGH = 1 << 20 };  // products of a thread
  const int units = ceil_div(outs, WIDE);
  const int parts = threads_for(products * outs / ENOUGH, units);
  if (parts == 1) {
    of(0, outs);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static)
  for (int part = 0; part < parts; ++part) {
    const int begin = static_cast<int>(static_cast<long>(units) * part / parts) * WIDE;
    const int end = static_cast<int>(static_cast<long>(units) * (part + 1) / parts) * WIDE;
    of(begin, lesser<long>(end, outs));
  }
}

// of(part, begin, end) for parts of N rows, by several threads: so many elements of loops with each row.
template <class Of>
static inline void in_rows(long N, double elements, const Of& of) {
  enum { ENOUGH = 1 << 19 };  // elements of a thread
  const int parts = threads_for(N * elements / ENOUGH, N);
  if (parts == 1) {
    of(0L, 0L, N);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static)
  for (long part = 0; part < parts; ++part) of(part, N * part / parts, N * (part + 1) / parts);
}
