"""Values of imported nets: sizes that may be open, and weights that are recipes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from operator import mul
from typing import Self

import numpy as np

from lstmc import types
from lstmc.errors import ShapeError
from lstmc.ops import EXACT, Array, Binary, Conv, IntegerRange, Op, Reshape
from lstmc.ops.layers import Pool
from lstmc.types import MOST_ELEMENTS, TensorType

Size = int
Shape = tuple[Size, ...]
OpenSize = types.OpenSize
ShapeProblem = types.UnknownSizeError  # shapes do not fit, or a size is open where a number is required
MOST_FOLDED = 2**24  # the most elements of computed constants, which the size of the file does not limit
MOST_PIECES = 1_000_000  # the most pieces that an axis is cut into, or joined from


def domain_of(kind: str) -> IntegerRange | None:
    """Return the range of an input of the element type ``kind``, such as "bool" or "int64"; None for floats."""
    if kind == "bool":
        return IntegerRange(0, 1)
    if re.fullmatch(r"u?int\d+", kind) is None:
        return None
    limits = np.iinfo(kind)
    return IntegerRange(limits.min, limits.max) if limits.bits <= 16 else IntegerRange(-EXACT, EXACT)


class NamedSize(int):
    """A number that prints as a name. H is the size of a cell's states: 8 in one layer, another number in another."""

    name: str

    def __new__(cls, name: str, value: int) -> Self:
        size = super().__new__(cls, value)
        size.name = name
        return size

    def __reduce__(self) -> tuple[type[Self], tuple[str, int]]:
        return type(self), (self.name, int(self))

    def __repr__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return self.name


class Folding:
    """The number of elements that computed constants may still have; ``stored`` is the number in the file."""

    def __init__(self, stored: int = 0) -> None:
        self.left: float = MOST_FOLDED + 16 * stored

    def take(self, count: float) -> None:
        """Count a constant's elements before it is computed. Raises :class:`ShapeProblem` for too many."""
        self.left -= count
        if not self.left >= 0:
            raise ShapeProblem(f"{count:.0f} more elements of computed constants, in all too many for this file")


def bounded(sizes: Iterable[float], most: int = MOST_FOLDED) -> None:
    """Raise :class:`ShapeProblem` if an array of these sizes has more than ``most`` elements."""
    count = prod(float(size) for size in sizes)
    if not count <= most:
        raise ShapeProblem(f"{count:,.0f} elements: {most:,} are the most")


def in_pieces(count: int) -> int:
    """Return ``count``. Raises :class:`ShapeProblem` if it is more than the most pieces of an axis."""
    if count > MOST_PIECES:
        raise ShapeProblem(f"{count:,} pieces of an axis: {MOST_PIECES:,} are the most")
    return count


def open_sizes(shape: Sequence[object]) -> list[OpenSize]:
    return [size for size in shape if isinstance(size, OpenSize)]


def open_names(shapes: Mapping[str, Shape]) -> list[str]:
    return list(dict.fromkeys(size.name for shape in shapes.values() for size in open_sizes(shape)))


def named(shape: Sequence[int | str]) -> Shape:
    return tuple(OpenSize(size) if isinstance(size, str) else size for size in shape)


def result_shapes(op: Op, *shapes: Shape) -> tuple[Shape, ...]:
    """Return the shapes of an op's results, with operands broadcast as in the language. Raises :class:`ShapeProblem` if
    operands do not fit, or if a size would be computed from an open size."""
    if isinstance(op, Binary):
        result = broadcast(*shapes)
        _check_size(result)
        return (result,)
    try:
        results = tuple(type_.shape for type_ in op.infer(*map(TensorType, shapes)))
    except ShapeError as error:
        raise ShapeProblem(error.message) from None
    # op.infer computes numbers without names, as for a convolution's padding. A number equal to an open size of an
    # operand gets its name; of two names that of the first operand: a loop's sequences, which have the model's names.
    kept = {int(size): size for shape in reversed(shapes) for size in open_sizes(shape)}
    results = tuple(tuple(kept.get(size, plain(size)) for size in shape) for shape in results)
    # a large size that no operand has was computed from an open size, unless a reshape joined axes
    there = {int(size) for shape in shapes for size in shape}
    for shape in results if not isinstance(op, Reshape) else ():
        if any(size > MOST_ELEMENTS and size not in there and not isinstance(size, OpenSize) for size in shape):
            names = dict.fromkeys(str(size) for one in shapes for size in open_sizes(one) if size not in shape)
            what = "an image's size" if isinstance(op, Conv | Pool) else "a size"
            if names:
                raise ShapeProblem(f"{what} must be known here, and is {', '.join(names)}")
        _check_size(shape)
    return results


def _check_size(shape: Shape) -> None:
    bounded((1 if isinstance(size, types.UnknownSize) else size for size in shape), MOST_ELEMENTS)


def plain(size: Size) -> Size:
    return size if isinstance(size, types.UnknownSize) else int(size)


