"""The matrix product of two computed values: what is done to each, and to the products of their elements."""

from __future__ import annotations

from lstmc.dsl.broadcasting import common_shape
from lstmc.ops import Op, Reshape, Sum

Shape = tuple[int, ...]
Ops = tuple[Op, ...]


def fit(x: Shape, y: Shape) -> bool:
    """Whether x @ y is a product: the last axis of x is as long as the last but one of y, and the others fit."""
    return bool(x and y) and x[-1] == y[max(len(y) - 2, 0)] and common_shape(x[:-2], y[:-2]) is not None


def product(x: Shape, y: Shape) -> tuple[Ops, Ops, Ops]:
    """The ops on x, on y, and on the element-wise product of both, that give x @ y, without its broadcast axes.

    A vector is a row on the left and a column on the right, and its axis of one element is gone in the result.
    """
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


def _shaped(shape: Shape, wanted: Shape) -> Ops:
    return () if shape == wanted else (Reshape(wanted),)
