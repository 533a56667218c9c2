"""Elements of values in generated C: where they are, numbers and identifiers, and an expression for each op on them.

A value is a view of an array: an offset, and a stride for each axis. NumPy does the arithmetic: a view is a NumPy view
of an array with one byte for each element, so an op that moves elements is a function of NumPy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate
from math import isfinite, isnan

import numpy as np
from numpy.typing import NDArray

from lstmc import ops
from lstmc.files.output import shortest
from lstmc.ir import Ref
from lstmc.loops.loop_code import header_functions
from lstmc.loops.memory import KEYWORDS
from lstmc.ops import Op
from lstmc.text import Names

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


SAME = (ops.StopGradient, ops.Dropout, ops.Precomputed)  # ops whose result is their operand
MOVES = (ops.Reshape, ops.Split, ops.Transpose, ops.Tile, ops.Unstack, ops.Stack, ops.Concat, *SAME)


def moved(op: Op, operands: Sequence[View]) -> tuple[View, ...] | None:
    """Return the results of an op that moves elements, as views of its operand; None where they must be computed."""
    if len(operands) != 1:
        return None
    (x,) = operands
    match op:
        case ops.Reshape():
            reshaped = x.reshaped(op.shape)
            return None if reshaped is None else (reshaped,)
        case ops.Split():
            return tuple(map(x.like, np.split(x.cells, list(accumulate(op.sizes))[:-1], axis=op.axis)))
        case ops.Transpose():
            return (x.like(np.swapaxes(x.cells, op.axis, op.axis + 1)),)
        case ops.Tile() if 1 in (x.shape[op.axis], op.tiles):
            return (x.broadcast((*x.shape[: op.axis], x.shape[op.axis] * op.tiles, *x.shape[op.axis + 1 :])),)
        case ops.Unstack():
            return tuple(x.like(x.cells[step, ...]) for step in range(len(x.cells)))  # views, of one axis too
        case ops.Stack():
            return (x.like(x.cells[None]),)
        case ops.Concat():
            return (x,)
    return (x,) if isinstance(op, SAME) else None


def copies(op: Op, operands: Sequence[View], result: View) -> list[tuple[View, View]] | None:
    """Return the copies that make the result of an op that moves elements: from, and to. None for another op."""
    match op:
        case ops.Reshape():
            to = result.reshaped(operands[0].shape)
            assert to is not None
            return [(operands[0], to)]
        case ops.Concat():
            ends = list(accumulate(x.shape[op.axis] for x in operands))
            parts = np.split(result.cells, ends[:-1], axis=op.axis)
            return list(zip(operands, map(result.like, parts), strict=True))
        case ops.Stack():
            return list(zip(operands, map(result.like, result.cells), strict=True))
        case ops.Tile():
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


def number(value: float) -> str:
    """Return a float32 constant of C, to the bit."""
    if not isfinite(value):
        return f"of_bits(0x{0x7FC00000 if isnan(value) else 0x7F800000 if value > 0 else 0xFF800000:x}u)"
    return f"{shortest(value)!r}f"


def operand(value: float) -> str:
    """Return a constant as an operand, in parentheses where it begins with a sign."""
    return f"({number(value)})" if value < 0 else number(value)


def _power(op: ops.Power, x: str) -> str:
    exponent = op.exponent
    if exponent == int(exponent) and 1 <= abs(exponent) <= 8:
        product = " * ".join([x] * int(abs(exponent)))
        return product if exponent > 0 else f"1.0f / ({product})"
    special = {0.0: "1.0f", 0.5: f"sqrt_({x})", -0.5: f"1.0f / sqrt_({x})"}
    if exponent in special:
        return special[exponent]
    if exponent != int(exponent):
        return f"pow_({x}, {number(exponent)})"
    sign = f"({x} < 0.0f ? -1.0f : 1.0f) * " if exponent % 2 else ""
    return f"{sign}pow_({x} < 0.0f ? -{x} : {x}, {number(exponent)})"


def _affine(op: ops.Affine, x: str) -> str:
    scaled = {1.0: x, -1.0: f"-{x}"}.get(op.scale, f"{number(op.scale)} * {x}")
    return f"{scaled} + {number(op.shift)}" if op.shift else scaled


HEADER = files("lstmc_c").joinpath("functions.h").read_text(encoding="utf-8")

# An element of a result from an element of each operand.
ELEMENTS: Mapping[type[Op], Callable[..., str]] = {
    **header_functions(HEADER),
    ops.Tanh: lambda op, x: f"tanh_({x})",
    ops.Relu: lambda op, x: f"{x} < 0.0f ? 0.0f : {x}",
    ops.LeakyRelu: lambda op, x: f"{x} > 0.0f ? {x} : {number(op.slope)} * {x}",
    ops.Positive: lambda op, x: f"{x} > 0.0f ? 1.0f : 0.0f",
    ops.Elu: lambda op, x: f"{x} > 0.0f ? {x} : {number(op.alpha)} * expm1_({x})",
    ops.Abs: lambda op, x: f"{x} < 0.0f ? -{x} : {x}",
    ops.Exp: lambda op, x: f"exp_({x})",
    ops.Log: lambda op, x: f"log_({x})",
    ops.Sin: lambda op, x: f"sine({x}, 0)",
    ops.Cos: lambda op, x: f"sine({x}, 1)",
    ops.Power: _power,
    ops.Round: lambda op, x: f"round_({x})",
    ops.Affine: _affine,
    ops.Add: lambda op, x, y: f"{x} + {y}",
    ops.Sub: lambda op, x, y: f"{x} - {y}",
    ops.Mul: lambda op, x, y: f"{x} * {y}",
    ops.Maximum: lambda op, x, y: f"{x} > {y} || {x} != {x} ? {x} : {y}",
}


def _spelled(name: str) -> str:
    base = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "value"
    return f"v{base}" if base[0].isdecimal() else base


def c_names(taken: Iterable[str] = ()) -> Names:
    """Return unique identifiers of C, and of C++, for names of any characters."""
    return Names({*KEYWORDS, "size_t", "int32_t", "uint32_t", *taken}, _spelled)


def identifier(name: str) -> str:
    """Return the prefix of a net's names in C."""
    return c_names().unique(name)
