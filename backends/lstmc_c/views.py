"""Views: the elements of arrays that ops with special loops read and write, and the text of nested loops over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from typing import Literal

from lstmc.loops.index import Axis, Shape
from lstmc.loops.memory import Place

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
        """Return contiguous elements."""
        return cls(place, shape, tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))))

    def without(self, axis: int) -> View:
        """Return the first elements along an axis."""
        rest = [at for at in range(len(self.shape)) if at != axis % len(self.shape)]
        return replace(self, shape=tuple(self.shape[at] for at in rest), strides=tuple(self.strides[at] for at in rest))

    def dense(self, axes: int) -> bool:
        """Return whether elements along the last ``axes`` are contiguous."""
        sizes = self.shape[len(self.shape) - axes :]
        pairs = zip(sizes, self.strides[len(self.shape) - axes :], View.of(self.place, sizes).strides, strict=True)
        return all(size == 1 or one == other for size, one, other in pairs)

    @property
    def of_weight(self) -> bool:
        return self.place.array.kind == "weight"


@dataclass
class Code:
    """Lines of C under construction."""

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
        """Enclose the lines added inside in nested loops of these sizes; without sizes, in braces.

        ``independent``: no element of the innermost loop needs another one.
        """
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
        """Enclose the lines added inside in nested loops."""
        with self.loops([axis.size for axis in axes], [axis.counter for axis in axes], independent):
            yield


def at(offset: int, strides: Iterable[int], indices: Sequence[str] = INDICES) -> str:
    """Return an index into an array: ``12 + 64 * i + j``."""
    terms = [
        index if stride == 1 else f"{stride} * {index}"
        for index, stride in zip(indices, strides, strict=False)
        if stride
    ]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms])


def along(size: int) -> str:
    """Return the head of the inner loop."""
    return f"for (size_t {ALONG} = 0; {ALONG} < {size}; ++{ALONG})"


def nest(shape: Shape, views: Sequence[View]) -> tuple[Shape, list[tuple[int, ...]]]:
    """Return the sizes of nested loops over ``shape``, and the strides of each view in them.

    Axes of one element have no loop, and neighbouring axes are one loop where all views allow it.
    """
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
