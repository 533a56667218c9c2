"""Elementwise functions of the language; selection; pieces and shapes, as by NumPy's functions of these names."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from math import prod
from typing import Any, SupportsAbs, TypeVar, overload

import numpy as np

from lstmc import ops
from lstmc.dsl.dims import DimExpr, Size, is_scalar, whole_number
from lstmc.dsl.function import check_value, described, flat, function, wrong_argument, wrong_shape
from lstmc.dsl.op import axis_of, number_of, pointwise, size_of, whole_number_of
from lstmc.dsl.operators import common_shape, repeated
from lstmc.dsl.trace import open_trace, origin, size_in
from lstmc.dsl.value import Value, apply, bounded, finite, in_turn, inner_trace
from lstmc.errors import DslError, ShapeError
from lstmc.ops.layers import flatten_axis
from lstmc.source import argument_location, here

sigmoid = pointwise(ops.Sigmoid)
tanh = pointwise(ops.Tanh)
relu = pointwise(ops.Relu)
leaky_relu = pointwise(ops.LeakyRelu)
stop_gradient = pointwise(ops.StopGradient)
softplus = pointwise(ops.Softplus)
elu = pointwise(ops.Elu)
exp = pointwise(ops.Exp)
log = pointwise(ops.Log)
sin = pointwise(ops.Sin)
cos = pointwise(ops.Cos)
power = pointwise(ops.Power)


@function
def maximum(a: Value | float, b: Value | float) -> Value:
    """The larger of two Values, or of a Value and a number, element by element, broadcast as for ``+``.
    At equal elements the gradient flows to b; if one operand is a number, the gradient is 0 there."""
    x, y = value_first("maximum", a, b)
    if isinstance(y, Value):
        return apply(ops.Maximum(), x, y)
    low = finite(y)
    return relu(x - low) + low


@function
def minimum(a: Value | float, b: Value | float) -> Value:
    """The smaller of two Values, or of a Value and a number, element by element: -maximum(-a, -b)."""
    x, y = value_first("minimum", a, b)
    if isinstance(y, Value):
        return -apply(ops.Maximum(), -x, -y)
    high = finite(y)
    return high - relu(high - x)


@function
def clip(x: Value, low: float, high: float) -> Value:
    """x limited to the range from ``low`` to ``high``. The gradient is 0 where x is outside of the range."""
    low, high = number_of("clip", "low", low), number_of("clip", "high", high, position=2)
    if low > high:
        raise DslError(f"clip: expected low <= high, found low {low!r} and high {high!r}", loc=here())
    return high - relu((high - low) - relu(x - low))


@function
def where(mask: Value, a: Value | float, b: Value | float) -> Value:
    """``a`` where ``mask`` is 1, ``b`` where it is 0: mask * a + (1 - mask) * b, broadcast as for ``*``.
    A mask between 0 and 1 interpolates. ``a`` and ``b`` may be numbers; minus infinity is -1e30, whose exp is 0."""
    a, b = bounded(a), bounded(b)
    if is_scalar(a) and is_scalar(b):
        difference = np.float32(finite(a)) - np.float32(finite(b))
        if difference + np.float32(b) == np.float32(a):  # otherwise rounding changes a, as for b = -1e30
            return mask * (a - b) + b
    return mask * a + (1 - mask) * b


def value_first(function: str, a: Any, b: Any) -> tuple[Value, Value | float]:
    """Return the two operands, a Value before a number. Raise :class:`DslError` unless one is a Value."""
    for position, (name, value) in enumerate((("a", a), ("b", b))):
        if not is_scalar(value):
            check_value(function, value, position, name)
    if is_scalar(a) and is_scalar(b):
        raise DslError(f"{function} takes a Value and another one or a number, found two numbers", loc=here())
    return (b, a) if is_scalar(a) else (a, b)


# sqrt(8 / pi), and 0.044715 of it: 0.5 (1 + tanh(u)) is sigmoid(2 u)
GELU_LINEAR = 1.5957691216057308
GELU_CUBIC = 0.044715 * GELU_LINEAR


@function
def hard_sigmoid(x: Value, slope: float = 0.2, offset: float = 0.5) -> Value:
    """slope * x + offset between 0 and 1. Courbariaux et al. 2015, arXiv:1511.00363.
    The defaults are those of Keras 1 and 2 and of ONNX; PyTorch and Keras 3 have ``slope`` 1/6."""
    scale = number_of("hard_sigmoid", "slope", slope)
    return clip(scale * x + number_of("hard_sigmoid", "offset", offset, position=2), 0, 1)


@function
def hard_tanh(x: Value) -> Value:
    """x between -1 and 1. Collobert 2004."""
    return clip(x, -1, 1)


@function
def log_sigmoid(x: Value) -> Value:
    """ln(sigmoid(x)), which cannot overflow: -softplus(-x)."""
    return -softplus(-x)


@function
def softsign(x: Value) -> Value:
    """x / (1 + |x|). Turian et al. 2009."""
    return x / (1 + builtins.abs(x))


@function
def sqrt(x: Value) -> Value:
    """The square root, for x > 0: at 0 it has no gradient."""
    return power(x, 0.5)


@function
def rsqrt(x: Value) -> Value:
    """1 / sqrt(x), for x > 0."""
    return power(x, -0.5)


@function
def square(x: Value) -> Value:
    """x * x."""
    return power(x, 2)


@function
def step(x: Value) -> Value:
    """1 where x > 0, else 0, without a gradient: tanh(2**96 * relu(x)), which is 1 from x = 2**-91 on.

    Caffe's layer Threshold is not used, because Caffe aborts if a net with this layer is trained. A net that is not
    trained omits ``stop_gradient``; with a factor above 2**96 the backward pass would overflow there.
    """
    return tanh(2.0**96 * relu(stop_gradient(x)))


@function
def silu(x: Value) -> Value:
    """x * sigmoid(x), called swish too. Elfwing et al. 2017, arXiv:1702.03118."""
    return x * sigmoid(x)


# 1 - erf(|x|), by a polynomial of t = 1 / (1 + 0.3275911 |x|) times exp(-x**2), within 1.5e-7: Abramowitz and Stegun,
# Handbook of Mathematical Functions, 1964, formula 7.1.26.
ERFC = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _erfc_of_magnitude(x: Value) -> Value:
    t = power(1 + 0.3275911 * builtins.abs(x), -1)
    total = ERFC[0] * t
    for coefficient in ERFC[1:]:
        total = (total + coefficient) * t
    return total * exp(-x * x)


@function
def erf(x: Value) -> Value:
    """The error function, within 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26. Caffe has no layer of it."""
    return (2 * step(x) - 1) * (1 - _erfc_of_magnitude(x))


@function
def gelu(x: Value, *, approximate: bool = True) -> Value:
    """x times the normal distribution function of x. Hendrycks and Gimpel 2016, arXiv:1606.08415.
    The default is the approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))), PyTorch's
    ``approximate="tanh"``, within 0.0005. ``approximate=False`` uses the error function, within 1e-6."""
    if not isinstance(approximate, bool):
        raise wrong_argument("gelu", "approximate", "True or False", approximate)
    if not approximate:
        return relu(x) - 0.5 * builtins.abs(x) * _erfc_of_magnitude(0.5**0.5 * x)
    return x * sigmoid(x * (GELU_LINEAR + GELU_CUBIC * square(x)))


T = TypeVar("T")


@function
def linear(x: Value, W: Value, b: Value | None = None, *, axis: int | None = None) -> Value:
    """``x @ W.T + b``. W is [out, in] as Caffe stores it, b is [out].

    The last axes of x that together have ``in`` elements are flattened: x [T, N, D] with W [H, D] gives [T, N, H]; x
    [N, 128, 10, 10] with W [H, 12800] gives [N, H]. If axes of size 1 leave a choice, give ``axis``, the first
    flattened axis.
    """
    operands = (x, W) if b is None else (x, W, b)
    width = W.shape[-1] if W.shape else 1  # a W without axes: the op refuses it
    if axis is None:
        flattened = flatten_axis(x.type, width)
        return apply(ops.Linear(x.type.rank - 1 if flattened is None else flattened), *operands)
    axis = axis_of("linear", axis, x)
    if prod(x.shape[axis:]) != width:
        size = prod(x.shape[axis:])
        raise wrong_shape(f"linear: the axes of x from {axis} on have {size} elements, expected {width}", x=x, W=W)
    return apply(ops.Linear(axis), *operands)


@function
def split(x: Value, parts: int | Sequence[Size], *, axis: int = -1) -> tuple[Value, ...]:
    """The pieces of x along ``axis``: ``parts`` is a number of equal pieces, or a list of their sizes."""
    axis = axis_of("split", axis, x)
    width, count = x.shape[axis], whole_number(parts)
    if count is None and not isinstance(parts, list | tuple):
        problem = f"split takes a number of equal parts or a list of sizes, found {described(parts)}"
        raise DslError(problem, loc=argument_location(here(), 1, "parts"))
    if count is None:
        sizes = tuple(size_of(x, size) for size in parts)  # type: ignore[union-attr]
    elif count < 1 or width % count:
        raise wrong_shape(f"split: axis {axis} has {width} elements, which do not make {count} equal parts", x=x)
    else:
        sizes = (width // count,) * count
    return tuple(Value(x.trace, ref) for ref in x.trace.apply(ops.Split(axis, sizes), x))


@function
def concat(*values: Value | Sequence[Value], axis: int = -1) -> Value:
    """Values joined along ``axis``: ``concat(a, b)`` or ``concat([a, b])``."""
    listed = flat(values)
    if not listed:
        raise DslError("concat takes one Value or more, found none", loc=here())
    return apply(ops.Concat(axis_of("concat", axis, listed[0])), *listed)


@function
def reshape(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """The same elements as another shape: ``reshape(x, N, 4*H)`` or ``reshape(x, (N, -1))``; one size may be -1.
    ``reshape(x, ())`` is a single element as a number without axes."""
    sizes = [size_of(x, size) for size in flat(shape)]
    fixed = prod(size for size in sizes if size != -1)
    if not shape or sizes.count(-1) > 1 or fixed < 1 or (-1 in sizes and x.type.size % fixed):
        more = "; sizes are positive, and one may be -1 for what remains"
        raise wrong_shape(f"reshape: the {x.type.size} elements of x do not make {sizes}", more, x=x)
    return apply(ops.Reshape(tuple(x.type.size // fixed if size == -1 else size for size in sizes)), x)


@function
def softmax(x: Value, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along ``axis``."""
    return apply(ops.Softmax(axis_of("softmax", axis, x, position=1)), x)


