"""Rows of a matrix by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Array, Arrays, Draw, Op, Sample, Types, sample_type
from lstmc.ops.domain import IntegerRange
from lstmc.types import TensorType

__all__ = ["Embed"]


@dataclass(frozen=True)
class Embed(Op):
    """y[..., :] = w[x[...]]: x holds integers from 0 to V - 1, w is [V, H], y is [*x.shape, H].

    w is stored as Caffe's Embed stores it (``embed_layer.cpp``). No gradient flows to x.
    """

    name = "embed"
    operands = ("x", "w")
    undifferentiated = (0,)

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if w.rank != 2:
            raise ShapeError(f"{self.name}: w must have 2 axes, [rows, size]: w is {w}")
        return (TensorType((*x.shape, w.shape[1]), w.dtype),)

    def eval(self, x: Array, w: Array) -> Arrays:
        return (w[x.astype(int)],)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array) -> tuple[Array | None, ...]:
        gradient = np.zeros_like(w)
        np.add.at(gradient, x.astype(int), cts[0])
        return None, gradient

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return self if mapped[0] and not mapped[1] else None

    def domains(self, x: TensorType, w: TensorType) -> tuple[IntegerRange | None, ...]:
        return IntegerRange(0, w.shape[0] - 1), None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw), TensorType((draw.integer(1, 4), draw.integer(1, 4)))))