def resolved(shape: Sequence[Size], old: Shape, products: bool = False) -> Shape:
    """Return ``shape`` with a size of -1 replaced, so that it has as many elements as ``old``. Only with ``products``
    may this size be an open size times another size, as where the axis of time is merged with another axis."""
    rest, whole = prod(int(size) for size in shape if size != -1), prod(map(int, old))
    count = list(shape).count(-1)
    if rest < 1 or count > 1 or whole % rest or (not count and whole != rest):
        raise ShapeProblem(f"{listed(old)} cannot be reshaped to {listed(shape)}")
    unknown = [size for size in old if isinstance(size, types.UnknownSize)]
    inner = [one for size in unknown for one in types.open_sizes(size)]
    factors = [*_factors(whole // rest, [*unknown, *inner])]
    if len(factors) > 1 and not products:
        raise ShapeProblem(f"one size of {listed(shape)} would be {' * '.join(map(str, factors))}")
    left = reduce(mul, factors)
    return tuple(left if size == -1 else size for size in shape)


def _factors(size: int, names: Sequence[int]) -> Iterator[int]:
    """Yield the unknown sizes whose product ``size`` is, then the remaining number; at least one factor."""
    divides = False
    for name in names:
        if size % int(name) == 0:
            yield name
            divides, size = True, size // int(name)
    if size != 1 or not divides:
        yield size


def fixed(size: Size, what: str) -> int:
    """Return a size that must be a number; for an open size raise :class:`ShapeProblem`, which names it ``what``."""
    if isinstance(size, OpenSize):
        raise ShapeProblem(f"{what} must be known here, and is {size}")
    return size


def broadcast(a: Shape, b: Shape) -> Shape:
    """Return the broadcast shape of two operands, as in NumPy; an open size fits itself and 1."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    sizes = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise ShapeProblem(f"{listed(a)} and {listed(b)} do not fit")
        sizes.append(y if x == 1 else x)
    return tuple(sizes)


def axis_in(axis: int, rank: int) -> int:
    """Return an axis counted from the front. Raises :class:`ShapeProblem` if there is no such axis."""
    if not -rank <= axis < rank:
        raise ShapeProblem(f"there is no axis {axis} among {rank}")
    return axis % rank


def listed(shape: Sequence[Size]) -> str:
    return f"[{', '.join(map(str, shape))}]"


@dataclass(frozen=True)
class Weight:
    """A parameter of an imported net, made by ``make`` from the tensors ``sources``; ``recipe`` says how in words."""

    shape: Shape
    sources: tuple[str, ...]
    recipe: str
    make: Callable[[], Array] = field(repr=False, compare=False)

    def array(self) -> Array:
        with np.errstate(all="ignore"):  # numbers that are not finite are found when the weights are written
            array = np.ascontiguousarray(self.make(), np.float32)
        assert array.shape == self.shape, f"{self.recipe}: expected {self.shape}, made {array.shape}"
        return array

    def rows(self, parts: int, order: Sequence[int], names: Sequence[str]) -> Weight:
        """Return some of ``parts`` equal blocks of the first axis in this order, called ``names`` in the recipe."""
        size = self.shape[0] // parts
        if list(order) == list(range(parts)):
            return self
        index = np.concatenate([np.arange(size) + size * place for place in order])
        shape = (size * len(order), *self.shape[1:])
        return self.derived(shape, f"rows {', '.join(names)} of {self.recipe}", lambda: self.make()[index])

    def plus(self, other: Weight) -> Weight:
        if self.shape != other.shape:
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} plus {other.recipe} of {list(other.shape)}")
        sources, recipe = (*self.sources, *other.sources), f"{self.recipe} + {other.recipe}"
        return Weight(self.shape, sources, recipe, lambda: self.make() + other.make())

    def transposed(self, *axes: int) -> Weight:
        """Return the weight with its axes permuted; the default reverses them."""
        axes = axes or tuple(reversed(range(len(self.shape))))
        if axes == tuple(range(len(self.shape))):
            return self
        wide = [axis for axis in axes if self.shape[axis] != 1]
        if wide == sorted(wide):  # no element moves
            return self.reshaped(*(self.shape[axis] for axis in axes))
        recipe = f"{self.recipe} transposed" + ("" if len(axes) == 2 else f" by {list(axes)}")
        return self.derived(tuple(self.shape[a] for a in axes), recipe, lambda: self.make().transpose(axes))

    def reshaped(self, *shape: int) -> Weight:
        """Return the weight in another shape. Raises :class:`ShapeProblem` if the number of elements differs."""
        if shape == self.shape:
            return self
        if prod(shape) != prod(self.shape):
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} cannot be reshaped to {list(shape)}")
        recipe = re.sub(r" as \[[\d, ]*\]$", "", self.recipe)  # the shape after the first reshape
        return self.derived(shape, f"{recipe} as {list(shape)}", lambda: self.make().reshape(shape))

    def at(self, index: int) -> Weight:
        return self.derived(self.shape[1:], f"{self.recipe}[{index}]", lambda: self.make()[index])

    def cut(self, start: int, stop: int, axis: int = 0) -> Weight:
        """Return the elements from ``start`` up to ``stop`` of an axis."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        place = (slice(None),) * axis + (slice(start, stop),)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        recipe = f"{self.recipe}[{':, ' * axis}{start}:{stop}]"
        return self.derived(shape, recipe, lambda: self.make()[place])

    def derived(self, shape: Shape, recipe: str, make: Callable[[], Array]) -> Weight:
        return Weight(shape, self.sources, recipe, make)


def joined(weights: Sequence[Weight]) -> Weight:
    """Concatenate weights along their first axis."""
    if len(weights) == 1:
        return weights[0]
    shape = (sum(weight.shape[0] for weight in weights), *weights[0].shape[1:])
    sources = tuple(dict.fromkeys(name for weight in weights for name in weight.sources))
    recipe = f"[{', '.join(weight.recipe for weight in weights)}]"
    return Weight(shape, sources, recipe, lambda: np.concatenate([weight.make() for weight in weights]))


def number(value: Array, recipe: str = "a constant of the graph") -> Weight:
    """Return a constant as a weight without source tensors. Raises :class:`ShapeProblem` if it has an open size."""
    if names := dict.fromkeys(map(str, open_sizes(np.asarray(value).ravel().tolist()))):
        raise ShapeProblem(f"{', '.join(names)} must be known here, as a number to compute with")
    array = np.asarray(value, np.float32)
    return Weight(array.shape, (), recipe, lambda: array)
