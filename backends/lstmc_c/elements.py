"""C of elements: numbers, identifiers, the expression of each op on elements, and views of arrays in nested loops."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from math import isfinite, isnan, prod
from typing import Literal

from lstmc.files.output import shortest
from lstmc.loops.index import Axis, Shape
from lstmc.loops.loop_code import Language
from lstmc.loops.memory import KEYWORDS, Place
from lstmc.ops import StopGradient
from lstmc.text import Names


def number(value: float) -> str:
    """Return a float32 as a constant of C, exact to the bit."""
    if not isfinite(value):
        return f"of_bits(0x{0x7FC00000 if isnan(value) else 0x7F800000 if value > 0 else 0xFF800000:x}u)"
    return f"{shortest(value)!r}f"


def operand(value: float) -> str:
    """Return a constant as an operand in C, in parentheses if it has a sign."""
    return f"({number(value)})" if value < 0 else number(value)


def _power(exponent: float, x: str) -> str:
    """Return x ** exponent as C; ``pow_`` takes no negative x, so the sign of a whole power is written apart."""
    if exponent == 0:
        return "1.0f"
    if exponent != int(exponent):
        return f"pow_({x}, {number(exponent)})"
    sign = f"({x} < 0.0f ? -1.0f : 1.0f) * " if exponent % 2 else ""
    return f"{sign}pow_({x} < 0.0f ? -{x} : {x}, {number(exponent)})"


HEADER = files("lstmc_c").joinpath("functions.h").read_text(encoding="utf-8")
_FUNCTIONS = {
    **{name: f"{name}_({{0}})" for name in ("expm1", "log", "sqrt", "round")},
    "relu": "({0} < 0.0f ? 0.0f : {0})",
    "abs": "({0} < 0.0f ? -{0} : {0})",
    "sin": "sine({0}, 0)",
    "cos": "sine({0}, 1)",
}
C = Language(operand, HEADER, _FUNCTIONS, 8, _power)
ELEMENTS = {op: expression for op, expression in C.expressions().items() if op is not StopGradient}


def _spelled(name: str) -> str:
    base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
    return f"v{base}" if base[0].isdecimal() else base


def c_names(taken: Iterable[str] = ()) -> Names:
    """Return unique identifiers of C, and of C++, for names of any characters."""
    counters = re.compile(r"i\d+")
    return Names({*KEYWORDS, "size_t", "int32_t", "uint32_t", *taken}, _spelled, counters.fullmatch)


def identifier(name: str) -> str:
    """Return the prefix of a net's names in C."""
    return c_names().unique(name)


INDICES = ("i", "j", "k", "l", "m", "n", "o", "p", "q", "r")
ALONG = "s"  # the index of an inner loop
INDEPENDENT = "INDEPENDENT"  # the macro before a loop of which no element needs another one
# Uses of a weight: the matrix of a product, in panels; that of a product of lanes; those of groups, and the windows of
# a convolution, in panels too; another low-precision matrix; an addend of the sums of a product; or an ordinary value.
Use = Literal["panel", "lanes", "groups", "windows", "matrix", "bias", "value"]


@dataclass(frozen=True)
class View:
    """Elements of an array: the place of the first element, and the stride along each axis."""

    place: Place
    shape: Shape
    strides: tuple[int, ...]
    use: Use = "value"

    @classmethod
    def of(cls, place: Place, shape: Shape) -> View:
        """Return the view of a whole array, the last axis contiguous."""
        return cls(place, shape, tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))))

    def without(self, axis: int) -> View:
        """Return the view of the elements at index 0 of an axis, without that axis."""
        rest = [at for at in range(len(self.shape)) if at != axis % len(self.shape)]
        return replace(self, shape=tuple(self.shape[at] for at in rest), strides=tuple(self.strides[at] for at in rest))

    def dense(self, axes: int) -> bool:
        """Return whether the elements along the last ``axes`` axes lie one after another in memory."""
        sizes = self.shape[len(self.shape) - axes :]
        pairs = zip(sizes, self.strides[len(self.shape) - axes :], View.of(self.place, sizes).strides, strict=True)
        return all(size == 1 or one == other for size, one, other in pairs)

    @property
    def of_weight(self) -> bool:
        return self.place.array.kind == "weight"


@dataclass
class Code:
    """Lines of C under construction, indented by ``depth``."""

    lines: list[str] = field(default_factory=list)
    depth: int = 1

    def add(self, line: str) -> None:
        self.lines.append("  " * self.depth + line)

    @contextmanager
    def block(self, opening: str = "") -> Iterator[None]:
        """Enclose the lines added inside the block in braces."""
        self.add(f"{opening} {{".lstrip())
        self.depth += 1
        yield
        self.depth -= 1
        self.add("}")

    @contextmanager
    def loops(
        self, sizes: Sequence[int], indices: Sequence[str] = INDICES, independent: bool = False
    ) -> Iterator[None]:
        """Enclose the lines added inside in nested loops. ``independent``: no innermost element depends on another."""
        if not sizes:
            with self.block():
                yield
            return
        for at, (index, size) in enumerate(zip(indices, sizes, strict=False), 1):
            if independent and at == len(sizes):
                self.add(INDEPENDENT)
            self.add(f"for (size_t {index} = 0; {index} < {size}; ++{index}) {{")
            self.depth += 1
        yield
        for _ in sizes:
            self.depth -= 1
            self.add("}")

    @contextmanager
    def nested(self, axes: Sequence[Axis], independent: bool = False) -> Iterator[None]:
        """Enclose the lines added inside in the nested loops of these axes."""
        with self.loops([axis.size for axis in axes], [axis.counter for axis in axes], independent):
            yield


def at(offset: int, strides: Iterable[int], indices: Sequence[str] = INDICES) -> str:
    """Return an index into an array as C: ``12 + 64 * i + j``."""
    pairs = [(index, stride) for index, stride in zip(indices, strides, strict=False) if stride]
    terms = [index if stride == 1 else f"{stride} * {index}" for index, stride in pairs]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms])


def along(size: int) -> str:
    """Return the head of the inner loop, over ``size`` elements."""
    return f"for (size_t {ALONG} = 0; {ALONG} < {size}; ++{ALONG})"


def nest(shape: Shape, views: Sequence[View]) -> tuple[Shape, list[tuple[int, ...]]]:
    """Return the sizes of nested loops over ``shape``, and the strides of each view. Axes share loops if possible."""
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in views]
    for axis, size in enumerate(shape):
        steps = [view.strides[axis] for view in views]
        if size == 1:
            continue
        if sizes and all(outer[-1] == step * size for outer, step in zip(strides, steps, strict=True)):
            sizes[-1] *= size
            for outer, step in zip(strides, steps, strict=True):
                outer[-1] = step
        else:
            sizes.append(size)
            for outer, step in zip(strides, steps, strict=True):
                outer.append(step)
    return tuple(sizes), [tuple(outer) for outer in strides]
