// Functions of one float for generated C: no library and no table. Each comment has the largest error relative to the
// result, where that is no denormal number. NaN stays NaN.

static uint32_t bits_of(float x) {
  union { float x; uint32_t bits; } both;
  both.x = x;
  return both.bits;
}

static float of_bits(uint32_t bits) {
  union { uint32_t bits; float x; } both;
  both.bits = bits;
  return both.x;
}

// x between two limits; NaN becomes the lower one
static float within(float x, float low, float high) {
  return x > low ? (x < high ? x : high) : low;
}

static size_t lesser(size_t a, size_t b) {
  return a < b ? a : b;
}

// the nearest integer, for |x| below 2^31
static int32_t nearest(float x) {
  return (int32_t)(x + (x < 0.0f ? -0.5f : 0.5f));
}

// y 2^n, where neither is denormal or infinite
static float scaled(float y, int32_t n) {
  return of_bits(bits_of(y) + ((uint32_t)n << 23));
}

// e^r for |r| <= ln 2 / 2
static float exp_of_rest(float r) {
  float p = 8.29027212e-3f;
  p = p * r + 4.18981596e-2f;
  p = p * r + 1.66676381e-1f;
  p = p * r + 4.99991478e-1f;
  p = p * r + 9.99999706e-1f;
  return p * r + 1.0f;
}

