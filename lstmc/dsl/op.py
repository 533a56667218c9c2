"""Functions of the language for op classes, and the checks of their arguments, whose errors mark the argument."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, getdoc, signature
from typing import Any, Concatenate, ParamSpec

from lstmc.dsl.dims import DimExpr, Size, is_scalar, whole_number
from lstmc.dsl.function import check_value, described, named, refuse_call, wrong_argument
from lstmc.dsl.trace import origin, size_in
from lstmc.dsl.value import Value, apply, finite, inner_trace
from lstmc.errors import DslError, LstmcError, ShapeError
from lstmc.ops import Op, Pointwise
from lstmc.source import argument_location, here


def axis_of(function: str, axis: int, x: Value, position: int | None = None) -> int:
    """Return ``axis`` counted from the front. If x lacks it, raise ShapeError at the argument, by its ``position``."""
    rank, number = x.type.rank, whole_number(axis)
    if number is None or not -rank <= number < rank:
        problem = f"{function}: axis must be an integer from {-rank} to {rank - 1}, found {axis!r}: x is {x.type}"
        raise ShapeError(problem, loc=argument_location(here(), position, "axis"), notes=(f"x is {origin(x)}",))
    return number % rank


def size_of(x: Value, size: Size) -> int:
    """Return a size as a number: an integer, or a dimension of the function that x belongs to."""
    if isinstance(size, DimExpr):
        return size_in(x.trace, size, here())
    number = whole_number(size)
    if number is None:
        raise DslError(f"a size must be an integer or a dimension, found {described(size)}", loc=here())
    return number


def number_of(function: str, name: str, value: float, position: int | None = 1) -> float:
    """Return the argument at ``position`` as a float. Raise DslError unless it is a finite number."""
    if not is_scalar(value):
        raise wrong_argument(function, name, "a number", value, position)
    return finite(value)


def whole_number_of(function: str, name: str, value: object, least: int | None = None) -> int:
    """Return an integer argument of at least ``least``; errors name the argument."""
    number = whole_number(value)
    if number is None or (least is not None and number < least):
        more = "" if least is None else f" of {least} or more"
        raise wrong_argument(function, name, f"an integer{more}", value)
    return number


def pair_of(function: str, name: str, value: object, least: int, position: int | None = None) -> tuple[int, int]:
    """Return (height, width) from one integer for both or from two integers, all of at least ``least``."""
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    numbers = [whole_number(number) for number in pair]
    if len(numbers) != 2 or any(number is None or number < least for number in numbers):
        raise wrong_argument(function, name, f"one or two integers of {least} or more", value, position)
    return numbers[0] or 0, numbers[1] or 0


def word_of(function: str, name: str, value: object, words: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in words:
        raise wrong_argument(function, name, f"one of {', '.join(words)}", value)
    return value


P = ParamSpec("P")


@named
def op(operation: Op, *values: Value) -> Value:
    """The result of an op on values: ``op(Cube(), x)``. For an op with several results there is ``op_results``.
    Raises :class:`~lstmc.errors.DslError` for an op that models cannot have, and the op's own ``ShapeError``."""
    results = _applied("op", operation, values)
    if len(results) != 1:
        problem = f"op: {operation.name} has {len(results)} results: write op_results, which gives all"
        raise DslError(problem, loc=here())
    return results[0]


@named
def op_results(operation: Op, *values: Value) -> tuple[Value, ...]:
    """All results of an op on values, in order: ``high, low = op_results(Halves(), x)``. Raises as ``op`` does."""
    return _applied("op_results", operation, values)


def pointwise(cls: Callable[P, Pointwise]) -> Callable[Concatenate[Value, P], Value]:
    """Return the function ``f(x, attribute, ...)`` of a class of elementwise ops: ``swish = pointwise(Swish)``.
    It has the op's name without the dialect, and the arguments, number defaults and documentation of the class."""
    if not (isinstance(cls, type) and issubclass(cls, Pointwise)):
        actual = cls.__name__ if isinstance(cls, type) else described(cls)
        raise DslError(f"pointwise takes a class that derives from lstmc.ops.Pointwise, found {actual}", loc=here())
    kind: type[Pointwise] = cls
    name = kind.name.rpartition(".")[2]
    ordinary = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [parameter.replace(kind=ordinary) for parameter in signature(kind).parameters.values()]
    call = signature(apply).replace(parameters=[Parameter("x", ordinary, annotation="Value"), *parameters])

    def function(*args: Any, **kwargs: Any) -> Value:
        try:
            bound = call.bind(*args, **kwargs)
        except TypeError as error:
            refuse_call(name, call, kwargs, str(error))
        bound.apply_defaults()
        x, *values = bound.arguments.values()
        check_value(name, x, 0, "x")
        attributes = zip([field.name for field in fields(kind)], values, range(1, 9), strict=False)
        numbers = [number_of(name, *attribute) for attribute in attributes]
        return apply(kind(*numbers), x)

    function.__name__ = function.__qualname__ = name
    function.__module__ = sys._getframe(1).f_globals.get("__name__", "__main__")  # where it is made, as its code says
    function.__doc__ = getdoc(kind)
    function.__signature__ = call  # type: ignore[attr-defined]
    return named(function, name)


def _applied(function: str, operation: Op, values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Add an op to the trace of its operands, and return its results; errors name ``function`` and the user's line."""
    if not isinstance(operation, Op):
        actual = f"the class {operation.__name__}: call it" if isinstance(operation, type) else described(operation)
        problem = f"{function} takes an op, then the Values that it works on, found {actual}"
        raise DslError(problem, loc=argument_location(here(), 0, "operation"))
    if operation.backend:
        problem = f"{operation.name} is a layer of backend {operation.backend}: write a model in ops of no backend"
        raise DslError(f"{function}: {problem}", loc=argument_location(here(), 0, "operation"))
    loc = here(function_of=type(operation).__module__)
    for position, value in enumerate(values, 1):
        if not isinstance(value, Value):
            at = argument_location(loc, position) if loc == here() else loc  # else the call of the op's own function
            raise DslError(f"{operation.name} takes Values, found {described(value)}", loc=at)
    try:
        signature(operation.infer).bind(*values)
    except TypeError:
        operands = ", ".join(operation.operands) or "no Value"
        count = "1 Value" if len(values) == 1 else f"{len(values) or 'no'} Values"
        raise DslError(f"{operation.name} takes {operands}, found {count}", loc=loc) from None
    if not values:
        problem = "has no operands: a value starts from an Input, or from numbers"
        raise DslError(f"{function}: {operation.name} {problem}", loc=loc)
    trace = inner_trace(*values)
    try:
        refs = trace.apply(operation, *values, loc=loc)
    except LstmcError:
        raise
    except Exception as error:
        problem = f"its infer failed ({type(error).__name__}: {error}): the op must raise ShapeError"
        raise DslError(f"{operation.name}: {problem}", loc=loc) from error
    return tuple(Value(trace, ref) for ref in refs)


__all__ = ["op", "op_results", "pointwise"]
