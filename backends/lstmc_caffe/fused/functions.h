// All that these need is the C++ library, cblas_sgemm and cblas_sgemv.
#include <cmath>
#include <cstring>
#include <utility>

// Functions of one element that g++ turns into vector code: no table, no call, no branch. NaN stays NaN.
static inline int bits_of(float x) {
  int bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float of_bits(int bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

template <typename Whole>
static inline Whole lesser(Whole a, Whole b) {
  return a < b ? a : b;
}

// x between two limits, below and above 0; NaN becomes one of them. The bits of a float grow with it, those of a negative
// one with its size: two instructions, where comparisons that keep NaN become seven.
static inline float within(float x, float least, float most) {
  const int bits = lesser(bits_of(x), bits_of(most));
  return of_bits(static_cast<int>(lesser(static_cast<unsigned>(bits), static_cast<unsigned>(bits_of(least)))));
}

// e^r for |r| <= ln 2 / 2, by the polynomial of least error relative to it, which is 9.2e-8
static inline float exp_of_rest(float r) {
  float p = 8.29027212e-3f;
  p = p * r + 4.18981596e-2f;
  p = p * r + 1.66676381e-1f;
  p = p * r + 4.99991478e-1f;
  p = p * r + 9.99999706e-1f;
  return p * r + 1.0f;
}

// y 2^n, where neither is denormal or infinite
static inline float times_power_of_two(float y, int n) {
  return of_bits(bits_of(y) + static_cast<int>(static_cast<unsigned>(n) << 23));
}

// ln 2: its first bits, so that products with whole numbers are exact, and the rest
static const float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;

static inline float exp_(float x) {
  const float near = within(x, -104.0f, 88.8f);
  const float n = __builtin_rintf(near * 1.44269504f);
  const float r = (near - n * LN2_HIGH) - n * LN2_LOW;
  const int whole = static_cast<int>(n), half = whole >> 1;  // in two factors, as 2^128 is none and 2^-149 is one
  const float y = times_power_of_two(exp_of_rest(r), half) * times_power_of_two(1.0f, whole - half);
  return x != x ? x : y;
}

static inline float sigmoid(float x) {
  const float near = within(x, -88.0f, 87.0f);
  const float n = __builtin_rintf(near * -1.44269504f);
  const float r = (n * -LN2_HIGH - near) - n * LN2_LOW;
  const float y = 1.0f / (1.0f + times_power_of_two(exp_of_rest(r), static_cast<int>(n)));
  return x != x ? x : y;
}

// By a quotient of polynomials of x^2 that was fitted to tanh(x) / x up to 8; with its rounding it is right to 2.9e-7 of
// itself, never beyond 1, and 1 at the limit.
static inline float tanh_(float x) {
  const float a = within(x, -8.10797787f, 8.10797787f), s = a * a;
  float p = 1.52924553e-8f;
  p = p * s + 2.19391204e-5f;
  p = p * s + 3.57431313e-3f;
  p = p * s + 1.34467945e-1f;
  p = p * s + 1.0f;
  float q = 8.54769212e-7f;
  q = q * s + 3.41571809e-4f;
  q = q * s + 2.61748023e-2f;
  q = q * s + 4.67801243e-1f;
  q = q * s + 1.0f;
  const float y = p * a / q;
  return x != x ? x : y;
}

static inline float softplus(float x) {
  return (x > 0.0f ? x : x != x ? x : 0.0f) + std::log1p(std::exp(-std::fabs(x)));
}

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
extern "C" void cblas_sgemv(int order, int transpose, int m, int n, float alpha, const float* a, int lda,
                            const float* x, int incx, float beta, float* y, int incy);

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

// The panels [ins, WIDE] of w, which is [outs, ins] transposed, or [ins, outs]; columns beyond the last are zero.
ONCE static const float* pack(int outs, int ins, const float* w, bool transposed, float* into) {
  float* panel = into;
  for (int first = 0; first < outs; first += WIDE, panel += static_cast<long>(WIDE) * ins) {
    const int columns = outs - first < WIDE ? outs - first : WIDE;
    if (columns < WIDE) std::memset(panel, 0, sizeof(float) * WIDE * ins);
    if (transposed) {
      int done = 0;
      for (; columns == WIDE && done + LANES <= ins; done += LANES) {
        for (int half = 0; half < WIDE; half += LANES) {
          vector block[LANES];
          const float* const from = w + static_cast<long>(first + half) * ins + done;
          for (int j = 0; j < LANES; ++j) block[j] = *reinterpret_cast<const vector*>(from + static_cast<long>(j) * ins);
          turn<1>(block);
          for (int k = 0; k < LANES; ++k) *reinterpret_cast<vector*>(panel + (done + k) * WIDE + half) = block[k];
        }
      }
      for (int j = 0; j < columns; ++j) {
        const float* const row = w + static_cast<long>(first + j) * ins;
        for (int k = done; k < ins; ++k) panel[k * WIDE + j] = row[k];
      }
    } else {
      for (int k = 0; k < ins; ++k) {
        std::memcpy(panel + k * WIDE, w + static_cast<long>(k) * outs + first, sizeof(float) * columns);
      }
    }
  }
  return into;
}

// Lines of memory, FETCHED of each row, that are fetched while a product is computed: one each EACH ins, as what the
// product itself reads would wait for many at once.
struct Ahead {
  enum { LINE = 16, FETCHED = 4, EACH = 16 };  // floats of a line
  const float* from;
  long ld, lines;
};

typedef unsigned long words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// A hash of floats, by their bits. Each step is invertible: if the floats differ in one word of 64 bits, so do the hashes.
ONCE static unsigned long hash_of(long count, const float* x) {
  enum { SUMS = 8 };  // as each step waits for the one before it
  const auto with = [](auto sum, auto word) INLINE {
    sum = (sum ^ word) * 0x9e3779b97f4a7c15ul;
    return sum ^ (sum >> 29);
  };
  words sum[SUMS];
#pragma GCC unroll 8
  for (int i = 0; i < SUMS; ++i) sum[i] = words{} + static_cast<unsigned long>(i);
  long done = 0;
  for (; done + SUMS * LANES <= count; done += SUMS * LANES) {
#pragma GCC unroll 8
    for (int i = 0; i < SUMS; ++i) sum[i] = with(sum[i], *reinterpret_cast<const words*>(x + done + i * LANES));
  }
  unsigned long hash = static_cast<unsigned long>(count);
#pragma GCC unroll 8
  for (int i = 0; i < SUMS; ++i) {
    for (int lane = 0; lane < LANES / 2; ++lane) hash = with(hash, sum[i][lane]);
  }
  for (; done < count; ++done) hash = with(hash, static_cast<unsigned long>(static_cast<unsigned>(bits_of(x[done]))));
  return hash ? hash : 1;
}

// The panels of w, packed now, or by a pass before this one if ``seen`` is the hash of w: where it is not null, there is
// what was packed into the panels, or 0. With shorter registers a hash takes as long as packing.
static inline const float* packed(unsigned long* seen, int outs, int ins, const float* w, bool transposed, float* into) {
  if (seen && LANES == 16) {
    const unsigned long hash = hash_of(static_cast<long>(outs) * ins, w);
    if (hash == *seen) return into;
    *seen = hash;
  }
  return pack(outs, ins, w, transposed, into);
}

// y [rows, WIDE] = x [rows, ins] times a panel, plus b, or plus y itself without b; in x the next row is ldx further on,
// and the next element of a row step; in the panel the next row is ldp further on
template <int ROWS>
static inline void rows_times_panel(int rows, int ins, const float* x, int ldx, int step, const float* panel,
                                    int ldp, const float* b, float* y, int ldy, const Ahead& ahead = {}) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) rows_times_panel<ROWS - 1>(rows, ins, x, ldx, step, panel, ldp, b, y, ldy, ahead);
    return;
  }
  // a sum waits for the one before it: with few rows there are several sums of each element
  constexpr int SUMS = ROWS == 1 ? 4 : ROWS <= 3 ? 2 : 1;
  vector sum[SUMS][ROWS][2] = {};
  constexpr int OWN = ROWS > 3 ? ROWS : 0;  // rows of y that are fetched too
  int k = 0;
  for (int time = 0; k + SUMS <= ins; ++time) {
    if (time < OWN) {
      __builtin_prefetch(y + time * ldy, 1);
      __builtin_prefetch(y + time * ldy + LANES, 1);
    }
    if (time < ahead.lines) {
      __builtin_prefetch(ahead.from + time / Ahead::FETCHED * ahead.ld + time % Ahead::FETCHED * Ahead::LINE);
    }
    const bool last = ins - k <= Ahead::EACH || (time + 1 >= OWN && time + 1 >= ahead.lines);
    for (const int end = last ? ins : k + Ahead::EACH; k + SUMS <= end; k += SUMS) {
#pragma GCC unroll 4
      for (int u = 0; u < SUMS; ++u, panel += ldp, x += step) {
        const vector left = *reinterpret_cast<const vector*>(panel);
        const vector right = *reinterpret_cast<const vector*>(panel + LANES);
#pragma GCC unroll 16
        for (int m = 0; m < ROWS; ++m) {
          sum[u][m][0] += x[m * ldx] * left;
          sum[u][m][1] += x[m * ldx] * right;
        }
      }
    }
  }
  for (; SUMS > 1 && k < ins; ++k, panel += ldp, x += step) {
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; ++m) {
      sum[0][m][0] += x[m * ldx] * *reinterpret_cast<const vector*>(panel);
      sum[0][m][1] += x[m * ldx] * *reinterpret_cast<const vector*>(panel + LANES);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; ++m, y += ldy) {
    const float* const plus = b ? b : y;
#pragma GCC unroll 4
    for (int u = 1; u < SUMS; ++u) {
      sum[0][m][0] += sum[u][m][0];
      sum[0][m][1] += sum[u][m][1];
    }
    *reinterpret_cast<vector*>(y) = sum[0][m][0] + *reinterpret_cast<const vector*>(plus);
    *reinterpret_cast<vector*>(y + LANES) = sum[0][m][1] + *reinterpret_cast<const vector*>(plus + LANES);
  }
}

