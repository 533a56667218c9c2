"""What the elements of an input are, under the names that models are written with."""

from __future__ import annotations

from lstmc.dsl.dims import whole_number
from lstmc.dsl.function import checked
from lstmc.dsl.value import described, is_scalar
from lstmc.errors import DslError
from lstmc.ops import IntegerRange, RealRange
from lstmc.source import argument_location, here

__all__ = ["integers", "reals"]


@checked
def integers(low: int, high: int) -> IntegerRange:
    """Integers from ``low`` to ``high``, both included: ``Input(T, N, values=integers(0, 1))`` is a mask."""
    for position, (name, given) in enumerate((("low", low), ("high", high))):
        if whole_number(given) is None:
            loc = argument_location(here(), position, name)
            raise DslError(f"integers: {name} must be an integer, found {described(given)}", loc=loc)
    _check_order("integers", low, high)
    return IntegerRange(int(low), int(high))


@checked
def reals(low: float, high: float) -> RealRange:
    """Numbers from ``low`` to ``high``: ``Input(N, 1, values=reals(0, 10))`` are times."""
    for position, (name, given) in enumerate((("low", low), ("high", high))):
        if not is_scalar(given) or not abs(given) < float("inf"):
            loc = argument_location(here(), position, name)
            raise DslError(f"reals: {name} must be a finite number, found {described(given)}", loc=loc)
    _check_order("reals", low, high)
    return RealRange(float(low), float(high))


def _check_order(function: str, low: float, high: float) -> None:
    if low > high:
        raise DslError(f"{function}: expected low <= high, found {low!r} and {high!r}", loc=here())
