"""An op of models, and its function in cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc import Value, op
from lstmc.ops import Array, Draw, Pointwise, Sample
from lstmc.ops.base import sample_type


@dataclass(frozen=True)
class LeakyRelu(Pointwise):
    """y = x for x > 0, else slope * x. Maas et al. 2013."""

    name = "example.leaky_relu"
    slope: float = 0.01

    def f(self, x: Array) -> Array:
        return np.where(x > 0, x, self.slope * x)

    def df(self, y: Array, x: Array) -> Array:
        return np.where(x > 0, 1, self.slope).astype(x.dtype)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice((0.01, 0.5))), (sample_type(draw),))


def leaky_relu(x: Value, slope: float = 0.01) -> Value:
    """x where it is positive, else slope * x."""
    return op(LeakyRelu(slope), x)