ONCE static void packed_product(long rows, int outs, int ins, const float* x, int ldx, const float* panels,
                                const float* b, float* y, int ldy) {
  enum { NEAR = 1 << 16 };  // floats of x that stay in the second cache for all panels
  const long blocks = (rows * ins + NEAR - 1) / NEAR;
  for (long block = 0, done = 0; block < blocks; ++block) {
    const long begin = done, end = done + (rows - done + blocks - block - 1) / (blocks - block);
    const long parts = (end - begin + MOST - 1) / MOST;
    const float* panel = panels;
    for (int first = 0; first < outs; first += WIDE, panel += static_cast<long>(WIDE) * ins) {
      const int columns = outs - first < WIDE ? outs - first : WIDE;
      float plus[WIDE] = {}, whole[MOST * WIDE];
      if (b) std::memcpy(plus, b + first, sizeof(float) * columns);
      done = begin;
      for (long part = 0; part < parts; ++part) {
        const int here = static_cast<int>((end - done + parts - part - 1) / (parts - part));
        float* const into = y + done * ldy + first;
        const bool fits = columns == WIDE;
        rows_times_panel<MOST>(here, ins, x + done * ldx, ldx, 1, panel, WIDE, plus, fits ? into : whole,
                               fits ? ldy : WIDE);
        for (int m = 0; !fits && m < here; ++m) std::memcpy(into + m * ldy, whole + m * WIDE, sizeof(float) * columns);
        done += here;
      }
    }
  }
}

