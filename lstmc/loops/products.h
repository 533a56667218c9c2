#pragma once
#include "panels.h"
// Products with weights as they are, and the choice between these and packed ones. All that is needed besides is
// cblas_sgemm and cblas_sgemv.
#include <cstring>

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
extern "C" void cblas_sgemv(int order, int transpose, int m, int n, float alpha, const float* a, int lda,
                            const float* x, int incx, float beta, float* y, int incy);

// With w [ins, outs] as it is, and at least WIDE outs: for so few rows that packing does not pay.
ONCE static void straight_product(long rows, int outs, int ins, const float* x, int ldx, const float* w, int ldw,
                                  const float* b, float* y, int ldy) {
  const long parts = ceil_div(rows, MOST);
  for (int first = 0; first < outs; first += WIDE) {
    const int from = lesser<long>(outs - WIDE, first);  // the last columns once more
    float plus[WIDE] = {};
    if (b) std::memcpy(plus, b + from, sizeof plus);
    for (long part = 0, done = 0, here; part < parts; ++part, done += here) {
      here = ceil_div(rows - done, parts - part);
      rows_times_panel<MOST>(here, ins, x + done * ldx, ldx, 1, w + from, ldw, plus,
                             y + done * ldy + from, ldy);
    }
  }
}

// y [ROWS, COLUMNS] = the sums of vectors from row M on, plus b: as many rows at a time as there are lanes for
template <int ROWS, int COLUMNS, int M = 0>
static inline void write_sums(const vector (*sum)[COLUMNS], const float* b, float* y, int ldy) {
  if constexpr (M < ROWS) {
    constexpr int LEFT = ROWS - M, FIT = LANES / COLUMNS;
    constexpr int HERE = LEFT >= FIT ? FIT : LEFT >= 2 ? 2 : 1, COUNT = HERE * COLUMNS;
    alignas(4 * LANES) vector some[COUNT];
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
  alignas(4 * LANES) vector sum[ROWS][COLUMNS] = {};  // in registers, as all that uses them is inline and unrolled
  const auto add = [&](const auto& read) INLINE {
    alignas(4 * LANES) vector of_x[ROWS];
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

// With w [outs, ins] as it is, for at most WIDE rows: x is packed, and w takes its place. No sums of lanes are needed,
// and x is read less often: faster than rows_times_rows if nearly all columns of the panel are rows of x.
ONCE static void turned_product(int rows, int outs, int ins, const float* x, int ldx, const float* w, const float* b,
                                float* y, int ldy) {
  enum { DEEP = 1024 };  // rows of a panel, which stays in the second cache for all outs
  float panel[DEEP * WIDE], sums[WIDE * WIDE], turned[WIDE * WIDE];
  for (int from = 0; from < ins; from += DEEP) {
    const int deep = lesser<long>(ins - from, DEEP);
    pack(rows, deep, x + from, ldx, true, panel);
    for (int first = 0; first < outs; first += WIDE) {
      const int columns = lesser<long>(outs - first, WIDE);
      packed_product(columns, WIDE, deep, w + static_cast<long>(first) * ins + from, ins, panel, nullptr, sums, WIDE);
      pack(columns, WIDE, sums, WIDE, true, turned);
      for (int n = 0; n < rows; ++n) {
        float* const into = y + static_cast<long>(n) * ldy + first;
        for (int m = 0; m < columns; ++m) into[m] = turned[n * WIDE + m] + (from ? into[m] : b ? b[first + m] : 0.0f);
      }
    }
  }
}

// With w [outs, ins] as it is, and at least LANES ins: for so few rows that packing does not pay. Each weight is read
// from memory once, for all rows, while the products with those before it are computed.
ONCE static void unpacked_product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* b,
                             float* y, int ldy) {
  enum { NEARLY = 24 };  // of 32; measured: with shorter registers it gains nothing
  for (const long wide = WIDE; LANES == 16 && rows >= NEARLY; rows -= wide, x += wide * ldx, y += wide * ldy) {
    turned_product(lesser<long>(rows, wide), outs, ins, x, ldx, w, b, y, ldy);
  }
  if (rows <= 0) return;
  enum { AT_ONCE = LANES == 16 ? 6 : LANES == 8 ? 3 : 2, COLUMNS = 4 };  // their sums, x and a weight fit the registers
  const int parts = ceil_div(rows, AT_ONCE);
  for (int first = 0, columns; first < outs; first += columns) {
    columns = first + COLUMNS <= outs ? COLUMNS : 1;
    const float* const from = w + static_cast<long>(first) * ins;
    const float* const plus = b ? b + first : b;
    const bool followed = parts > 1 && first + 2 * COLUMNS <= outs;  // one part waits for memory anyway
    const float* const next = from + static_cast<long>(COLUMNS) * ins;
    long done = 0;
    for (int part = 0; part < parts; ++part) {
      const int here = ceil_div(rows - done, parts - part);
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
// panels of w if there are any: making them pays from some rows on. A row alone is left to BLAS otherwise. Without b it
// can be added to y. ``back`` is that of packed_product.
ONCE static void product(long rows, int outs, int ins, const float* x, int ldx, const float* w, const float* panels,
                    bool transposed, const float* b, float* y, int ldy, bool add = false, bool back = false) {
  const double each = static_cast<double>(rows) * ins;
  if (panels) {
    in_parts(outs, each, [=](int from, int to) {
      packed_product(rows, to - from, ins, x, ldx, panels + static_cast<long>(from) * ins, b ? b + from : b, y + from, ldy,
                     add, back);
    });
    return;
  }
  if (!add && transposed && ins >= LANES && rows > 1) {
    in_parts(outs, each, [=](int from, int to) {
      unpacked_product(rows, to - from, ins, x, ldx, w + static_cast<long>(from) * ins, b ? b + from : b, y + from, ldy);
    });
    return;
  }
  enum { FEW = LANES == 16 ? 48 : 3 * MOST };  // a BLAS packs w, which pays from some rows on
  if (!add && !transposed && outs >= WIDE && rows > 1 && rows <= FEW) {
    in_parts(outs / WIDE * WIDE, each, [=](int from, int to) {
      if (outs - to < WIDE) to = outs;  // as its last columns are done once more with some before them
      straight_product(rows, to - from, ins, x, ldx, w + from, outs, b ? b + from : b, y + from, ldy);
    });
    return;
  }
  const int row_major = 101, as_it_is = 111, turned = 112;
  for (long n = 0; b && n < rows; ++n) std::memcpy(y + n * ldy, b, sizeof(float) * outs);
  const float beta = b || add ? 1.0f : 0.0f;
  const int ldw = transposed ? ins : outs;
  if (rows == 1) {
    cblas_sgemv(row_major, transposed ? as_it_is : turned, transposed ? outs : ins, ldw, 1.0f, w, ldw, x, 1, beta, y, 1);
  } else {
    cblas_sgemm(row_major, as_it_is, transposed ? turned : as_it_is, static_cast<int>(rows), outs, ins, 1.0f, x, ldx, w,
                ldw, beta, y, ldy);
  }
}
