"""The functions that a cell or model is written in. Each makes one op; shapes are checked as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lstmc.dsl.dims import DimExpr, Size
from lstmc.dsl.value import Value, apply, inner_trace, is_scalar
from lstmc.errors import DslError, ShapeError
from lstmc.ops import Abs, Concat, Elu, Exp, Linear, Log, Power, Relu, Reshape, Sigmoid, Softmax, Split, Tanh
from lstmc.ops.linear import flatten_axis
from lstmc.source import here


def linear(x: Value, W: Value, b: Value | None = None, *, axis: int | None = None) -> Value:
    """``x @ W.T + b``. W is [out, in] as Caffe stores it, b is [out].

    The trailing axes of x that together have ``in`` elements are flattened: x [T, N, D] with W [H, D] gives
    [T, N, H]; x [N, 128, 10, 10] with W [H, 12800] gives [N, H]. ``axis`` says where to start if sizes of 1
    leave a choice.
    """
    _check_values("linear", x, W, *(() if b is None else (b,)))
    axis = flatten_axis(x.type, W.shape[-1]) if axis is None else _axis("linear", axis, x)
    return apply(Linear(x.type.rank - 1 if axis is None else axis), x, W, *(() if b is None else (b,)))


def split(x: Value, parts: int | Sequence[Size], *, axis: int = -1) -> tuple[Value, ...]:
    """x cut along ``axis``: into so many equal parts, or into pieces of the given sizes."""
    _check_values("split", x)
    axis = _axis("split", axis, x)
    width = x.shape[axis]
    if isinstance(parts, int):
        if parts < 1 or width % parts:
            raise ShapeError(
                f"split: axis {axis} has {width} elements, which do not make {parts} equal parts: x is {x.type}",
                loc=here(),
                scope=x.trace.owner,
                notes=(x.trace.origin(x.ref, "x"),),
            )
        sizes: tuple[int, ...] = (width // parts,) * parts
    else:
        sizes = tuple(_size(x, size) for size in parts)
    return tuple(Value(x.trace, ref) for ref in x.trace.apply(Split(axis, sizes), x))


def concat(*values: Value | Sequence[Value], axis: int = -1) -> Value:
    """Values joined along ``axis``: ``concat(a, b)`` or ``concat([a, b])``."""
    flat: list[Any] = [v for value in values for v in (value if isinstance(value, list | tuple) else [value])]
    if not flat:
        raise DslError("concat takes one Value or more, found none", loc=here())
    _check_values("concat", *flat)
    return apply(Concat(_axis("concat", axis, flat[0])), *flat)


def reshape(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """The same elements as another shape: ``reshape(x, N, 4*H)`` or ``reshape(x, (N, -1))``; one size may be -1."""
    _check_values("reshape", x)
    flat: list[Any] = [s for size in shape for s in (size if isinstance(size, list | tuple) else [size])]
    sizes = [_size(x, size) for size in flat]
    if sizes.count(-1) == 1:
        rest = 1
        for size in sizes:
            rest *= size if size != -1 else 1
        if rest > 0 and x.type.size % rest == 0:
            sizes[sizes.index(-1)] = x.type.size // rest
    return apply(Reshape(tuple(sizes)), x)


def softmax(x: Value, *, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along ``axis``."""
    _check_values("softmax", x)
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
    _check_values(op.name, x)
    return apply(op, x)


def _check_values(function: str, *values: object) -> None:
    for value in values:
        if not isinstance(value, Value):
            raise DslError(f"{function} takes Values, found {type(value).__name__} {value!r}", loc=here())
    inner_trace(*values)  # type: ignore[arg-type]


def _axis(function: str, axis: int, x: Value) -> int:
    rank = x.type.rank
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise ShapeError(
            f"{function}: axis must be a whole number from {-rank} to {rank - 1}, found {axis!r}: x is {x.type}",
            loc=here(),
            scope=x.trace.owner,
        )
    return axis % rank


def _size(x: Value, size: Size) -> int:
    if isinstance(size, DimExpr):
        (number,) = x.trace.scope.sizes((size,), "the shape", here(), "expected one of this function's dimensions")
        return number
    if isinstance(size, bool) or not isinstance(size, int):
        raise DslError(f"a size must be a whole number or a dimension, found {size!r}", loc=here(), scope=x.trace.owner)
    return size


def _number(function: str, name: str, value: float) -> float:
    if not is_scalar(value):
        raise DslError(f"{function}: {name} must be a number, found {value!r}", loc=here())
    return float(value)
