"""NumPy's broadcasting: where an operand does not cover a run of the other's axes, Tile makes it larger."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from lstmc.ops import Op, Reshape, Tile
from lstmc.ops.binary import covered_axes

Shape = tuple[int, ...]


def common_shape(x: Shape, y: Shape) -> Shape | None:
    """The shape that x and y are both repeated to, axes counted from the last; None if they do not fit."""
    rank = max(len(x), len(y))
    pairs = list(zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def repeated(x: Shape, shape: Shape) -> tuple[Op, ...]:
    """The ops, one after the other, that make x one of ``shape``, to which it can be broadcast."""
    padded = (1,) * (len(shape) - len(x)) + x
    ops: list[Op] = [] if padded == x else [Reshape(padded)]
    return (*ops, *(Tile(axis, n) for axis, (size, n) in enumerate(zip(padded, shape, strict=True)) if size != n))


def operands_repeated(
    x: Shape, y: Shape, is_fixed: Callable[[int], bool] = lambda operand: False
) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """The ops on x and on y after which an element-wise op takes both: as few elements are made as will do.

    Of a value and one that is made of parameters alone (``is_fixed``, of 0 for x and 1 for y), the value: a layer has a
    parameter once. It is asked where it matters alone: to answer it takes a walk to the leaves.

    None at all where one covers a run of the other's axes as it is, or where they do not fit: the op says so itself.
    """
    shape = common_shape(x, y)
    if shape is None or covered_axes(x, y) is not None or covered_axes(y, x) is not None:
        return (), ()
    only_x = covered_axes(y, shape) is not None
    only_y = covered_axes(x, shape) is not None
    if only_x and only_y and is_fixed(0) != is_fixed(1):
        return (repeated(x, shape), ()) if is_fixed(1) else ((), repeated(y, shape))
    if only_x and (not only_y or prod(x) >= prod(y)):
        return repeated(x, shape), ()
    return (() if only_y else repeated(x, shape)), repeated(y, shape)
