"""The work of an op (operations, bytes, launches), and a device's prices for it in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from operator import add

__all__ = ["Price", "Work"]


@dataclass(frozen=True)
class Work:
    """The work of one forward pass: multiply-adds of products, other operations, bytes read and written, launches.

    A function of an element is one operation, moving elements is none. A launch is a layer or a kernel that starts.
    """

    multiply_adds: int = 0
    operations: int = 0
    bytes: int = 0
    launches: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*map(add, vars(self).values(), vars(other).values()))

    def __mul__(self, times: int) -> Work:
        return Work(*(times * each for each in vars(self).values()))

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-add is two."""
        return 2 * self.multiply_adds + self.operations


@dataclass(frozen=True)
class Price:
    """A device's seconds for each launch, each byte read or written, and each floating-point operation."""

    launch: float
    byte: float
    flop: float

    def __post_init__(self) -> None:
        if not all(0 <= seconds < inf for seconds in vars(self).values()):
            raise ValueError("seconds of 0 or more")

    def seconds(self, work: Work) -> float:
        """Return about how long the work takes on the device, which reads and writes while it computes."""
        return self.launch * work.launches + max(self.byte * work.bytes, self.flop * work.flops)
