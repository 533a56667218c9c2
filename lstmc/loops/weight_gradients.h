#pragma once
#include "products.h"
// Gradients of weights and biases, over all rows of all steps.
#include <cstring>

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
ONCE static void own_outer(long rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx,
                           float* into) {
  enum { DEEP = 320, NEAR = 512 * (DEEP + 1), SLAB = 8, GROUP = Ahead::FETCHED * Ahead::LINE };
  alignas(64) float panels[NEAR], slabs[2][DEEP * GROUP];
  const long parts = ceil_div(rows, DEEP);
  for (long part = 0, deep; part < parts; ++part, rows -= deep, ct += deep * ldct, x += deep * ldx) {
    deep = ceil_div(rows, parts - part);
    const long apart = (deep | 1) * WIDE;  // odd: panels a power of two apart would be in one place of a cache
    for (int left = 0, right; left < ins; left = right) {
      right = left + lesser<long>(ins - left, NEAR / apart * WIDE);
      gather<WIDE>(0, deep, right - left, x + left, ldx, panels, apart);
      int group = 0, width = lesser<long>(outs, GROUP);
      for (int begin = 0, next; begin < outs; begin += GROUP, width = next) {
        const float* const slab = slabs[group];
        if (begin == 0) gather<SLAB>(0, deep, width, ct, ldct, slabs[group], deep * SLAB);
        group = !group;
        next = lesser<long>(outs - begin - width, GROUP);
        const float* const from = ct + begin + GROUP;
        long products = ceil_div(width, SLAB) * ceil_div(right - left, WIDE), there = next > 0 ? 0 : deep;
        for (int m = 0; m < width; m += SLAB) {
          const int here = lesser<long>(width - m, SLAB);
          for (int first = left; first < right; first += WIDE, --products) {
            const long until = there + ceil_div(deep - there, products);
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

// The same by BLAS where it is as fast, which it is with shorter registers, or faster, for few columns.
static void outer(long rows, int outs, int ins, const float* ct, int ldct, const float* x, int ldx, float* into) {
  if (LANES < 16 || ins < LANES) {
    cblas_sgemm(101, 112, 111, outs, ins, static_cast<int>(rows), 1.0f, ct, ldct, x, ldx, 1.0f, into, ins);
    return;
  }
  in_parts(outs, static_cast<double>(rows) * ins, [=](int from, int to) {
    own_outer(rows, to - from, ins, ct + from, ldct, x, ldx, into + static_cast<long>(from) * ins);
  });
}

// into [outs] += the rows of ct [rows, outs]
static void sum_of_rows(long rows, int outs, const float* ct, int ldct, float* into) {
  for (long n = 0; n < rows; ++n, ct += ldct) {
#pragma GCC ivdep
    for (int j = 0; j < outs; ++j) into[j] += ct[j];
  }
}