@overload
def abs(x: Value) -> Value: ...
@overload
def abs(x: SupportsAbs[T]) -> T: ...
@function
def abs(x: Any) -> Any:
    """The absolute value of a Value; for numbers and arrays it is Python's ``abs``."""
    if not isinstance(x, SupportsAbs):
        check_value("abs", x, 0, "x")
    return builtins.abs(x)


@function
def expand(x: Value, *shape: Size | Sequence[Size]) -> Value:
    """x broadcast to ``shape``: [N, 1] to (N, H). A size of -1 leaves the size of that axis of x.
    The shape is given as ``expand(x, N, H)`` or ``expand(x, (N, H))``."""
    sizes = [size_of(x, size) for size in flat(shape)]
    added = len(sizes) - x.type.rank
    target = tuple(x.shape[i - added] if size == -1 and i >= added else size for i, size in enumerate(sizes))
    if added < 0 or min(target, default=1) < 1 or common_shape(x.shape, target) != target:
        more = "; axes are counted from the last, and those of one element are repeated"
        raise wrong_shape(f"expand: x cannot be repeated to {sizes}", more, x=x)
    return in_turn(repeated(x.shape, target), x)


@function
def tile(x: Value, repeats: int | Sequence[int]) -> Value:
    """x repeated ``repeats`` times along each axis: ``tile(x, (2, 1))``; ``tile(x, 3)`` repeats along the last axis."""
    counts = [size_of(x, count) for count in flat((repeats,))]
    if not counts or min(counts) < 1:
        problem = f"tile: repeats must be 1 or more for each axis, found {described(repeats)}"
        raise ShapeError(problem, loc=argument_location(here(), 1, "repeats"))
    if len(counts) > x.type.rank:
        x = apply(ops.Reshape((1,) * (len(counts) - x.type.rank) + x.shape), x)
    first = x.type.rank - len(counts)
    return in_turn((ops.Tile(first + i, count) for i, count in enumerate(counts) if count > 1), x)


