"""What each op is in C++: of one element, or as another order of the elements of its operand."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Elu,
    Exp,
    LeakyRelu,
    Log,
    Maximum,
    Mul,
    Op,
    Positive,
    Power,
    Relu,
    Reshape,
    Round,
    Sigmoid,
    Softplus,
    Split,
    StopGradient,
    Sub,
    Tanh,
    Tile,
    Transpose,
)

Shape = tuple[int, ...]


def number(value: float) -> str:
    """A float as C++ writes it, to the bit."""
    return f"{value!r}f" if "e" in repr(value) or "." in repr(value) else f"{value!r}.0f"


def _power(op: Any, x: str) -> str:
    exponent = op.exponent
    if exponent == 0.5:
        return f"std::sqrt({x})"
    if exponent == int(exponent) and 1 <= abs(exponent) <= 4:
        product = " * ".join([x] * int(abs(exponent)))
        return product if exponent > 0 else f"1.0f / ({product})"
    return f"std::pow({x}, {number(exponent)})"


# of an op and its operands' elements
ELEMENT: dict[type[Op], Callable[..., str]] = {
    Sigmoid: lambda op, x: f"sigmoid({x})",
    Tanh: lambda op, x: f"tanh_({x})",
    Relu: lambda op, x: f"({x} > 0.0f ? {x} : {x} != {x} ? {x} : 0.0f)",
    LeakyRelu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.slope)} * {x})",
    Positive: lambda op, x: f"({x} > 0.0f ? 1.0f : 0.0f)",
    Softplus: lambda op, x: f"softplus({x})",
    Elu: lambda op, x: f"({x} > 0.0f ? {x} : {number(op.alpha)} * std::expm1({x}))",
    Abs: lambda op, x: f"std::fabs({x})",
    Exp: lambda op, x: f"exp_({x})",
    Log: lambda op, x: f"std::log({x})",
    Power: _power,
    Round: lambda op, x: f"std::nearbyint({x})",
    Affine: lambda op, x: f"{number(op.scale)} * {x} + {number(op.shift)}" if op.shift else f"{number(op.scale)} * {x}",
    StopGradient: lambda op, x: x,
    Add: lambda op, x, y: f"{x} + {y}",
    Sub: lambda op, x, y: f"{x} - {y}",
    Mul: lambda op, x, y: f"{x} * {y}",
    Maximum: lambda op, x, y: f"({x} > {y} || {x} != {x} ? {x} : {y})",
}
CHEAP = (Add, Sub, Mul, Affine, Positive, StopGradient)  # computed again rather than kept
MOVES = (Reshape, Split, Tile, Transpose)


def moved(op: Op, out: int, shape: Shape, index: str) -> str:
    """Where in the operand, of ``shape``, the element ``index`` of a result is, both in row-major order."""
    match op:
        case Reshape():
            return index
        case Split(axis, sizes):
            before, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
            start, size = sum(sizes[:out]) * inner, sizes[out] * inner
            if before == 1:
                return added(index, start)
            return f"({index}) / {size} * {shape[axis] * inner} + {start} + ({index}) % {size}"
        case Tile(axis, tiles):
            inner = prod(shape[axis:])
            if inner == 1 and prod(shape) == 1:
                return "0"
            if prod(shape[:axis]) == 1:
                return f"({index}) % {inner}"
            return f"({index}) / {inner * tiles} * {inner} + ({index}) % {inner}"
        case Transpose(axis):
            inner, (rows, columns) = prod(shape[axis + 2 :]), shape[axis : axis + 2]
            if 1 in (rows, columns):
                return index
            whole = rows * columns * inner
            return (
                f"({index}) / {whole} * {whole} + ({index}) / {inner} % {rows} * {columns * inner}"
                f" + ({index}) / {rows * inner} % {columns} * {inner} + ({index}) % {inner}"
            )
    raise AssertionError(op)


def added(index: str, offset: int) -> str:
    """``j + 12``: an index moved on."""
    if not offset:
        return index
    name, plus, before = index.rpartition(" + ")
    if plus and before.isdecimal() and " " not in name:
        return f"{name} + {int(before) + offset}"
    if index.isdecimal():
        return str(int(index) + offset)
    return f"{index} + {offset}"


def covering(small: Shape, large: Shape, axes: tuple[int, int], index: str) -> str:
    """Where in the operand of ``small`` shape the element is that goes with element ``index`` of ``large``."""
    start, stop = axes
    size, inner = prod(large[start:stop]), prod(large[stop:])
    if size == 1:
        return "0"
    at = index if inner == 1 else f"({index}) / {inner}"
    return at if prod(large[:start]) == 1 else f"({at}) % {size}"