// With w [ins, outs] as it is, and at least WIDE outs: for so few rows that packing does not pay.
ONCE static void straight_product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* b,
                                  float* y, int ldy) {
  const long parts = (rows + MOST - 1) / MOST;
  for (int first = 0; first < outs; first += WIDE) {
    const int from = outs - first < WIDE ? outs - WIDE : first;  // the last columns once more
    float plus[WIDE] = {};
    if (b) std::memcpy(plus, b + from, sizeof plus);
    for (long part = 0, done = 0, here; part < parts; ++part, done += here) {
      here = (rows - done + parts - part - 1) / (parts - part);
      rows_times_panel<MOST>(static_cast<int>(here), ins, x + done * ldx, ldx, 1, w + from, outs, plus,
                             y + done * ldy + from, ldy);
    }
  }
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
    vector fewer[COUNT / 2];
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

// y [ROWS, COLUMNS] = the sums of vectors from row M on, plus b: as many rows at a time as there are lanes for
template <int ROWS, int COLUMNS, int M = 0>
static inline void write_sums(const vector (*sum)[COLUMNS], const float* b, float* y, int ldy) {
  if constexpr (M < ROWS) {
    constexpr int LEFT = ROWS - M, FIT = LANES / COLUMNS;
    constexpr int HERE = LEFT >= FIT ? FIT : LEFT >= 2 ? 2 : 1, COUNT = HERE * COLUMNS;
    vector some[COUNT];
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; ++i) some[i] = sum[M + i / COLUMNS][i % COLUMNS];
    const vector whole = sums_of<COUNT>(some);
    float found[LANES];
    std::memcpy(found, &whole, sizeof found);
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; ++i) {
      y[(M + i / COLUMNS) * ldy + i % COLUMNS] = found[i * (LANES / COUNT)] + (b ? b[i % COLUMNS] : 0.0f);
    }
    write_sums<ROWS, COLUMNS, M + HERE>(sum, b, y, ldy);
  }
}

