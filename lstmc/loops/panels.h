#pragma once
#include "vectors.h"
// Products with weights that are packed into panels of WIDE columns.
#include <cstring>

// The panels [ins, WIDE] of w, which is [outs, ins] transposed, or [ins, outs], with rows ld apart; columns beyond the
// last are zero.
ONCE static const float* pack(int outs, int ins, const float* w, int ld, bool transposed, float* into) {
  float* panel = into;
  for (int first = 0; first < outs; first += WIDE, panel += static_cast<long>(WIDE) * ins) {
    const int columns = lesser<long>(outs - first, WIDE);
    if (columns < WIDE) std::memset(panel, 0, sizeof(float) * WIDE * ins);
    if (transposed) {
      int done = 0;
      for (; columns == WIDE && done + LANES <= ins; done += LANES) {
        for (int half = 0; half < WIDE; half += LANES) {
          alignas(4 * LANES) vector block[LANES];
          const float* const from = w + static_cast<long>(first + half) * ld + done;
          for (int j = 0; j < LANES; ++j) block[j] = *reinterpret_cast<const vector*>(from + static_cast<long>(j) * ld);
          turn<1>(block);
          for (int k = 0; k < LANES; ++k) *reinterpret_cast<vector*>(panel + (done + k) * WIDE + half) = block[k];
        }
      }
      for (int j = 0; j < columns; ++j) {
        const float* const row = w + static_cast<long>(first + j) * ld;
        for (int k = done; k < ins; ++k) panel[k * WIDE + j] = row[k];
      }
    } else {
      for (int k = 0; k < ins; ++k) {
        std::memcpy(panel + k * WIDE, w + static_cast<long>(k) * ld + first, sizeof(float) * columns);
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
  return pack(outs, ins, w, transposed ? ins : outs, transposed, into);
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
  alignas(4 * LANES) vector sum[SUMS][ROWS][2] = {};
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

// y [outs] = x [ins] times panels, plus b [outs]. One row takes as long as reading the panels; two at a time read x half
// as often.
template <int PANELS>
static inline void row_times_panels(int outs, int ins, const float* x, const float* panels, const float* b, float* y) {
  enum { SUMS = 4 };  // of each element, as a sum waits for the one before it
  alignas(4 * LANES) vector sum[SUMS][2 * PANELS] = {};
  const auto add = [&](int u, int k) INLINE {
#pragma GCC unroll 4
    for (int i = 0; i < 2 * PANELS; ++i) {
      sum[u][i] += x[k] * at(panels + static_cast<long>(i / 2) * WIDE * ins + k * WIDE + i % 2 * LANES);
    }
  };
  int k = 0;
  for (; k + SUMS <= ins; k += SUMS) {
#pragma GCC unroll 4
    for (int u = 0; u < SUMS; ++u) add(u, k + u);
  }
  for (; k < ins; ++k) add(0, k);
  alignas(4 * LANES) float whole[PANELS * WIDE] = {};
  const bool fits = outs == PANELS * WIDE;
  if (!fits) std::memcpy(whole, b, sizeof(float) * outs);
#pragma GCC unroll 4
  for (int i = 0; i < 2 * PANELS; ++i) {
#pragma GCC unroll 4
    for (int u = 1; u < SUMS; ++u) sum[0][i] += sum[u][i];
    at((fits ? y : whole) + i * LANES) = sum[0][i] + at((fits ? b : whole) + i * LANES);
  }
  if (!fits) std::memcpy(y, whole, sizeof(float) * outs);
}

// y [rows, outs] = x [rows, ins] times panels, plus b; or plus y itself with ``add``. With ``back`` the last panels are
// first: the nearest cache still has them if the product before this one ended with them.
ONCE static void packed_product(long rows, int outs, int ins, const float* x, int ldx, const float* panels,
                                const float* b, float* y, int ldy, bool add = false, bool back = false) {
  enum { NEAR = 1 << 16 };  // floats of x that stay in the second cache for all panels
  if (rows == 1) {
    const float zeros[2 * WIDE] = {};
    const int step = LANES == 16 && outs > 2 * WIDE ? 2 * WIDE : WIDE, groups = ceil_div(outs, step);
    for (int group = 0; group < groups; ++group) {
      const int first = (back ? groups - 1 - group : group) * step, columns = lesser<long>(outs - first, step);
      const float* const panel = panels + static_cast<long>(first) * ins;
      const float* const plus = add ? y + first : b ? b + first : zeros;
      (columns > WIDE ? row_times_panels<2> : row_times_panels<1>)(columns, ins, x, panel, plus, y + first);
    }
    return;
  }
  const long blocks = ceil_div(rows * ins, NEAR);
  const int groups = ceil_div(outs, WIDE);
  for (long block = 0, done = 0; block < blocks; ++block) {
    const long begin = done, end = done + ceil_div(rows - done, blocks - block);
    const long parts = ceil_div(end - begin, MOST);
    for (int group = 0; group < groups; ++group) {
      const int first = (back ? groups - 1 - group : group) * WIDE, columns = lesser<long>(outs - first, WIDE);
      const float* const panel = panels + static_cast<long>(first) * ins;
      float plus[WIDE] = {}, whole[MOST * WIDE] = {};
      if (b) std::memcpy(plus, b + first, sizeof(float) * columns);
      done = begin;
      for (long part = 0; part < parts; ++part) {
        const int here = ceil_div(end - done, parts - part);
        float* const into = y + done * ldy + first;
        const bool fits = columns == WIDE;
        for (int m = 0; add && !fits && m < here; ++m) std::memcpy(whole + m * WIDE, into + m * ldy, sizeof(float) * columns);
        rows_times_panel<MOST>(here, ins, x + done * ldx, ldx, 1, panel, WIDE, add ? nullptr : plus,
                               fits ? into : whole, fits ? ldy : WIDE);
        for (int m = 0; !fits && m < here; ++m) std::memcpy(into + m * ldy, whole + m * WIDE, sizeof(float) * columns);
        done += here;
      }
    }
  }
}
