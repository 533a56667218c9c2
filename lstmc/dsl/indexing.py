"""``x[...]`` as NumPy has it, for integers, slices without a step, ``None`` and ``...``: by Split and Reshape."""

from __future__ import annotations

import reprlib
from collections.abc import Callable

from lstmc.dsl.dims import DimExpr, whole_number
from lstmc.ops import Op, Reshape, Split
from lstmc.types import TensorType

Shape = tuple[int, ...]
Piece = tuple[Op, int]  # an op of one operand, and which of its results goes on
ALLOWED = "an index is an integer, a slice without a step, None or ..."


class IndexRefused(Exception):
    """An index that means nothing here; its text says why."""


def indexed(shape: Shape, index: object, size: Callable[[DimExpr], int]) -> list[Piece]:
    """The ops, one after the other, that take ``index`` of an array of ``shape``; ``size`` is a dimension's number.

    Raises :class:`IndexRefused`.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    given = sum(part is not None and part is not Ellipsis for part in parts)
    if given > len(shape):
        raise IndexRefused(f"x is {TensorType(shape)}, with {len(shape)} axes, found an index of {given}")
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexRefused("an index has one ... at most")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(shape) - given)
    pieces: list[Piece] = []
    axis, sizes, result = 0, list(shape), []
    for part in parts:
        if part is None:
            result.append(1)
            continue
        start, stop, kept = _range(part, axis, shape, size)
        if (start, stop) != (0, shape[axis]):
            cuts = [n for n in (start, stop - start, shape[axis] - stop) if n]
            pieces.append((Split(axis, tuple(cuts)), int(start > 0)))
            sizes[axis] = stop - start
        result += [stop - start] if kept else []
        axis += 1
    if result != sizes:
        pieces.append((Reshape(tuple(result)), 0))
    return pieces


def _range(part: object, axis: int, shape: Shape, size: Callable[[DimExpr], int]) -> tuple[int, int, bool]:
    """The elements [start, stop) that one part of an index takes, and whether their axis stays."""
    length = shape[axis]
    if not isinstance(part, slice):
        number = _number(part, size)
        if not -length <= number < length:
            raise IndexRefused(f"axis {axis} has {length} elements, found {number}: x is {TensorType(shape)}")
        return number % length, number % length + 1, False
    if part.step is not None and _number(part.step, size) != 1:
        raise IndexRefused(f"a slice has no step, found {part.step!r}: {ALLOWED}")
    start, stop, _ = slice(*(None if n is None else _number(n, size) for n in (part.start, part.stop))).indices(length)
    if start >= stop:
        raise IndexRefused(f"axis {axis} has {length} elements, and none of them from {start} to {stop}")
    return start, stop, True


def _number(part: object, size: Callable[[DimExpr], int]) -> int:
    if isinstance(part, DimExpr):
        return size(part)
    number = whole_number(part)
    if number is None:
        raise IndexRefused(f"found {type(part).__name__} {reprlib.repr(part)}: {ALLOWED}")
    return number
