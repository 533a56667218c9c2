"""The interface of an op: types in, types out; arrays in, arrays out; cotangents back; the domains of inputs; dialects.
An op is a frozen dataclass: its attributes are its fields. ``lstmc.testing.check_op`` checks this contract on samples.

A dialect is the set of ops of a distribution: an entry point of the group ``lstmc.dialects`` names a module. Every op
that this module, or a module below it, defines belongs to it, if its name begins with the entry point's name and a dot:
``example = "my_ops"`` has ``example.cube``. Ops of the dialect ``core`` have no dot. Reading a text loads only the
dialects that the text has.
"""

from __future__ import annotations

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint
from inspect import isabstract
from math import ceil, floor, inf, prod
from operator import add
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import ShapeError
from lstmc.plugins import entry_points_of, load_point, malformed, only_entry_point
from lstmc.types import TensorType

__all__ = [
    "DOMAINS", "EXACT", "Along", "Array", "Arrays", "Domain", "Draw", "IntegerRange", "Leaf", "Op", "Pointwise",
    "Price", "RealRange", "Sample", "Symbolic", "Types", "Work", "applied", "sample_type",
]  # fmt: skip

EXACT = 2**24  # float32 has all integers up to it


@dataclass(frozen=True, repr=False)
class IntegerRange:
    """Integers from ``low`` to ``high``, both included; ``also`` is one more valid integer outside of the range."""

    name: ClassVar[str] = "integers"
    low: int
    high: int
    also: int | None = None

    def __repr__(self) -> str:
        more = "" if self.also is None else f", {self.also}"
        return f"{self.name}({self.low}, {self.high}{more})"

    def __str__(self) -> str:
        more = "" if self.also is None else f", or {self.also}"
        return f"integers from {self.low} to {self.high}{more}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """Return random integers of the range (1 to 3 if it begins at -2**24 or below); one in five is ``also``."""
        low, high = (1, 3) if self.low <= -EXACT else (self.low, self.high)  # places, lengths: small numbers do
        drawn = rng.integers(low, high + 1, shape).astype(np.float64)
        return drawn if self.also is None else np.where(rng.random(shape) < 0.2, self.also, drawn)

    def holds(self, array: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return for each element whether it is in the domain."""
        inside: NDArray[np.bool_] = (array == np.floor(array)) & (array >= self.low) & (array <= self.high)
        return inside if self.also is None else inside | (array == self.also)

    def both(self, other: Domain) -> Domain:
        """Return the intersection with ``other``; ``also`` stays only if both domains have it."""
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
        return f"{self.name}({self.low}, {self.high})"

    def __str__(self) -> str:
        return f"numbers from {self.low:g} to {self.high:g}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """Return random float32 numbers, 1 % of the range away from its ends, where functions may have a kink."""
        room = 0.01 * (self.high - self.low)
        return rng.uniform(self.low + room, self.high - room, shape).astype(np.float32).astype(np.float64)

    def holds(self, array: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return for each element whether it is in the domain."""
        inside: NDArray[np.bool_] = (array >= np.float32(self.low)) & (array <= np.float32(self.high))
        return inside

    def both(self, other: Domain) -> Domain:
        if isinstance(other, IntegerRange):
            return other.both(self)
        return RealRange(max(self.low, other.low), min(self.high, other.high))


Domain = IntegerRange | RealRange
DOMAINS: tuple[type[Domain], ...] = (IntegerRange, RealRange)

