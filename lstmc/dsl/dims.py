"""Dimensions: names for sizes, with arithmetic; and scopes, which bind them or solve for them in declared shapes."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, Union

import numpy as np

from lstmc.errors import DimError, DslError, size_argument, sizes_argument
from lstmc.source import here
from lstmc.text import identifier
from lstmc.types import MOST_ELEMENTS, OPERATORS, UnknownSize

T = TypeVar("T")

Size = Union[int, "DimExpr"]

TYPICAL: Mapping[str, int] = {"T": 20, "N": 1, "D": 32, "H": 64, "K": 3, "Y": 8, "X": 8}


def typical_size(name: str) -> int:
    """Return a size for examples, by the usual meaning of a dimension's name: T steps, N sequences, H units."""
    return TYPICAL.get(name, 16)


Operator = Callable[["DimExpr", Size], "DimExpr"]


def _operator(symbol: str) -> tuple[Operator, Operator]:
    """Return the methods of an operator, for a dimension on its left and for one on its right."""
    return lambda left, right: _combine(symbol, left, right), lambda right, left: _combine(symbol, left, right)


class DimExpr:
    """An integer expression over dimensions: ``4*H``, ``H//2 + 1``."""

    __add__, __radd__ = _operator("+")
    __sub__, __rsub__ = _operator("-")
    __mul__, __rmul__ = _operator("*")
    __floordiv__, __rfloordiv__ = _operator("//")

    def _no_operation(self, *others: object) -> NoReturn:
        raise DslError(
            f"dimension {self} takes part in + - * and // only. Half of it in a shape is {self}//2; where Python needs"
            " the number, take it from a Value, as in x.shape[-1] ** 0.5",
            loc=here(),
        )

    __truediv__ = __rtruediv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = _no_operation

    def _no_number(self, *others: object) -> NoReturn:
        raise DslError(
            f"dimension {self} has no number here: it is a name until the model is compiled. Use it in shapes; where"
            " Python needs the number, take it from a Value, as in x.shape[-1]",
            loc=here(),
        )

    __bool__ = __int__ = __index__ = __float__ = __lt__ = __le__ = __gt__ = __ge__ = _no_number

    def __eq__(self, other: object) -> bool:
        """Return True for the same object. Any other comparison is an error, as the sizes are not known yet."""
        return True if other is self else self._no_number()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return str(self)

    def parts(self) -> Iterator[Dim]:
        raise NotImplementedError

    def value(self, sizes: Mapping[str, int]) -> int:
        """Return the size; ``sizes`` has the size of every dimension in the expression."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Dim(DimExpr):
    """One named dimension. ``default`` is its size if the user gives none."""

    name: str
    default: int | None = None

    def parts(self) -> Iterator[Dim]:
        yield self

    def value(self, sizes: Mapping[str, int]) -> int:
        return sizes[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False, repr=False)
class Combined(DimExpr):
    """Two sizes and the operator between them."""

    symbol: str
    left: Size
    right: Size

    def parts(self) -> Iterator[Dim]:
        return parts((self.left, self.right))

    def value(self, sizes: Mapping[str, int]) -> int:
        left, right = (s.value(sizes) if isinstance(s, DimExpr) else s for s in (self.left, self.right))
        return OPERATORS[self.symbol](left, right)

    def __str__(self) -> str:
        binds_tight = self.symbol in ("*", "//")
        left = _in_brackets(self.left, ("+", "-") if binds_tight else ())
        right = _in_brackets(self.right, tuple(OPERATORS) if binds_tight else ("+", "-") if self.symbol == "-" else ())
        return f"{left}{self.symbol}{right}" if binds_tight else f"{left} {self.symbol} {right}"


def _in_brackets(size: Size, symbols: tuple[str, ...]) -> str:
    return f"({size})" if isinstance(size, Combined) and size.symbol in symbols else str(size)


def _combine(symbol: str, left: Any, right: Any) -> DimExpr:
    """Return the expression of two sizes. Raise DslError for a side that is no size, or a divisor below 1."""
    sides = []
    for side in (left, right):
        whole = side if isinstance(side, DimExpr) else whole_number(side)
        if whole is None:
            problem = f"a dimension combines with integers and dimensions, found {side!r}"
            remedy = "Where Python needs the number of a dimension, take it from a Value, as in x.shape[-1]"
            raise DslError(f"{problem}. {remedy}", loc=here())
        sides.append(whole)
    if symbol == "//" and isinstance(sides[1], int) and sides[1] < 1:
        raise DslError(f"a dimension can be divided by a positive number, found {sides[0]}//{sides[1]}", loc=here())
    return Combined(symbol, *sides)


if TYPE_CHECKING:

    class Dims(Dim):
        """The result of :func:`dims`, for type checkers: one dimension, or several to unpack."""

        def __iter__(self) -> Iterator[Dim]: ...


def dims(names: str) -> Dims:
    """Return dimensions by name: ``T, N = dims("T N")``. One name gives a dimension, several names give a tuple.
    ``dims("T=50 N")`` gives T the size 50 if a model is compiled without a size of T."""
    words = [word.partition("=") for word in names.replace(",", " ").split()] if isinstance(names, str) else []
    listed = [name for name, _, _ in words]
    if any(equals and not (size.isdecimal() and int(size) > 0) for _, equals, size in words):
        rule = 'the default of a dimension is a positive integer, as in dims("T=50 N")'
        raise DslError(f"{rule}, found {names!r}", loc=here())
    if not listed or not all(name.isidentifier() and not keyword.iskeyword(name) for name in listed):
        raise DslError(f'dims takes names, as in dims("T N D H"), found {names!r}', loc=here())
    if len({identifier(name) for name in listed}) < len(listed):
        raise DslError(f"dims takes each name once, found {names!r}", loc=here())
    result: Any = tuple(Dim(identifier(name), int(size) if equals else None) for name, equals, size in words)
    return result if len(result) > 1 else result[0]  # type: ignore[no-any-return]


def free(shape: Iterable[object]) -> list[str]:
    """Return the names of the dimensions in a shape, each once, in order."""
    return list(dict.fromkeys(dim.name for dim in parts(shape)))


def parts(shape: Iterable[object]) -> Iterator[Dim]:
    return (dim for size in shape if isinstance(size, DimExpr) for dim in size.parts())


def whole_number(thing: object) -> int | None:
    """Return a Python or NumPy integer as an int, and an unknown size as it is; None for anything else."""
    if isinstance(thing, UnknownSize):
        return thing
    return int(thing) if isinstance(thing, int | np.integer) and not isinstance(thing, bool) else None


def is_scalar(thing: object) -> bool:
    """Return whether ``thing`` is a Python or NumPy number; a bool is no number here."""
    return isinstance(thing, int | float | np.integer | np.floating) and not isinstance(thing, bool)


def as_size(thing: object) -> Size | None:
    """Return a dimension or a positive integer as a size; None for anything else."""
    if isinstance(thing, DimExpr):
        return thing
    number = whole_number(thing)
    return number if number is not None and number > 0 else None


def shape_text(shape: Iterable[Size]) -> str:
    """Return the text of a declared shape: ``[N, 4*H]``."""
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class _Binding:
    """The size of a dimension, the reason as text ("bound by lstm(H=500)"), and notes for an error about the size."""

    size: int
    because: str
    notes: tuple[str, ...]


class Scope:
    """The sizes of the dimensions of one cell or model, with reasons. Callers add the place to the errors of its
    methods.
    ``needed`` are the dimensions to which a user gives sizes: an error about one of them has an example with all."""

    def __init__(self, needed: Sequence[str] = ()) -> None:
        self._needed = tuple(needed)
        self._bound: dict[str, _Binding] = {}
        self._asked: dict[str, None] = {}

    @property
    def names(self) -> list[str]:
        return list(self._bound)

    @property
    def asked(self) -> list[str]:
        """The dimensions whose sizes were looked up, in the order of the first look-up."""
        return list(self._asked)

    def bind(self, name: str, size: int, because: str, notes: Sequence[str] = ()) -> None:
        """Give a dimension its size; ``because`` tells the reason. Raise DimError for a second or a wrong size."""
        bound = self._bound.get(name)
        if bound is not None and bound.size != size:
            problem = f"dimension {name} is {bound.size} ({bound.because}) and {size} ({because})"
            raise DimError(problem, notes=list(dict.fromkeys((*bound.notes, *notes))))
        if size < 1:
            raise DimError(f"dimension {name} must be at least 1, found {size} ({because})", notes=notes)
        if size > MOST_ELEMENTS and not isinstance(size, UnknownSize):
            raise DimError(f"dimension {name} must be at most {MOST_ELEMENTS}, found {size} ({because})", notes=notes)
        self._bound.setdefault(name, _Binding(size, because, tuple(notes)))

    def unify(self, declared: Sequence[Size], shape: Sequence[int], because: str, notes: Sequence[str]) -> None:
        """Make a declared shape equal to an actual shape of the same rank: bind its dimensions, also in expressions as
        ``4*H``. Raise :class:`DimError` if sizes contradict, or if an expression does not determine its dimension."""
        for expected, size in zip(declared, shape, strict=True):
            missing = self.missing((expected,))
            if isinstance(expected, Dim):
                self.bind(expected.name, size, because, notes)
            elif not missing:
                own = self.size(expected, notes)
                if own != size:
                    text = f"{expected} is {own}{self._reasons(expected)}" if free((expected,)) else f"expected {own}"
                    raise DimError(f"{text}, found {size} ({because})", notes=self._notes(expected, notes))
            elif not self._determines(expected):
                problem = f"{expected} is {size} ({because}), which does not determine {' and '.join(missing)}"
                raise DimError(f"{problem}: give {missing[0]} a size where the cell is bound", notes=notes)
            else:
                solved = self._solve(expected, size)
                if solved is None:
                    raise DimError(f"{expected} cannot be {size} ({because}) for any whole {missing[0]}", notes=notes)
                self.bind(missing[0], solved, because, notes)

    def _reasons(self, expected: Size) -> str:
        """Return the sizes of the dimensions in ``expected`` with their reasons, in brackets; '' for a number."""
        bindings = {name: self._bound[name] for name in free((expected,))}
        reasons = "; ".join(f"{name} is {binding.size}, {binding.because}" for name, binding in bindings.items())
        return f" ({reasons})" if reasons else ""

    def _notes(self, expected: Size, more: Sequence[str]) -> list[str]:
        """Return the notes of all dimensions in ``expected``, and ``more`` notes, each once."""
        return list(dict.fromkeys((*(n for name in free((expected,)) for n in self._bound[name].notes), *more)))

    def _determines(self, expected: Size) -> bool:
        """Return whether ``expected`` has its unbound dimension once, and undivided: its number then gives the size."""
        if not isinstance(expected, Combined):
            return True
        unknown = [side for side in (expected.left, expected.right) if self.missing((side,))]
        return expected.symbol != "//" and len(unknown) == 1 and self._determines(unknown[0])

    def _solve(self, expected: Size, size: int) -> int | None:
        """Return the size of the one unbound dimension at which ``expected`` is ``size``; None if there is none."""
        if not isinstance(expected, Combined):
            return size
        left, right = expected.left, expected.right
        right_open = not self.missing((left,))
        operand, unknown = (self.size(left), right) if right_open else (self.size(right), left)
        if expected.symbol == "*":
            return self._solve(unknown, size // operand) if operand and size % operand == 0 else None
        if expected.symbol == "+":
            return self._solve(unknown, size - operand)
        return self._solve(unknown, operand - size if right_open else size + operand)

    def missing(self, shape: Sequence[Size]) -> list[str]:
        names = free(shape)
        self._asked |= dict.fromkeys(names)
        return [name for name in names if name not in self._bound]

    def size(self, expected: Size, notes: Sequence[str] = ()) -> int:
        if not isinstance(expected, DimExpr):
            return expected
        self._asked |= dict.fromkeys(free((expected,)))
        try:
            return expected.value({name: binding.size for name, binding in self._bound.items()})
        except ZeroDivisionError:
            problem = f"{expected} divides by zero{self._reasons(expected)}"
            raise DimError(problem, notes=self._notes(expected, notes)) from None

    def sizes(self, shape: Sequence[Size], what: str, cell: str = "", notes: Sequence[str] = ()) -> tuple[int, ...]:
        """Return a declared shape in numbers. Raise DimError for a dimension without a size, or a number below 1.
        ``what`` names the declaration. The error asks for the size in a call of ``cell``, or if "" of the model."""
        missing = self.missing(shape)
        if missing:
            argument = size_argument(missing[0])
            mend = f"write {cell}({missing[0]}=SIZE)" if cell else f"give it a size with {argument}"
            others = [name for name in self._needed if name not in self._bound and name != missing[0]]
            example = sizes_argument({name: typical_size(name) for name in (missing[0], *others)})
            also = [] if cell else [f"for example {example}"]
            problem = f"dimension {missing[0]} of {what} {shape_text(shape)} is not bound: {mend}"
            raise DimError(problem, notes=[*notes, *also])
        numbers = tuple(self.size(size, notes) for size in shape)
        for size, number in zip(shape, numbers, strict=True):
            if number < 1:
                valid = f"{size} of {what} {shape_text(shape)} must be at least 1"
                raise DimError(f"{valid}, found {number}{self._reasons(size)}", notes=self._notes(size, notes))
        return numbers


__all__ = ["Dim", "dims"]
