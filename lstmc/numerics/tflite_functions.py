"""TFLite's functions of integers beside those of gates: by tables, by fixed point, along an axis.

The formulas are those of TFLite's reference and optimised kernels and of gemmlowp; what was compared, and with which
versions, is in ``docs/tflite.md``. Integers are less their zero points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmc.numerics.device import Grid, rounded
from lstmc.numerics.integers import Integers
from lstmc.numerics.tflite_kernels import (
    I64,
    MOST,
    exp_below_zero,
    high_product,
    multiplier,
    one_over_one_plus,
    power_of_two,
    scaled_twice,
    shifted_right,
)
from lstmc.ops import Array

Function = Callable[[Array], Array]
F32 = np.float32


def single(function: Function) -> Function:
    """Return a function of float32 to the last bit."""
    return lambda x: np.asarray(function(np.asarray(x, np.float64)), F32)


TABLE_STEPS, TABLE_BITS = 512, 7  # of a table of int16: its steps, and the bits of a number between two entries


def by_table8(function: Function, x: Grid, y: Grid) -> Callable[[Integers], Integers]:
    """Return a function of int8 by a table that is made of float32."""
    least = x.low - x.zero
    entries = function(F32(x.scale) * np.arange(least, x.high - x.zero + 1).astype(F32)).astype(F32)
    table = rounded(entries * (F32(1) / F32(y.scale)), "away")
    return lambda a: table[a - least].astype(I64)


def by_lines16(
    function: Function, x: float, y: float, zero: int = 0, real: type[Any] = F32
) -> Callable[[Integers], Integers]:
    """Return a function of int16 by a table of 513 entries with lines between, moved by half of a line's error."""
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

    def formula(a: Integers) -> Integers:
        place, rest = (a + 32768) >> TABLE_BITS, a & ((1 << TABLE_BITS) - 1)
        line = (table[place + 1] - table[place]) * rest
        return np.asarray(table[place] + ((line + (1 << (TABLE_BITS - 1))) >> TABLE_BITS))

    return formula


def _reciprocal(x: Integers, whole: int) -> tuple[Integers, Integers]:
    """Return 1 / x of 31 bits, x a number with ``whole`` bits before the point, and how often x is halved for it."""
    headroom = 32 - np.frexp(x.astype(np.float64))[1].astype(I64)
    shifted = (x << headroom) - (1 << 31)
    return power_of_two(one_over_one_plus(shifted), 1), whole - headroom


def softmax8(scale: float, to_floats: bool) -> Callable[[Integers], Integers]:
    """Return the softmax of int8 along the last axis, less its zero point: by fixed point, or by a table of floats."""
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
    """Return the softmax of int16 along the last axis, by two tables that are made of numbers of a type."""
    unit = real(1) / real(SPAN16)
    exponential = by_lines16(single(np.exp) if real is F32 else np.exp, real(10) / real(SPAN16), 2 * unit, 32767, real)
    inverse = by_lines16(lambda x: real(1) / (real(1) + x), unit, 2 * unit, -32768, real)
    factor = scale * SPAN16 / 10.0

    def formula(a: Integers) -> Integers:
        below = scaled_twice(a - a.max(axis=-1, keepdims=True), factor) + 32767
        parts = exponential(np.clip(below, -32768, 32767))
        total = parts.sum(axis=-1, keepdims=True)
        headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(I64)
        place = (((total << (headroom - 1)) + (1 << 13)) >> 14) - (1 << 15) - (1 << 16)
        right = 31 - headroom
        half = np.asarray(1, I64) << (right - 1)
        return np.asarray((parts * inverse(np.clip(place, -32768, 32767)) + half) >> right)

    return formula


HALF_ROOT = 1518500250  # sqrt(2) / 2 of 31 bits


def inverse_root(x: float, y: float, most: int) -> Callable[[Integers], Integers]:
    """Return 1 / sqrt of integers by five steps of Newton; ``most`` is what zero gives."""
    factor = 1.0 / float(F32(np.sqrt(F32(x))) * F32(y))
    table = np.array([most, *(_root_entry(value, factor) for value in range(1, 256))], I64)

    def formula(a: Integers) -> Integers:
        if a.max() < len(table):
            return table[a]
        return np.array([_root_entry(int(value), factor) if value else most for value in a.ravel()]).reshape(a.shape)

    return formula


def _root_entry(value: int, factor: float) -> int:
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
    """Return the absolute value of integers."""
    factor = x / y if in_doubles else float(F32(x) / F32(y))
    return lambda a: np.abs(a) if factor == 1 else scaled_twice(np.abs(a), factor)
