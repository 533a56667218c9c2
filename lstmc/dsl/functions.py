"""The functions that a cell or model is written in. Each makes one op; shapes are checked as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from lstmc.dsl.dims import DimExpr, Size, whole_number
from lstmc.dsl.value import Value, apply, described, finite, is_scalar
from lstmc.errors import DimError, DslError, ShapeError
from lstmc.ops import Abs, Concat, Elu, Exp, Linear, Log, Power, Relu, Reshape, Sigmoid, Softmax, Split, Tanh
from lstmc.ops.linear import flatten_axis
from lstmc.source import argument_location, here


def linear(x: Value, W: Value, b: Value | None = None, *, axis: int | None = None) -> Value:
    """``x @ W.T + b``. W is [out, in] as Caffe stores it, b is [out].

    The trailing axes of x that together have ``in`` elements are flattened: x [T, N, D] with W [H, D] gives
    [T, N, H]; x [N, 128, 10, 10] with W [H, 12800] gives [N, H]. ``axis`` says where to start if sizes of 1
    leave a choice.
    """
    operands = (x, W) if b is None else (x, W, b)
    _check_values("linear", **dict(zip(("x", "W", "b"), operands, strict=False)))
    if axis is None:
        flattened = flatten_axis(x.type, W.shape[-1])
        return apply(Linear(x.type.rank - 1 if flattened is None else flattened), *operands)
    axis = _axis("linear", axis, x)
    if prod(x.shape[axis:]) != W.shape[-1]:
        raise ShapeError(
            f"linear: the axes of x from {axis} on have {prod(x.shape[axis:])} elements, expected {W.shape[-1]}:"
            f" x is {x.type}, W is {W.type}",
            loc=here(),
            notes=(f"x is {x.told()}", f"W is {W.told()}"),
        )
    return apply(Linear(axis), *operands)


def split(x: Value, parts: int | Sequence[Size], *, axis: int = -1) -> tuple[Value, ...]:
    """x cut along ``axis``: into so many equal parts, or into pieces of the given sizes."""
    _check_values("split", x=x)
    axis = _axis("split", axis, x)
    width, count = x.shape[axis], whole_number(parts)
    if count is None and not isinstance(parts, list | tuple):
        raise DslError(
            f"split takes a number of equal parts or a list of sizes, found {described(parts)}",
            loc=argument_location(here(), 1, "parts"),
        )
    if count is None:
        sizes = tuple(_size(x, size) for size in parts)  # type: ignore[union-attr]
    elif count < 1 or width % count:
        raise ShapeError(
            f"split: axis {axis} has {width} elements, which do not make {count} equal parts: x is {x.type}",
            loc=here(),
            notes=(f"x is {x.told()}",),
        )
    else:
        sizes = (width // count,) * count
    return tuple(Value(x.trace, ref) for ref in x.trace.apply(Split(axis, sizes), x))


def concat(*values: Value | Sequence[Value], axis: int = -1) -> Value:
    """Values joined along ``axis``: ``concat(a, b)`` or ``concat([a, b])``."""
    flat: list[Any] = [v for value in values for v in (value if isinstance(value, list | tuple) else [value])]
    if not flat:
        raise DslError("concat takes one Value or more, found none", loc=here())
    for position, value in enumerate(flat):
        direct = position < len(values) and values[position] is value  # else it stands in a list
        _check_value("concat", value, position if direct else None)
    return apply(Concat(_axis("concat", axis, flat[0])), *flat)


def reshape(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """The same elements as another shape: ``reshape(x, N, 4*H)`` or ``reshape(x, (N, -1))``; one size may be -1."""
    _check_values("reshape", x=x)
    flat: list[Any] = [s for size in shape for s in (size if isinstance(size, list | tuple) else [size])]
    sizes = [_size(x, size) for size in flat]
    known = prod(size for size in sizes if size != -1)
    if not sizes or sizes.count(-1) > 1 or known < 1 or (-1 in sizes and x.type.size % known):
        raise ShapeError(
            f"reshape: the {x.type.size} elements of x do not make {sizes}: x is {x.type}; sizes are positive, and"
            " one may be -1 for what remains",
            loc=here(),
            notes=(f"x is {x.told()}",),
        )
    return apply(Reshape(tuple(x.type.size // known if size == -1 else size for size in sizes)), x)


def softmax(x: Value, *, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along ``axis``."""
    _check_values("softmax", x=x)
    return apply(Softmax(_axis("softmax", axis, x)), x)


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return _pointwise(Sigmoid(), x)


def tanh(x: Value) -> Value:
    """The hyperbolic tangent."""
    return _pointwise(Tanh(), x)


def relu(x: Value) -> Value:
    """max(x, 0)."""
    return _pointwise(Relu(), x)


def elu(x: Value, alpha: float = 1.0) -> Value:
    """x where it is positive, else alpha (exp(x) - 1)."""
    return _pointwise(Elu(_number("elu", "alpha", alpha)), x)


def abs(x: Value) -> Value:
    """The absolute value."""
    return _pointwise(Abs(), x)


def exp(x: Value) -> Value:
    """e ** x."""
    return _pointwise(Exp(), x)


def log(x: Value) -> Value:
    """The natural logarithm."""
    return _pointwise(Log(), x)


def power(x: Value, exponent: float) -> Value:
    """x ** exponent, for a number."""
    return _pointwise(Power(_number("power", "exponent", exponent)), x)


def _pointwise(op: Any, x: Value) -> Value:
    _check_values(op.name, x=x)
    return apply(op, x)


def _check_values(function: str, **values: object) -> None:
    for position, (name, value) in enumerate(values.items()):
        _check_value(function, value, position, name)


def _check_value(function: str, value: object, position: int | None, name: str | None = None) -> None:
    if not isinstance(value, Value):
        loc = argument_location(here(), position, name)
        raise DslError(f"{function} takes Values, found {described(value)}", loc=loc)


def _axis(function: str, axis: int, x: Value) -> int:
    rank, number = x.type.rank, whole_number(axis)
    if number is None or not -rank <= number < rank:
        raise ShapeError(
            f"{function}: axis must be a whole number from {-rank} to {rank - 1}, found {axis!r}: x is {x.type}",
            loc=argument_location(here(), None, "axis"),
            notes=(f"x is {x.told()}",),
        )
    return number % rank


def _size(x: Value, size: Size) -> int:
    if isinstance(size, DimExpr):
        scope = x.trace.scope
        missing = scope.missing((size,))
        if missing:
            raise DimError(
                f"dimension {missing[0]} has no size in {x.trace.owner}: it has {', '.join(scope.names) or 'none'}",
                loc=here(),
            )
        try:
            return scope.size(size)
        except DimError as error:
            raise error.located(here()) from None
    number = whole_number(size)
    if number is None:
        raise DslError(f"a size must be a whole number or a dimension, found {described(size)}", loc=here())
    return number


def _number(function: str, name: str, value: float) -> float:
    if not is_scalar(value):
        raise DslError(
            f"{function}: {name} must be a number, found {described(value)}", loc=argument_location(here(), 1, name)
        )
    return finite(value)
