"""Values of a graph that is being made, to be reckoned with as arrays are: what an op's ``vjp`` makes nodes of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmc.ir.graph import Builder
from lstmc.ir.node import Ref
from lstmc.ops import Add, Affine, Mul, Op, Power, Sub, Symbolic
from lstmc.source import SrcLoc


@dataclass(frozen=True)
class GraphValue(Symbolic):
    """One value of ``builder``; what is done to it becomes nodes there, called ``name`` and placed at ``loc``."""

    builder: Builder
    ref: Ref
    name: str
    loc: SrcLoc | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.builder.type(self.ref).shape

    def apply(self, op: Op, *operands: GraphValue) -> tuple[GraphValue, ...]:
        made = self.builder.add(op, *[value.ref for value in operands], names=(self.name,), loc=self.loc)
        return tuple(GraphValue(self.builder, ref, self.name, self.loc) for ref in made)

    def _with(self, op: Op, *others: GraphValue) -> GraphValue:
        return self.apply(op, self, *others)[0]

    def __add__(self, other: Any) -> GraphValue:
        return self._with(Add(), other) if isinstance(other, GraphValue) else self._with(Affine(1.0, float(other)))

    def __sub__(self, other: Any) -> GraphValue:
        return self._with(Sub(), other) if isinstance(other, GraphValue) else self._with(Affine(1.0, -float(other)))

    def __mul__(self, other: Any) -> GraphValue:
        return self._with(Mul(), other) if isinstance(other, GraphValue) else self._with(Affine(float(other), 0.0))

    def __truediv__(self, other: Any) -> GraphValue:
        reciprocal: GraphValue | float = 1 / other
        return self * reciprocal

    def __neg__(self) -> GraphValue:
        return self._with(Affine(-1.0, 0.0))

    def __radd__(self, other: float) -> GraphValue:
        return self + other

    def __rsub__(self, other: float) -> GraphValue:
        return self._with(Affine(-1.0, float(other)))

    def __rmul__(self, other: float) -> GraphValue:
        return self * other

    def __rtruediv__(self, other: float) -> GraphValue:
        reciprocal = self._with(Power(-1.0))
        return reciprocal if other == 1 else reciprocal * other
