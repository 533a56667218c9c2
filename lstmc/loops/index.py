"""The place in memory of a loop's element: a sum of digits of the loop's counter.

A loop over a value of shape [4, 3] has a counter j from 0 to 11, and its digits in the mixed radix of the shape are the
indices j / 3 and j % 3. Ops that move elements (a transposition, a piece, a broadcast) give each digit another stride.
So an index has two forms: an expression of j, for a thread of a GPU, and a sum of strides times the counters of nested
loops, which needs no division.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lstmc.ops import Op, Split, Tile, Transpose, Unstack

Shape = tuple[int, ...]
N = TypeVar("N", int, npt.NDArray[np.int64])


@dataclass(frozen=True)
class Digit:
    """``stride * (of / divisor % size)``. ``of`` is None for the loop's counter, or an index whose quotient is no sum
    of the counter's digits."""

    divisor: int
    size: int
    stride: int
    of: Index | None = None


@dataclass(frozen=True)
class Index:
    """An offset plus digits, in the order of their divisors. Adjacent digits that count like one digit are merged."""

    digits: tuple[Digit, ...] = ()
    offset: int = 0

    @property
    def largest(self) -> int:
        return self.offset + sum(digit.stride * (digit.size - 1) for digit in self.digits)

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return replace(self, offset=self.offset + other)
        digits: list[Digit] = []
        for digit in sorted((*self.digits, *other.digits), key=lambda digit: (digit.of is not None, digit.divisor)):
            last = digits[-1] if digits else None
            after = last and (last.divisor * last.size, last.stride * last.size)
            if last and last.of is digit.of is None and (digit.divisor, digit.stride) == after:
                digits[-1] = replace(last, size=last.size * digit.size)
            else:
                digits.append(digit)
        return Index(tuple(digits), self.offset + other.offset)

    def __mul__(self, factor: int) -> Index:
        return Index(tuple(replace(d, stride=d.stride * factor) for d in self.digits), self.offset * factor)

    def divided(self, by: int) -> tuple[Index, Index]:
        """Return quotient and remainder by a number: digit by digit if the division is exact, else as new digits."""
        high: list[Digit] = []
        low: list[Digit] = []
        for digit in self.digits:
            inner = by // digit.stride if by % digit.stride == 0 else 0
            if digit.stride % by == 0:
                high.append(replace(digit, stride=digit.stride // by))
            elif inner and digit.size > inner and digit.size % inner == 0:
                low.append(replace(digit, size=inner))
                high.append(Digit(digit.divisor * inner, digit.size // inner, 1, digit.of))
            else:
                low.append(digit)
        remainder = Index() + Index(tuple(low), self.offset % by)
        if remainder.largest < by:
            return Index() + Index(tuple(high), self.offset // by), remainder
        return Index((Digit(by, self.largest // by + 1, 1, self),)), Index((Digit(1, by, 1, self),))

    def at(self, counter: N) -> N:
        of = ((digit, counter if digit.of is None else digit.of.at(counter)) for digit in self.digits)
        terms = (digit.stride * (value // digit.divisor % digit.size) for digit, value in of)
        return sum(terms, counter * 0 + self.offset)

    def text(self, counter: str, count: int) -> str:
        """Return the index as a C++ expression of the counter, whose values are less than ``count``."""
        terms = []
        for digit in reversed(self.digits):
            if digit.of is None:
                of, most = counter, count
            else:
                of, most = digit.of.text(counter, count), digit.of.largest + 1
            if " " in of and (digit.divisor > 1 or digit.divisor * digit.size < most or digit.stride > 1):
                of = f"({of})"
            term = of if digit.divisor == 1 else f"{of} / {digit.divisor}"
            term += f" % {digit.size}" if digit.divisor * digit.size < most else ""
            terms.append(term if digit.stride == 1 else f"{term} * {digit.stride}")
        return self._behind(terms)

    def _behind(self, terms: list[str]) -> str:
        return " + ".join([*terms, str(self.offset)] if self.offset or not terms else terms)

    def stride(self, axis: Axis) -> int:
        """Return by how much the index grows when the counter of one nested loop grows by 1."""
        on_axis = (digit for digit in self.digits if digit.divisor <= axis.divisor < digit.divisor * digit.size)
        return sum(digit.stride * (axis.divisor // digit.divisor) for digit in on_axis)

    def strides(self, shape: Shape) -> tuple[int, ...] | None:
        """Return by how much the index grows along each axis of ``shape``; None if the index is no sum over axes."""
        sizes = [(prod(shape[axis + 1 :]), size) for axis, size in enumerate(shape)]
        axes = [(by, size, self.at(by) - self.offset if size > 1 else by) for by, size in sizes]
        whole = sum((Index((Digit(*axis),)) for axis in axes if axis[1] > 1 and axis[2]), Index((), self.offset))
        return tuple(stride for _, _, stride in axes) if whole == self else None

    def in_nest(self, axes: Sequence[Axis]) -> str:
        strides = [(axis.counter, self.stride(axis)) for axis in axes]
        return self._behind([name if stride == 1 else f"{name} * {stride}" for name, stride in strides if stride])


def counter(size: int) -> Index:
    """Return the index that is the counter of a loop over ``size`` elements."""
    return Index((Digit(1, size, 1),) if size > 1 else ())


def offset_of(index: Index, size: int) -> int | None:
    """Return by how much an index exceeds the counter of a loop over ``size``; None if the difference varies."""
    return index.offset if index.digits == counter(size).digits else None


@dataclass(frozen=True)
class Axis:
    """One of the nested loops: it counts one digit of the counter."""

    counter: str
    divisor: int
    size: int


def nest_of(size: int, indices: Iterable[Index], bounds: Iterable[int] = ()) -> tuple[Axis, ...]:
    """Return the fewest nested loops, the outermost first, in which each index is a sum of strides times counters. At
    each of ``bounds``, which are divisors of the counter, a nested loop begins. The result is empty if an index needs a
    division in every nest."""
    cuts = {1, size, *bounds}
    for index in indices:
        for digit in index.digits:
            if digit.of is not None:
                return ()
            cuts |= {digit.divisor, digit.divisor * digit.size}
    order = sorted(cuts)
    if any(large % small for small, large in pairwise(order)):
        return ()
    sizes = [(small, large // small) for small, large in pairwise(order)]
    return tuple(Axis(f"i{i}", divisor, count) for i, (divisor, count) in enumerate(reversed(sizes)))


def moved(op: Op, out: int, shape: Shape, index: Index) -> Index:
    """Return the index, in an op's operand of ``shape``, of the element that moves to ``index`` in result ``out``."""
    match op:
        case Unstack():
            return index + out * prod(shape[1:])
        case Split(axis, sizes):
            inner = prod(shape[axis + 1 :])
            before, within = index.divided(sizes[out] * inner)
            return before * (shape[axis] * inner) + within + sum(sizes[:out]) * inner
        case Tile(axis, tiles):
            inner = prod(shape[axis:])
            before, within = index.divided(inner * tiles)
            return before * inner + within.divided(inner)[1]
        case Transpose(axis):
            inner, (rows, columns) = prod(shape[axis + 2 :]), shape[axis : axis + 2]
            before, within = index.divided(rows * columns * inner)
            column, within = within.divided(rows * inner)
            row, within = within.divided(inner)
            return before * (rows * columns * inner) + row * (columns * inner) + column * inner + within
    return index


def covering(small: Shape, large: Shape, axes: tuple[int, int]) -> Index:
    """Return the index of the element of the ``small`` operand, whose axes are those of ``large`` from ``axes[0]`` up
    to ``axes[1]``, that is broadcast to an element of ``large``."""
    start, stop = axes
    return counter(prod(large)).divided(prod(large[stop:]))[0].divided(prod(large[start:stop]))[1]


def piece(shape: Shape, axis: int, start: int, size: int) -> Index:
    """Return the index in ``shape`` of an element of a piece, which has ``size`` indices from ``start`` on."""
    inner = prod(shape[axis + 1 :])
    before, within = counter(prod(shape[:axis]) * size * inner).divided(size * inner)
    return before * (shape[axis] * inner) + within + start * inner