@function
def stack(*values: Value | Sequence[Value], axis: int = 0) -> Value:
    """Values of one shape, joined along a new axis: ``stack(a, b)`` or ``stack([a, b])`` of [N, H] is [2, N, H]."""
    listed = flat(values)
    if not listed:
        raise DslError("stack takes one Value or more, found none", loc=here())
    first, *others = listed
    rank, at = first.type.rank, whole_number_of("stack", "axis", axis)
    if not -rank - 1 <= at <= rank:
        problem = f"stack: axis must be an integer from {-rank - 1} to {rank}, found {at}: the first is {first.type}"
        raise ShapeError(problem, loc=argument_location(here(), None, "axis"))
    at %= rank + 1
    for number, value in enumerate(others, 2):
        if value.shape != first.shape:
            problem = f"stack: all must have one shape: the first is {first.type}, number {number} is {value.type}"
            raise ShapeError(problem, loc=here(), notes=(f"number {number} is {origin(value)}",))
    return apply(ops.Concat(at), *[apply(ops.Reshape((*v.shape[:at], 1, *v.shape[at:])), v) for v in listed])


@function
def transpose(x: Value, *axes: int | Sequence[int]) -> Value:
    """x with its axes in another order: ``transpose(x, 0, 2, 1)`` or ``transpose(x, (0, 2, 1))``, as in NumPy.
    Without ``axes`` the last two axes are exchanged: [N, A, B] gives [N, B, A]."""
    rank = x.type.rank
    if rank < 2:
        raise wrong_shape("transpose: x must have two axes or more", x=x)
    if not axes:
        return apply(ops.Transpose(rank - 2), x)
    listed_axes = flat(axes)
    order = [axis % rank for axis in listed_axes if whole_number(axis) is not None and -rank <= axis < rank]
    if sorted(order) != list(range(rank)) or len(order) != len(listed_axes):
        listed = ", ".join(map(str, listed_axes))
        more = "; the last two turn by transpose(x)"
        raise wrong_shape(f"transpose: axes must name each of the {rank} axes of x once, found {listed}", more, x=x)
    if order == [0, 1]:  # NumPy's transpose keeps such a matrix, PyTorch's turns it
        problem = "transpose: axes 0, 1 of a matrix are its own order: to turn it write transpose(x)"
        raise ShapeError(problem, loc=here())
    return in_turn(ops.Transpose.to_order(order), x)


