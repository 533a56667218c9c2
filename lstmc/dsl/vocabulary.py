"""The vocabulary of the language: its functions, those that are methods of a ``Value`` too, and an expression an op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lstmc import ops
from lstmc.dsl import arrange, elementwise, language, product, reduce, steps, whole_numbers
from lstmc.dsl.value import FUNCTIONS, Value
from lstmc.ops import Op, Pointwise


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


for _module in (arrange, steps, elementwise, product, reduce, whole_numbers):
    FUNCTIONS += (word for word in _module.__all__ if word != "last_valid")  # which stands with ``scan``
for _name, _function in vars(Methods).items():
    if callable(_function):
        setattr(Value, _name, _function)


LANGUAGE = tuple(sorted(word for word in vars(language) if word[0] != "_"))  # what a printed model may import


def listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else str(pair)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return _pair(value)
    return f'"{value}"' if isinstance(value, str) else repr(value)


def keywords(**pairs: tuple[Any, Any]) -> str:
    """Return keyword arguments, as ``, stride=2``, for values other than the defaults."""
    return "".join(f", {name}={_text(value)}" for name, (value, default) in pairs.items() if value != default)


def _split(op: ops.Split, x: str) -> str:
    parts = str(len(op.sizes)) if len(set(op.sizes)) == 1 else str(list(op.sizes))
    return f"split({x}, {parts}, axis={op.axis})"


def _conv(op: ops.Conv, *xs: str) -> str:
    options = keywords(
        stride=(op.stride, (1, 1)), pad=(op.pad, (0, 0)), dilation=(op.dilation, (1, 1)), group=(op.group, 1)
    )
    return f"conv({listed(xs)}{options})"


def _pool(op: ops.MaxPool | ops.AvePool, x: str) -> str:
    return f"{op.name}({x}, {_pair(op.size)}{keywords(stride=(op.stride, op.size), pad=(op.pad, (0, 0)))})"


def _softmax_loss(op: ops.SoftmaxLoss, x: str, label: str) -> str:
    options = keywords(ignore_label=(op.ignore_label, None), normalization=(op.normalization, "valid"))
    return f"softmax_loss({x}, {label}, axis={op.axis}{options})"


def _accuracy(op: ops.Accuracy, x: str, label: str) -> str:
    more = keywords(top_k=(op.top_k, 1), ignore_label=(op.ignore_label, None))
    return f"accuracy({x}, {label}, axis={op.axis}{more})"


_EXPRESSIONS: Mapping[type[Op], Callable[..., str]] = {
    ops.Add: lambda op, x, y: f"{x} + {y}",
    ops.Sub: lambda op, x, y: f"{x} - {y}",
    ops.Mul: lambda op, x, y: f"{x} * {y}",
    ops.Maximum: lambda op, x, y: f"maximum({x}, {y})",
    ops.Embed: lambda op, *xs: f"embed({listed(xs)})",
    ops.Concat: lambda op, *xs: f"concat({listed(xs)}, axis={op.axis})",
    ops.Split: _split,
    ops.Reshape: lambda op, x: f"reshape({x}, {listed(op.shape) or ()})",
    ops.Round: lambda op, x: f"round({x})",
    ops.Softmax: lambda op, x: f"softmax({x}, axis={op.axis})",
    ops.Sum: lambda op, x: f"sum({x}, axis={op.axis})",
    ops.Max: lambda op, x: f"max({x}, axis={op.axis})",
    ops.Dropout: lambda op, x: f"dropout({x}, {op.ratio})",
    ops.Conv: _conv,
    ops.MaxPool: _pool,
    ops.AvePool: _pool,
    ops.SoftmaxLoss: _softmax_loss,
    ops.Accuracy: _accuracy,
    ops.SigmoidCrossEntropyLoss: lambda op, x, y: (
        f"sigmoid_cross_entropy_loss({x}, {y}{keywords(normalization=(op.normalization, 'valid'))})"
    ),
    ops.EuclideanLoss: lambda op, x, y: f"euclidean_loss({x}, {y})",
}


def expression(op: Op, names: Sequence[str]) -> str | None:
    """Return the expression of an op on operands of these names; None where the language has no function of it."""
    if type(op) in _EXPRESSIONS:
        return _EXPRESSIONS[type(op)](op, *names)
    if isinstance(op, ops.Affine) and op.shift == 0:
        return f"{op.scale!r} * {names[0]}"
    if isinstance(op, ops.Affine) and op.scale == 1:
        return f"{names[0]} {'-' if op.shift < 0 else '+'} {abs(op.shift)!r}"
    if isinstance(op, ops.Affine) and op.scale == -1:
        return f"{op.shift!r} - {names[0]}"
    if isinstance(op, Pointwise) and op.name in LANGUAGE:
        return f"{op.name}({listed([*names, *(repr(getattr(op, field.name)) for field in fields(op))])})"
    return None
