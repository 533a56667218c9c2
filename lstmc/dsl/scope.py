"""The sizes of the dimensions of one cell or model: bound where they are known, and solved for in declared shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lstmc.dsl.dims import Combined, Dim, DimExpr, Size, free, shape_text, typical_size
from lstmc.errors import DimError, size_argument, sizes_argument
from lstmc.types import MOST_ELEMENTS


@dataclass(frozen=True)
class _Binding:
    size: int
    because: str
    notes: tuple[str, ...]


class Scope:
    """The sizes of the dimensions of one cell or model, and why each has its size.

    The errors that it raises say what does not fit; the caller adds the place. ``needed`` are dimensions that whoever
    binds the first of them has to bind too.
    """

    def __init__(self, needed: Sequence[str] = ()) -> None:
        self._needed = tuple(needed)
        self._bound: dict[str, _Binding] = {}
        self._asked: dict[str, None] = {}

    @property
    def names(self) -> list[str]:
        """The dimensions that have a size."""
        return list(self._bound)

    @property
    def asked(self) -> list[str]:
        """The dimensions that some size was to be made of, in order."""
        return list(self._asked)

    def bind(self, name: str, size: int, because: str, notes: Sequence[str] = ()) -> None:
        """Give a dimension its size. Raises :class:`DimError` if it has another one already."""
        known = self._bound.get(name)
        if known is not None and known.size != size:
            raise DimError(
                f"dimension {name} is {known.size} ({known.because}) and {size} ({because})",
                notes=list(dict.fromkeys((*known.notes, *notes))),
            )
        if size < 1:
            raise DimError(f"dimension {name} must be at least 1, found {size} ({because})", notes=notes)
        if size > MOST_ELEMENTS:
            raise DimError(f"dimension {name} must be at most {MOST_ELEMENTS}, found {size} ({because})", notes=notes)
        self._bound.setdefault(name, _Binding(size, because, tuple(notes)))

    def unify(self, declared: Sequence[Size], found: Sequence[int], because: str, notes: Sequence[str]) -> None:
        """Make a declared shape equal a found one of the same rank, binding what is free in it."""
        for expected, size in zip(declared, found, strict=True):
            missing = self.missing((expected,))
            if isinstance(expected, Dim):
                self.bind(expected.name, size, because, notes)
            elif not missing:
                wanted = self.size(expected, notes)
                if wanted != size:
                    told = (
                        f"{expected} is {wanted}{self._reasons(expected)}"
                        if free((expected,))
                        else f"expected {wanted}"
                    )
                    raise DimError(
                        f"{told}, found {size} ({because})",
                        notes=list(dict.fromkeys((*self._notes(expected), *notes))),
                    )
            elif not self._determines(expected):
                raise DimError(
                    f"{expected} is {size} ({because}), which does not determine {' and '.join(missing)}:"
                    f" give {missing[0]} a size where the cell is bound",
                    notes=notes,
                )
            else:
                solved = self._solve(expected, size)
                if solved is None:
                    raise DimError(f"{expected} cannot be {size} ({because}) for any whole {missing[0]}", notes=notes)
                self.bind(missing[0], solved, because, notes)

    def _reasons(self, expected: Size) -> str:
        known = {name: self._bound[name] for name in free((expected,))}
        told = "; ".join(f"{name} is {binding.size}, {binding.because}" for name, binding in known.items())
        return f" ({told})" if told else ""

    def _notes(self, expected: Size) -> list[str]:
        return [note for name in free((expected,)) for note in self._bound[name].notes]

    def _determines(self, expected: Size) -> bool:
        """Whether the value of ``expected`` leaves one choice for what is unknown in it."""
        if not isinstance(expected, Combined):
            return True
        unknown = [side for side in (expected.left, expected.right) if self.missing((side,))]
        return expected.symbol != "//" and len(unknown) == 1 and self._determines(unknown[0])

    def _solve(self, expected: Size, size: int) -> int | None:
        """The value that the one unknown dimension of ``expected`` must have; None if that is no integer."""
        if not isinstance(expected, Combined):
            return size
        left, right = expected.left, expected.right
        if not self.missing((left,)):
            known, unknown = self.size(left), right
            values = {"+": size - known, "-": known - size, "*": _quotient(size, known)}
        else:
            known, unknown = self.size(right), left
            values = {"+": size - known, "-": size + known, "*": _quotient(size, known)}
        value = values[expected.symbol]
        return None if value is None else self._solve(unknown, value)

    def missing(self, shape: Sequence[Size]) -> list[str]:
        """The dimensions in ``shape`` that have no size yet."""
        names = free(shape)
        self._asked |= dict.fromkeys(names)
        return [name for name in names if name not in self._bound]

    def size(self, expected: Size, notes: Sequence[str] = ()) -> int:
        """The number a size stands for; every dimension in it must be bound."""
        if not isinstance(expected, DimExpr):
            return expected
        self._asked |= dict.fromkeys(free((expected,)))
        try:
            return expected.value({name: binding.size for name, binding in self._bound.items()})
        except ZeroDivisionError:
            raise DimError(
                f"{expected} divides by zero{self._reasons(expected)}",
                notes=list(dict.fromkeys((*self._notes(expected), *notes))),
            ) from None

    def sizes(self, shape: Sequence[Size], what: str, cell: str = "", notes: Sequence[str] = ()) -> tuple[int, ...]:
        """A whole shape in numbers. What is missing is bound with the model's sizes, or where ``cell`` is bound."""
        missing = self.missing(shape)
        if missing:
            argument = size_argument(missing[0])
            mend = f"write {cell}({argument})" if cell else f"give it a size with {argument}"
            others = [name for name in self._needed if name not in self._bound and name != missing[0]]
            example = sizes_argument({name: typical_size(name) for name in (missing[0], *others)})
            also = [] if cell else [f"for example {example}"]
            raise DimError(
                f"dimension {missing[0]} of {what} {shape_text(shape)} is not bound: {mend}",
                notes=[*notes, *also],
                arguments=() if cell else (argument, example),
            )
        found = tuple(self.size(size, notes) for size in shape)
        for size, number in zip(shape, found, strict=True):
            if number < 1:
                raise DimError(
                    f"{size} of {what} {shape_text(shape)} must be at least 1, found {number}{self._reasons(size)}",
                    notes=list(dict.fromkeys((*self._notes(size), *notes))),
                )
        return found


def _quotient(size: int, divisor: int) -> int | None:
    return size // divisor if divisor and size % divisor == 0 else None
