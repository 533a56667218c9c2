"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.errors import ShapeError
from lstmc.ops.base import Array, Arrays, Draw, Op, Sample, Types, applied, sample_type
from lstmc.types import TensorType

__all__ = ["Dropout"]


@dataclass(frozen=True)
class Dropout(Op):
    """y = x. In training each element is zero with probability ``ratio``, and the others are x / (1 - ratio).

    Srivastava et al. 2014, scaled in training (``dropout_layer.cpp``). What is meant here is the TEST phase. ``draw``
    tells one dropout of a model from another: two of them draw on their own, even on the same value.
    """

    name = "dropout"
    operands = ("x",)
    ratio: float
    draw: int = 0

    def infer(self, x: TensorType) -> Types:
        if not 0 <= self.ratio < 1:
            raise ShapeError(f"{self.name}: ratio must be from 0 up to, not including, 1, found {self.ratio!r}")
        return (x,)

    def eval(self, x: Array) -> Arrays:
        return (x,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return applied(self, cts[0])  # the same draw

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return self

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice((0.5, 0.25, 0.0)), draw.integer(0, 3)), (sample_type(draw),))
