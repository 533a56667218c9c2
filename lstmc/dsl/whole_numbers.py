"""Integers and constants, by formulas of ops that every target has: Caffe's Threshold and ArgMax abort in training."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from lstmc.dsl.declare import fixed_values
from lstmc.dsl.dims import Size, is_scalar, whole_number
from lstmc.dsl.elementwise import linear, relu, step, stop_gradient, value_first
from lstmc.dsl.function import checked, function, wrong_argument
from lstmc.dsl.op import axis_of, size_of
from lstmc.dsl.reduce import max
from lstmc.dsl.trace import open_trace
from lstmc.dsl.value import Value, apply, finite
from lstmc.errors import DslError, ShapeError
from lstmc.ops import IntegerRange, RealRange, Reshape, Round, Transpose
from lstmc.source import argument_location, assigned_names, here


@checked
def integers(low: int, high: int) -> IntegerRange:
    """Integers from ``low`` to ``high``, both included: ``Input(T, N, values=integers(0, 1))`` is a mask."""
    _check_bounds("integers", low, high, lambda bound: whole_number(bound) is not None, "an integer")
    return IntegerRange(int(low), int(high))


@checked
def reals(low: float, high: float) -> RealRange:
    """Real numbers from ``low`` to ``high``: in ``Input(N, 1, values=reals(0, 10))`` seconds since the last step."""
    _check_bounds("reals", low, high, lambda bound: is_scalar(bound) and abs(bound) < inf, "a finite number")
    return RealRange(float(low), float(high))


def _check_bounds(function: str, low: Any, high: Any, is_bound: Callable[[Any], bool], expected: str) -> None:
    """Raise :class:`DslError` unless both bounds are ``expected``, and ``low`` is not above ``high``."""
    for position, (name, bound) in enumerate((("low", low), ("high", high))):
        if not is_bound(bound):
            raise wrong_argument(function, name, expected, bound, position)
    if low > high:
        raise DslError(f"{function}: expected low <= high, found {low!r} and {high!r}", loc=here())


@function
def const(array: Any) -> Value:
    """An array of numbers as a Value, in a cell or model: ``const(numpy.eye(3))``.

    The array becomes a parameter that is not trained; arrays with the same numbers become one parameter. It can be the
    matrix of a ``linear``. The weights of the net have its numbers in float32; the interpreter uses all digits.
    """
    loc = here()
    fill = fixed_values("const", array, loc, 0, "array")
    if not fill.shape:
        problem = "const takes an array of one axis or more: write a number as it is"
        raise DslError(problem, loc=argument_location(loc, 0, "array"))
    root = open_trace("const", loc).root
    if fill in root.constants:
        return Value(root, root.constants[fill])
    return Value(root, root.constant(fill, root.titles.unique(next(iter(assigned_names(loc)), "const")), loc))


@function
def floor(x: Value) -> Value:
    """The largest integer that is not above x, for |x| up to 2**22; without a gradient."""
    x = stop_gradient(x)
    whole = apply(Round(), x)
    return whole - step(whole - x)


@function
def mod(a: Value | float, b: Value | float) -> Value:
    """The remainder of ``a`` divided by ``b``, as Python's ``a % b``: from 0 up to b.

    If ``b`` is a Value, it must be positive; if it is a number, the result has its sign. For integers the result is
    exact. The gradient with respect to a is 1, and with respect to b it is ``-(a // b)``.
    """
    _, left, borrowed = _divided("mod", a, b)
    result: Value = left + borrowed * b
    return result


def floor_divide(a: Value | float, b: Value | float) -> Value:
    """``a // b``, without a gradient."""
    multiples, _, borrowed = _divided("//", a, b)
    result: Value = multiples - borrowed
    return result


def _divided(function: str, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Return q, the integer nearest to a / b; a - q b; and 1 where q is one more than the floor of a / b, else 0. A
    rounding error of a / b could change its floor, but not its nearest integer, if b divides a."""
    value_first(function, a, b)
    if is_scalar(b) and finite(b) == 0:
        raise DslError(f"{function}: expected a divisor that is not 0", loc=argument_location(here(), 1, "b"))
    multiples = apply(Round(), a / b)
    left = a - multiples * b
    return multiples, left, step(-left if not is_scalar(b) or b > 0 else left)


@function
def argmax(x: Value, axis: int = -1) -> Value:
    """The index of the largest element of x along ``axis``, the first if several are equal; the result lacks the axis.
    Integers from 0 up, without a gradient. ``one_hot(argmax(x), K)`` is 1 at the largest element and 0 elsewhere."""
    for i in range(axis_of("argmax", axis, x, position=1), x.type.rank - 1):
        x = apply(Transpose(i), x)
    size, x = x.shape[-1], stop_gradient(x)
    largest = 1 - step(max(x, axis=-1, keepdims=True) - x)
    first = relu(largest - linear(largest, const(np.tri(size, k=-1))))  # 1 where no largest element is before it
    places = linear(first, const(np.arange(size)[None]))
    return apply(Reshape(x.shape[:-1]), places)


@function
def one_hot(x: Value, size: Size) -> Value:
    """Integers x [...] from 0 to ``size`` - 1 as rows [..., size] that are 1 at x and 0 elsewhere."""
    count = size_of(x, size)
    if count < 1:
        raise ShapeError(f"one_hot: size must be at least 1, found {count}", loc=argument_location(here(), 1, "size"))
    x.trace.expect(x.ref, IntegerRange(0, count - 1))
    away = abs(apply(Reshape((*x.shape, 1)), stop_gradient(x)) - const(np.arange(count)))
    return relu(1 - away)


__all__ = ["argmax", "const", "floor", "integers", "mod", "one_hot", "reals"]
