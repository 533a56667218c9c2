"""Sums and the largest element along an axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.ops.base import AlongAxis, Array, Arrays, Draw, Sample, Types, check_axis, sample_type
from lstmc.types import TensorType

__all__ = ["Max", "Sum"]


@dataclass(frozen=True)
class Reduce(AlongAxis):
    """One element for all of an axis, which the result has no more."""

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
        return (np.repeat(np.expand_dims(cts[0], self.axis), x.shape[self.axis], self.axis),)


@dataclass(frozen=True)
class Max(Reduce):
    """y is the largest element of x along ``axis``, which y has no more; the gradient goes to the first of several."""

    name = "max"

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.max(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        gradient = np.zeros_like(x)
        largest = np.expand_dims(x.argmax(axis=self.axis), self.axis)
        np.put_along_axis(gradient, largest, np.expand_dims(cts[0], self.axis), self.axis)
        return (gradient,)
