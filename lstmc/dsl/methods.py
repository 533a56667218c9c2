"""The functions of the language: which there are, and which of them a ``Value`` has as methods too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

from lstmc.dsl import (
    activations,
    arrange,
    counting,
    fixed,
    functions,
    layers,
    losses,
    pointwise,
    product,
    reduce,
    selection,
    whole_numbers,
)
from lstmc.dsl.value import FUNCTIONS, Value
from lstmc.errors import DslError
from lstmc.source import here


def _reflected(function: Callable[[Any, Any], Value]) -> Callable[[Any, Any], Value]:
    """Return the method for the operand on the right of an operator."""
    return lambda right, left: function(left, right)


class Methods:
    """The functions that are methods too, as in NumPy or PyTorch, with the one meaning that they have in both."""

    __slots__ = ()

    abs = functions.abs
    argmax = whole_numbers.argmax
    clip = selection.clip
    exp = pointwise.exp
    expand = arrange.expand
    floor = whole_numbers.floor
    floor_divide = whole_numbers.floor_divide
    log = pointwise.log
    matmul = product.matmul
    max = reduce.max
    mean = reduce.mean
    min = reduce.min
    mod = whole_numbers.mod
    permute = arrange.transpose
    pow = pointwise.power
    relu = pointwise.relu
    reshape = functions.reshape
    sigmoid = pointwise.sigmoid
    softmax = functions.softmax
    sqrt = activations.sqrt
    square = activations.square
    sum = reduce.sum
    tanh = pointwise.tanh
    transpose = arrange.transpose
    view = functions.reshape

    __floor__ = whole_numbers.floor
    __mod__ = whole_numbers.mod
    __rmod__ = _reflected(whole_numbers.mod)
    __floordiv__ = whole_numbers.floor_divide
    __rfloordiv__ = _reflected(whole_numbers.floor_divide)


def _method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method ``x.name(...)`` of a function that has x as its first argument."""
    expected = signature(function)
    bare = [parameter.replace(annotation=Parameter.empty) for parameter in expected.parameters.values()]
    arguments = expected.replace(parameters=bare, return_annotation=Signature.empty)

    @wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        try:
            expected.bind(*args, **kwargs)
        except TypeError as error:
            why = f"x.{name}(...): {error}: it is the function {function.__name__}{arguments}"
            raise DslError(why, loc=here()) from None
        return function(*args, **kwargs)

    return method


for _module in (
    *(activations, arrange, counting, fixed, functions, layers),
    *(losses, pointwise, product, reduce, selection, whole_numbers),
):
    FUNCTIONS += _module.__all__
for _name, _function in vars(Methods).items():
    if callable(_function):
        setattr(Value, _name, _method(_name, _function))
