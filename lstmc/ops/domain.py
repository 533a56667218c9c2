"""The valid values of an input's elements: indices, labels, indicators, ranges."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["DOMAINS", "Domain", "IntegerRange", "RealRange"]


@dataclass(frozen=True, repr=False)
class IntegerRange:
    """Integers from ``low`` to ``high``, both included; ``also`` is one more that may stand among them."""

    name: ClassVar[str] = "integers"
    low: int
    high: int
    also: int | None = None

    def __repr__(self) -> str:
        """The call that makes it, as the text form has it."""
        more = "" if self.also is None else f", {self.also}"
        return f"{self.name}({self.low}, {self.high}{more})"

    def __str__(self) -> str:
        more = "" if self.also is None else f", or {self.also}"
        return f"integers from {self.low} to {self.high}{more}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """An array of such numbers, each as likely; ``also`` stands in about one place of five."""
        drawn = rng.integers(self.low, self.high + 1, shape).astype(np.float64)
        return drawn if self.also is None else np.where(rng.random(shape) < 0.2, self.also, drawn)

    def holds(self, array: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return for each element whether it is in the domain."""
        inside: NDArray[np.bool_] = (array == np.floor(array)) & (array >= self.low) & (array <= self.high)
        return inside if self.also is None else inside | (array == self.also)

    def both(self, other: Domain) -> Domain:
        """Return the intersection of this domain and ``other``."""
        if isinstance(other, RealRange):
            return IntegerRange(max(self.low, ceil(other.low)), min(self.high, floor(other.high)))
        also = self.also if self.also == other.also else None
        return IntegerRange(max(self.low, other.low), min(self.high, other.high), also)


@dataclass(frozen=True, repr=False)
class RealRange:
    """Numbers from ``low`` to ``high``: times, rates, masks that are not only 0 and 1."""

    name: ClassVar[str] = "reals"
    low: float
    high: float

    def __repr__(self) -> str:
        """The call that makes it, as the text form has it."""
        return f"{self.name}({self.low}, {self.high})"

    def __str__(self) -> str:
        return f"numbers from {self.low:g} to {self.high:g}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """An array of such numbers, float32 ones, each as likely; off its ends, where functions may have a kink."""
        room = 0.01 * (self.high - self.low)
        return rng.uniform(self.low + room, self.high - room, shape).astype(np.float32).astype(np.float64)

    def holds(self, array: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return for each element whether it is in the domain."""
        inside: NDArray[np.bool_] = (array >= np.float32(self.low)) & (array <= np.float32(self.high))
        return inside

    def both(self, other: Domain) -> Domain:
        """Return the intersection of this domain and ``other``."""
        if isinstance(other, IntegerRange):
            return other.both(self)
        return RealRange(max(self.low, other.low), min(self.high, other.high))


Domain = IntegerRange | RealRange
DOMAINS: tuple[type[Domain], ...] = (IntegerRange, RealRange)
