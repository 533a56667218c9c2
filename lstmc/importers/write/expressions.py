"""Each op as an expression of the public language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lstmc.importers.ir.ops import Formula
from lstmc.ops import (
    Add,
    Affine,
    AvePool,
    Concat,
    Conv,
    Dropout,
    Embed,
    Linear,
    Max,
    Maximum,
    MaxPool,
    Mul,
    Op,
    Pointwise,
    Reshape,
    Softmax,
    Split,
    Sub,
    Sum,
)


def listed(shape: Sequence[object]) -> str:
    return ", ".join(map(str, shape))


def _pair(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else str(pair)


def _options(**pairs: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """Return keyword arguments, as ``, stride=2``, for values other than the defaults."""
    return "".join(f", {name}={_pair(value)}" for name, (value, default) in pairs.items() if value != default)


def _affine(op: Affine, x: str) -> str:
    scaled = x if op.scale == 1 else f"{op.scale!r} * {x}"
    return scaled if op.shift == 0 else f"{scaled} + {op.shift!r}"


def _split(op: Split, x: str) -> str:
    parts = str(len(op.sizes)) if len(set(op.sizes)) == 1 else str(list(op.sizes))
    return f"split({x}, {parts}, axis={op.axis})"


def _conv(op: Conv, *xs: str) -> str:
    more = _options(stride=(op.stride, (1, 1)), pad=(op.pad, (0, 0)), dilation=(op.dilation, (1, 1)))
    return f"conv({listed(xs)}{more}{f', group={op.group}' if op.group > 1 else ''})"


def _pool(op: MaxPool | AvePool, x: str) -> str:
    return f"{op.name}({x}, {_pair(op.size)}{_options(stride=(op.stride, op.size), pad=(op.pad, (0, 0)))})"


_WRITERS: Mapping[type[Op], Callable[..., str]] = {
    Affine: _affine,
    Add: lambda op, x, y: f"{x} + {y}",
    Sub: lambda op, x, y: f"{x} - {y}",
    Mul: lambda op, x, y: f"{x} * {y}",
    Maximum: lambda op, x, y: f"maximum({x}, {y})",
    Linear: lambda op, *xs: f"linear({listed(xs)}, axis=-1)",
    Embed: lambda op, *xs: f"embed({listed(xs)})",
    Concat: lambda op, *xs: f"concat({listed(xs)}, axis={op.axis})",
    Split: _split,
    Reshape: lambda op, x: f"reshape({x}, {listed(op.shape) or ()})",
    Softmax: lambda op, x: f"softmax({x}, axis={op.axis})",
    Sum: lambda op, x: f"sum({x}, axis={op.axis})",
    Max: lambda op, x: f"max({x}, axis={op.axis})",
    Dropout: lambda op, x: f"dropout({x}, {op.ratio})",
    Conv: _conv,
    MaxPool: _pool,
    AvePool: _pool,
}


def expression(op: Any, names: Sequence[str]) -> str:
    """Return the expression of an op on operands of these names."""
    if isinstance(op, Formula):
        return op.text(*names)
    if type(op) in _WRITERS:
        return _WRITERS[type(op)](op, *names)
    assert isinstance(op, Pointwise), f"no text for {op}"
    return f"{op.name}({listed([*names, *(repr(getattr(op, field.name)) for field in fields(op))])})"
