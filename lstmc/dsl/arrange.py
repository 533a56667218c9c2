"""Values repeated, joined along a new axis, turned, and filled with one number: as NumPy's functions of these names."""

from __future__ import annotations

from collections.abc import Sequence

from lstmc.dsl.dims import DimExpr, Size, whole_number
from lstmc.dsl.function import described, flat, function, wrong_shape
from lstmc.dsl.op import number_of, size_of, whole_number_of
from lstmc.dsl.operators import common_shape, repeated
from lstmc.dsl.trace import open_trace, origin, size_in
from lstmc.dsl.value import Value, apply, bounded, in_turn, inner_trace
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Concat, Full, Reshape, Tile, Transpose
from lstmc.source import argument_location, here

__all__ = ["expand", "full", "full_like", "ones_like", "stack", "tile", "transpose", "zeros_like"]


@function
def expand(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """x repeated to ``shape``, as it would be beside a value of that shape: [N, 1] to (N, H). A size of -1 is x's own.

    ``expand(x, N, H)`` or ``expand(x, (N, H))``.
    """
    sizes = [size_of(x, size) for size in flat(shape)]
    added = len(sizes) - x.type.rank
    target = tuple(x.shape[i - added] if size == -1 and i >= added else size for i, size in enumerate(sizes))
    if added < 0 or min(target, default=1) < 1 or common_shape(x.shape, target) != target:
        more = "; axes are counted from the last, and those of one element are repeated"
        raise wrong_shape(f"expand: x cannot be repeated to {sizes}", more, x=x)
    return in_turn(repeated(x.shape, target), x)


@function
def tile(x: Value, repeats: int | Sequence[int]) -> Value:
    """x joined with itself along each axis, so many times: ``tile(x, 3)`` along the last one, ``tile(x, (2, 1))``."""
    counts = [size_of(x, count) for count in flat((repeats,))]
    if not counts or min(counts) < 1:
        raise ShapeError(
            f"tile: repeats must be 1 or more for each axis, found {described(repeats)}",
            loc=argument_location(here(), 1, "repeats"),
        )
    if len(counts) > x.type.rank:
        x = apply(Reshape((1,) * (len(counts) - x.type.rank) + x.shape), x)
    first = x.type.rank - len(counts)
    return in_turn((Tile(first + i, count) for i, count in enumerate(counts) if count > 1), x)


@function
def stack(*values: Value | Sequence[Value], axis: int = 0) -> Value:
    """Values of one shape joined along a new axis: ``stack(a, b)`` or ``stack([a, b])`` of two [N, H] is [2, N, H]."""
    listed = flat(values)
    if not listed:
        raise DslError("stack takes one Value or more, found none", loc=here())
    first, *others = listed
    rank, at = first.type.rank, whole_number_of("stack", "axis", axis)
    if not -rank - 1 <= at <= rank:
        raise ShapeError(
            f"stack: axis must be an integer from {-rank - 1} to {rank}, found {at}: the first is {first.type}",
            loc=argument_location(here(), None, "axis"),
        )
    at %= rank + 1
    for number, value in enumerate(others, 2):
        if value.shape != first.shape:
            raise ShapeError(
                f"stack: all must have one shape: the first is {first.type}, number {number} is {value.type}",
                loc=here(),
                notes=(f"number {number} is {origin(value)}",),
            )
    return apply(Concat(at), *[apply(Reshape((*v.shape[:at], 1, *v.shape[at:])), v) for v in listed])


@function
def transpose(x: Value, *axes: int | Sequence[int]) -> Value:
    """x with its axes in another order: ``transpose(x, 0, 2, 1)`` or ``transpose(x, (0, 2, 1))``, as NumPy has it.

    Without ``axes`` the last two are in each other's place: [N, A, B] gives [N, B, A].
    """
    rank = x.type.rank
    if rank < 2:
        raise wrong_shape("transpose: x must have two axes or more", x=x)
    if not axes:
        return apply(Transpose(rank - 2), x)
    listed_axes = flat(axes)
    order = [axis % rank for axis in listed_axes if whole_number(axis) is not None and -rank <= axis < rank]
    if sorted(order) != list(range(rank)) or len(order) != len(listed_axes):
        listed = ", ".join(map(str, listed_axes))
        more = "; the last two turn by transpose(x)"
        raise wrong_shape(f"transpose: axes must name each of the {rank} axes of x once, found {listed}", more, x=x)
    if order == [0, 1]:  # NumPy's transpose keeps such a matrix, PyTorch's turns it
        raise ShapeError(
            "transpose: axes 0, 1 of a matrix are its own order: to turn it write transpose(x)", loc=here()
        )
    return in_turn(Transpose.to_order(order), x)


@function
def full(shape: Size | Sequence[Size], value: float) -> Value:
    """An array of one number: ``full((N, H), 0.5)``, in a cell or a model."""
    trace = open_trace("full", here())
    sizes = [size_in(trace, n, here()) if isinstance(n, DimExpr) else whole_number(n) for n in flat((shape,))]
    if any(n is None or n < 1 for n in sizes):
        raise ShapeError(
            f"full: a shape is made of dimensions and of integers of 1 or more, found {described(shape)}",
            loc=argument_location(here(), 0, "shape"),
        )
    op = Full(tuple(n for n in sizes if n is not None), number_of("full", "value", bounded(value)))
    return Value(trace, trace.apply(op)[0])


@function
def full_like(x: Value, value: float) -> Value:
    """An array of one number, in the shape of x. No gradient flows to x."""
    trace = inner_trace(x)
    return Value(trace, trace.apply(Full(x.shape, number_of("full_like", "value", bounded(value))))[0])


@function
def zeros_like(x: Value) -> Value:
    """Zeros in the shape of x. No gradient flows to x."""
    return full_like(x, 0)


@function
def ones_like(x: Value) -> Value:
    """Ones in the shape of x. No gradient flows to x."""
    return full_like(x, 1)