BYTES = 4  # of an element
Array = NDArray[np.floating[Any]]
Arrays = tuple[Array, ...]
Types = tuple[TensorType, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """The work of one forward pass: multiply-adds of products, other operations, bytes read and written, launches. A
    function of an element is one operation, moving elements is none. A launch is a layer or a kernel that starts."""

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
        """Return the estimated seconds of the work on the device, which reads and writes while it computes."""
        return self.launch * work.launches + max(self.byte * work.bytes, self.flop * work.flops)


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


@dataclass(frozen=True)
class Along:
    """The place of one axis in each operand and result of an op; None for an array without it.
    ``op`` is the op on one element of the axis, whose operands lack the axis; None if it mixes elements of the axis, or
    has no such form. An operand with one element along the axis has the same value at all its places."""

    op: Op | None
    operands: tuple[int | None, ...]
    results: tuple[int | None, ...]


class OpType(ABCMeta):
    """The metaclass of ops. It registers no class, so ``isinstance`` looks at base classes alone, which is faster."""

    __instancecheck__ = type.__instancecheck__


@dataclass(frozen=True)
class Op(metaclass=OpType):
    """One operation. ``operands`` names its operands; a last name ``*xs`` stands for one or more."""

    name: ClassVar[str]
    operands: ClassVar[tuple[str, ...]]
    for_training: ClassVar[bool] = False  # a loss or a score, which a deployed net leaves out
    undifferentiated: ClassVar[tuple[int, ...]] = ()  # operands without a gradient
    stops_gradient: ClassVar[bool] = False  # it passes no gradient on, by definition: its vjp gives None
    moves: ClassVar[bool] = False  # its results have the elements of its operands, in other places
    multiplies: ClassVar[bool] = False  # an element of its result is a product with a row of its second operand
    backend: ClassVar[str] = ""  # the backend whose graphs may have it, from stage LEGAL on; empty for an op of models

    def check(self, operands: Types) -> None:
        """Raise AssertionError if the op breaks its backend's contract on these types. ``check_op`` calls it."""
        return

    # The overrides name their operands, so that a formula reads like a formula; hence Any here.
    @abstractmethod
    def infer(self, *args: Any, **kwargs: Any) -> Types:
        """Map operand types to result types. Raises :class:`~lstmc.errors.ShapeError`."""

    @abstractmethod
    def eval(self, *args: Any, **kwargs: Any) -> Arrays:
        """Map operand arrays to result arrays, in the operands' precision: this is the op's reference meaning."""

    @abstractmethod
    def vjp(self, cts: Arrays, outs: Arrays, *args: Any) -> tuple[Array | None, ...]:
        """Map cotangents of the results to cotangents of the operands (None: no gradient flows).
        A formula of ``+ - * /``, ``.shape`` and :func:`applied` ops also builds the gradient as a graph, from values of
        a graph; a formula that needs NumPy works on arrays alone."""

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Return the places of the axis ``axis`` of operand ``slot`` in the operands and results, or None if no axis of
        a result is this axis alone. ``lstmc/ir/scan.py`` derives the ops of one step and of all steps from it."""
        return None

    def wider(self, size: int) -> Iterator[Op]:
        """Yield ops that may be this op on all elements of one more axis: :meth:`along` decides. An op whose attributes
        count axes or sizes yields one for each possible value of them."""
        yield self

    def work(self, operands: Types, results: Types) -> Work:
        """Return the work of one forward pass: an operation for each element of the results, none if the op only moves
        elements; if the op ``multiplies``, a multiply-add for each product of two elements, and nothing for a bias."""
        size = sum(type_.size for type_ in results)
        moved = BYTES * (size + sum(type_.size for type_ in operands))
        if self.multiplies:
            return Work(size * prod(operands[1].shape[1:]), 0, moved, 1)
        return Work(0, 0 if self.moves else size, moved, 1)

    def domains(self, *args: Any, **kwargs: Any) -> tuple[Domain | None, ...]:
        """Return the domain of each operand's elements; None if every number is valid. Takes operand types."""
        return (None,) * len(args)

    @classmethod
    @abstractmethod
    def sample(cls, draw: Draw) -> Sample:
        """A random legal instance, for the contract test."""


class Symbolic(ABC):
    """The interface of symbolic values, which a ``vjp`` can get instead of arrays: shape, arithmetic and ops."""

    __array_ufunc__ = None  # so that NumPy does not take it for a number

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @abstractmethod
    def apply(self, op: Op, *operands: Any) -> Any:
        """Return the results of an op on symbolic values, the first of which is this one."""

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise TypeError("a value of a graph has no numbers")


def applied(op: Op, *operands: Array) -> Arrays:
    """Return the results of an op on arrays; or, on values of a graph, those of a new node."""
    first: Array | Symbolic = operands[0]
    results: Arrays = first.apply(op, *operands) if isinstance(first, Symbolic) else op.eval(*operands)
    return results


@dataclass(frozen=True)
class Leaf(Op):
    """An op without operands."""

    operands = ()
    shape: tuple[int, ...]

    def eval(self) -> Arrays:
        raise NotImplementedError(f"{self.name}: its array is given, not evaluated")

    def infer(self) -> Types:
        if not all(isinstance(d, int) and d > 0 for d in self.shape):
            raise ShapeError(f"{self.name}: sizes must be positive integers, found {self.shape}")
        return (TensorType(self.shape),)

    def vjp(self, cts: Arrays, outs: Arrays) -> tuple[Array | None, ...]:
        return ()

    def work(self, operands: Types, results: Types) -> Work:
        return Work()


@dataclass(frozen=True)
class AlongAxis(Op):
    """An op along one axis of its operands, counted from the first. All other axes stay in the result."""

    operands: ClassVar[tuple[str, ...]] = ("x",)
    axis: int

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self.beside(axis), (axis,) * len(types), (axis,))

    def beside(self, axis: int) -> Op | None:
        return None if axis == self.axis else replace(self, axis=self.axis - (axis < self.axis))

    def wider(self, size: int) -> Iterator[Op]:
        yield from (self, replace(self, axis=self.axis + 1))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))


