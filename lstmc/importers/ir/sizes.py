"""Shapes of which a size may be open: a name, such as ``N`` or ``T``, where the graph does not depend on its number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from math import prod
from typing import TypeVar

from lstmc.errors import ShapeError
from lstmc.ops import Conv, Op
from lstmc.ops.layers import Pool
from lstmc.ops.pointwise import Binary
from lstmc.types import MOST_ELEMENTS, TensorType

Size = int
Shape = tuple[Size, ...]
OpT = TypeVar("OpT", bound=Op)


class OpenSize(int):
    """A size that is known by its name alone: an integer far larger than any array, which prints as the name.

    Ops infer shapes with it as with any number. It equals no other size, and a size that is computed from it is larger
    than any array too, so it is noticed (:func:`result_shapes`).
    """

    name: str

    def __new__(cls, name: str) -> OpenSize:
        size = super().__new__(cls, int.from_bytes(sha256(name.encode()).digest()) | 1 << 256)
        size.name = name
        return size

    def __reduce__(self) -> tuple[type[OpenSize], tuple[str]]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return self.name


class ShapeProblem(ValueError):
    """Raised for shapes that do not fit, and for an open size where a number is required."""


def open_sizes(shape: Sequence[object]) -> list[OpenSize]:
    """Return the open sizes of a shape, in order."""
    return [size for size in shape if isinstance(size, OpenSize)]


def named(shape: Sequence[int | str]) -> Shape:
    """Return a shape in which open sizes are given by their names."""
    return tuple(OpenSize(size) if isinstance(size, str) else size for size in shape)


def result_shapes(op: Op, *shapes: Shape) -> tuple[Shape, ...]:
    """Return the shapes of an op's results. The operands of a binary op are broadcast as the language does.

    Raises :class:`ShapeProblem`, also where a result's size would be computed from an open one.
    """
    if isinstance(op, Binary):
        return (broadcast(*shapes),)
    try:
        results = tuple(type_.shape for type_ in op.infer(*map(TensorType, shapes)))
    except ShapeError as error:
        raise ShapeProblem(error.message) from None
    kept = {int(size): size for shape in shapes for size in open_sizes(shape)}  # as by a convolution's padding
    results = tuple(tuple(kept.get(size, size) for size in shape) for shape in results)
    for shape in results:
        if any(size > MOST_ELEMENTS and not isinstance(size, OpenSize) for size in shape):
            names = dict.fromkeys(str(size) for one in shapes for size in open_sizes(one) if size not in shape)
            what = "an image's size" if isinstance(op, Conv | Pool) else "a size"
            raise ShapeProblem(f"{what} must be known here, and is {', '.join(names)}")
    return results


def resolved(shape: Sequence[Size], old: Shape) -> Shape:
    """Return ``shape`` with a size of -1 replaced, so that it has as many elements as ``old``."""
    rest = prod(size for size in shape if size != -1)
    count = list(shape).count(-1)
    if rest < 1 or count > 1 or prod(old) % rest or (not count and prod(old) != rest):
        raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
    left = prod(old) // rest
    factors = [*_factors(left, open_sizes(old))]
    if len(factors) > 1:
        raise ShapeProblem(f"one size of {listed(shape)} would be {' * '.join(map(str, factors))}")
    return tuple(factors[0] if size == -1 else size for size in shape)


def _factors(size: int, names: Sequence[OpenSize]) -> Iterator[int]:
    """Yield the open sizes that a size is a product of, then the number that is left; one or more factors."""
    divides = False
    for name in names:
        if size % name == 0:
            yield name
            divides, size = True, size // name
    if size != 1 or not divides:
        yield size


def fixed(size: Size, what: str) -> int:
    """Return a size that must be a number. Raises :class:`ShapeProblem` for an open one."""
    if isinstance(size, OpenSize):
        raise ShapeProblem(f"{what} must be known here, and is {size}")
    return size


def broadcast(a: Shape, b: Shape) -> Shape:
    """Return the broadcast shape of two operands, as in NumPy; an open size equals itself only."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ShapeProblem(f"{listed(a)} and {listed(b)} do not fit")
        sizes.append(y if x == 1 else x)
    return tuple(sizes)


def axis_in(axis: int, rank: int) -> int:
    """Return a possibly negative axis as counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeProblem(f"there is no axis {axis} among {rank}")
    return axis % rank


def listed(shape: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, shape))}]"
