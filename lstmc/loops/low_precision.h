#pragma once
#include "panels.h"
// Products in low precision: weights in panels of bf16 or int8, each row of x rounded to the same numbers as it is read.
// Sums are float32, or whole numbers of 32 bits, exact. Plain code where the processor has no instruction for them.
#include <cstring>
#include <vector>
#if defined(__AVX512BF16__) || defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

// The nearest bf16, of two the even one: the upper half of a float.
static inline unsigned short bf16_of(float x) {
  const unsigned bits = static_cast<unsigned>(bits_of(x));
  return static_cast<unsigned short>(x != x ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Two numbers in a word of 32 bits.
struct Bf16 {
  enum { EACH = 2, SCALES = 0 };  // numbers of a word; rows of a panel behind its weights
  typedef vector sums;
  typedef unsigned short number;

  struct Row {};  // what a row has besides its numbers
  static inline Row rounded(int ins, const float* x, number* into) {
    int k = 0;
#if defined(__AVX512BF16__)
    for (; k + LANES <= ins; k += LANES) {
      const __m256bh some = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + k));
      std::memcpy(into + k, &some, sizeof some);
    }
#endif
    for (; k < ins; ++k) into[k] = bf16_of(x[k]);
    return {};
  }
  static inline void weights(int ins, const float* column, int step, number* into, float*) {
    for (int k = 0; k < ins; ++k) into[k / EACH * EACH * WIDE + k % EACH] = bf16_of(column[static_cast<long>(k) * step]);
  }
  static inline sums added(sums sum, indices panel, int word) {
#if defined(__AVX512BF16__)
    return reinterpret_cast<sums>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(panel),
                                                   reinterpret_cast<__m512bh>(_mm512_set1_epi32(word))));
#else
    const indices upper = panel & static_cast<int>(0xffff0000), lower = panel << 16;
    sum += of_bits(static_cast<int>(static_cast<unsigned>(word) << 16)) * reinterpret_cast<vector>(lower);
    return sum + of_bits(static_cast<int>(static_cast<unsigned>(word) & 0xffff0000)) * reinterpret_cast<vector>(upper);
#endif
  }
  static inline sums first(Row) { return sums{}; }
  static inline vector product(sums sum, Row, const float*) { return sum; }
};

// Four numbers in a word. A row of x and a row of w have a scale each, its largest number / 127. What multiplies a signed
// by an unsigned number takes w + 128: so much of the sum of x is subtracted before.
struct Int8 {
  enum { EACH = 4, SCALES = 1 };
  typedef indices sums;
  typedef signed char number;

  struct Row {
    float scale;
    int sum;
  };
  static inline Row rounded(int ins, const float* x, number* into) {
    int bits = 0;  // of the largest: those of NaN and infinity are larger still
    for (int k = 0; k < ins; ++k) {
      const int own = bits_of(x[k]) & 0x7fffffff;
      bits = own > bits ? own : bits;
    }
    const float most = of_bits(bits);
    if (!(most > 1e-30f && most <= 3.402823466e38f)) {
      std::memset(into, 0, ins);
      return {most <= 1.0f ? 0.0f : of_bits(0x7fc00000), 0};
    }
    const float many = 127.0f / most;
    int sum = 0;
    for (int k = 0; k < ins; ++k) {
      const int whole = static_cast<int>(__builtin_rintf(x[k] * many));
      into[k] = static_cast<number>(whole);
      sum += whole;
    }
    return {most / 127.0f, sum};
  }
  static inline void weights(int ins, const float* column, int step, number* into, float* scale) {
    double most = 0;  // as the interpreter has it, to the bit
    for (int k = 0; k < ins; ++k) {
      const double own = __builtin_fabs(column[static_cast<long>(k) * step]);
      most = own > most || own != own ? own : most;
    }
    const double each = most > 0 ? most / 127 : 1;
    *scale = static_cast<float>(most - most == 0 ? each : most - most);
    for (int k = 0; k < ins; ++k) {
      const double whole = most - most == 0 ? __builtin_rint(column[static_cast<long>(k) * step] / each) : 0;
      into[k / EACH * EACH * WIDE + k % EACH] = static_cast<number>(static_cast<int>(whole) + 128);
    }
  }
  static inline sums added(sums sum, indices panel, int word) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<sums>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(panel),
                                                      _mm512_set1_epi32(word)));
#else
    for (int i = 0; i < EACH; ++i) {
      sum += ((panel >> (8 * i)) & 255) * static_cast<int>(static_cast<number>(static_cast<unsigned>(word) >> (8 * i)));
    }
    return sum;
#endif
  }
  static inline sums first(Row row) { return sums{} - 128 * row.sum; }
  static inline vector product(sums sum, Row row, const float* scales) {
    return __builtin_convertvector(sum, vector) * (row.scale * *reinterpret_cast<const vector*>(scales));
  }
};

template <class Of>
static inline int words_of(int ins) {
  return ceil_div(ins, Of::EACH);
}

// The floats of a panel: its words, and its scales.
template <class Of>
static inline long panel_of(int ins) {
  return static_cast<long>(WIDE) * (words_of<Of>(ins) + Of::SCALES);
}

