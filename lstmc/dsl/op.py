"""Any op in a cell or model: the way to those that a package brings, and functions made of their classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, getdoc, signature
from typing import Any, Concatenate, ParamSpec

from lstmc.dsl.arguments import check_values, number_of
from lstmc.dsl.function import named, refuse_call
from lstmc.dsl.value import Value, apply, described, inner_trace
from lstmc.errors import DslError, LstmcError
from lstmc.ops import Op, Pointwise
from lstmc.source import argument_location, here

__all__ = ["op", "op_results", "pointwise"]


P = ParamSpec("P")


@named
def op(made: Op, *values: Value) -> Value:
    """The result of an op on values: ``op(Cube(), x)``. For an op with several results there is ``op_results``.

    Raises :class:`~lstmc.errors.DslError` for what is no op of models, and ``ShapeError`` as the op's ``infer`` does.
    """
    results = _applied("op", made, values)
    if len(results) != 1:
        raise DslError(f"op: {made.name} has {len(results)} results: write op_results, which gives all", loc=here())
    return results[0]


@named
def op_results(made: Op, *values: Value) -> tuple[Value, ...]:
    """All results of an op on values, in order: ``high, low = op_results(Halves(), x)``. Raises what ``op`` does."""
    return _applied("op_results", made, values)


def pointwise(made: Callable[P, Pointwise]) -> Callable[Concatenate[Value, P], Value]:
    """The function ``f(x, attribute, ...)`` of an op that works on each element alone: ``swish = pointwise(Swish)``.

    The op's class gives the function its name (what follows the dialect's), its arguments with their defaults, which
    are all numbers, its documentation and its types. Raises :class:`~lstmc.errors.DslError` for another class.
    """
    if not (isinstance(made, type) and issubclass(made, Pointwise)):
        found = made.__name__ if isinstance(made, type) else described(made)
        raise DslError(f"pointwise takes a class that derives from lstmc.ops.Pointwise, found {found}", loc=here())
    kind: type[Pointwise] = made
    name = kind.name.rpartition(".")[2]
    parameters = [
        parameter.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for parameter in signature(kind).parameters.values()
    ]
    told = signature(apply).replace(
        parameters=[Parameter("x", Parameter.POSITIONAL_OR_KEYWORD, annotation="Value"), *parameters]
    )

    def function(*args: Any, **kwargs: Any) -> Value:
        try:
            given = told.bind(*args, **kwargs)
        except TypeError as error:
            refuse_call(name, told, kwargs, str(error))
        given.apply_defaults()
        x, *values = given.arguments.values()
        check_values(name, x=x)
        attributes = zip([field.name for field in fields(kind)], values, range(1, 9), strict=False)
        numbers = [number_of(name, *attribute) for attribute in attributes]
        return apply(kind(*numbers), x)

    function.__name__ = function.__qualname__ = name
    function.__module__ = sys._getframe(1).f_globals.get("__name__", "__main__")  # where it is made, as its code says
    function.__doc__ = getdoc(kind)
    function.__signature__ = told  # type: ignore[attr-defined]
    return named(function, name)


def _applied(function: str, made: Op, values: tuple[Value, ...]) -> tuple[Value, ...]:
    if not isinstance(made, Op):
        found = f"the class {made.__name__}: call it" if isinstance(made, type) else described(made)
        raise DslError(
            f"{function} takes an op, then the Values that it works on, found {found}",
            loc=argument_location(here(), 0, "made"),
        )
    if made.backend:
        raise DslError(
            f"{function}: {made.name} is a layer of backend {made.backend}: write a model in ops of no backend",
            loc=argument_location(here(), 0, "made"),
        )
    loc = here(function_of=type(made).__module__)
    for position, value in enumerate(values, 1):
        if not isinstance(value, Value):
            at = argument_location(loc, position) if loc == here() else loc  # else the call of the op's own function
            raise DslError(f"{made.name} takes Values, found {described(value)}", loc=at)
    try:
        signature(made.infer).bind(*values)
    except TypeError:
        wanted = ", ".join(made.operands) or "no Value"
        raise DslError(f"{made.name} takes {wanted}, found {_values(len(values))}", loc=loc) from None
    if not values:
        raise DslError(
            f"{function}: {made.name} has no operands: a value starts from an Input, or from numbers", loc=loc
        )
    trace = inner_trace(*values)
    try:
        refs = trace.apply(made, *values, loc=loc)
    except LstmcError:
        raise
    except Exception as error:
        raise DslError(
            f"{made.name}: its infer failed ({type(error).__name__}: {error}): the op must raise ShapeError", loc=loc
        ) from error
    return tuple(Value(trace, ref) for ref in refs)


def _values(count: int) -> str:
    return "1 Value" if count == 1 else f"{count or 'no'} Values"
