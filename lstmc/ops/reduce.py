"""Along an axis: sums, the largest element, copies, and softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import AlongAxis, Array, Arrays, Draw, Sample, Types, applied, check_axis, sample_type
from lstmc.ops.shape import Reshape, resized
from lstmc.types import TensorType

__all__ = ["Largest", "Max", "Softmax", "Sum", "Tile"]


@dataclass(frozen=True)
class Reduce(AlongAxis):
    """An op that reduces an axis to one element, and removes it."""

    operands = ("x",)

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (TensorType((*x.shape[: self.axis], *x.shape[self.axis + 1 :]), x.dtype),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))


@dataclass(frozen=True)
class Sum(Reduce):
    """y is x summed along ``axis``, which y has no more: [A, L, B] summed along 1 is [A, B]."""

    name = "sum"

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.sum(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (repeated(cts[0], self.axis, x.shape[self.axis]),)


@dataclass(frozen=True)
class Max(Reduce):
    """y is the largest element of x along ``axis``, which y has no more; the gradient goes to the first of several."""

    name = "max"

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.max(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        (where,) = applied(Largest(self.axis), x)
        return (repeated(cts[0], self.axis, x.shape[self.axis]) * where,)


@dataclass(frozen=True)
class Largest(AlongAxis):
    """y = 1 for the first of the largest elements of x along ``axis``, else 0: where a gradient of a max goes."""

    name = "largest"
    operands = ("x",)

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (x,)

    def eval(self, x: Array) -> Arrays:
        y = np.zeros_like(x)
        np.put_along_axis(y, np.expand_dims(x.argmax(axis=self.axis), self.axis), 1, self.axis)
        return (y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (0.0 * cts[0],)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))


@dataclass(frozen=True)
class Tile(AlongAxis):
    """y is x joined with itself along ``axis``, ``tiles`` times: [N, 1, B] tiled along 1 is [N, tiles, B]."""

    name = "tile"
    operands = ("x",)
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
    """x with a new ``axis`` of ``count`` times the same: what :class:`Sum` undoes."""
    (row,) = applied(Reshape((*x.shape[:axis], 1, *x.shape[axis:])), x)
    return applied(Tile(axis, count), row)[0]


@dataclass(frozen=True)
class Softmax(AlongAxis):
    """y = exp(x) / sum(exp(x)) along ``axis``, computed from x minus its maximum."""

    name = "softmax"
    operands = ("x",)

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

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))