// The panels [words, WIDE] of w, which is [outs, ins] transposed, or [ins, outs]; columns beyond the last are zero.
template <class Of>
ONCE static const float* pack_low(int outs, int ins, const float* w, bool transposed, float* into) {
  for (int first = 0; first < outs; first += WIDE) {
    float* const panel = into + first / WIDE * panel_of<Of>(ins);
    float* const scales = panel + static_cast<long>(WIDE) * words_of<Of>(ins);
    std::memset(panel, 0, sizeof(float) * panel_of<Of>(ins));
    for (int j = 0; j < WIDE && first + j < outs; ++j) {
      const float* const column = w + (transposed ? static_cast<long>(first + j) * ins : first + j);
      Of::weights(ins, column, transposed ? 1 : outs, reinterpret_cast<typename Of::number*>(panel + j), scales + j);
    }
  }
  return into;
}

// As ``packed`` of panels.h.
template <class Of>
static inline const float* packed_low(unsigned long* seen, int outs, int ins, const float* w, bool transposed,
                                      float* into) {
  if (seen) {
    const unsigned long hash = hash_of(static_cast<long>(outs) * ins, w);
    if (hash == *seen) return into;
    *seen = hash;
  }
  return pack_low<Of>(outs, ins, w, transposed, into);
}

// y [rows, WIDE] = x [rows, words] times a panel, plus b
template <class Of, int ROWS>
static inline void low_rows_times_panel(int rows, int words, const int* x, const typename Of::Row* own,
                                        const float* panel, const float* b, float* y, int ldy) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) low_rows_times_panel<Of, ROWS - 1>(rows, words, x, own, panel, b, y, ldy);
    return;
  }
  constexpr int SUMS = ROWS == 1 ? 4 : ROWS <= 3 ? 2 : 1;
  typename Of::sums sum[SUMS][ROWS][2] = {};
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; ++m) sum[0][m][0] = sum[0][m][1] = Of::first(own[m]);
  const auto add = [&](int u, int k) INLINE {
    const indices left = *reinterpret_cast<const indices*>(panel + static_cast<long>(k) * WIDE);
    const indices right = *reinterpret_cast<const indices*>(panel + static_cast<long>(k) * WIDE + LANES);
#pragma GCC unroll 16
    for (int m = 0; m < ROWS; ++m) {
      const int word = x[m * words + k];
      sum[u][m][0] = Of::added(sum[u][m][0], left, word);
      sum[u][m][1] = Of::added(sum[u][m][1], right, word);
    }
  };
  int k = 0;
  for (; k + SUMS <= words; k += SUMS) {
#pragma GCC unroll 4
    for (int u = 0; u < SUMS; ++u) add(u, k + u);
  }
  for (; SUMS > 1 && k < words; ++k) add(0, k);
  const float* const scales = panel + static_cast<long>(WIDE) * words;
#pragma GCC unroll 16
  for (int m = 0; m < ROWS; ++m, y += ldy) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (int u = 1; u < SUMS; ++u) sum[0][m][half] += sum[u][m][half];
      *reinterpret_cast<vector*>(y + half * LANES) =
          Of::product(sum[0][m][half], own[m], scales + half * LANES) + *reinterpret_cast<const vector*>(b + half * LANES);
    }
  }
}

// ``product`` of products.h in low precision: the weights are in panels, and the others are not read.
template <class Of>
ONCE static void low_product(long rows, int outs, int ins, const float* x, int ldx, const float*, const float* panels,
                             bool, const float* b, float* y, int ldy) {
  enum { NEAR = 1 << 15 };  // words of x that stay in the second cache for all panels
  static thread_local std::vector<int> words;
  static thread_local std::vector<typename Of::Row> own;
  const int length = words_of<Of>(ins);
  const long most = length < NEAR ? NEAR / length : 1, blocks = ceil_div(rows, most);
  for (long block = 0, begin = 0, count; block < blocks; ++block, begin += count) {
    count = ceil_div(rows - begin, blocks - block);
    if (static_cast<long>(words.size()) < count * length) words.resize(count * length);
    if (static_cast<long>(own.size()) < count) own.resize(count);
    int* const rounded = words.data();
    typename Of::Row* const of = own.data();
    for (long m = 0; m < count; ++m) {
      rounded[(m + 1) * length - 1] = 0;  // beyond the last number
      of[m] = Of::rounded(ins, x + (begin + m) * ldx, reinterpret_cast<typename Of::number*>(rounded + m * length));
    }
    const long parts = ceil_div(count, MOST);
    in_parts(outs, static_cast<double>(count) * ins, [=](int from, int to) {
      for (int first = from; first < to; first += WIDE) {
        const int columns = lesser<long>(to - first, WIDE);
        const float* const panel = panels + first / WIDE * panel_of<Of>(ins);
        float plus[WIDE] = {}, whole[MOST * WIDE];
        if (b) std::memcpy(plus, b + first, sizeof(float) * columns);
        for (long part = 0, done = 0, here; part < parts; ++part, done += here) {
          here = ceil_div(count - done, parts - part);
          float* const into = y + (begin + done) * ldy + first;
          const bool fits = columns == WIDE;
          low_rows_times_panel<Of, MOST>(here, length, rounded + done * length, of + done, panel, plus,
                                         fits ? into : whole, fits ? ldy : WIDE);
          for (int m = 0; !fits && m < here; ++m) std::memcpy(into + m * ldy, whole + m * WIDE, sizeof(float) * columns);
        }
      }
    });
  }
}
