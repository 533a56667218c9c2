#pragma once
#include <cmath>

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
// itself, never beyond 1. From the limit on it is 1 exactly, as steps and masks are made of it.
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
  return x < a ? -1.0f : x > a ? 1.0f : x != x ? x : y;
}

// log(1 + e^x) = max(x, 0) + log(1 + e) for e = e^-|x|, by the series of log(1 + e) = 2 artanh(e / (2 + e)), where the
// argument is at most 1/3 and what is left out is below 2e-9 of it.
static inline float softplus(float x) {
  const float e = exp_(-std::fabs(x)), a = e / (2.0f + e), s = a * a;
  float p = 1.0f / 15.0f;
  p = p * s + 1.0f / 13.0f;
  p = p * s + 1.0f / 11.0f;
  p = p * s + 1.0f / 9.0f;
  p = p * s + 1.0f / 7.0f;
  p = p * s + 1.0f / 5.0f;
  p = p * s + 1.0f / 3.0f;
  p = p * s + 1.0f;
  return (x > 0.0f ? x : x != x ? x : 0.0f) + 2.0f * a * p;
}
