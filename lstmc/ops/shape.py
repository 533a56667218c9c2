"""Ops along the axes of an array: ops that only move elements; sums, maxima, copies and softmax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import (
    Along,
    AlongAxis,
    Array,
    Arrays,
    Draw,
    Op,
    Sample,
    Types,
    Work,
    applied,
    check_axis,
    sample_type,
)
from lstmc.types import TensorType

__all__ = ["Concat", "Largest", "Max", "Reshape", "Softmax", "Split", "Stack", "Sum", "Tile", "Transpose", "Unstack"]


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def same_place(shape: tuple[int, ...], axis: int, other: tuple[int, ...]) -> int | None:
    """Return the place of ``axis`` in its reshape ``other``: of its size, after axes of equal product; None if none."""
    before, size = prod(shape[:axis]), shape[axis]
    return next((i for i, own in enumerate(other) if own == size and prod(other[:i]) == before), None)


def resized(x: TensorType, axis: int, size: int) -> TensorType:
    return TensorType((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


@dataclass(frozen=True)
class Split(AlongAxis):
    """Cut x along ``axis`` into pieces of ``sizes``, which add up to that axis."""

    name = "split"
    moves = True
    sizes: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        if not self.sizes or min(self.sizes) < 1 or sum(self.sizes) != x.shape[self.axis]:
            raise ShapeError(f"{self.name}: sizes must add up to axis {self.axis}: found {self.sizes}, x is {x}")
        return tuple(resized(x, self.axis, size) for size in self.sizes)

    def eval(self, x: Array) -> Arrays:
        return tuple(np.split(x, list(accumulate(self.sizes))[:-1], axis=self.axis))

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(Concat(self.axis), *cts)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self.beside(axis), (axis,), (axis,) * len(self.sizes))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        sizes = tuple(draw.integer(1, 3) for _ in range(draw.integer(1, 3)))
        return Sample(cls(axis, sizes), (resized(x, axis, sum(sizes)),))


@dataclass(frozen=True)
class Concat(AlongAxis):
    """Join arrays along ``axis``; every other axis must agree."""

    name = "concat"
    operands = ("*xs",)
    moves = True

    def infer(self, *xs: TensorType) -> Types:
        if not xs:
            raise ShapeError(f"{self.name}: needs one array or more, found none")
        check_axis(self.name, self.axis, xs[0], "the first")
        total = sum(x.shape[self.axis] for x in xs if x.rank > self.axis)
        for x in xs:
            if x.rank != xs[0].rank or resized(x, self.axis, total) != resized(xs[0], self.axis, total):
                actual = ", ".join(map(str, xs))
                raise ShapeError(f"{self.name}: axes other than {self.axis} must agree: found {actual}")
        return (resized(xs[0], self.axis, total),)

    def eval(self, *xs: Array) -> Arrays:
        return (np.concatenate(xs, axis=self.axis),)

    def vjp(self, cts: Arrays, outs: Arrays, *xs: Array) -> tuple[Array | None, ...]:
        return applied(Split(self.axis, tuple(x.shape[self.axis] for x in xs)), cts[0])

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        pieces = draw.integer(1, 3)
        return Sample(cls(axis), tuple(resized(x, axis, draw.integer(1, 3)) for _ in range(pieces)))


@dataclass(frozen=True)
class Reshape(Op):
    """The same elements in the same (row-major) order, as ``shape``."""

    name = "reshape"
    operands = ("x",)
    moves = True
    shape: tuple[int, ...]

    def infer(self, x: TensorType) -> Types:
        result = TensorType(self.shape, x.dtype)
        if any(size < 1 for size in self.shape) or result.size != x.size:
            raise ShapeError(f"{self.name}: cannot make {result} of x, which is {x}")
        return (result,)

    def eval(self, x: Array) -> Arrays:
        return (x.reshape(self.shape),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(Reshape(x.shape), cts[0])

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        place = same_place(types[0].shape, axis, self.shape)
        return None if place is None else Along(replace(self, shape=without(self.shape, place)), (axis,), (place,))

    def wider(self, size: int) -> Iterator[Op]:
        for place in range(len(self.shape) + 1):
            yield replace(self, shape=(*self.shape[:place], size, *self.shape[place:]))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(2, 3))
        shape = draw.choice((x.shape[::-1], (x.size,), (1, *x.shape), (x.shape[0], x.size // x.shape[0])))
        return Sample(cls(shape), (x,))


@dataclass(frozen=True)
class Transpose(AlongAxis):
    """y is x with ``axis`` and the next axis exchanged: [N, A, B] transposed at 1 is [N, B, A]."""

    name = "transpose"
    moves = True

    def infer(self, x: TensorType) -> Types:
        if not 0 <= self.axis < x.rank - 1:
            raise ShapeError(f"{self.name}: x must have axes {self.axis} and {self.axis + 1}: x is {x}")
        before, one, other, *after = (x.shape[: self.axis], *x.shape[self.axis :])
        return (TensorType((*before, other, one, *after), x.dtype),)

    def eval(self, x: Array) -> Arrays:
        return (np.ascontiguousarray(np.swapaxes(x, self.axis, self.axis + 1)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(self, cts[0])

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        if axis not in (self.axis, self.axis + 1):
            return super().along(slot, axis, *types)
        # without one of the two axes nothing moves
        return Along(Reshape(without(types[0].shape, axis)), (axis,), (2 * self.axis + 1 - axis,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(2, 4))
        return Sample(cls(draw.integer(0, x.rank - 2)), (x,))

    @classmethod
    def to_order(cls, order: Sequence[int]) -> Iterator[Transpose]:
        """Yield the exchanges of neighbouring axes, first to last, that bring the axes into this order."""
        now = sorted(order)
        for place, axis in enumerate(order):
            for left in reversed(range(place, now.index(axis))):
                now[left], now[left + 1] = now[left + 1], now[left]
                yield cls(left)


@dataclass(frozen=True)
class Unstack(Op):
    """Cut x [T, ...] into T arrays [...]: a sequence into its steps."""

    name = "unstack"
    operands = ("x",)
    moves = True

    def infer(self, x: TensorType) -> Types:
        if x.rank < 1:
            raise ShapeError(f"{self.name}: x must have an axis of time: x is {x}")
        return (TensorType(x.shape[1:], x.dtype),) * x.shape[0]

    def eval(self, x: Array) -> Arrays:
        return tuple(map(np.asarray, x))

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(Stack(), *cts)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self if axis else None, (axis,), (axis - 1 if axis else None,) * types[0].shape[0])

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw, rank=(1, 4)),))


@dataclass(frozen=True)
class Stack(Op):
    """Join T arrays [...] into one [T, ...]: steps into a sequence."""

    name = "stack"
    operands = ("*xs",)
    moves = True

    def infer(self, *xs: TensorType) -> Types:
        if not xs:
            raise ShapeError(f"{self.name}: needs one array or more, found none")
        if any(x != xs[0] for x in xs):
            raise ShapeError(f"{self.name}: all must have one shape: found {', '.join(map(str, xs))}")
        return (TensorType((len(xs), *xs[0].shape), xs[0].dtype),)

    def eval(self, *xs: Array) -> Arrays:
        return (np.stack(xs),)

    def vjp(self, cts: Arrays, outs: Arrays, *xs: Array) -> tuple[Array | None, ...]:
        return applied(Unstack(), cts[0])

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,) * len(types), (axis + 1,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw),) * draw.integer(1, 4))


@dataclass(frozen=True)
class Reduce(AlongAxis):
    """An op that reduces an axis to one element, and removes it."""

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (TensorType(without(x.shape, self.axis), x.dtype),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self.beside(axis), (axis,), (None if axis == self.axis else axis - (axis > self.axis),))


@dataclass(frozen=True)
class Sum(Reduce):
    """y is the sum of x along ``axis``, without that axis: [A, L, B] summed along 1 is [A, B]."""

    name = "sum"

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.sum(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (repeated(cts[0], self.axis, x.shape[self.axis]),)

    def work(self, operands: Types, results: Types) -> Work:
        return replace(super().work(operands, results), operations=operands[0].size)


@dataclass(frozen=True)
class Max(Reduce):
    """y is the largest element of x along ``axis``, without that axis; the gradient goes to the first of equals."""

    name = "max"

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.max(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        (where,) = applied(Largest(self.axis), x)
        return (repeated(cts[0], self.axis, x.shape[self.axis]) * where,)


@dataclass(frozen=True)
class Largest(AlongAxis):
    """y = 1 for the first of the largest elements of x along ``axis``, else 0: the place that gets a max's gradient."""

    name = "largest"

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (x,)

    def eval(self, x: Array) -> Arrays:
        found = (x == x.max(axis=self.axis, keepdims=True)) | np.isnan(x)  # a NaN is the maximum too
        reached = np.bitwise_or.accumulate(found, axis=self.axis)  # True from the first one on
        return (np.diff(reached, axis=self.axis, prepend=0).astype(x.dtype),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (0.0 * cts[0],)


@dataclass(frozen=True)
class Tile(AlongAxis):
    """y is x repeated ``tiles`` times along ``axis``: [N, 1, B] tiled along 1 is [N, tiles, B]."""

    name = "tile"
    moves = True
    tiles: int

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        if self.tiles < 1:
            raise ShapeError(f"{self.name}: tiles must be at least 1, found {self.tiles}")
        return (resized(x, self.axis, x.shape[self.axis] * self.tiles),)

    def eval(self, x: Array) -> Arrays:
        return (np.concatenate([x] * self.tiles, axis=self.axis),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        (copies,) = applied(Reshape((*x.shape[: self.axis], self.tiles, *x.shape[self.axis :])), cts[0])
        return applied(Sum(self.axis), copies)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1), draw.integer(1, 3)), (x,))


def repeated(x: Array, axis: int, count: int) -> Array:
    """Return x with a new ``axis`` of ``count`` equal elements."""
    (row,) = applied(Reshape((*x.shape[:axis], 1, *x.shape[axis:])), x)
    return applied(Tile(axis, count), row)[0]


@dataclass(frozen=True)
class Softmax(AlongAxis):
    """y = exp(x) / sum(exp(x)) along ``axis``, computed from x minus its maximum."""

    name = "softmax"

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (x,)

    def eval(self, x: Array) -> Arrays:
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        return (e / e.sum(axis=self.axis, keepdims=True),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        (y,) = outs
        (total,) = applied(Sum(self.axis), cts[0] * y)
        return (y * (cts[0] - repeated(total, self.axis, x.shape[self.axis])),)