// y [rows, COLUMNS] = x [rows, ins] times w [COLUMNS, ins] transposed, plus b. With each LANES of ins so many floats
// from next on are fetched into the nearest cache.
template <int ROWS, int COLUMNS>
static inline void rows_times_rows(int rows, int ins, const float* x, int ldx, const float* w, const float* next,
                                   int fetched, const float* b, float* y, int ldy) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) rows_times_rows<ROWS - 1, COLUMNS>(rows, ins, x, ldx, w, next, fetched, b, y, ldy);
    return;
  }
  vector sum[ROWS][COLUMNS] = {};  // in registers, as all that uses them is inline and unrolled
  const auto add = [&](const auto& read) INLINE {
    vector of_x[ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m) {
      of_x[m] = read(x + m * ldx);
      in_register(of_x[m]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < COLUMNS; ++j) {
      vector of_w = read(w + static_cast<long>(j) * ins);
      if (ROWS > 1) in_register(of_w);
#pragma GCC unroll 8
      for (int m = 0; m < ROWS; ++m) sum[m][j] += of_x[m] * of_w;
    }
  };
  int k = 0;
  for (; k + LANES <= ins; k += LANES, next += fetched) {
    for (int i = 0; i < fetched; i += LANES) __builtin_prefetch(next + i);
    add([&](const float* row) INLINE { return *reinterpret_cast<const vector*>(row + k); });
  }
  if (k < ins) {  // the last LANES once more, those that are in the sum already as zeros
    indices rest;
    for (int lane = 0; lane < LANES; ++lane) rest[lane] = lane < LANES - (ins - k) ? 0 : -1;
    add([&](const float* row) INLINE {
      return reinterpret_cast<vector>(*reinterpret_cast<const indices*>(row + ins - LANES) & rest);
    });
  }
  write_sums<ROWS, COLUMNS>(sum, b, y, ldy);
}

