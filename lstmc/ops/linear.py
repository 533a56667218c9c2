"""The matrix product, stored the way Caffe stores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from lstmc.errors import ShapeError
from lstmc.ops.base import AlongAxis, Array, Arrays, Draw, Op, Sample, Types, applied, sample_type
from lstmc.ops.reduce import Sum
from lstmc.ops.shape import Reshape, Transpose
from lstmc.types import TensorType

__all__ = ["Linear"]


@dataclass(frozen=True)
class Linear(AlongAxis):
    """y = x @ w.T (+ b): x is [lead..., trailing...], w is [out, in] with in the product of the trailing axes.

    The axes of x from ``axis`` on are flattened, as Caffe's InnerProduct does; y is [lead..., out]; b is [out].
    """

    name = "linear"
    operands = ("x", "w", "b")
    axis: int = 1

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        if w.rank != 2:
            raise ShapeError(f"{self.name}: w must have 2 axes, [out, in]: w is {w}")
        if not 0 <= self.axis < x.rank or prod(x.shape[self.axis :]) != w.shape[1]:
            turned = "; w is [out, in]: w.T would fit" if x.rank and x.shape[-1] == w.shape[0] else ""
            raise ShapeError(f"{self.name}: last axes differ: x is {x}, w is {w}{turned}")
        if b is not None and b.shape != w.shape[:1]:
            raise ShapeError(f"{self.name}: b must be [out]: b is {b}, w is {w}")
        return (TensorType((*x.shape[: self.axis], w.shape[0]), x.dtype),)

    def eval(self, x: Array, w: Array, b: Array | None = None) -> Arrays:
        y = self._rows(x, w) @ w.T
        if b is not None:
            y = y + b
        return (y.reshape(*x.shape[: self.axis], w.shape[0]),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array, b: Array | None = None) -> tuple[Array | None, ...]:
        out, width = w.shape
        rows = prod(x.shape[: self.axis])
        (ct,), (flat,) = applied(Reshape((rows, out)), cts[0]), applied(Reshape((rows, width)), x)
        (dx,) = applied(Linear(), ct, *applied(Transpose(0), w))
        (dx,) = applied(Reshape(x.shape), dx)
        (dw,) = applied(Linear(), *applied(Transpose(0), ct), *applied(Transpose(0), flat))
        return (dx, dw) if b is None else (dx, dw, *applied(Sum(0), ct))

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return super().over_time(steps, mapped) if mapped[0] and not any(mapped[1:]) else None

    @staticmethod
    def _rows(x: Array, w: Array) -> Array:
        return x.reshape(-1, w.shape[1])

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        w = TensorType((draw.integer(1, 4), prod(x.shape[axis:])))
        bias = draw.choice(((), (TensorType(w.shape[:1]),)))
        return Sample(cls(axis), (x, w, *bias))


def flatten_axis(x: TensorType, width: int) -> int | None:
    """The last axis from which on x's elements number ``width``: where a linear of that width starts to flatten."""
    matches = (axis for axis in reversed(range(x.rank)) if prod(x.shape[axis:]) == width)
    return next(matches, None)
