"""TFLite's arithmetic on integers: products with a factor, functions by fixed point and by tables, sums, along an axis.
The formulas come from gemmlowp, TFLite's reference and optimised kernels, ruy and XNNPACK; ``docs/tflite.md`` has the
comparisons and versions. Zero points are subtracted from all integers here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, frexp
from typing import Any

import numpy as np

from lstmc.numerics.device import Grid, rounded
from lstmc.numerics.integers import Integers, Lookup, shifted
from lstmc.ops import Array

I64 = np.int64


def multiplier(factor: float) -> tuple[int, int]:
    """Return a factor as a whole number of 31 bits and a shift to the left (QuantizeMultiplier)."""
    if factor == 0:
        return 0, 0
    quotient, shift = frexp(factor)
    fixed = floor(quotient * 2.0**31 + 0.5)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def high_product(a: Integers, b: Integers | int) -> Integers:
    """Return a b / 2^31, rounded to the nearest integer, ties up (SaturatingRoundingDoublingHighMul)."""
    product = np.asarray(a * b, I64)
    shifted = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.asarray(np.where(shifted >= 0, shifted >> 31, -((-shifted) >> 31)))


def shifted_right(x: Integers, by: Integers | int) -> Integers:
    """Return x / 2^by, rounded to the nearest integer, ties away from zero (RoundingDivideByPOT)."""
    mask = (np.asarray(1, I64) << by) - 1
    return np.asarray((x >> by) + ((x & mask) > ((mask >> 1) + (x < 0))))


def _columns(factors: Sequence[float]) -> tuple[Integers, Integers]:
    fixed, shifts = np.array([multiplier(factor) for factor in factors], I64).T
    return fixed, shifts


def scaled_twice(x: Integers, *factors: float) -> Integers:
    """Return x times a factor, or a factor for each column: rounded after the product and after the shift."""
    fixed, shifts = _columns(factors)
    return shifted_right(high_product(x << np.maximum(shifts, 0), fixed), np.maximum(-shifts, 0))


def scaled_once(x: Integers, *factors: float) -> Integers:
    """Return x times factors, rounded once, ties up."""
    fixed, shifts = _columns(factors)
    return shifted(x * fixed, 31 - shifts)


def scaled_up(x: Integers, *factors: float) -> Integers:
    """Return x times factors, rounded twice, ties up, like ruy."""
    fixed, shifts = _columns(factors)
    right = np.maximum(-shifts, 0)
    y = shifted((x << np.maximum(shifts, 0)) * fixed, 31)
    return np.where(right > 0, shifted(y, np.maximum(right, 1)), y)


def scaled_short(x: Integers, *factors: float) -> Integers:
    """Return x, a sum of 64 bits, times factors of 15 bits, rounded once."""
    fixed, shifts = _columns(factors)
    return shifted(x * np.where(fixed < 0x7FFF0000, shifted(fixed, 16), 0x7FFF), 15 - shifts)


# gemmlowp's fixed point: logistic and tanh of numbers with 4 bits before the point, of 31 bits behind the sign
MOST = 2**31 - 1
EXP_STEPS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # e^-2^-2 ... e^-2^4


def power_of_two(x: Integers, exponent: int) -> Integers:
    """Return x * 2^exponent: saturated at 32 bits if the exponent is positive, else rounded."""
    return np.clip(x << exponent, -(2**31), MOST) if exponent > 0 else shifted_right(x, -exponent)


def exp_below_zero(a: Integers, whole: int) -> Integers:
    """Return e^a for a <= 0 in fixed point, with ``whole`` bits before the point: a polynomial times powers of e."""
    fraction = 31 - whole
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    x = power_of_two(rest, whole) + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    y = shifted_right(high_product(power_of_two(x4, -2) + x3, 715827883) + x2, 1)
    result = 1895147668 + high_product(np.asarray(1895147668, I64), x + y)
    left = rest - a
    for exponent, factor in zip(range(-2, 5), EXP_STEPS, strict=True):
        if whole > exponent:
            result = np.where(left & (1 << (fraction + exponent)), high_product(result, factor), result)
    return np.where(a == 0, MOST, result)


def one_over_one_plus(a: Integers) -> Integers:
    """Return 1 / (1 + a) for a from 0 to 1, by three steps of Newton."""
    total = a + MOST
    half = (total + np.where(total >= 0, 1, -1)) // 2
    x = 1515870810 + high_product(half, -1010580540)
    for _ in range(3):
        x = x + power_of_two(high_product(x, (1 << 29) - high_product(half, x)), 2)
    return x


def fixed_point8(logistic: bool, x: Integers, scale: float) -> Integers:
    """Return a sigmoid or tanh of int8 by gemmlowp's fixed point, the result's zero point subtracted."""
    radius = floor(15.0 * 2**27 / 2.0 ** multiplier(scale * 2.0**27)[1])
    a = scaled_twice(x, scale * 2.0**27)
    size = one_over_one_plus(exp_below_zero(-np.abs(a), 4 if logistic else 5))
    if logistic:
        size, low, high = power_of_two(size, 1), 0, 255
        y = shifted_right(np.where(a == 0, 1 << 30, np.where(a > 0, size, MOST - size)), 23)
    else:
        size, low, high = power_of_two(size - (1 << 29), 2), -128, 127
        y = shifted_right(np.where(a == 0, 0, np.where(a < 0, -size, size)), 24)
    return np.where(x <= -radius, low, np.where(x >= radius, high, y))


def by_floats8(logistic: bool, x: Integers, scale: float, to_even: bool) -> Integers:
    """Return a sigmoid or tanh of int8 as a table computed in float32 has it."""
    real = (x * np.float32(scale)).astype(np.float32)
    y = 1 / (1 + np.exp(-real)) * np.float32(256) if logistic else np.tanh(real) * np.float32(128)
    return rounded(y.astype(np.float32), "even" if to_even else "away").astype(I64)


# TFLite's table of the logistic function, unsigned 16 bits: 44 of its numbers are 1 above the nearest.
# fmt: off
ABOVE = (4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46,
         49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255)
# fmt: on
TABLE: Integers = np.minimum(np.floor(65536 / (1 + np.exp(-np.arange(257) / 24)) + 0.5), 65535).astype(I64)
TABLE[list(ABOVE)] += 1


def by_table16(logistic: bool, x: Integers, scale: float) -> Integers:
    """Return a sigmoid or tanh of int16 by TABLE, with straight lines between its entries."""
    wide, shift = scale * 4096.0 * 3.0, 0
    while wide <= 32767 / 2 and shift <= 30:
        wide, shift = wide * 2, shift + 1
    factor = int(wide)
    v = (x * factor + ((1 << (shift - 1)) if shift else 0)) >> shift
    size, bits = np.abs(v), 9 if logistic else 8
    entry, rest = np.minimum(size >> bits, 255), size & ((1 << bits) - 1)
    y = (TABLE[entry] << bits) + rest * (TABLE[entry + 1] - TABLE[entry])
    if logistic:
        y = np.where(size >> bits >= 255, 0x7FFF << 10, y)
        return np.where(v >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10
    y = np.where(size >> bits >= 255, 0xFFFF << 8, y)
    return np.where(v >= 0, y - (1 << 23) + (1 << 7), -y + (1 << 23) + (1 << 7) - 1) >> 8


BLOCK = 16  # elements that kernels with vectors compute together


def by_blocks(together: Integers, alone: Integers) -> Integers:
    """Return results of kernels with vectors: ``together`` for the elements in whole blocks, ``alone`` for the rest."""
    return np.where(np.arange(alone.size).reshape(alone.shape) < alone.size // BLOCK * BLOCK, together, alone)


def weighted_sum(grids: Sequence[Grid], y: Grid, sign: int, kernels: str) -> Callable[..., Integers]:
    """Return the formula of the sum or difference of two values on different grids, as ``kernels`` compute it."""
    one, two = (grid.scale for grid in grids)
    eight = y.high == 127
    factors = np.array([one, two], np.float32) / np.float32(y.scale)
    if kernels == "xnnpack" and eight and all((factors >= 2**-10) & (factors < 2**8)):  # else LiteRT computes it
        shift = 20 - floor(np.log2(np.abs(factors).max()))
        whole = np.rint(np.abs(factors).astype(np.float64) * 2.0**shift).astype(I64)
        return lambda a, b: shifted(a * whole[0] + sign * b * whole[1], shift)
    left, most = 20 if eight else 15, 2 * max(one, two)
    vectors = kernels in ("xnnpack", "litert-optimised") and sign > 0 and not eight

    def formula(a: Integers, b: Integers) -> Integers:
        parts = []
        for x, scale in ((a, one), (b, two)):
            part = scaled_twice(x << left, scale / most)
            if vectors and a.shape == b.shape:
                part = by_blocks(scaled_once(x << left, scale / most), part)
            parts.append(part)
        return scaled_twice(parts[0] + sign * parts[1], most / ((1 << left) * y.scale))

    return formula


Function = Callable[[Array], Array]
F32 = np.float32


def single(function: Function) -> Function:
    """Return a function of float32 arrays whose results are exact to the last bit: it computes in float64."""
    return lambda x: np.asarray(function(np.asarray(x, np.float64)), F32)


TABLE_STEPS, TABLE_BITS = 512, 7  # of a table of int16: its steps, and the bits of a number between two entries


def by_table8(function: Function, x: Grid, y: Grid) -> Callable[[Integers], Integers]:
    """Return a function from int8 to int8, by a table that is computed in float32."""
    least = x.low - x.zero
    entries = function(F32(x.scale) * np.arange(least, x.high - x.zero + 1).astype(F32)).astype(F32)
    table = rounded(entries * (F32(1) / F32(y.scale)), "away")
    return lambda a: table[a - least].astype(I64)


def by_lines16(
    function: Function, x: float, y: float, zero: int = 0, real: type[Any] = F32
) -> Callable[[Integers], Integers]:
    """Return a function between int16 of the scales ``x`` and ``y``, by a table of 513 entries with straight lines
    between. Each entry is moved by half of the error in the middle of its line. ``zero`` is the zero point of x."""
    low, high = (real(x) * real(end - zero) for end in (-32768, 32767))
    step = (high - low) / real(TABLE_STEPS)
    inverse = real(65536) / (real(y) * real(32767) - real(y) * real(-32768))
    starts = low + np.arange(TABLE_STEPS).astype(real) * step
    ends = low + np.arange(1, TABLE_STEPS + 1).astype(real) * step
    with np.errstate(all="ignore"):  # entries of numbers that are never fed
        at, middle, after = (function(each).astype(real) for each in (starts, starts + step / real(2), ends))
        nearest = rounded(at * inverse, "away")
        error = rounded((after * inverse + nearest) / real(2), "away") - rounded(middle * inverse, "away")
        last = rounded(function(np.array([high])).astype(real) * inverse, "away")
        entries = np.append(nearest - rounded(error / real(2), "away"), last)
    table = np.clip(np.nan_to_num(entries), -32768, 32767).astype(I64)
    lookup = Lookup(most=32767, table=table, fraction=TABLE_BITS)
    return lambda a: lookup(a)[0]


def _reciprocal(x: Integers, whole: int) -> tuple[Integers, Integers]:
    """Return r and bits with 1 / x = r / 2^(31 + bits), r from 2^30 to 2^31; x has ``whole`` bits before the point."""
    headroom = 32 - np.frexp(x.astype(np.float64))[1].astype(I64)
    shifted = (x << headroom) - (1 << 31)
    return power_of_two(one_over_one_plus(shifted), 1), whole - headroom


def softmax8(scale: float, to_floats: bool) -> Callable[[Integers], Integers]:
    """Return softmax of int8 along the last axis, its least result as 0: by a table of floats, or by fixed point."""
    factor, shift = multiplier(min(scale * 2.0**26, 2.0**31 - 1))
    least = -((31 << 26) >> shift)

    def by_fixed_point(a: Integers) -> Integers:
        below = a - a.max(axis=-1, keepdims=True)
        parts = np.where(below >= least, exp_below_zero(high_product(below << shift, np.asarray(factor)), 5), 0)
        inverse, halved = _reciprocal(shifted_right(parts, 12).sum(axis=-1, keepdims=True), 12)
        return np.where(below >= least, shifted_right(high_product(inverse, parts), halved + 23), 0)

    table = np.exp((-F32(scale) * np.arange(256).astype(F32)).astype(np.float64)).astype(F32)

    def by_floats(a: Integers) -> Integers:
        parts = table[a.max(axis=-1, keepdims=True) - a]
        total = np.add.accumulate(parts, axis=-1)[..., -1:]
        return rounded(parts * (F32(1) / (total * F32(1 / 256))), "away").astype(I64)

    return by_floats if to_floats else by_fixed_point


SPAN16 = 65535


def softmax16(scale: float, real: type[Any]) -> Callable[[Integers], Integers]:
    """Return softmax of int16 along the last axis, by two tables that are computed in the float type ``real``."""
    unit = real(1) / real(SPAN16)
    exponential = by_lines16(single(np.exp) if real is F32 else np.exp, real(10) / real(SPAN16), 2 * unit, 32767, real)
    inverse = by_lines16(lambda x: real(1) / (real(1) + x), unit, 2 * unit, -32768, real)
    factor = scale * SPAN16 / 10.0

    def formula(a: Integers) -> Integers:
        below = scaled_twice(a - a.max(axis=-1, keepdims=True), factor) + 32767
        parts = exponential(np.clip(below, -32768, 32767))
        total = parts.sum(axis=-1, keepdims=True)
        headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(I64)
        place = shifted(total << (headroom - 1), 14) - (1 << 15) - (1 << 16)
        return shifted(parts * inverse(np.clip(place, -32768, 32767)), 31 - headroom)

    return formula


HALF_ROOT = 1518500250  # sqrt(2) / 2 of 31 bits


def inverse_root(x: float, y: float, most: int) -> Callable[[Integers], Integers]:
    """Return the function 1 / sqrt of integers of scale ``x``, with results of scale ``y``; ``most`` for zero."""
    factor = 1.0 / float(F32(np.sqrt(F32(x))) * F32(y))
    table = np.array([most, *(_root_entry(value, factor) for value in range(1, 256))], I64)

    def formula(a: Integers) -> Integers:
        if a.max() < len(table):
            return table[a]
        return np.array([_root_entry(int(value), factor) if value else most for value in a.ravel()]).reshape(a.shape)

    return formula


def _root_entry(value: int, factor: float) -> int:
    """Return ``factor`` / sqrt(value), rounded."""
    root, shift = MOST, 0
    if value > 1:
        pairs = (32 - value.bit_length() - 1) // 2 - 1
        shift, start = 11 - pairs, np.asarray(value << (2 * pairs), I64)
        given = start >> 1
        half, x = shifted_right(given, 1), np.asarray(1 << 28, I64)
        for _ in range(5):
            cube = power_of_two(high_product(high_product(x, x), x), 6)
            x = power_of_two(high_product(np.asarray((1 << 28) + (1 << 27)), x) - high_product(half, cube), 3)
        root = int(high_product(x, HALF_ROOT))
        if shift < 0:
            root, shift = root << -shift, 0
    fixed, left = multiplier(factor)
    data = _by_multiplier(1, root, 20 - shift)
    return _by_multiplier(data, fixed, left - 20)


def _by_multiplier(x: int, fixed: int, shift: int) -> int:
    product = high_product(np.asarray(x << max(shift, 0), I64), fixed)
    return int(shifted_right(product, max(-shift, 0)))


def size_of(x: float, y: float, in_doubles: bool) -> Callable[[Integers], Integers]:
    """Return the function that computes the absolute value of integers on a grid of scale x as integers of scale y."""
    factor = x / y if in_doubles else float(F32(x) / F32(y))
    return lambda a: np.abs(a) if factor == 1 else scaled_twice(np.abs(a), factor)