// With w [outs, ins] as it is, and at least LANES ins: for so few rows that packing does not pay. Each weight is read
// from memory once, for all rows, while the products with those before it are computed.
ONCE static void unpacked_product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* b,
                             float* y, int ldy) {
  enum { AT_ONCE = LANES == 16 ? 6 : LANES == 8 ? 3 : 2, COLUMNS = 4 };  // their sums, x and a weight fit the registers
  const int parts = static_cast<int>((rows + AT_ONCE - 1) / AT_ONCE);
  for (int first = 0, columns; first < outs; first += columns) {
    columns = first + COLUMNS <= outs ? COLUMNS : 1;
    const float* const from = w + static_cast<long>(first) * ins;
    const float* const plus = b ? b + first : b;
    const bool followed = parts > 1 && first + 2 * COLUMNS <= outs;  // one part waits for memory anyway
    const float* const next = from + static_cast<long>(COLUMNS) * ins;
    long done = 0;
    for (int part = 0; part < parts; ++part) {
      const int here = static_cast<int>((rows - done + parts - part - 1) / (parts - part));
      const float* const own = x + done * ldx;
      float* const into = y + done * ldy + first;
      if (columns == COLUMNS) {
        const int fetched = followed ? COLUMNS * LANES / parts : 0;
        const float* const share = followed ? next + static_cast<long>(part) * (COLUMNS * ins / parts) : from;
        rows_times_rows<AT_ONCE, COLUMNS>(here, ins, own, ldx, from, share, fetched, plus, into, ldy);
      } else {
        for (int m = 0; m < here; ++m) {
          rows_times_rows<1, 1>(1, ins, own + m * ldx, ldx, from, from, 0, plus, into + m * ldy, ldy);
        }
      }
      done += here;
    }
  }
}

// y [rows, outs] = x [rows, ins] times w: of [outs, ins] transposed, or of [ins, outs]; plus b in each row. With the
// panels of w if there are any: making them pays from some rows on. A row alone is left to BLAS otherwise.
ONCE static void product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* panels,
                    bool transposed, const float* b, float* y, int ldy) {
  if (panels) {
    packed_product(rows, outs, ins, x, ldx, panels, b, y, ldy);
    return;
  }
  if (transposed && ins >= LANES && rows > 1) {
    unpacked_product(rows, outs, ins, x, ldx, w, b, y, ldy);
    return;
  }
  enum { FEW = LANES == 16 ? 48 : 3 * MOST };  // a BLAS packs w, which pays from some rows on
  if (!transposed && outs >= WIDE && rows > 1 && rows <= FEW) {
    straight_product(rows, outs, ins, x, ldx, w, b, y, ldy);
    return;
  }
  const int row_major = 101, as_it_is = 111, turned = 112;
  for (long n = 0; b && n < rows; ++n) std::memcpy(y + n * ldy, b, sizeof(float) * outs);
  const float beta = b ? 1.0f : 0.0f;
  const int ldw = transposed ? ins : outs;
  if (rows == 1) {
    cblas_sgemv(row_major, transposed ? as_it_is : turned, transposed ? outs : ins, ldw, 1.0f, w, ldw, x, 1, beta, y, 1);
  } else {
    cblas_sgemm(row_major, as_it_is, transposed ? turned : as_it_is, static_cast<int>(rows), outs, ins, 1.0f, x, ldx, w,
                ldw, beta, y, ldy);
  }
}

// Rows begin to end: WIDTH columns of each after those of the row before, and the next WIDTH columns so far apart from
// them; columns beyond the last are zero.
template <int WIDTH>
static inline void gather(long begin, long end, int columns, const float* from, int ld, float* into, long apart) {
  for (long k = begin; k < end; ++k) {
    const float* row = from + k * ld;
    float* to = into + k * WIDTH;
    int left = columns;
    for (; left >= WIDTH; left -= WIDTH, row += WIDTH, to += apart) std::memcpy(to, row, sizeof(float) * WIDTH);
    for (int j = 0; left > 0 && j < WIDTH; ++j) to[j] = j < left ? row[j] : 0.0f;
  }
}