@function
def full(shape: Size | Sequence[Size], value: float) -> Value:
    """An array whose elements are all ``value``: ``full((N, H), 0.5)``, in a cell or a model."""
    trace = open_trace("full", here())
    sizes = [size_in(trace, n, here()) if isinstance(n, DimExpr) else whole_number(n) for n in flat((shape,))]
    if any(n is None or n < 1 for n in sizes):
        problem = f"full: a shape is made of dimensions and of integers of 1 or more, found {described(shape)}"
        raise ShapeError(problem, loc=argument_location(here(), 0, "shape"))
    op = ops.Full(tuple(n for n in sizes if n is not None), number_of("full", "value", bounded(value)))
    return Value(trace, trace.apply(op)[0])


@function
def full_like(x: Value, value: float) -> Value:
    """An array in the shape of x whose elements are all ``value``. No gradient flows to x."""
    trace = inner_trace(x)
    return Value(trace, trace.apply(ops.Full(x.shape, number_of("full_like", "value", bounded(value))))[0])


@function
def zeros_like(x: Value) -> Value:
    """Zeros in the shape of x. No gradient flows to x."""
    return full_like(x, 0)


@function
def ones_like(x: Value) -> Value:
    """Ones in the shape of x. No gradient flows to x."""
    return full_like(x, 1)


__all__ = [
    "abs", "clip", "concat", "cos", "elu", "erf", "exp", "expand", "full", "full_like", "gelu", "hard_sigmoid",
    "hard_tanh", "leaky_relu", "linear", "log", "log_sigmoid", "maximum", "minimum", "ones_like", "power", "relu",
    "reshape", "rsqrt", "sigmoid", "silu", "sin", "softmax", "softplus", "softsign", "split", "sqrt", "square", "stack",
    "step", "stop_gradient", "tanh", "tile", "transpose", "where", "zeros_like",
]  # fmt: skip
