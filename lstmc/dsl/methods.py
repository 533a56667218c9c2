"""The functions of the language, and those that a ``Value`` has as methods too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstmc.dsl import arrange, counting, elementwise, product, reduce, whole_numbers
from lstmc.dsl.value import FUNCTIONS, Value


def _reflected(function: Callable[[Any, Any], Value]) -> Callable[[Any, Any], Value]:
    """Return the method for the operand on the right of an operator."""
    return lambda right, left: function(left, right)


class Methods:
    """The functions that are methods too, as in NumPy or PyTorch, with the one meaning that they have in both."""

    __slots__ = ()

    abs = elementwise.abs
    argmax = whole_numbers.argmax
    clip = elementwise.clip
    exp = elementwise.exp
    expand = arrange.expand
    floor = whole_numbers.floor
    floor_divide = whole_numbers.floor_divide
    log = elementwise.log
    matmul = product.matmul
    max = reduce.max
    mean = reduce.mean
    min = reduce.min
    mod = whole_numbers.mod
    permute = arrange.transpose
    pow = elementwise.power
    relu = elementwise.relu
    reshape = elementwise.reshape
    sigmoid = elementwise.sigmoid
    softmax = elementwise.softmax
    sqrt = elementwise.sqrt
    square = elementwise.square
    sum = reduce.sum
    tanh = elementwise.tanh
    transpose = arrange.transpose
    view = elementwise.reshape

    __floor__ = whole_numbers.floor
    __mod__ = whole_numbers.mod
    __rmod__ = _reflected(whole_numbers.mod)
    __floordiv__ = whole_numbers.floor_divide
    __rfloordiv__ = _reflected(whole_numbers.floor_divide)


for _module in (arrange, counting, elementwise, product, reduce, whole_numbers):
    FUNCTIONS += _module.__all__
for _name, _function in vars(Methods).items():
    if callable(_function):
        setattr(Value, _name, _function)
