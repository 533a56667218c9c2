"""Sums along an axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.ops.base import AlongAxis, Array, Arrays, Draw, Sample, Types, check_axis, sample_type
from lstmc.types import TensorType

__all__ = ["Sum"]


@dataclass(frozen=True)
class Sum(AlongAxis):
    """y is x summed along ``axis``, which y has no more: [A, L, B] summed along 1 is [A, B]."""

    name = "sum"
    operands = ("x",)

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (TensorType((*x.shape[: self.axis], *x.shape[self.axis + 1 :]), x.dtype),)

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.sum(axis=self.axis)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (np.repeat(np.expand_dims(cts[0], self.axis), x.shape[self.axis], self.axis),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))