// e^x: error 1.9e-7
static float exp_(float x) {
  const float near = within(x, -104.0f, 88.8f);
  const int32_t n = nearest(near * 1.44269504f);
  const int32_t half = n / 2;
  const float r = (near - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
  const float y = scaled(exp_of_rest(r), half) * scaled(1.0f, n - half);
  return x != x ? x : y;
}

// 1 / (1 + e^-x): error 2.5e-7, for x above -87
static float sigmoid(float x) {
  const float near = within(x, -87.0f, 87.0f);
  const int32_t n = nearest(near * -1.44269504f);
  const float r = ((float)n * -0.693359375f - near) + (float)n * 2.12194440e-4f;
  const float y = 1.0f / (1.0f + scaled(exp_of_rest(r), n));
  return x != x ? x : y;
}

// tanh x: error 3.3e-7; 1 and -1 exactly from 8.11 on, as steps and masks are made of it
static float tanh_(float x) {
  const float a = within(x, -8.10797787f, 8.10797787f);
  const float s = a * a;
  float p = 1.52924553e-8f;
  float q = 8.54769212e-7f;
  p = p * s + 2.19391204e-5f;
  p = p * s + 3.57431313e-3f;
  p = p * s + 1.34467945e-1f;
  p = p * s + 1.0f;
  q = q * s + 3.41571809e-4f;
  q = q * s + 2.61748023e-2f;
  q = q * s + 4.67801243e-1f;
  q = q * s + 1.0f;
  return x < a ? -1.0f : x > a ? 1.0f : x != x ? x : p * a / q;
}

// e^x - 1: error 5.8e-7
static float expm1_(float x) {
  const float small = (((((1.98412698e-4f * x + 1.38888889e-3f) * x + 8.33333333e-3f) * x + 4.16666667e-2f) * x + 0.166666667f) * x + 0.5f) * x * x + x;
  return x > -0.34f && x < 0.34f ? small : exp_(x) - 1.0f;
}

// the natural logarithm: error 1e-7; NaN below 0, -infinity at 0
static float log_(float x) {
  const int tiny = x < 1.17549435e-38f;
  const float whole = tiny ? x * 8388608.0f : x;
  const uint32_t bits = bits_of(whole) + 0x4afb0du;  // so that the fraction is from the root of 1/2 to that of 2
  const float n = (float)((int32_t)(bits >> 23) - 127) - (tiny ? 23.0f : 0.0f);
  const float f = of_bits((bits & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  p = p * f * f * f - 2.12194440e-4f * n - 0.5f * f * f + f + 0.693359375f * n;
  if (!(x >= 0.0f)) return of_bits(0x7fc00000u);
  if (x == 0.0f) return of_bits(0xff800000u);
  return x > 3.40282347e38f ? x : p;
}

// ln(1 + e^x): error 3.1e-7
static float softplus(float x) {
  const float u = exp_(x < 0.0f ? x : -x);
  const float v = 1.0f + u;
  const float d = v - 1.0f;
  const float rest = d > 0.0f ? log_(v) * (u / d) : u;
  return x != x ? x : (x > 0.0f ? x : 0.0f) + rest;
}

// the square root: error 1e-7; NaN below 0
static float sqrt_(float x) {
  const int tiny = x < 1.17549435e-38f;
  const float a = tiny ? x * 16777216.0f : x;
  float r = of_bits(0x5f3759dfu - (bits_of(a) >> 1));
  r = r * (1.5f - 0.5f * a * r * r);
  r = r * (1.5f - 0.5f * a * r * r);
  r = r * (1.5f - 0.5f * a * r * r);
  r = a * r;
  r = 0.5f * (r + a / r);
  if (!(x > 0.0f)) return x < 0.0f ? of_bits(0x7fc00000u) : x;
  return x > 3.40282347e38f ? x : tiny ? r * 2.44140625e-4f : r;
}

// x^y for y that is no small integer: NaN below 0
static float pow_(float x, float y) {
  return exp_(y * log_(x));
}

// sin(x + quarters pi/2): absolute error 1e-7, for |x| below 1e6
static float sine(float x, int32_t quarters) {
  const float near = within(x, -1e6f, 1e6f);
  const int32_t n = nearest(near * 0.636619772f);
  const float r = (float)((double)near - (double)n * 1.5707963267948966);
  const float s = r * r;
  const float sin_r = ((-1.9515295891e-4f * s + 8.3321608736e-3f) * s - 1.6666654611e-1f) * s * r + r;
  const float cos_r = ((2.443315711809948e-5f * s - 1.388731625493765e-3f) * s + 4.166664568298827e-2f) * s * s - 0.5f * s + 1.0f;
  const uint32_t quadrant = (uint32_t)(n + quarters) & 3u;
  const float y = quadrant & 1u ? cos_r : sin_r;
  return near != x ? x - x : quadrant & 2u ? -y : y;
}

// the nearest integer, of two the even one
static float round_(float x) {
  const float big = 12582912.0f;
  const volatile float sum = x + big;  // not to be computed in a wider type, or left out
  return x > -4194304.0f && x < 4194304.0f ? sum - big : x;
}

// x as an index from 0 to count - 1
static size_t index_of(float x, size_t count) {
  return (size_t)within(x, 0.0f, (float)(count - 1));
}

// whether a processor computes with vectors
static int has_vectors(void) {
#if defined(__SSE__) || defined(__ARM_NEON) || defined(__riscv_vector)
  return 1;
#else
  return 0;
#endif
}

// 8 sums of a product, in registers: w has a column each `width` elements, x an element each `apart`
static void sums(float *y, const float *x, size_t apart, const float *w, const float *b, size_t width, size_t ins) {
  float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f, s4 = 0.0f, s5 = 0.0f, s6 = 0.0f, s7 = 0.0f;
  if (b) {
    s0 = b[0]; s1 = b[1]; s2 = b[2]; s3 = b[3];
    s4 = b[4]; s5 = b[5]; s6 = b[6]; s7 = b[7];
  }
  for (size_t i = 0; i < ins; ++i, w += width, x += apart) {
    const float xi = *x;
    s0 += w[0] * xi; s1 += w[1] * xi; s2 += w[2] * xi; s3 += w[3] * xi;
    s4 += w[4] * xi; s5 += w[5] * xi; s6 += w[6] * xi; s7 += w[7] * xi;
  }
  y[0] = s0; y[1] = s1; y[2] = s2; y[3] = s3;
  y[4] = s4; y[5] = s5; y[6] = s6; y[7] = s7;
}

// 32 sums of a product, in vectors, of even and of odd columns: with one loop gcc -O3 keeps its sums in memory
static void panel(float *y, const float *x, const float *w, const float *b, size_t ins) {
  float even[32] = {0.0f}, odd[32] = {0.0f};
  size_t i = 0;
  for (; i + 2 <= ins; i += 2) {
    for (size_t k = 0; k < 32; ++k) even[k] += w[32 * i + k] * x[i];
    for (size_t k = 0; k < 32; ++k) odd[k] += w[32 * i + 32 + k] * x[i + 1];
  }
  for (; i < ins; ++i)
    for (size_t k = 0; k < 32; ++k) even[k] += w[32 * i + k] * x[i];
  for (size_t k = 0; k < 32; ++k) y[k] = b ? even[k] + odd[k] + b[k] : even[k] + odd[k];
}

// the sums of a panel from number k on: its row k has an element each `stride`. k + 8 is in no condition: it could overflow,
// and gcc -O3 warns of elements outside the matrix then
static void last_sums(float *y, const float *x, size_t apart, const float *w, const float *b, size_t k, size_t width, size_t stride,
                      size_t ins) {
  for (; k < width / 8 * 8; k += 8) sums(y + k, x, apart, w + k, b ? b + k : 0, stride, ins);
  for (; k < width; ++k) {
    float sum = b ? b[k] : 0.0f;
    for (size_t i = 0; i < ins; ++i) sum += w[stride * i + k] * x[apart * i];
    y[k] = sum;
  }
}

#ifdef LANES
// 8 vectors of sums, in registers: of up to 8 rows of x with a vector of w, or (second > 0) of up to 4 with two vectors
static void tile(float *y, const float *x, size_t row, size_t apart, size_t rows, const float *w, size_t second,
                 size_t width, size_t ins) {
  typedef float vector VECTOR;
  const float *at[8];
  for (size_t r = 0; r < 8; ++r) at[r] = x + row * lesser(second ? r % 4 : r, rows - 1);
  const float *const x0 = at[0], *const x1 = at[1], *const x2 = at[2], *const x3 = at[3], *const x4 = at[4],
              *const x5 = at[5], *const x6 = at[6], *const x7 = at[7];
  vector s0 = {0.0f}, s1 = {0.0f}, s2 = {0.0f}, s3 = {0.0f}, s4 = {0.0f}, s5 = {0.0f}, s6 = {0.0f}, s7 = {0.0f};
  for (size_t i = 0, k = 0; i < ins; ++i, k += apart, w += width) {
    const vector u = *(const vector *)w, v = *(const vector *)(w + second);
    s0 += u * x0[k]; s1 += u * x1[k]; s2 += u * x2[k]; s3 += u * x3[k];
    s4 += v * x4[k]; s5 += v * x5[k]; s6 += v * x6[k]; s7 += v * x7[k];
  }
  vector *const to = (vector *)y;
  to[0] = s0; to[1] = s1; to[2] = s2; to[3] = s3; to[4] = s4; to[5] = s5; to[6] = s6; to[7] = s7;
}
#endif

#ifdef LANES
// vectors of the sums of a panel, as many as there are whole ones, for each row of x; returns how many sums
static size_t vector_sums(float *y, size_t yrow, size_t ynext, const float *x, size_t row, size_t apart, size_t rows,
                          const float *w, const float *b, size_t stride, size_t width, size_t ins) {
  size_t k = 0, second = 0;
  for (; k + LANES <= width; k += LANES + second) {
    second = rows <= 4 && k + 2 * LANES <= width ? LANES : 0;
    for (size_t r = 0; r < rows; r += 8) {
      float found[8 * LANES];
      tile(found, x + row * r, row, apart, lesser(rows - r, 8), w + k, second, stride, ins);
      for (size_t v = 0; v < 8; ++v) {
        const size_t at = second ? v % 4 : r + v, first = k + (second ? v / 4 * LANES : 0);
        if (at < rows)
          for (size_t j = 0; j < LANES; ++j)
            y[yrow * at + ynext * (first + j)] = b ? found[LANES * v + j] + b[first + j] : found[LANES * v + j];
      }
    }
  }
  return k;
}
#endif

// the product of a matrix with a vector, to which b is added where there is one: w has panels of 32 rows, one column of
// a panel after the other; the last panel has what is left. Processors with vectors sum a panel at once, others 8 rows.
static void product(float *y, const float *x, const float *w, const float *b, size_t outs, size_t ins) {
  for (size_t o = 0; o < outs; o += 32, w += 32 * ins) {
    const size_t width = lesser(outs - o, 32);
    const float *const added = b ? b + o : 0;
    size_t done = 0;
    if (has_vectors() && width == 32) {
      panel(y + o, x, w, added, ins);
      continue;
    }
#ifdef LANES
    done = vector_sums(y + o, 0, 1, x, 0, 1, 1, w, added, width, width, ins);
#endif
    last_sums(y + o, x, 1, w, added, done, width, width, ins);
  }
}

// a product as above of each row of x
static void products(float *y, size_t yrow, const float *x, size_t xrow, const float *w, const float *b, size_t outs,
                     size_t ins, size_t rows) {
  for (size_t o = 0; o < outs; o += 32, w += 32 * ins) {
    const size_t width = lesser(outs - o, 32);
    const float *const added = b ? b + o : 0;
    size_t done = 0;
#ifdef LANES
    done = vector_sums(y + o, yrow, 1, x, xrow, 1, rows, w, added, width, width, ins);
#endif
    for (size_t r = 0; r < rows; ++r) last_sums(y + yrow * r + o, x + xrow * r, 1, w, added, done, width, width, ins);
  }
}

// a product as above, where each panel has only the columns between two bounds: all others are zero
static void product_of_bands(float *y, const float *x, const float *w, const uint32_t *bounds, const float *b, size_t outs,
                             size_t ins) {
  (void)ins;
  for (size_t o = 0; o < outs; o += 32, bounds += 2) {
    const size_t width = lesser(outs - o, 32), columns = bounds[1] - bounds[0];
    product(y + o, x + bounds[0], w, b ? b + o : 0, width, columns);
    w += width * columns;
  }
}

// the same of each row of x
static void products_of_bands(float *y, size_t yrow, const float *x, size_t xrow, const float *w, const uint32_t *bounds,
                              const float *b, size_t outs, size_t ins, size_t rows) {
  (void)ins;
  for (size_t o = 0; o < outs; o += 32, bounds += 2) {
    const size_t width = lesser(outs - o, 32), columns = bounds[1] - bounds[0];
    products(y + o, yrow, x + bounds[0], xrow, w, b ? b + o : 0, width, columns, rows);
    w += width * columns;
  }
}

// a product for each of 2, 4, 8 or 16 lanes: x has the elements of all lanes side by side, and w panels of 16 sums of all
// lanes, the last one filled up with zeros
#ifdef LANES  // a copy for each number of lanes: with several in one file gcc would compare it in the inner loop at -O2
__attribute__((always_inline)) static inline void product_of_lanes(float *y, const float *x, const float *w, const float *b,
                                                                   size_t outs, size_t ins, size_t lanes);
#endif
static void product_of_lanes(float *y, const float *x, const float *w, const float *b, size_t outs, size_t ins, size_t lanes) {
  const size_t m = lanes - 1;
  for (size_t o = 0; o < outs; o += 16, w += 16 * ins) {
    const size_t width = lesser(outs - o, 16);
#ifdef LANES
    typedef float vector VECTOR;
    float sum[16];
    vector sums[16 / LANES] ALIGNED = {{0.0f}};
    const float *at = x;
    for (size_t i = 0; i < ins; ++i, at += lanes) {
#pragma GCC unroll 4
      for (size_t k = 0; k < 16; k += LANES) {
        const float *const part = at + (k & m);
        vector v ALIGNED;  // the elements of part again and again: gcc would put them in one by one
#if LANES == 4
        if (lanes == 2) v = (vector){part[0], part[1], part[0], part[1]};
#else
        if (lanes <= 4) {
          __m128 four = lanes == 2 ? _mm_loadl_pi(_mm_setzero_ps(), (const __m64 *)part) : _mm_loadu_ps(part);
          if (lanes == 2) four = _mm_movelh_ps(four, four);
#if LANES == 16
          v = (vector)_mm512_broadcast_f32x4(four);
        } else if (lanes == 8) {
          v = (vector)_mm512_broadcast_f64x4(_mm256_castps_pd(_mm256_loadu_ps(part)));
#else
          v = (vector)_mm256_insertf128_ps(_mm256_castps128_ps256(four), four, 1);
#endif
        }
#endif
        else v = *(const vector *)part;
        sums[k / LANES] += v * *(const vector *)(w + 16 * i + k);
      }
    }
#pragma GCC unroll 4
    for (size_t k = 0; k < 16; k += LANES) {
      if (b && width == 16) sums[k / LANES] += *(const vector *)(b + o + k);
      *(vector *)((width == 16 ? y + o : sum) + k) = sums[k / LANES];
    }
    if (width == 16) continue;
#else
    float sum[16] = {0.0f};
    for (size_t k = 0; k < width; ++k) {
      const float *at = x + (k & m), *row = w + k;
      for (size_t i = 0; i < ins; ++i, at += lanes, row += 16) sum[k] += *at * *row;
    }
#endif
    for (size_t k = 0; k < width; ++k) y[o + k] = b ? sum[k] + b[o + k] : sum[k];
  }
}

// a number of float16, by its bits
static float half_to_float(uint16_t bits) {
  const float size = of_bits((uint32_t)(bits & 0x7fffu) << 13) * 5.19229686e33f;
  return bits & 0x8000u ? -size : size;
}

#ifdef WIDENED
// the sums of whole vectors of a panel of float16 (two bytes) or int8 (one), of every fourth column; returns how many
static size_t widened_sums(float *y, const float *x, const void *w, size_t bytes, size_t width, size_t ins) {
  typedef float vector VECTOR;
  size_t k = 0;
  for (; k + LANES <= width; k += LANES) {
    const char *at = (const char *)w + bytes * k;
    const size_t next = bytes * width;
    vector s0 = {0.0f}, s1 = {0.0f}, s2 = {0.0f}, s3 = {0.0f};
    size_t i = 0;
    for (; i < ins / 4 * 4; i += 4, at += 4 * next) {
      s0 += WIDENED(at, bytes) * x[i];
      s1 += WIDENED(at + next, bytes) * x[i + 1];
      s2 += WIDENED(at + 2 * next, bytes) * x[i + 2];
      s3 += WIDENED(at + 3 * next, bytes) * x[i + 3];
    }
    for (; i < ins; ++i, at += next) s0 += WIDENED(at, bytes) * x[i];
    *(vector *)(y + k) = (s0 + s1) + (s2 + s3);
  }
  return k;
}
#endif

// some rows of a panel of float16 as floats: a column of the panel has `stride` numbers
static void widen_float16(float *y, const uint16_t *w, size_t stride, size_t rows, size_t ins) {
  for (size_t i = 0; i < ins; ++i, y += rows, w += stride) {
    size_t k = 0;
#ifdef WIDENED
    typedef float vector VECTOR;
    for (; k < rows / LANES * LANES; k += LANES) *(vector *)(y + k) = WIDENED(w + k, 2);
#endif
    for (; k < rows; ++k) y[k] = half_to_float(w[k]);
  }
}

// the same of a panel of integers, times the scale of each row
static void widen_int8(float *y, const int8_t *w, const float *scale, size_t stride, size_t rows, size_t ins) {
  for (size_t i = 0; i < ins; ++i, y += rows, w += stride) {
    size_t k = 0;
#ifdef WIDENED
    typedef float vector VECTOR;
    for (; k < rows / LANES * LANES; k += LANES) *(vector *)(y + k) = WIDENED(w + k, 1) * *(const vector *)(scale + k);
#endif
    for (; k < rows; ++k) y[k] = (float)w[k] * scale[k];
  }
}

// a product as above, of a matrix of float16
static void product_float16(float *y, const float *x, const uint16_t *w, const float *b, size_t outs, size_t ins) {
  for (size_t o = 0; o < outs; o += 32, w += 32 * ins) {
    const size_t width = lesser(outs - o, 32);
    size_t done = 0;
    float sum[32] = {0.0f};
#ifdef WIDENED
    done = widened_sums(sum, x, w, 2, width, ins);
#endif
    if (done == 0 && width == 32) {
      done = 32;
      for (size_t i = 0; i < ins; ++i)
        for (size_t k = 0; k < 32; ++k) sum[k] += half_to_float(w[32 * i + k]) * x[i];
    }
    for (size_t i = 0; i < ins; ++i)
      for (size_t k = done; k < width; ++k) sum[k] += half_to_float(w[width * i + k]) * x[i];
    for (size_t k = 0; k < width; ++k) y[o + k] = b ? sum[k] + b[o + k] : sum[k];
  }
}

// 8 sums of a product with a matrix of integers, in registers
static void sums_int8(float *y, const float *x, const int8_t *w, size_t width, size_t ins) {
  float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f, s4 = 0.0f, s5 = 0.0f, s6 = 0.0f, s7 = 0.0f;
  for (size_t i = 0; i < ins; ++i, w += width) {
    const float xi = x[i];
    s0 += (float)w[0] * xi; s1 += (float)w[1] * xi; s2 += (float)w[2] * xi; s3 += (float)w[3] * xi;
    s4 += (float)w[4] * xi; s5 += (float)w[5] * xi; s6 += (float)w[6] * xi; s7 += (float)w[7] * xi;
  }
  y[0] = s0; y[1] = s1; y[2] = s2; y[3] = s3;
  y[4] = s4; y[5] = s5; y[6] = s6; y[7] = s7;
}

// a product as above, of a matrix of integers with a scale for each row
static void product_int8(float *y, const float *x, const int8_t *w, const float *scale, const float *b, size_t outs, size_t ins) {
  for (size_t o = 0; o < outs; o += 32, w += 32 * ins) {
    const size_t width = lesser(outs - o, 32);
    size_t done = 0;
    float sum[32] = {0.0f};
#ifdef WIDENED
    done = widened_sums(sum, x, w, 1, width, ins);
#endif
    if (done == 0 && has_vectors() && width == 32) {
      done = 32;
      for (size_t i = 0; i < ins; ++i)
        for (size_t k = 0; k < 32; ++k) sum[k] += (float)w[32 * i + k] * x[i];
    }
    for (; done + 8 <= width; done += 8) sums_int8(sum + done, x, w + done, width, ins);
    for (; done < width; ++done)
      for (size_t i = 0; i < ins; ++i) sum[done] += (float)w[width * i + done] * x[i];
    for (size_t k = 0; k < width; ++k) y[o + k] = sum[k] * scale[o + k] + (b ? b[o + k] : 0.0f);
  }
}

// a sum shifted to the right, within -most and most; the shift of a negative number is one of its sign too
static int32_t narrow(int64_t sum, int shift, int32_t most) {
  const int64_t shifted = sum >> shift;
  return shifted > most ? most : shifted < -most ? -most : (int32_t)shifted;
}

// a product shifted to the right by more than 32 and rounded to nearest, within -most and most
static int32_t narrow_high(int64_t product, int shift, int32_t most) {
  const int32_t shifted = (((int32_t)(product >> 32) >> (shift - 33)) + 1) >> 1;
  return shifted > most ? most : shifted < -most ? -most : shifted;
}

// numbers as integers: the nearest to number / scale, within -most and most; NaN becomes -most
static int32_t quantized(float number, float scale, float most) {
  return nearest(within(number / scale, -most, most));
}

static int32_t greater(int32_t x, int32_t y) {
  return x > y ? x : y;
}

// a function from -32768 on by its values at each 2^fraction-th integer, with straight lines between
static int32_t between(const int16_t *table, int32_t x, int fraction) {
  const int16_t *const entry = table + ((x + 32768) >> fraction);
  const int32_t rest = (x + 32768) & ((1 << fraction) - 1);
  return entry[0] + (((entry[1] - entry[0]) * rest + (1 << (fraction - 1))) >> fraction);
}

#ifdef __ARM_FEATURE_SIMD32
// four bytes as one number
static uint32_t word_of(const void *data) {
  const uint8_t *const bytes = data;
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}
#endif

#ifdef __ARM_FEATURE_SIMD32
// a sum with four products, two at once: of bytes 0 and 2 of a word, and of 1 and 3, each with a pair of int16
static int32_t four_products(int32_t sum, uint32_t w, uint32_t even, uint32_t odd) {
  sum = __smlad((int16x2_t)even, __sxtb16((int8x4_t)w), sum);
  return __smlad((int16x2_t)odd, __sxtb16((int8x4_t)(w >> 8)), sum);
}
#endif

// adds to up to four sums the products of the rows of w with x; four columns at a time where a processor can
static void row_sums_int16(int32_t *sum, const int8_t *w, const int16_t *x, size_t rows, size_t ins) {
  size_t done = 0;
#ifdef __ARM_FEATURE_SIMD32
  if (rows == 4) {
    int32_t s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
    for (; done + 4 <= ins; done += 4) {
      const int8_t *const first = w + done, *const third = first + 2 * ins;
      const uint32_t low = word_of(x + done), high = word_of(x + done + 2);
      const uint32_t even = (low & 0xffffu) | high << 16, odd = low >> 16 | (high & 0xffff0000u);
      s0 = four_products(s0, word_of(first), even, odd);
      s1 = four_products(s1, word_of(first + ins), even, odd);
      s2 = four_products(s2, word_of(third), even, odd);
      s3 = four_products(s3, word_of(third + ins), even, odd);
    }
    sum[0] = s0; sum[1] = s1; sum[2] = s2; sum[3] = s3;
  }
#endif
  for (size_t row = 0; row < rows; ++row) {
    int32_t total = sum[row];
    for (size_t i = done; i < ins; ++i) total += w[ins * row + i] * x[i];
    sum[row] = total;
  }
}

// the same, of x in int8
static void row_sums_int8(int32_t *sum, const int8_t *w, const int8_t *x, size_t rows, size_t ins) {
  size_t done = 0;
#ifdef __ARM_FEATURE_SIMD32
  if (rows == 4) {
    int32_t s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
    for (; done + 4 <= ins; done += 4) {
      const int8_t *const first = w + done, *const third = first + 2 * ins;
      const uint32_t four = word_of(x + done);
      const uint32_t even = (uint32_t)__sxtb16((int8x4_t)four), odd = (uint32_t)__sxtb16((int8x4_t)(four >> 8));
      s0 = four_products(s0, word_of(first), even, odd);
      s1 = four_products(s1, word_of(first + ins), even, odd);
      s2 = four_products(s2, word_of(third), even, odd);
      s3 = four_products(s3, word_of(third + ins), even, odd);
    }
    sum[0] = s0; sum[1] = s1; sum[2] = s2; sum[3] = s3;
  }
#endif
  for (size_t row = 0; row < rows; ++row) {
    int32_t total = sum[row];
    for (size_t i = done; i < ins; ++i) total += w[ins * row + i] * x[i];
    sum[row] = total;
  }
}

#ifdef LANES
// up to 8 channels of a vector of pixels: element i of a pixel's window is taps[i] behind the pixel
static void pixel_sums(float *y, size_t plane, const float *x, const uint32_t *taps, const float *w, const float *b,
                       size_t stride, size_t rows, size_t count, size_t size) {
  typedef float vector VECTOR;
  const float *at[8];
  for (size_t r = 0; r < 8; ++r) at[r] = w + lesser(r, rows - 1);
  const float *const w0 = at[0], *const w1 = at[1], *const w2 = at[2], *const w3 = at[3], *const w4 = at[4],
              *const w5 = at[5], *const w6 = at[6], *const w7 = at[7];
  vector s0 = {0.0f}, s1 = {0.0f}, s2 = {0.0f}, s3 = {0.0f}, s4 = {0.0f}, s5 = {0.0f}, s6 = {0.0f}, s7 = {0.0f};
  for (size_t i = 0, k = 0; i < size; ++i, k += stride) {
    const vector v = *(const vector *)(x + taps[i]);
    s0 += v * w0[k]; s1 += v * w1[k]; s2 += v * w2[k]; s3 += v * w3[k];
    s4 += v * w4[k]; s5 += v * w5[k]; s6 += v * w6[k]; s7 += v * w7[k];
  }
  const vector found[8] = {s0, s1, s2, s3, s4, s5, s6, s7};
  for (size_t r = 0; r < rows; ++r, y += plane) {
    const vector sum = found[r] + (b ? b[r] : 0.0f);
    if (count == LANES) *(vector *)y = sum;
    else for (size_t p = 0; p < count; ++p) y[p] = sum[p];
  }
}
#endif

// the rows that the windows of line k read, with zeros around them, the columns of each stride together; windows begin at
// the result. s has channels out and in, the kernel, y's rows and columns, strides, dilations, padding, x's rows and
// columns, the channels of all groups, and the columns of a row with zeros; if that is 0 windows are read from x
static const float *padded_rows(float *to, const float *x, size_t xplane, size_t xrow, size_t xcolumn, const size_t *s, size_t k) {
  const float *const rows = to;
  const size_t step = s[7], padded = s[15];
  if (!padded) return x + k * s[6] * xrow;
  for (size_t m = 0; m < s[1]; ++m)
    for (size_t i = 0; i < s[2]; ++i) {
      const size_t line = k * s[6] + i * s[8];
      const int inside = line >= s[10] && line < s[10] + s[12];
      const float *const row = x + m * xplane + (inside ? line - s[10] : 0) * xrow;
      for (size_t j = 0; j < step; ++j, to += padded) {
        const size_t begin = s[11] > j ? (s[11] - j + step - 1) / step : 0, first = lesser(begin, padded);
        const size_t end = inside && s[11] + s[13] > j ? (s[11] + s[13] - j + step - 1) / step : 0;
        const size_t stop = end > first ? lesser(end, padded) : first;
        const float *const start = row + (begin * step + j - s[11]) * xcolumn;
        size_t p = first;
#ifdef LANES
        typedef float vector VECTOR;
        const vector zeros = {0.0f};
        if (first) *(vector *)to = zeros;  // what follows a row is written later; gcc makes a call of each loop
        for (size_t z = LANES; z < first; z += LANES) *(vector *)(to + z) = zeros;
        if (stop < padded) *(vector *)(to + stop) = zeros;
        for (size_t z = stop + LANES; z < padded; z += LANES) *(vector *)(to + z) = zeros;
        if (step * xcolumn == 1 && stop - first >= LANES) {
          for (; p + LANES <= stop; p += LANES) *(vector *)(to + p) = *(const vector *)(start + (p - first));
          *(vector *)(to + stop - LANES) = *(const vector *)(start + (stop - first - LANES));
          continue;
        }
#else
        for (size_t z = 0; z < first; ++z) to[z] = 0.0f;
        for (size_t z = stop; z < padded; ++z) to[z] = 0.0f;
#endif
        if (step * xcolumn == 2) for (; p < stop; ++p) to[p] = start[2 * (p - first)];
        else for (; p < stop; ++p) to[p] = start[(p - first) * step * xcolumn];
      }
    }
  return rows;
}

// channels of a convolution from `first_out` on. Vectors are of pixels, or of channels where pixels are few. w has panels
// of 32 channels.
static void convolve(float *y, size_t yplane, size_t yrow, const float *x, size_t xplane, size_t xrow, size_t xcolumn,
                     const float *w, const float *b, const size_t *s, const uint32_t *taps, size_t first_out, float *scratch) {
  const size_t outs = s[0], width = s[5], size = s[1] * s[2] * s[3];
  float *const window = scratch + (s[15] ? s[1] * s[2] * s[7] * s[15] + 16 : 0);
  for (size_t k = 0; k < s[4]; ++k, y += yrow) {
    const float *const from = padded_rows(scratch, x, xplane, xrow, xcolumn, s, k);
    for (size_t l = 0, count; l < width; l += count) {
#ifdef LANES
      if (width > LANES / 2) {
        if (width >= LANES) l = lesser(l, width - LANES);
        count = lesser(width - l, LANES);
        for (size_t o = first_out, rows; o < first_out + outs; o += rows) {
          const size_t panel = o / 32 * 32, stride = lesser(s[14] - panel, 32);
          rows = lesser(lesser(stride - (o - panel), first_out + outs - o), 8);
          pixel_sums(y + (o - first_out) * yplane + l, yplane, from + l, taps, w + panel * size + (o - panel), b ? b + o : 0,
                     stride, rows, count, size);
        }
        continue;
      }
#endif
      count = lesser(width - l, 8);
      for (size_t i = 0; i < size; ++i)
        for (size_t p = 0; p < count; ++p) window[8 * i + p] = from[taps[i] + l + p];
      for (size_t o = first_out, rows; o < first_out + outs; o += rows) {
        const size_t panel = o / 32 * 32, stride = lesser(s[14] - panel, 32);
        const float *const matrix = w + panel * size + (o - panel), *const added = b ? b + o : 0;
        float *const into = y + (o - first_out) * yplane + l;
        float found[32];
        size_t done = 0;
        rows = lesser(stride - (o - panel), first_out + outs - o);
#ifdef LANES
        done = vector_sums(into, 1, yplane, window, 1, 8, count, matrix, added, stride, rows, size);
#endif
        for (size_t p = 0; p < count; ++p) {
          last_sums(found, window + p, 8, matrix, added, done, rows, stride, size);
          for (size_t r = done; r < rows; ++r) into[yplane * r + p] = found[r];
        }
      }
    }
  }
}

// a convolution of each channel by itself
static void convolve_each(float *y, size_t yplane, size_t yrow, const float *x, size_t xplane, size_t xrow, size_t xcolumn,
                          const float *w, const float *b, const size_t *s, const uint32_t *taps, size_t groups, float *scratch) {
  const size_t size = s[2] * s[3], width = s[5];
  for (size_t g = 0; g < groups; ++g, x += xplane, y += yplane, w += size)
    for (size_t k = 0; k < s[4]; ++k) {
      const float *const from = padded_rows(scratch, x, 0, xrow, xcolumn, s, k);
      const float added = b ? b[g] : 0.0f;
      size_t l = 0;
#ifdef LANES
      typedef float vector VECTOR;
      for (; width >= LANES && l < width; l += LANES) {
        vector sum = {0.0f};
        l = lesser(l, width - LANES);
        for (size_t i = 0; i < size; ++i) sum += w[i] * *(const vector *)(from + l + taps[i]);
        *(vector *)(y + k * yrow + l) = sum + added;
      }
#endif
      for (; l < width; ++l) {
        float sum = added;
        for (size_t i = 0; i < size; ++i) sum += w[i] * from[l + taps[i]];
        y[k * yrow + l] = sum;
      }
    }
}
