"""Shapes whose sizes are numbers or names (``N``, ``T``), as far as a graph does not need to know them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

Size = int | str
Shape = tuple[Size, ...]


class ShapeProblem(ValueError):
    """Shapes that do not fit, or a size that must be known here and is a name."""


def volume(shape: Sequence[Size]) -> tuple[int, Counter[str]]:
    """The number of elements: a number, times names."""
    return prod(s for s in shape if isinstance(s, int)), Counter(s for s in shape if isinstance(s, str))


def with_sizes(shape: Sequence[Size], sizes: Mapping[str, int]) -> Shape:
    """The shape, its names being numbers as far as they are told."""
    return tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)


def resolved(shape: Sequence[Size], old: Shape) -> Shape:
    """A shape in which one size may be -1 for what remains of the elements of ``old``."""
    if -1 not in shape:
        if volume(shape) != volume(old):
            raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
        return tuple(shape)
    number, names = volume(old)
    known, known_names = volume([s for s in shape if s != -1])
    names.subtract(known_names)
    left: list[Size] = list((+names).elements())
    if list(shape).count(-1) > 1 or min(names.values(), default=0) < 0 or known < 1 or number % known:
        raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
    if number != known or not left:
        left.append(number // known)
    if len(left) > 1:
        raise ShapeProblem(f"one size of {listed(shape)} would be {' * '.join(map(str, left))}")
    return tuple(left[0] if s == -1 else s for s in shape)


def fixed(size: Size, what: str) -> int:
    """A size that must be a number here."""
    if isinstance(size, str):
        raise ShapeProblem(f"{what} must be known here, and is {size}")
    return size


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an element-wise result, as in NumPy; a name equals itself only."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ShapeProblem(f"{listed(a)} and {listed(b)} do not fit")
        sizes.append(y if x == 1 else x)
    return tuple(sizes)


def axis_in(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeProblem(f"there is no axis {axis} among {rank}")
    return axis % rank


def listed(shape: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, shape))}]"
