"""Ops without operands: inputs, parameters, arguments and constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Arrays, Draw, Leaf, Sample, Types, sample_type
from lstmc.ops.domain import Domain, IntegerRange, RealRange
from lstmc.ops.fillers import Constant, Filler, Values
from lstmc.types import TensorType

__all__ = ["Arg", "Full", "Input", "Param", "Role"]

Role = Literal["x", "state", "static", "weight"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Input(Leaf):
    """An array the caller feeds. With ``fill`` it has a value of its own, drawn anew unless one is fed.

    ``values`` says what its elements must be.
    """

    name = "input"
    fill: Filler | None = None
    values: Domain | None = None

    def eval(self) -> Arrays:
        raise NotImplementedError("an input is fed, not evaluated")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        fill, values = draw.choice(
            (
                (None, None),
                (Constant(0.5), None),
                (None, IntegerRange(0, 4)),
                (None, IntegerRange(1, 2, -1)),
                (None, RealRange(0.5, 2.0)),
            )
        )
        return Sample(cls(sample_type(draw).shape, fill, values), ())


@dataclass(frozen=True)
class Param(Leaf):
    """A trained array. ``lr_mult`` and ``decay_mult`` scale the solver's learning rate and weight decay for it."""

    name = "param"
    fill: Filler = Constant(0.0)
    lr_mult: float = 1.0
    decay_mult: float = 1.0

    @property
    def fixed(self) -> bool:
        """Whether its values are fixed by the model, and not trained."""
        return isinstance(self.fill, Values) and self.lr_mult == self.decay_mult == 0

    def infer(self) -> Types:
        if isinstance(self.fill, Values) and self.fill.shape != self.shape:
            raise ShapeError(f"param: the array is {TensorType(self.fill.shape)}, expected {TensorType(self.shape)}")
        return super().infer()

    def eval(self) -> Arrays:
        raise NotImplementedError("a parameter is bound, not evaluated")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape), ())


@dataclass(frozen=True)
class Arg(Leaf):
    """An argument of a scan's body. ``role`` is one of

    - ``x``: this step's slice of a sequence,
    - ``state``: the previous step's value (the initial one at the first step),
    - ``static``: the same value at every step,
    - ``weight``: the same, and computed from parameters alone.
    """

    name = "arg"
    role: Role = "x"

    def infer(self) -> Types:
        if self.role not in ROLES:
            raise ShapeError(f"arg: role must be one of {', '.join(ROLES)}, found {self.role!r}")
        return super().infer()

    def eval(self) -> Arrays:
        raise NotImplementedError("an argument is passed, not evaluated")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice(ROLES)), ())


@dataclass(frozen=True)
class Full(Leaf):
    """An array whose every element is ``value``."""

    name = "full"
    value: float = 0.0

    def eval(self) -> Arrays:
        return (np.full(self.shape, self.value),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((0.0, 1.0, -0.5))), ())
