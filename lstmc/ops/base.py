"""The interface of an op: types in, types out; arrays in, arrays out; cotangents back.

An op is one frozen dataclass. Its attributes are its fields, so printing, comparing and common-subexpression
elimination come free. ``lstmc.testing.check_op`` checks this contract on samples of :meth:`Op.sample`.
"""

from __future__ import annotations

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import ShapeError
from lstmc.ops.domain import Domain
from lstmc.types import TensorType

__all__ = [
    "Array",
    "Arrays",
    "Draw",
    "Leaf",
    "Op",
    "Pointwise",
    "Sample",
    "Symbolic",
    "Types",
    "applied",
    "sample_type",
]

Array = NDArray[np.floating[Any]]
Arrays = tuple[Array, ...]
Types = tuple[TensorType, ...]
T = TypeVar("T")


class Draw(Protocol):
    """The source of random samples: hypothesis in the tests, a random generator elsewhere."""

    def integer(self, low: int, high: int) -> int: ...

    def choice(self, options: Sequence[T]) -> T: ...


@dataclass(frozen=True)
class Sample:
    """A legal instance of an op: operand types, and the range its operand values may be drawn from."""

    op: Op
    operands: Types
    low: float = -2.0
    high: float = 2.0


class OpType(ABCMeta):
    """The class of ops, of which none is registered: ``isinstance`` looks at base classes alone, which is faster."""

    __instancecheck__ = type.__instancecheck__


@dataclass(frozen=True)
class Op(metaclass=OpType):
    """One operation. ``operands`` names its operands; a last name ``*xs`` stands for one or more."""

    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]]
    for_training: ClassVar[bool] = False  # a loss or a score: what depends on it is no part of a deployed net
    undifferentiated: ClassVar[tuple[int, ...]] = ()  # operands that no gradient flows to, and none can be asked of
    stops_gradient: ClassVar[bool] = False  # it passes none on, by definition: its vjp gives None
    moves: ClassVar[bool] = False  # the elements of its results are those of its operands, in other places
    backend: ClassVar[str] = ""  # whose graphs may hold it, from stage LEGAL on; empty for an op of models

    def check(self, operands: Types) -> None:
        """Raise AssertionError where the op breaks the contract of its backend, on operands of these types: for
        :func:`lstmc.testing.check_op`."""
        return

    # The overrides name their operands, so that a formula reads like a formula; hence Any here.
    @abstractmethod
    def infer(self, *args: Any, **kwargs: Any) -> Types:
        """Operand types to result types. Raises :class:`~lstmc.errors.ShapeError`."""

    @abstractmethod
    def eval(self, *args: Any, **kwargs: Any) -> Arrays:
        """Operand arrays to result arrays, in the operands' own precision: the reference meaning."""

    @abstractmethod
    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> tuple[Array | None, ...]:
        """Cotangents of the results to cotangents of the operands (None: no gradient flows).

        A formula of ``+ - * /``, ``.shape`` and :func:`applied` ops holds for values of a graph too, and so tells the
        gradient as a graph; one that needs NumPy is for arrays alone.
        """

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        """Return the op that computes all steps at once, or None if there is none.

        Operands in ``mapped`` then have a leading axis of ``steps``, as do the results; the others are the same for
        all steps. Whoever asks infers the types again: where broadcasting would line up otherwise, they do not fit.
        """
        return None

    def of_step(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        """Return the op of one step whose :meth:`over_time` is this one, or None if this one mixes steps.

        An op with attributes that count axes or sizes says how they are for one step, as :class:`AlongAxis` does.
        """
        return self if self.over_time(steps, mapped) == self else None

    def cost(self, args: Types) -> int | None:
        """Return the FLOPs of one forward pass of an op, or None if its shapes determine them
        (``lstmc/ir/analysis.py``).
        """
        return None

    def domains(self, *args: Any, **kwargs: Any) -> tuple[Domain | None, ...]:
        """Return the domain of each operand's elements; None where every number is valid. Takes operand types."""
        return (None,) * len(args)

    @classmethod
    @abstractmethod
    def sample(cls, draw: Draw) -> Sample:
        """A random legal instance, for the contract test."""


class Symbolic(ABC):
    """The interface of symbolic values, which a ``vjp`` can get in place of arrays: shape, arithmetic and ops."""

    __array_ufunc__ = None  # so that NumPy does not take it for a number

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def apply(self, op: Op, *operands: Any) -> Any:
        """The results of an op on such values, of which this is the first."""

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise TypeError("a value of a graph has no numbers")


def applied(op: Op, *operands: Array) -> Arrays:
    """Apply an op: to arrays, and return its results; to values of a graph, and return the values of a new node."""
    first: Array | Symbolic = operands[0]
    results: Arrays = first.apply(op, *operands) if isinstance(first, Symbolic) else op.eval(*operands)
    return results


@dataclass(frozen=True)
class Leaf(Op):
    """An op without operands."""

    operands = ()
    shape: tuple[int, ...]

    def infer(self) -> Types:
        if not all(isinstance(d, int) and d > 0 for d in self.shape):
            raise ShapeError(f"{self.name}: sizes must be positive integers, found {self.shape}")
        return (TensorType(self.shape),)

    def vjp(self, cts: Arrays, outs: Arrays) -> tuple[Array | None, ...]:
        return ()


@dataclass(frozen=True)
class AlongAxis(Op):
    """An op along one axis of its operands, counted from the first: over time it is along the next one."""

    axis: int

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return replace(self, axis=self.axis + 1)

    def of_step(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return replace(self, axis=self.axis - 1) if self.axis > 0 else None


@dataclass(frozen=True)
class Pointwise(Op):
    """y = f(x), element by element; ``df`` is dy/dx from y and x, as ``vjp`` wants it, or one number for all elements.

    One array of any shape in and out.
    """

    operands = ("x",)
    sample_range: ClassVar[tuple[float, float]] = (-2.0, 2.0)

    @abstractmethod
    def f(self, x: Array) -> Array: ...

    @abstractmethod
    def df(self, y: Array, x: Array) -> Array | float: ...

    def infer(self, x: TensorType) -> Types:
        return (x,)

    def eval(self, x: Array) -> Arrays:
        return (self.f(x),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (cts[0] * self.df(outs[0], x),)

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return self

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), (sample_type(draw),), *cls.sample_range)


def sample_type(draw: Draw, rank: tuple[int, int] = (1, 3), size: tuple[int, int] = (1, 4)) -> TensorType:
    """A random type with ``rank`` axes of ``size`` elements, both ends included."""
    return TensorType(tuple(draw.integer(*size) for _ in range(draw.integer(*rank))))


def check_axis(op: str, axis: int, x: TensorType, what: str = "x") -> None:
    """Raise unless ``axis`` is one of x's axes."""
    if not 0 <= axis < x.rank:
        raise ShapeError(f"{op}: axis {axis} does not exist: {what} is {x}, with {x.rank} axes")
