"""One of two values, element by element: by their size, by bounds, or by a mask."""

from __future__ import annotations

from typing import Any

from lstmc.dsl.arguments import check_value, check_values, number_of
from lstmc.dsl.function import function
from lstmc.dsl.pointwise import relu
from lstmc.dsl.value import Value, apply, finite, is_scalar
from lstmc.errors import DslError
from lstmc.ops import Maximum
from lstmc.source import here

__all__ = ["clip", "maximum", "minimum", "where"]


@function
def maximum(a: Value | float, b: Value | float) -> Value:
    """The larger of two Values, or of a Value and a number, element by element, broadcast as ``+`` is.

    Where they are equal, the gradient is b's; beside a number it is 0.
    """
    check_two("maximum", a, b)
    if is_scalar(a):
        a, b = b, a
    assert isinstance(a, Value)
    if isinstance(b, Value):
        return apply(Maximum(), a, b)
    low = finite(b)
    return relu(a - low) + low


@function
def minimum(a: Value | float, b: Value | float) -> Value:
    """The smaller of two Values, or of a Value and a number, element by element: -maximum(-a, -b)."""
    check_two("minimum", a, b)
    if is_scalar(a):
        a, b = b, a
    assert isinstance(a, Value)
    if isinstance(b, Value):
        return -apply(Maximum(), -a, -b)
    high = finite(b)
    return high - relu(high - a)


@function
def clip(x: Value, low: float, high: float) -> Value:
    """x, and ``low`` where it is smaller, ``high`` where it is larger: there the gradient is 0."""
    check_values("clip", x=x)
    low, high = number_of("clip", "low", low), number_of("clip", "high", high, position=2)
    if low > high:
        raise DslError(f"clip: expected low <= high, found low {low!r} and high {high!r}", loc=here())
    return high - relu((high - low) - relu(x - low))


@function
def where(mask: Value, a: Value | float, b: Value | float) -> Value:
    """``a`` where ``mask`` is 1, ``b`` where it is 0: mask * a + (1 - mask) * b, broadcast as ``*`` is.

    A mask of other numbers gives what lies between. At least one of ``a`` and ``b`` may be a number, or both.
    """
    check_values("where", mask=mask)
    for position, (name, value) in enumerate((("a", a), ("b", b)), 1):
        _check_value_or_number("where", value, position, name)
    if is_scalar(a) and is_scalar(b):
        return mask * (finite(a) - finite(b)) + b
    return mask * a + (1 - mask) * b


def check_two(function: str, a: Any, b: Any) -> None:
    for position, (name, value) in enumerate((("a", a), ("b", b))):
        _check_value_or_number(function, value, position, name)
    if is_scalar(a) and is_scalar(b):
        raise DslError(f"{function} takes a Value and another one or a number, found two numbers", loc=here())


def _check_value_or_number(function: str, value: object, position: int, name: str) -> None:
    if not is_scalar(value):
        check_value(function, value, position, name)
