"""An op of models, and its function in cells."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from lstmc import pointwise
from lstmc.ops import Array, Draw, Pointwise, Sample, sample_type


@dataclass(frozen=True)
class Exponential(Pointwise):
    """y = base ** x, for a positive base."""

    name = "example.exponential"
    base: float = 2.0

    def f(self, x: Array) -> Array:
        y: Array = self.base**x
        return y

    def df(self, y: Array, x: Array) -> Array:
        return log(self.base) * y

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.choice((2.0, 0.5))), (sample_type(draw),))


exponential = pointwise(Exponential)
