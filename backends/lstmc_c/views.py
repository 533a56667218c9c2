"""Values as views of arrays in C: where each element of a value is, by an offset and a stride for each axis.

NumPy does the arithmetic: a view is a NumPy view of an array with one byte for each element, so an op that moves
elements is a function of NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lstmc.ir import Ref
from lstmc.ops import Concat, Dropout, Op, Precomputed, Reshape, Split, Stack, StopGradient, Tile, Transpose, Unstack

Cells = NDArray[np.int8]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class View:
    """Elements of the array of ``base``: the byte ``cells[i, j]`` stands for element [i, j] of the value."""

    base: Ref
    cells: Cells
    whole: Cells  # the bytes of the base, in row-major order

    @classmethod
    def of(cls, base: Ref, shape: Shape) -> View:
        """Return the view of a whole array."""
        cells = np.empty(shape, np.int8)
        return cls(base, cells, cells)

    def like(self, cells: Cells) -> View:
        """Return another view of the same base."""
        assert np.may_share_memory(cells, self.whole), "a copy is no view"
        return View(self.base, cells, self.whole)

    @property
    def shape(self) -> Shape:
        return self.cells.shape

    @property
    def offset(self) -> int:
        """The number of elements of the base before the first one of the view."""
        first, start = (array.__array_interface__["data"][0] for array in (self.cells, self.whole))
        return int(first - start)

    def dense(self, axes: int) -> bool:
        """Return whether elements along the last ``axes`` lie one after the other, in row-major order."""
        return bool(self.cells[(0,) * (self.cells.ndim - axes)].flags.c_contiguous)

    @property
    def is_whole(self) -> bool:
        """Whether it is the base itself, in its own order, of whatever shape."""
        return self.cells.size == self.whole.size and self.dense(self.cells.ndim)

    def reshaped(self, shape: Shape) -> View | None:
        """Return the same elements in another shape; None where no strides express it."""
        cells = self.cells.reshape(shape)
        return self.like(cells) if np.may_share_memory(cells, self.cells) else None

    def broadcast(self, shape: Shape) -> View:
        """Return the view with its elements repeated as NumPy's broadcasting does."""
        return self.like(np.broadcast_to(self.cells, shape))


SAME = (StopGradient, Dropout, Precomputed)  # ops whose result is their operand
MOVES = (Reshape, Split, Transpose, Tile, Unstack, Stack, Concat, *SAME)


def moved(op: Op, operands: Sequence[View]) -> tuple[View, ...] | None:
    """Return the results of an op that moves elements, as views of its operand; None where they must be computed."""
    if len(operands) != 1:
        return None
    (x,) = operands
    match op:
        case Reshape():
            reshaped = x.reshaped(op.shape)
            return None if reshaped is None else (reshaped,)
        case Split():
            return tuple(map(x.like, np.split(x.cells, list(accumulate(op.sizes))[:-1], axis=op.axis)))
        case Transpose():
            return (x.like(np.swapaxes(x.cells, op.axis, op.axis + 1)),)
        case Tile() if 1 in (x.shape[op.axis], op.tiles):
            return (x.broadcast((*x.shape[: op.axis], x.shape[op.axis] * op.tiles, *x.shape[op.axis + 1 :])),)
        case Unstack():
            return tuple(map(x.like, x.cells))
        case Stack():
            return (x.like(x.cells[None]),)
        case Concat():
            return (x,)
    return (x,) if isinstance(op, SAME) else None


def copies(op: Op, operands: Sequence[View], result: View) -> list[tuple[View, View]] | None:
    """Return the copies that make the result of an op that moves elements: from, and to. None for another op."""
    match op:
        case Reshape():
            to = result.reshaped(operands[0].shape)
            assert to is not None
            return [(operands[0], to)]
        case Concat():
            ends = list(accumulate(x.shape[op.axis] for x in operands))
            parts = np.split(result.cells, ends[:-1], axis=op.axis)
            return list(zip(operands, map(result.like, parts), strict=True))
        case Stack():
            return list(zip(operands, map(result.like, result.cells), strict=True))
        case Tile():
            (x,) = operands
            to = result.reshaped((*x.shape[: op.axis], op.tiles, *x.shape[op.axis :]))
            assert to is not None
            return [(x.like(np.expand_dims(x.cells, op.axis)).broadcast(to.shape), to)]
    return None


def nest(shape: Shape, views: Sequence[View]) -> tuple[Shape, list[tuple[int, ...]]]:
    """Return the sizes of nested loops over ``shape``, and the strides of each view in them.

    Axes of one element have no loop, and neighbouring axes are one loop where all views allow it.
    """
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in views]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps = [view.cells.strides[axis] for view in views]
        if sizes and all(outer[-1] == step * size for outer, step in zip(strides, steps, strict=True)):
            sizes[-1] *= size
            for outer, step in zip(strides, steps, strict=True):
                outer[-1] = step
        else:
            sizes.append(size)
            for outer, step in zip(strides, steps, strict=True):
                outer.append(step)
    return tuple(sizes), [tuple(outer) for outer in strides]