@dataclass(frozen=True)
class Pointwise(Op):
    """y = f(x), element by element. It takes and returns one array of any shape.
    ``df`` is dy/dx, from y and x, or one number for all elements. A sample has one of the ``sample_values`` for each
    attribute, and operand values in ``sample_range``."""

    operands = ("x",)
    sample_values: ClassVar[tuple[tuple[float, ...], ...]] = ()
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
        return (None if self.stops_gradient else cts[0] * self.df(outs[0], x),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,), (axis,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(*map(draw.choice, cls.sample_values)), (sample_type(draw),), *cls.sample_range)


def sample_type(draw: Draw, rank: tuple[int, int] = (1, 3), size: tuple[int, int] = (1, 4)) -> TensorType:
    """A random type with ``rank`` axes of ``size`` elements, both ends included."""
    return TensorType(tuple(draw.integer(*size) for _ in range(draw.integer(*rank))))


def check_axis(op: str, axis: int, x: TensorType, what: str = "x") -> None:
    """Raise ShapeError unless x has the axis ``axis``; ``what`` is the operand's name in the error."""
    if not 0 <= axis < x.rank:
        raise ShapeError(f"{op}: axis {axis} does not exist: {what} is {x}, with {x.rank} axes")


DIALECTS = "lstmc.dialects"
CORE_DIALECT = "core"


def ops_in(module: str) -> tuple[type[Op], ...]:
    """Return the complete ops that a module, or a module below it, defines, in the order of definition."""
    return tuple(op for op in _defined_in(module) if not isabstract(op))


def dialect_of(op: str) -> str:
    """Return the dialect of an op by its name: ``example`` of ``example.cube``; without a dot the core's."""
    return op.rpartition(".")[0] or CORE_DIALECT


def dialects() -> tuple[str, ...]:
    return tuple(entry_points_of(DIALECTS))


def load_dialect(name: str) -> dict[str, type[Op]]:
    """Return the ops of an installed dialect by name. Raises :class:`PluginError` if it is missing or not valid."""
    return _loaded(only_entry_point(DIALECTS, name, "dialect"))


@cache
def _loaded(point: EntryPoint) -> dict[str, type[Op]]:
    """Return the ops of a dialect by name. Raise PluginError for no op, an incomplete op, or two of one name."""
    module = load_point(point, "dialect")
    if not isinstance(module, ModuleType):
        raise malformed(point, "dialect", "the name of a module that ops are defined in", repr(module))
    everything = _defined_in(module.__name__)
    for op in everything:
        if not isabstract(op) and not isinstance(getattr(op, "name", None), str):
            raise malformed(point, "dialect", f'a name in class {op.__name__}: name = "{point.name}.…"', "none")
    defined = [op for op in everything if "name" in op.__dict__]
    own = [op for op in defined if dialect_of(op.name) == point.name]
    if not own:
        names = ", ".join(f"{op.__name__} called {op.name}" for op in defined) or "no op"
        raise malformed(point, "dialect", f"ops whose names begin with {point.name}.", names)
    for op in own:
        for expected, actual in op_problems(op):
            raise malformed(point, "dialect", expected, actual)
    by_name = {op.name: op for op in own}
    for op in own:
        if by_name[op.name] is not op:
            raise malformed(point, "dialect", f"one op called {op.name}", f"{op.__name__}, {by_name[op.name].__name__}")
    return by_name


def op_problems(op: type[Op]) -> Iterator[tuple[str, str]]:
    """Yield the faults of an op's class, as pairs: expected, found."""
    if isabstract(op):
        yield f"that {op.__name__} defines {', '.join(sorted(op.__abstractmethods__))}", "none of that name"
    params = op.__dict__.get("__dataclass_params__")
    if params is None or not params.frozen:
        yield f"@dataclass(frozen=True) above class {op.__name__}", "none"
    if not isinstance(getattr(op, "operands", None), tuple):
        yield f"that {op.__name__} names its operands in a tuple", "none"


def _defined_in(module: str) -> tuple[type[Op], ...]:
    """Return every subclass of Op that a module, or a module below it, defines."""
    below = dict.fromkeys(_derived(Op))  # a layer that is a core op too is met twice
    return tuple(op for op in below if op.__module__ == module or op.__module__.startswith(f"{module}."))


def _derived(base: type[Any]) -> Iterator[type[Op]]:
    """Yield all classes below ``base``; a class with two bases is met twice."""
    for op in base.__subclasses__():
        yield op
        yield from _derived(op)
