"""What every op of a description is: what it makes of shapes, and what of arrays, NumPy its meaning."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from lstmc.importers.describe.shapes import Shape
from lstmc.ops import Array


@dataclass(frozen=True)
class Op:
    """``infer`` takes the shapes of the operands, ``eval`` the operands."""

    @abstractmethod
    def infer(self, *shapes: Shape) -> tuple[Shape, ...]: ...

    @abstractmethod
    def eval(self, *arrays: Array) -> tuple[Array, ...]: ...
