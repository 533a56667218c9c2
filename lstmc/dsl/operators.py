"""Operators of values: indexing by Split and Reshape, broadcasting by Tile, products of matrices. Names elsewhere."""

from __future__ import annotations

import reprlib
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Literal

from lstmc.dsl.dims import DimExpr, whole_number
from lstmc.ops import Op, Reshape, Split, Sum, Tile
from lstmc.ops.pointwise import covered_axes
from lstmc.types import TensorType

Shape = tuple[int, ...]
Piece = tuple[Op, int]  # an op of one operand, and the number of the result that the next op reads
ALLOWED = "an index is an integer, a slice, None or ..."


class IndexRefused(Exception):
    """An unsupported index; the text is the reason."""


def indexed(shape: Shape, index: object, size: Callable[[DimExpr], int]) -> list[Piece]:
    """Return the ops, first to last, that index an array of ``shape``; ``size`` gives a dimension's number.
    A slice with a step cuts out whole groups of ``step`` elements, and takes one element of each."""
    parts = list(index) if isinstance(index, tuple) else [index]
    count = sum(part is not None and part is not Ellipsis for part in parts)
    if count > len(shape):
        raise IndexRefused(f"x is {TensorType(shape)}, with {len(shape)} axes, found an index of {count}")
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexRefused("an index has one ... at most")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(shape) - count)
    pieces: list[Piece] = []
    axis, sizes, result = 0, list(shape), []
    for part in parts:
        if part is None:
            result.append(1)
            continue
        start, stop, every = _range(part, axis, shape, size)
        first = start
        if every:  # extend the slice to whole groups of ``every`` elements; one element of each group is taken
            start, stop = _groups(start, stop, every, axis, shape)
        if (start, stop) != (0, shape[axis]):
            cuts = [n for n in (start, stop - start, shape[axis] - stop) if n]
            pieces.append((Split(axis, tuple(cuts)), int(start > 0)))
            sizes[axis] = stop - start
        if every > 1:
            sizes[axis] //= every
            grouped = (*sizes[: axis + 1], every, *sizes[axis + 1 :])
            before = first - start
            cuts = [n for n in (before, 1, every - before - 1) if n]
            one_of_each = (Split(axis + 1, tuple(cuts)), int(before > 0))
            pieces += [(Reshape(grouped), 0), one_of_each, (Reshape(tuple(sizes)), 0)]
        result += [sizes[axis]] if every else []
        axis += 1
    if result != sizes:
        pieces.append((Reshape(tuple(result)), 0))
    return pieces


def _groups(start: int, stop: int, every: int, axis: int, shape: Shape) -> tuple[int, int]:
    """Return the bounds [start, stop) of the whole groups of ``every`` elements that contain a slice with a step."""
    elements = (stop - start + every - 1) // every * every
    for first in range(start, max(start - every, -1), -1):
        if first + elements <= shape[axis]:
            return first, first + elements
    raise IndexRefused(
        f"axis {axis} has {shape[axis]} elements, of which a step of {every} leaves the last group incomplete:"
        f" concat zeros to it, and slice the result: x is {TensorType(shape)}"
    )


def _range(part: object, axis: int, shape: Shape, size: Callable[[DimExpr], int]) -> tuple[int, int, int]:
    """Return start, stop and step of the elements that ``part`` takes. Step 0 drops the axis, as an integer does."""
    length = shape[axis]
    if not isinstance(part, slice):
        number = _number(part, size)
        if not -length <= number < length:
            raise IndexRefused(f"axis {axis} has {length} elements, found {number}: x is {TensorType(shape)}")
        return number % length, number % length + 1, 0
    every = 1 if part.step is None else _number(part.step, size)
    if every < 1:
        raise IndexRefused(f"a slice goes forwards, found a step of {every}: {ALLOWED}")
    start, stop, _ = slice(*(None if n is None else _number(n, size) for n in (part.start, part.stop))).indices(length)
    if start >= stop:
        raise IndexRefused(f"axis {axis} has {length} elements, and none of them from {start} to {stop}")
    return (start, stop, every) if stop - start > every else (start, stop if every == 1 else start + 1, 1)


def _number(part: object, size: Callable[[DimExpr], int]) -> int:
    if isinstance(part, DimExpr):
        return size(part)
    number = whole_number(part)
    if number is None:
        raise IndexRefused(f"found {type(part).__name__} {reprlib.repr(part)}: {ALLOWED}")
    return number


