"""Ops as a package brings them, and functions of two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc import Value, op_results, pointwise
from lstmc.ops import Array, Arrays, Draw, Op, Pointwise, Sample, Types, sample_type
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


@dataclass(frozen=True)
class Scaled(Pointwise):
    """y = scale x + shift."""

    name = "test.scaled"
    scale: float
    shift: float = 0.0

    def f(self, x: Array) -> Array:
        y: Array = self.scale * x + self.shift
        return y

    def df(self, y: Array, x: Array) -> Array:
        return np.full_like(x, self.scale)


scaled = pointwise(Scaled)


def halves(x: Value) -> tuple[Value, ...]:
    """The two halves of x's last axis."""
    return op_results(Halves(), x)
