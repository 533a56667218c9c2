"""The vocabulary of the language: its functions, the methods of ``Value``, and an expression for each op."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import signature
from typing import Any

from lstmc import ops
from lstmc.dsl import elementwise, language, product, reduce, whole_numbers
from lstmc.dsl.value import FUNCTIONS, Value
from lstmc.ops import Op, Pointwise


def _reflected(function: Callable[[Any, Any], Value]) -> Callable[[Any, Any], Value]:
    return lambda right, left: function(left, right)


class Methods:
    """Methods of a Value, by the names of NumPy and PyTorch; each means the same in both libraries."""

    __slots__ = ()

    abs = elementwise.abs
    argmax = whole_numbers.argmax
    clip = elementwise.clip
    exp = elementwise.exp
    expand = elementwise.expand
    floor = whole_numbers.floor
    floor_divide = whole_numbers.floor_divide
    log = elementwise.log
    matmul = product.matmul
    max = reduce.max
    mean = reduce.mean
    min = reduce.min
    mod = whole_numbers.mod
    permute = elementwise.transpose
    pow = elementwise.power
    relu = elementwise.relu
    reshape = elementwise.reshape
    sigmoid = elementwise.sigmoid
    softmax = elementwise.softmax
    sqrt = elementwise.sqrt
    square = elementwise.square
    sum = reduce.sum
    tanh = elementwise.tanh
    transpose = elementwise.transpose
    view = elementwise.reshape

    __floor__ = whole_numbers.floor
    __mod__ = whole_numbers.mod
    __rmod__ = _reflected(whole_numbers.mod)
    __floordiv__ = whole_numbers.floor_divide
    __rfloordiv__ = _reflected(whole_numbers.floor_divide)


FUNCTIONS += ("step_index", *elementwise.__all__, *product.__all__, *reduce.__all__, *whole_numbers.__all__)
for _name, _function in vars(Methods).items():
    if callable(_function):
        setattr(Value, _name, _function)

LANGUAGE = tuple(sorted(word for word in vars(language) if word[0] != "_"))  # what a printed model may import
KEYWORDS = frozenset({*LANGUAGE, *keyword.kwlist, *keyword.softkwlist, *dir(builtins)})


def listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _single(value: Any) -> Any:
    """Return the first of two equal numbers, as functions take one for height and width; any other value unchanged."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value


def _text(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def keywords(**pairs: tuple[Any, Any]) -> str:
    """Return keyword arguments as text, such as ``, stride=2``, without those whose value is the default."""
    return "".join(f", {name}={_text(value)}" for name, (value, default) in pairs.items() if value != default)


def _split(op: ops.Split, x: str) -> str:
    parts = str(len(op.sizes)) if len(set(op.sizes)) == 1 else str(list(op.sizes))
    return f"split({x}, {parts}, axis={op.axis})"


def _pool(op: ops.MaxPool | ops.AvePool, x: str) -> str:
    size, stride, pad = map(_single, (op.size, op.stride, op.pad))
    return f"{op.name}({x}, {size}{keywords(stride=(stride, size), pad=(pad, 0))})"


# the texts of ops whose functions in the language have other names or arguments than the op
_EXPRESSIONS: Mapping[type[Op], Callable[..., str]] = {
    ops.Add: lambda op, x, y: f"{x} + {y}",
    ops.Sub: lambda op, x, y: f"{x} - {y}",
    ops.Mul: lambda op, x, y: f"{x} * {y}",
    ops.Split: _split,
    ops.Reshape: lambda op, x: f"reshape({x}, {listed(op.shape) or ()})",
    ops.Round: lambda op, x: f"round({x})",
    ops.Dropout: lambda op, x: f"dropout({x}, {op.ratio})",
    ops.MaxPool: _pool,
    ops.AvePool: _pool,
}


def expression(op: Op, names: Sequence[str]) -> str | None:
    """Return the expression of an op on operands of these names; None if the language has no function for the op."""
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
    if type(op).__module__.startswith("lstmc.ops.") and op.name in LANGUAGE:
        arguments = signature(getattr(language, op.name)).parameters
        values = {field.name: getattr(op, field.name) for field in fields(op)}
        if values.keys() <= arguments.keys():
            options = {name: (_single(value), arguments[name].default) for name, value in values.items()}
            return f"{op.name}({listed(names)}{keywords(**options)})"
    return None


def python_identifier(text: str, otherwise: str = "value") -> str:
    """Return the Python identifier that is most like a text; ``otherwise`` if no character of it is usable."""
    stem = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or otherwise
    return f"v{stem}" if stem[0].isdigit() else stem
