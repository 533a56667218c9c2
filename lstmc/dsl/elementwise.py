"""Products, pieces and shapes. Each function makes one op; shapes are checked as it is made."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from math import prod
from typing import Any, SupportsAbs, TypeVar, overload

from lstmc.dsl.arguments import axis_of, check_value, check_values, size_of
from lstmc.dsl.dims import Size, whole_number
from lstmc.dsl.function import function
from lstmc.dsl.trace import origin
from lstmc.dsl.value import Value, apply, described
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Concat, Linear, Reshape, Softmax, Split
from lstmc.ops.linear import flatten_axis
from lstmc.source import argument_location, here

__all__ = ["abs", "concat", "linear", "reshape", "softmax", "split"]

T = TypeVar("T")


@function
def linear(x: Value, W: Value, b: Value | None = None, *, axis: int | None = None) -> Value:
    """``x @ W.T + b``. W is [out, in] as Caffe stores it, b is [out].

    The trailing axes of x that together have ``in`` elements are flattened: x [T, N, D] with W [H, D] gives
    [T, N, H]; x [N, 128, 10, 10] with W [H, 12800] gives [N, H]. ``axis`` says where to start if sizes of 1
    leave a choice.
    """
    operands = (x, W) if b is None else (x, W, b)
    check_values("linear", **dict(zip(("x", "W", "b"), operands, strict=False)))
    width = W.shape[-1] if W.shape else 1  # of a W without axes, which the op refuses
    if axis is None:
        flattened = flatten_axis(x.type, width)
        return apply(Linear(x.type.rank - 1 if flattened is None else flattened), *operands)
    axis = axis_of("linear", axis, x)
    if prod(x.shape[axis:]) != width:
        raise ShapeError(
            f"linear: the axes of x from {axis} on have {prod(x.shape[axis:])} elements, expected {width}:"
            f" x is {x.type}, W is {W.type}",
            loc=here(),
            notes=(f"x is {origin(x)}", f"W is {origin(W)}"),
        )
    return apply(Linear(axis), *operands)


@function
def split(x: Value, parts: int | Sequence[Size], *, axis: int = -1) -> tuple[Value, ...]:
    """x cut along ``axis``: into so many equal parts, or into pieces of the given sizes."""
    check_values("split", x=x)
    axis = axis_of("split", axis, x)
    width, count = x.shape[axis], whole_number(parts)
    if count is None and not isinstance(parts, list | tuple):
        raise DslError(
            f"split takes a number of equal parts or a list of sizes, found {described(parts)}",
            loc=argument_location(here(), 1, "parts"),
        )
    if count is None:
        sizes = tuple(size_of(x, size) for size in parts)  # type: ignore[union-attr]
    elif count < 1 or width % count:
        raise ShapeError(
            f"split: axis {axis} has {width} elements, which do not make {count} equal parts: x is {x.type}",
            loc=here(),
            notes=(f"x is {origin(x)}",),
        )
    else:
        sizes = (width // count,) * count
    return tuple(Value(x.trace, ref) for ref in x.trace.apply(Split(axis, sizes), x))


@function
def concat(*values: Value | Sequence[Value], axis: int = -1) -> Value:
    """Values joined along ``axis``: ``concat(a, b)`` or ``concat([a, b])``."""
    flat: list[Any] = [v for value in values for v in (value if isinstance(value, list | tuple) else [value])]
    if not flat:
        raise DslError("concat takes one Value or more, found none", loc=here())
    for position, value in enumerate(flat):
        direct = position < len(values) and values[position] is value  # else it stands in a list
        check_value("concat", value, position if direct else None)
    return apply(Concat(axis_of("concat", axis, flat[0])), *flat)


@function
def reshape(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """The same elements as another shape: ``reshape(x, N, 4*H)`` or ``reshape(x, (N, -1))``; one size may be -1.

    ``reshape(x, ())`` is a single element as a number without axes.
    """
    check_values("reshape", x=x)
    flat: list[Any] = [s for size in shape for s in (size if isinstance(size, list | tuple) else [size])]
    sizes = [size_of(x, size) for size in flat]
    known = prod(size for size in sizes if size != -1)
    if not shape or sizes.count(-1) > 1 or known < 1 or (-1 in sizes and x.type.size % known):
        raise ShapeError(
            f"reshape: the {x.type.size} elements of x do not make {sizes}: x is {x.type}; sizes are positive, and"
            " one may be -1 for what remains",
            loc=here(),
            notes=(f"x is {origin(x)}",),
        )
    return apply(Reshape(tuple(x.type.size // known if size == -1 else size for size in sizes)), x)


@function
def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along ``axis``."""
    check_values("softmax", x=x)
    return apply(Softmax(axis_of("softmax", axis, x, position=1)), x)


@overload
def abs(x: Value) -> Value: ...
@overload
def abs(x: SupportsAbs[T]) -> T: ...
@function
def abs(x: Any) -> Any:
    """The absolute value, of a Value or, as Python's own, of numbers and arrays."""
    if not isinstance(x, SupportsAbs):
        check_values("abs", x=x)
    return builtins.abs(x)
