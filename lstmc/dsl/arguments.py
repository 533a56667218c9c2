"""Arguments of the language's functions, checked: what was expected, what was found, and a caret under it."""

from __future__ import annotations

from lstmc.dsl.dims import DimExpr, Size, whole_number
from lstmc.dsl.trace import origin, size_in
from lstmc.dsl.value import Value, described, finite, is_scalar
from lstmc.errors import DslError, ShapeError
from lstmc.source import argument_location, here


def check_values(function: str, **values: object) -> None:
    """Raise unless all are Values; they are the function's first arguments, in order."""
    for position, (name, value) in enumerate(values.items()):
        check_value(function, value, position, name)


def check_value(function: str, value: object, position: int | None, name: str | None = None) -> None:
    """Raise unless it is a Value."""
    if not isinstance(value, Value):
        loc = argument_location(here(), position, name)
        raise DslError(f"{function} takes Values, found {described(value)}", loc=loc)


def axis_of(function: str, axis: int, x: Value, position: int | None = None) -> int:
    """An axis of x, counted from the front; it may be given at ``position``, and from the end, as NumPy has it."""
    rank, number = x.type.rank, whole_number(axis)
    if number is None or not -rank <= number < rank:
        raise ShapeError(
            f"{function}: axis must be an integer from {-rank} to {rank - 1}, found {axis!r}: x is {x.type}",
            loc=argument_location(here(), position, "axis"),
            notes=(f"x is {origin(x)}",),
        )
    return number % rank


def size_of(x: Value, size: Size) -> int:
    """A size that is an integer, or a dimension of the function in which x is."""
    if isinstance(size, DimExpr):
        return size_in(x.trace, size, here())
    number = whole_number(size)
    if number is None:
        raise DslError(f"a size must be an integer or a dimension, found {described(size)}", loc=here())
    return number


def number_of(function: str, name: str, value: float, position: int | None = 1) -> float:
    """A finite number, the argument at ``position``."""
    if not is_scalar(value):
        raise DslError(
            f"{function}: {name} must be a number, found {described(value)}",
            loc=argument_location(here(), position, name),
        )
    return finite(value)


def whole_number_of(function: str, name: str, value: object, least: int | None = None) -> int:
    """An integer, of ``least`` or more, given by its name."""
    number = whole_number(value)
    if number is None or (least is not None and number < least):
        more = "" if least is None else f" of {least} or more"
        raise DslError(
            f"{function}: {name} must be an integer{more}, found {described(value)}",
            loc=argument_location(here(), None, name),
        )
    return number


def pair_of(function: str, name: str, value: object, least: int, position: int | None = None) -> tuple[int, int]:
    """(height, width), given as one integer for both or as two of them."""
    given = tuple(value) if isinstance(value, list | tuple) else (value, value)
    numbers = [whole_number(number) for number in given]
    if len(numbers) != 2 or any(number is None or number < least for number in numbers):
        raise DslError(
            f"{function}: {name} must be one or two integers of {least} or more, found {described(value)}",
            loc=argument_location(here(), position, name),
        )
    return numbers[0] or 0, numbers[1] or 0


def word_of(function: str, name: str, value: object, words: tuple[str, ...]) -> str:
    """One of ``words``, given by its name."""
    if not isinstance(value, str) or value not in words:
        raise DslError(
            f"{function}: {name} must be one of {', '.join(words)}, found {described(value)}",
            loc=argument_location(here(), None, name),
        )
    return value
