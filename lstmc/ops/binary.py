"""Element-wise ops on two arrays, and the broadcasting they allow.

NumPy's broadcasting, restricted to what stock Caffe layers can do: one of the two operands already has the
result's shape, and the other one covers a run of adjacent axes of it (Scale and Bias, ``axis`` and ``num_axes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Array, Arrays, Draw, Op, Sample, Types, applied, sample_type
from lstmc.ops.pointwise import positive
from lstmc.ops.reduce import Sum
from lstmc.ops.shape import Reshape
from lstmc.types import TensorType

__all__ = ["Add", "Binary", "Maximum", "Mul", "Sub"]


def covered_axes(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[int, int] | None:
    """The run of axes [start, stop) of ``large`` that ``small`` varies over when broadcast; None if it cannot be.

    (4,) over (2, 4) is (1, 2); (2, 1) over (2, 4) is (0, 1); (1,) over (2, 4) is (0, 0).
    """
    if len(small) > len(large):
        return None
    padded = (1,) * (len(large) - len(small)) + small
    if any(s not in (1, n) for s, n in zip(padded, large, strict=True)):
        return None
    varying = [axis for axis, s in enumerate(padded) if s > 1]
    if not varying:
        return 0, 0
    start, stop = varying[0], varying[-1] + 1
    if padded[start:stop] != large[start:stop]:
        return None
    return start, stop


@dataclass(frozen=True)
class Binary(Op):
    """An element-wise op on x and y."""

    operands = ("x", "y")

    def infer(self, x: TensorType, y: TensorType) -> Types:
        if x.shape == y.shape:
            return (x,)
        if covered_axes(y.shape, x.shape) is not None:
            return (x,)
        if covered_axes(x.shape, y.shape) is not None:
            return (y,)
        raise ShapeError(f"{self.name}: shapes do not fit: x is {x}, y is {y}{self._hint(x, y)}")

    def _hint(self, x: TensorType, y: TensorType) -> str:
        """Return a suggestion for operands of these shapes, as the end of an error."""
        large, small = (x, y) if x.rank > y.rank else (y, x)
        if any(small.shape == large.shape[:axis] + large.shape[axis + 1 :] for axis in range(large.rank)):
            return "; a sum, mean or max keeps its axis, with one element, by keepdims=True"
        return ""

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return self

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        start = draw.integer(0, x.rank - 1)
        stop = draw.integer(start + 1, x.rank)
        covering = x.shape[start:stop] + (1,) * (x.rank - stop)
        y = TensorType(draw.choice((x.shape, covering)))
        return Sample(cls(), draw.choice(((x, y), (y, x))))


@dataclass(frozen=True)
class Add(Binary):
    """z = x + y."""

    name = "add"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x + y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0], x.shape), sum_to(cts[0], y.shape)


@dataclass(frozen=True)
class Sub(Binary):
    """z = x - y."""

    name = "sub"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x - y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0], x.shape), sum_to(-cts[0], y.shape)


@dataclass(frozen=True)
class Mul(Binary):
    """z = x * y."""

    name = "mul"

    def _hint(self, x: TensorType, y: TensorType) -> str:
        if y.rank == 2 and x.rank and x.shape[-1] in y.shape:
            return "; a product with a matrix W [out, in] is linear(x, W)"
        return super()._hint(x, y)

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x * y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0] * y, x.shape), sum_to(cts[0] * x, y.shape)


@dataclass(frozen=True)
class Maximum(Binary):
    """z is the larger of x and y. Where they are equal, the gradient is y's: as Caffe's, ``eltwise_layer.cpp``."""

    name = "maximum"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (np.maximum(x, y),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        of_x = cts[0] * positive(x - y)
        return sum_to(of_x, x.shape), sum_to(cts[0] - of_x, y.shape)


def sum_to(ct: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum a cotangent over the axes along which an operand of ``shape`` was repeated."""
    padded = (1,) * (len(ct.shape) - len(shape)) + shape
    for axis, (size, repeated) in reversed(list(enumerate(zip(padded, ct.shape, strict=True)))):
        if size != repeated:
            (ct,) = applied(Sum(axis), ct)
    return ct if ct.shape == shape else applied(Reshape(shape), ct)[0]