def common_shape(x: Shape, y: Shape) -> Shape | None:
    """Return the shape that x and y are broadcast to; None if their shapes do not fit."""
    rank = max(len(x), len(y))
    pairs = list(zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    return tuple(max(pair) for pair in pairs)


def repeated(x: Shape, shape: Shape) -> tuple[Op, ...]:
    """Return the ops, first to last, that broadcast an array of shape x to ``shape``."""
    padded = (1,) * (len(shape) - len(x)) + x
    ops: list[Op] = [] if padded == x else [Reshape(padded)]
    return (*ops, *(Tile(axis, n) for axis, (size, n) in enumerate(zip(padded, shape, strict=True)) if size != n))


def operands_repeated(x: Shape, y: Shape, is_fixed: Callable[[int], bool]) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Return the ops on x and on y that broadcast them for an elementwise op, with as few new elements as possible.
    No op is needed if one operand covers consecutive axes of the other, and none is returned if the shapes do not fit.
    ``is_fixed`` tells whether the operand 0 or 1 is made of parameters alone; it walks the graph, and is called only if
    the answer matters. If just one is, the other one is broadcast, so that a layer can hold the parameter as it is."""
    shape = common_shape(x, y)
    if shape is None or covered_axes(x, y) is not None or covered_axes(y, x) is not None:
        return (), ()
    only_x = covered_axes(y, shape) is not None  # it is enough to broadcast x
    only_y = covered_axes(x, shape) is not None  # it is enough to broadcast y
    if only_x and only_y and is_fixed(0) != is_fixed(1):
        return (repeated(x, shape), ()) if is_fixed(1) else ((), repeated(y, shape))
    if only_x and (not only_y or prod(x) >= prod(y)):
        return repeated(x, shape), ()
    return (() if only_y else repeated(x, shape)), repeated(y, shape)


Ops = tuple[Op, ...]


def fit(x: Shape, y: Shape) -> bool:
    """Return whether x @ y is valid: the axes that are summed are equally long, and those before broadcast."""
    return bool(x and y) and x[-1] == y[max(len(y) - 2, 0)] and common_shape(x[:-2], y[:-2]) is not None


def product(x: Shape, y: Shape) -> tuple[Ops, Ops, Ops]:
    """Return the ops on x, on y, and on their element-wise product that compute x @ y.
    A vector is a row on the left and a column on the right; the result lacks the axis of its one element."""
    *before, rows, inner = x if len(x) > 1 else (1, *x)
    *behind, _, columns = y if len(y) > 1 else (*y, 1)
    lead = common_shape(tuple(before), tuple(behind))
    assert lead is not None
    if columns == 1:
        shapes, summed = ((*before, rows, inner), (*behind, 1, inner)), len(lead) + 1
    elif rows == 1:
        shapes, summed = ((*before, inner, 1), (*behind, inner, columns)), len(lead)
    else:
        shapes, summed = ((*before, rows, inner, 1), (*behind, 1, inner, columns)), len(lead) + 1
    result = (*lead, *((rows,) if len(x) > 1 else ()), *((columns,) if len(y) > 1 else ()))
    left = (*lead, *((rows,) if columns == 1 else (columns,) if rows == 1 else (rows, columns)))
    return _shaped(x, shapes[0]), _shaped(y, shapes[1]), (Sum(summed), *_shaped(left, result))


def _shaped(shape: Shape, target: Shape) -> Ops:
    return () if shape == target else (Reshape(target),)


@cache
def names_elsewhere(kind: Literal["functions", "methods", "arguments"]) -> Mapping[str, str]:
    """Return a table of ``elsewhere.toml``: functions of the language, and their names in other libraries."""
    table: Mapping[str, str] = tomllib.loads(Path(__file__).with_name("elsewhere.toml").read_text("utf-8"))[kind]
    return table


@cache
def instead(methods: bool = False) -> Mapping[str, str]:
    """Return the language's equivalents of functions (and ``methods``) of other libraries by name."""
    tables = [names_elsewhere("functions"), *([names_elsewhere("methods")] if methods else [])]
    return {name: remedy for table in tables for remedy, names in table.items() for name in names.split()}
