"""What every op of a description is: what it makes of shapes, and what of arrays, NumPy its meaning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lstmc.importers.describe.shapes import Shape
from lstmc.ops import Array


@dataclass(frozen=True)
class Op:
    """``infer`` takes the shapes of the operands, ``eval`` the operands."""

    @abstractmethod
    def infer(self, *shapes: Shape) -> tuple[Shape, ...]: ...

    def bound(self, sizes: Mapping[str, int]) -> Self:
        """The same, the names of sizes in it being numbers."""
        return self

    @abstractmethod
    def eval(self, *arrays: Array) -> tuple[Array, ...]: ...
