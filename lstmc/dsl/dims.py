"""Dimensions: names for sizes, with arithmetic, and the scope that gives them values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Union

from lstmc.errors import DimError, DslError
from lstmc.source import SrcLoc, here

Size = Union[int, "DimExpr"]

_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
}


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

    def __bool__(self) -> bool:
        self._refuse()

    def __index__(self) -> int:
        self._refuse()

    __int__ = __index__

    def _refuse(self) -> NoReturn:
        raise DslError(
            f"dimension {self} has no number here: it is a name until the model is compiled."
            " Use it in shapes, or pass a number to the cell",
            loc=here(),
        )

    def free(self) -> Iterator[str]:
        """The names of the dimensions in it."""
        raise NotImplementedError

    def value(self, sizes: dict[str, int]) -> int:
        """Its size; ``sizes`` has every dimension in it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Dim(DimExpr):
    """One named dimension."""

    name: str

    def free(self) -> Iterator[str]:
        yield self.name

    def value(self, sizes: dict[str, int]) -> int:
        return sizes[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class _Combined(DimExpr):
    symbol: str
    left: Size
    right: Size

    def free(self) -> Iterator[str]:
        for side in (self.left, self.right):
            if isinstance(side, DimExpr):
                yield from side.free()

    def value(self, sizes: dict[str, int]) -> int:
        left, right = (s.value(sizes) if isinstance(s, DimExpr) else s for s in (self.left, self.right))
        return _OPERATORS[self.symbol](left, right)

    def __str__(self) -> str:
        sides = (f"({s})" if isinstance(s, _Combined) and s.symbol in "+-" else str(s) for s in (self.left, self.right))
        return f"{self.symbol}".join(sides) if self.symbol in ("*", "//") else f" {self.symbol} ".join(sides)


def _combine(symbol: str, left: Any, right: Any) -> DimExpr:
    for side in (left, right):
        if isinstance(side, bool) or not isinstance(side, int | DimExpr):
            raise DslError(f"dimensions combine with whole numbers and dimensions, found {side!r}", loc=here())
    return _Combined(symbol, left, right)


def dims(names: str) -> Any:
    """Dimensions by name: ``T, N = dims("T N")``; one name gives one dimension, not a tuple.

    Typed ``Any`` so that unpacking needs no annotation.
    """
    made = tuple(Dim(name) for name in names.replace(",", " ").split())
    if not made or not all(dim.name.isidentifier() for dim in made):
        raise DslError(f'dims takes names, as in dims("T N D H"), found {names!r}', loc=here())
    return made if len(made) > 1 else made[0]


def is_size(thing: object) -> bool:
    """Whether it can stand in a shape: a positive whole number or a dimension."""
    return isinstance(thing, DimExpr) or (isinstance(thing, int) and not isinstance(thing, bool) and thing > 0)


def shape_text(shape: Sequence[Size]) -> str:
    """How a declared shape is shown: ``[N, 4*H]``."""
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class _Binding:
    size: int
    because: str


class Scope:
    """The sizes of the dimensions of one cell or model, and why each has its size."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._bound: dict[str, _Binding] = {}

    def bind(self, name: str, size: int, because: str, loc: SrcLoc | None, notes: Sequence[str] = ()) -> None:
        """Give a dimension its size. Raises :class:`DimError` if it has another one already."""
        known = self._bound.get(name)
        if known is not None and known.size != size:
            raise DimError(
                f"dimension {name} is {known.size} ({known.because}) and {size} ({because})",
                loc=loc,
                scope=self.owner,
                notes=notes,
            )
        if size < 1:
            raise DimError(
                f"dimension {name} must be at least 1, found {size} ({because})", loc=loc, scope=self.owner, notes=notes
            )
        self._bound.setdefault(name, _Binding(size, because))

    def unify(
        self, declared: Sequence[Size], found: Sequence[int], because: str, loc: SrcLoc | None, notes: Sequence[str]
    ) -> None:
        """Make a declared shape equal a found one of the same rank, binding what is free in it."""
        for expected, size in zip(declared, found, strict=True):
            name, value = self._solve(expected, size)
            if name is not None:
                self.bind(name, value, because, loc, notes)
            elif self.missing((expected,)):
                raise DimError(
                    f"cannot find the dimensions of {expected} from {size} ({because})",
                    loc=loc,
                    scope=self.owner,
                    notes=notes,
                )
            elif self.size(expected) != size:
                raise DimError(
                    f"{expected} is {self.size(expected)}{self._reasons(expected)}, found {size} ({because})",
                    loc=loc,
                    scope=self.owner,
                    notes=notes,
                )

    def _reasons(self, expected: Size) -> str:
        if not isinstance(expected, DimExpr):
            return ""
        known = {name: self._bound[name] for name in expected.free()}
        return " (" + "; ".join(f"{name} is {b.size}, {b.because}" for name, b in known.items()) + ")"

    def _solve(self, expected: Size, size: int) -> tuple[str | None, int]:
        """The one unknown dimension of ``expected`` and the value it must have; (None, 0) if there is not just one."""
        if isinstance(expected, Dim):
            return expected.name, size
        if not isinstance(expected, _Combined) or len(self.missing((expected,))) != 1:
            return None, 0
        left, right, symbol = expected.left, expected.right, expected.symbol
        if not self.missing((left,)):
            known, unknown = self.size(left), right
            value = {"+": size - known, "-": known - size, "*": size // known}.get(symbol)
        elif not self.missing((right,)):
            known, unknown = self.size(right), left
            value = {"+": size - known, "-": size + known, "*": size // known}.get(symbol)
        else:
            return None, 0
        if value is None or (symbol == "*" and size % known):
            return None, 0
        return self._solve(unknown, value)

    def missing(self, shape: Sequence[Size]) -> list[str]:
        """The dimensions in ``shape`` that have no size yet."""
        names = (name for size in shape if isinstance(size, DimExpr) for name in size.free())
        return [name for name in dict.fromkeys(names) if name not in self._bound]

    def size(self, expected: Size) -> int:
        """The number a size stands for; every dimension in it must be bound."""
        if isinstance(expected, DimExpr):
            return expected.value({name: binding.size for name, binding in self._bound.items()})
        return operator.index(expected)

    def sizes(self, shape: Sequence[Size], what: str, loc: SrcLoc | None, mend: str) -> tuple[int, ...]:
        """A whole shape in numbers. ``mend`` (with ``{name}``) says how to bind what is missing."""
        missing = self.missing(shape)
        if missing:
            name = missing[0]
            raise DimError(
                f"dimension {name} of {what} {shape_text(shape)} is not bound: {mend.format(name=name)}",
                loc=loc,
                scope=self.owner,
            )
        return tuple(self.size(size) for size in shape)
