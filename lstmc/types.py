"""The type of a value: its shape and element type; and sizes that are not numbers yet. It imports nothing of lstmc."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import Any, NoReturn, Self

MOST_ELEMENTS = 2**31 - 1  # of an array, and so the largest size of an axis: what int32 counts, as Caffe's blobs do

MORE = (1, 2, 3, 4, 8, 16, 64, 256)  # at sizes so much larger a term has the same result, or it is no number: T % 2
LARGER_THAN_FLOATS = 1100  # a power of two: 0.5 * T raises OverflowError, which no class of integers can see


class UnknownSizeError(ValueError):
    """Raised if a size must be a number, but is not known yet."""


OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class UnknownSize(int):
    """A size that is computed from open sizes: an integer far larger than any array, with which ops infer shapes as
    with any number. It equals only a size with the same computed value."""

    term: tuple[str, int, int]

    @classmethod
    def of(cls, symbol: str, left: int, right: int) -> int:
        """Return the size ``left symbol right``: a number or an open size if it is that for all values of the open
        sizes, otherwise a computed size. Raise UnknownSizeError if that varies, as for ``T % 2`` and ``7 // T``."""
        value = OPERATORS[symbol](int(left), int(right))
        if symbol == "//" and isinstance(right, UnknownSize) and int(left) % int(right):
            raise UnknownSizeError(f"{left} {symbol} {right} is not known")
        size = super().__new__(cls, value)
        size.term = (symbol, left, right)
        opens = {int(each): each for each in open_sizes(size)}
        if value not in opens and not -MOST_ELEMENTS <= value <= MOST_ELEMENTS:
            return size
        result = opens.get(value, value)
        for more in MORE:
            sizes = {each.name: int(each) + more for each in open_sizes(size)}
            if size.at(sizes) != sized(result, sizes):
                raise UnknownSizeError(f"{size} is not known")
        return result

    def at(self, sizes: Mapping[str, int]) -> int:
        """Return the size with these numbers for open sizes; other open sizes stay."""
        symbol, left, right = self.term
        return OPERATORS[symbol](sized(left, sizes), sized(right, sizes))

    def __reduce__(self) -> tuple[Any, ...]:
        return UnknownSize.of, self.term

    def __repr__(self) -> str:
        return "({1} {0} {2})".format(*self.term)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __neg__(self) -> int:
        return UnknownSize.of("-", 0, self)

    def _no_number(self, *others: object) -> NoReturn:
        raise UnknownSizeError(f"{self} is not known, and a number is computed from it")

    __float__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __divmod__ = __and__ = __rand__ = _no_number


def _with_operators() -> None:
    """Give UnknownSize the operators +, -, *, // and %, whose results are computed sizes."""
    for name, symbol in {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%"}.items():

        def forward(self: int, other: object, symbol: str = symbol) -> Any:
            return UnknownSize.of(symbol, self, other) if isinstance(other, int) else NotImplemented

        def backward(self: int, other: object, symbol: str = symbol) -> Any:
            return UnknownSize.of(symbol, other, self) if isinstance(other, int) else NotImplemented

        setattr(UnknownSize, f"__{name}__", forward)
        setattr(UnknownSize, f"__r{name}__", backward)


_with_operators()


class OpenSize(UnknownSize):
    """A size that is known by its name alone; it prints as ``word``."""

    name: str
    word: str

    def __new__(cls, name: str, word: str = "") -> Self:
        """Make a size with a name, from which its very large integer value is made."""
        size = int.__new__(cls, int.from_bytes(sha256(name.encode()).digest()) | 1 << LARGER_THAN_FLOATS)
        size.name, size.word = name, word or name
        return size

    def called(self, word: str) -> OpenSize:
        """Return this size, printed as another word, such as its name in a cell."""
        return OpenSize(self.name, word)

    def at(self, sizes: Mapping[str, int]) -> int:
        return sizes.get(self.name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenSize, (self.name, self.word)

    def __repr__(self) -> str:
        return self.word


def open_sizes(size: int) -> Iterable[OpenSize]:
    """Return the open sizes from which a size is computed."""
    if isinstance(size, OpenSize):
        return (size,)
    return (*open_sizes(size.term[1]), *open_sizes(size.term[2])) if isinstance(size, UnknownSize) else ()


def sized(size: int, sizes: Mapping[str, int]) -> int:
    return size.at(sizes) if isinstance(size, UnknownSize) else size


def known(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape. Raise :class:`UnknownSizeError` if a size is not a number yet."""
    for size in shape:
        if isinstance(size, UnknownSize):
            raise UnknownSizeError(f"{size} must be known here")
    return shape


def shape_text(shape: Iterable[int]) -> str:
    """Return a shape as people read it: ``3 x 10``; ``1 number`` for a value without axes."""
    return " x ".join(map(str, shape)) or "1 number"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array type. ``shape`` is a tuple of positive sizes; Caffe computes in ``f32``."""

    shape: tuple[int, ...]
    dtype: str = "f32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
