"""The functions of one op that works on each element alone: the op is all that is told of one.

Its class gives the function its name, its arguments with their defaults, its documentation and its types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from inspect import Parameter, getdoc, signature
from typing import Any, Concatenate, ParamSpec, cast

from lstmc.dsl.arguments import check_values, number_of
from lstmc.dsl.value import FUNCTIONS, METHODS, Value, apply
from lstmc.ops import Elu, Exp, LeakyRelu, Log, Pointwise, Power, Relu, Sigmoid, Softplus, StopGradient, Tanh

__all__ = ["elu", "exp", "leaky_relu", "log", "power", "relu", "sigmoid", "softplus", "stop_gradient", "tanh"]

P = ParamSpec("P")


def pointwise(op: Callable[P, Pointwise]) -> Callable[Concatenate[Value, P], Value]:
    """The function ``f(x, attribute, ...)`` of an op's class. All of the op's attributes are numbers."""
    kind = cast(type[Pointwise], op)
    attributes = [
        parameter.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) for parameter in signature(kind).parameters.values()
    ]
    told = signature(apply).replace(
        parameters=[Parameter("x", Parameter.POSITIONAL_OR_KEYWORD, annotation="Value"), *attributes]
    )

    def function(*args: Any, **kwargs: Any) -> Value:
        try:
            given = told.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{kind.name}(): {error}") from None
        given.apply_defaults()
        x, *values = given.arguments.values()
        check_values(kind.name, x=x)
        names = [field.name for field in fields(kind)]
        numbers = [number_of(kind.name, *attribute) for attribute in zip(names, values, range(1, 9), strict=False)]
        return apply(kind(*numbers), x)

    function.__name__ = function.__qualname__ = kind.name
    function.__doc__ = getdoc(kind)
    function.__signature__ = told  # type: ignore[attr-defined]
    return function


sigmoid = pointwise(Sigmoid)
tanh = pointwise(Tanh)
relu = pointwise(Relu)
leaky_relu = pointwise(LeakyRelu)
stop_gradient = pointwise(StopGradient)
softplus = pointwise(Softplus)
elu = pointwise(Elu)
exp = pointwise(Exp)
log = pointwise(Log)
power = pointwise(Power)

FUNCTIONS += __all__
METHODS.update(sigmoid=sigmoid, tanh=tanh, relu=relu, exp=exp, log=log, pow=power)
