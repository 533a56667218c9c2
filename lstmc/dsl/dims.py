"""Dimensions: names for sizes, with arithmetic. ``lstmc/dsl/scope.py`` gives them values."""

from __future__ import annotations

import keyword
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Union

import numpy as np

from lstmc.dsl.identifiers import identifier
from lstmc.errors import DslError
from lstmc.source import here

__all__ = ["Dim", "dims"]

Size = Union[int, "DimExpr"]

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
}


TYPICAL: Mapping[str, int] = {"T": 20, "N": 1, "D": 32, "H": 64, "K": 3, "Y": 8, "X": 8}


def typical_size(name: str) -> int:
    """Return a size for examples, by the usual meaning of a dimension's name: T steps, N sequences, H units."""
    return TYPICAL.get(name, 16)


class DimExpr:
    """An integer expression over dimensions: ``4*H``, ``H//2 + 1``."""

    def __add__(self, other: Size) -> DimExpr:
        return _combine("+", self, other)

    def __radd__(self, other: Size) -> DimExpr:
        return _combine("+", other, self)

    def __sub__(self, other: Size) -> DimExpr:
        return _combine("-", self, other)

    def __rsub__(self, other: Size) -> DimExpr:
        return _combine("-", other, self)

    def __mul__(self, other: Size) -> DimExpr:
        return _combine("*", self, other)

    def __rmul__(self, other: Size) -> DimExpr:
        return _combine("*", other, self)

    def __floordiv__(self, other: Size) -> DimExpr:
        return _combine("//", self, other)

    def __rfloordiv__(self, other: Size) -> DimExpr:
        return _combine("//", other, self)

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
        return True if other is self else self._no_number()

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return str(self)

    def free(self) -> Iterator[str]:
        """The names of the dimensions in it."""
        return (dim.name for dim in self.parts())

    def parts(self) -> Iterator[Dim]:
        """Yield the dimensions in it."""
        raise NotImplementedError

    def value(self, sizes: Mapping[str, int]) -> int:
        """Its size; ``sizes`` has every dimension in it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Dim(DimExpr):
    """One named dimension. ``default`` is its size where none is given."""

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
        yield from (dim for side in (self.left, self.right) if isinstance(side, DimExpr) for dim in side.parts())

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
    sides = []
    for side in (left, right):
        whole = side if isinstance(side, DimExpr) else whole_number(side)
        if whole is None:
            raise DslError(
                f"a dimension combines with integers and dimensions, found {side!r}. Where Python needs the"
                " number of a dimension, take it from a Value, as in x.shape[-1]",
                loc=here(),
            )
        sides.append(whole)
    if symbol == "//" and isinstance(sides[1], int) and sides[1] < 1:
        raise DslError(f"a dimension can be divided by a positive number, found {sides[0]}//{sides[1]}", loc=here())
    return Combined(symbol, *sides)


if TYPE_CHECKING:

    class Dims(Dim):
        """What :func:`dims` returns, for type checkers: one dimension, or several to unpack."""

        def __iter__(self) -> Iterator[Dim]: ...


def dims(names: str) -> Dims:
    """Dimensions by name: ``T, N = dims("T N")``; one name gives one dimension, not a tuple.

    ``dims("T=50 N")`` gives T the size 50 where a model is compiled without one.
    """
    words = [word.partition("=") for word in names.replace(",", " ").split()] if isinstance(names, str) else []
    listed = [name for name, _, _ in words]
    if any(equals and not (size.isdecimal() and int(size) > 0) for _, equals, size in words):
        told = 'the default of a dimension is a positive integer, as in dims("T=50 N")'
        raise DslError(f"{told}, found {names!r}", loc=here())
    if not listed or not all(name.isidentifier() and not keyword.iskeyword(name) for name in listed):
        raise DslError(f'dims takes names, as in dims("T N D H"), found {names!r}', loc=here())
    if len({identifier(name) for name in listed}) < len(listed):
        raise DslError(f"dims takes each name once, found {names!r}", loc=here())
    made: Any = tuple(Dim(identifier(name), int(size) if equals else None) for name, equals, size in words)
    return made if len(made) > 1 else made[0]  # type: ignore[no-any-return]


def free(shape: Iterable[object]) -> list[str]:
    """The names of the dimensions in a shape, each once, in order."""
    return list(dict.fromkeys(name for size in shape if isinstance(size, DimExpr) for name in size.free()))


def parts(shape: Iterable[object]) -> Iterator[Dim]:
    """Yield the dimensions in a shape."""
    return (dim for size in shape if isinstance(size, DimExpr) for dim in size.parts())


def whole_number(thing: object) -> int | None:
    """A Python or NumPy integer as a plain one; None for anything else."""
    return int(thing) if isinstance(thing, int | np.integer) and not isinstance(thing, bool) else None


def as_size(thing: object) -> Size | None:
    """What can stand in a shape: a dimension, or a positive integer; None for anything else."""
    if isinstance(thing, DimExpr):
        return thing
    number = whole_number(thing)
    return number if number is not None and number > 0 else None


def shape_text(shape: Iterable[Size]) -> str:
    """How a declared shape is shown: ``[N, 4*H]``."""
    return f"[{', '.join(map(str, shape))}]"
