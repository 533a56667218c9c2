"""Ops as a package brings them, which have no function in the language."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.ops import Array, Arrays, Draw, Op, Pointwise, Sample, Types
from lstmc.ops.base import sample_type
from lstmc.types import TensorType


@dataclass(frozen=True)
class Cube(Pointwise):
    """y = x ** 3."""

    name = "test.cube"

    def f(self, x: Array) -> Array:
        return x**3

    def df(self, y: Array, x: Array) -> Array:
        return 3 * x**2


@dataclass(frozen=True)
class Halves(Op):
    """The two halves of x's last axis."""

    name = "test.halves"
    operands = ("x",)

    def infer(self, x: TensorType) -> Types:
        if x.shape[-1] == 6:
            raise ValueError("six")
        half = TensorType((*x.shape[:-1], x.shape[-1] // 2))
        return half, half

    def eval(self, x: Array) -> Arrays:
        low, high = np.split(x, 2, axis=-1)
        return low, high

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (np.concatenate(cts, axis=-1),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw),))


@dataclass(frozen=True)
class Layer(Cube):
    """A backend's."""

    name = "test.Layer"
    backend = "shop"