// into [outs, ins] += ct [rows, outs] transposed times x [rows, ins]: up to DEEP rows at a time, of which the panels of x
// stay in the second cache, and one slab of ct in the nearest for all panels. While slabs are multiplied, the next are
// gathered, as ct and what is added to may be in main memory.
ONCE static void outer(long rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx, float* into) {
  enum { DEEP = 320, NEAR = 512 * (DEEP + 1), SLAB = 8, GROUP = Ahead::FETCHED * Ahead::LINE };
  if (LANES < 16 || ins < LANES) {  // with shorter registers a BLAS is as fast, and for few columns faster
    cblas_sgemm(101, 112, 111, outs, ins, static_cast<int>(rows), 1.0f, ct, ldct, x, ldx, 1.0f, into, ins);
    return;
  }
  alignas(64) float panels[NEAR], slabs[2][DEEP * GROUP];
  const long parts = (rows + DEEP - 1) / DEEP;
  for (long part = 0, deep; part < parts; ++part, rows -= deep, ct += deep * ldct, x += deep * ldx) {
    deep = (rows + parts - part - 1) / (parts - part);
    const long apart = (deep | 1) * WIDE;  // odd: panels a power of two apart would be in one place of a cache
    for (int left = 0, right; left < ins; left = right) {
      right = ins - left < NEAR / apart * WIDE ? ins : left + static_cast<int>(NEAR / apart) * WIDE;
      gather<WIDE>(0, deep, right - left, x + left, ldx, panels, apart);
      int group = 0, width = outs < GROUP ? outs : GROUP;
      for (int begin = 0, next; begin < outs; begin += GROUP, width = next) {
        const float* const slab = slabs[group];
        if (begin == 0) gather<SLAB>(0, deep, width, ct, ldct, slabs[group], deep * SLAB);
        group = !group;
        next = outs - begin - width < GROUP ? outs - begin - width : GROUP;
        const float* const from = ct + begin + GROUP;
        long products = (width + SLAB - 1) / SLAB * ((right - left + WIDE - 1) / WIDE), there = next > 0 ? 0 : deep;
        for (int m = 0; m < width; m += SLAB) {
          const int here = width - m < SLAB ? width - m : SLAB;
          for (int first = left; first < right; first += WIDE, --products) {
            const long until = there + (deep - there + products - 1) / products;
            const Ahead ahead = {from + there * ldct, ldct, (until - there) * Ahead::FETCHED};
            const float* const panel = panels + (first - left) / WIDE * apart;
            float* const y = into + static_cast<long>(begin + m) * ins + first;
            if (right - first >= WIDE) {
              rows_times_panel<SLAB>(here, deep, slab + m * deep, 1, SLAB, panel, WIDE, nullptr, y, ins, ahead);
            } else {
              float whole[SLAB * WIDE] = {};
              rows_times_panel<SLAB>(here, deep, slab + m * deep, 1, SLAB, panel, WIDE, nullptr, whole, WIDE, ahead);
              for (int row = 0; row < here; ++row) {
                for (int j = 0; j < right - first; ++j) y[static_cast<long>(row) * ins + j] += whole[row * WIDE + j];
              }
            }
            gather<SLAB>(there, until, next, from, ldct, slabs[group], deep * SLAB);
            there = until;
          }
        }
      }
    }
  }
}

// into [outs] += the rows of ct [rows, outs]
static void sum_of_rows(long rows, int outs, const float* ct, int ldct, float* into) {
  for (long n = 0; n < rows; ++n, ct += ldct) {
#pragma GCC ivdep
    for (int j = 0; j < outs; ++j) into[j] += ct[j];
  }
}
