// Functions of one element that g++ turns into vector code: no table, no call, no branch. NaN stays NaN.
static inline float power_of_two(int n) {
  const int bits = (n + 127) << 23;
  float y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}

static inline float exp_(float x) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; e^r by the Taylor polynomial, whose error there is below half an ulp
  const float clamped = x > 88.8f ? 88.8f : x < -104.0f ? -104.0f : x;
  const float n = __builtin_rintf(clamped * 1.44269504088896341f);
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int whole = static_cast<int>(n), half = whole >> 1;  // in two factors, as 2^128 is none and 2^-149 is one
  const float y = p * power_of_two(half) * power_of_two(whole - half);
  return x != x ? x : x > 88.7228394f ? __builtin_inff() : y;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }

static inline float tanh_(float x) {
  // near zero by a polynomial, as 1 - 2 / (e^2x + 1) would lose digits there
  const float a = x < 0.0f ? -x : x, s = x * x;
  float p = -5.70498872745e-3f;
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  const float near = p * s * x + x;
  const float far = 1.0f - 2.0f / (exp_(2.0f * a) + 1.0f);
  return a < 0.625f ? near : x < 0.0f ? -far : x != x ? x : far;
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

// The panels [ins, WIDE] of w, which is [outs, ins] transposed, or [ins, outs]; columns beyond the last are zero.
static const float* pack(int outs, int ins, const float* w, bool transposed, float* into) {
  float* panel = into;
  for (int first = 0; first < outs; first += WIDE, panel += static_cast<long>(WIDE) * ins) {
    const int columns = outs - first < WIDE ? outs - first : WIDE;
    if (columns < WIDE) std::memset(panel, 0, sizeof(float) * WIDE * ins);
    if (transposed) {
      for (int block = 0; block < ins; block += 64) {
        const int end = block + 64 < ins ? block + 64 : ins;
        for (int j = 0; j < columns; ++j) {
          const float* const row = w + static_cast<long>(first + j) * ins;
          for (int k = block; k < end; ++k) panel[k * WIDE + j] = row[k];
        }
      }
    } else {
      for (int k = 0; k < ins; ++k) {
        std::memcpy(panel + k * WIDE, w + static_cast<long>(k) * outs + first, sizeof(float) * columns);
      }
    }
  }
  return into;
}

template <int ROWS>
static inline void rows_times_panel(int rows, int ins, const float* x, int ldx, const float* panel, const float* b,
                                    float* y, int ldy, int columns) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) rows_times_panel<ROWS - 1>(rows, ins, x, ldx, panel, b, y, ldy, columns);
    return;
  }
  vector sum[ROWS][2] = {};
  for (int k = 0; k < ins; ++k, panel += WIDE) {
    const vector left = *reinterpret_cast<const vector*>(panel);
    const vector right = *reinterpret_cast<const vector*>(panel + LANES);
    for (int m = 0; m < ROWS; ++m) {
      sum[m][0] += x[m * ldx + k] * left;
      sum[m][1] += x[m * ldx + k] * right;
    }
  }
  for (int m = 0; m < ROWS; ++m, y += ldy) {
    if (columns >= WIDE && !b) {
      *reinterpret_cast<vector*>(y) = sum[m][0];
      *reinterpret_cast<vector*>(y + LANES) = sum[m][1];
      continue;
    }
    float row[WIDE];
    std::memcpy(row, sum[m], sizeof row);
    for (int j = 0; j < WIDE && j < columns; ++j) y[j] = b ? row[j] + b[j] : row[j];
  }
}

static void packed_product(long rows, int outs, int ins, const float* x, int ldx, const float* panel, const float* b,
                           float* y, int ldy) {
  const long parts = (rows + MOST - 1) / MOST;
  for (int first = 0; first < outs; first += WIDE, panel += static_cast<long>(WIDE) * ins) {
    long done = 0;
    for (long part = 0; part < parts; ++part) {
      const long here = (rows - done + parts - part - 1) / (parts - part);
      rows_times_panel<MOST>(static_cast<int>(here), ins, x + done * ldx, ldx, panel, b ? b + first : b,
                             y + done * ldy + first, ldy, outs - first);
      done += here;
    }
  }
}

// y [rows, outs] = x [rows, ins] times w: of [outs, ins] transposed, or of [ins, outs]; plus b in each row. With the
// panels of w if there are any: making them pays from a few rows on.
static void product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* panels,
                    bool transposed, const float* b, float* y, int ldy) {
  if (panels) {
    packed_product(rows, outs, ins, x, ldx, panels, b, y, ldy);
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

// into [outs, ins] += ct [rows, outs] transposed times x [rows, ins]
static void outer(long rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx, float* into) {
  cblas_sgemm(101, 112, 111, outs, ins, static_cast<int>(rows), 1.0f, ct, ldct, x, ldx, 1.0f, into, ins);
}
