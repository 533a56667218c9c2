"""PyTorch's elementwise operators: arithmetic, functions, comparisons and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from lstmc.importers.frontends.layers import Comparison
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.frontends.torch_values import Torch
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import Elementwise, Foreign, functions_of

Handler = Callable[..., Any]


def _function(foreign: Foreign, row: Elementwise) -> Handler:
    """Return a handler of a function, whose settings are its next arguments."""
    defaults = tuple(foreign.settings.values())

    def handle(t: Torch, x: Operand, *arguments: Any, **options: Any) -> str:
        numbers = (*arguments, *defaults[len(arguments) :])[: len(defaults)] if defaults else row.numbers
        if not foreign.steepness:
            return t.layers.apply(row.function, x, *numbers)
        k, *rest = numbers
        return t.layers.affine(t.layers.apply(row.function, t.layers.affine(x, k, 0.0), *rest), 1 / k, 0.0)

    return handle


def _operand(x: Any) -> Operand:
    return np.asarray(float(x)) if isinstance(x, int | float) else x


def _binary(kind: str) -> Handler:
    def handle(t: Torch, x: Any, y: Any, *, alpha: float = 1, rounding_mode: str | None = None) -> str:
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            raise Refused("operands", "two constants", "nothing is computed", "fold it in the source")
        if alpha != 1:
            y = y * alpha if isinstance(y, int | float) else t.layers.affine(y, alpha, 0.0)
        result = t.layers.binary(kind, _operand(x), _operand(y))
        return result if rounding_mode is None else _ROUNDED[rounding_mode](t, result)

    return handle


def _clamp(t: Torch, x: Operand, low: float | None = None, high: float | None = None) -> str:
    if low is not None and high is not None:
        return t.layers.apply("clip", x, float(low), float(high))
    bound, kind = (low, "max") if low is not None else (high, "min")
    assert bound is not None
    return t.layers.binary(kind, x, np.asarray(float(bound)))


def _clamp_between(t: Torch, x: Operand, low: Operand | None = None, high: Operand | None = None) -> Operand:
    x = x if low is None else t.layers.binary("max", x, low)
    return x if high is None else t.layers.binary("min", x, high)


def _elu(t: Torch, x: Operand, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> str:
    if input_scale != 1:
        raise Refused(
            "input_scale", str(input_scale), "an ELU with an input scale is not supported", "scale the input itself"
        )
    return t.layers.apply("elu", x, alpha) if scale == 1 else t.layers.apply("selu", x, alpha, scale)


def _glu(t: Torch, x: Operand, axis: int = -1) -> str:
    size = t.layers.size(x, axis) // 2
    a, b = t.layers.split(x, [size, size], axis)
    return t.layers.binary("mul", a, t.layers.apply("sigmoid", b))


def _prelu(t: Torch, x: Operand, slope: Operand) -> str:
    """PReLU with slopes along axis 1."""
    w, rank = t.weight(slope, "weight"), len(t.layers.shape(x))
    return t.layers.prelu(x, w.reshaped(1) if w.shape in ((), (1,)) else w.reshaped(*w.shape, *(1,) * (rank - 2)))


def _where(t: Torch, mask: Operand, a: Any, b: Any) -> str:
    return t.layers.where(mask, _operand(a), _operand(b))


def _compared(kind: Comparison) -> Handler:
    return lambda t, x, y: t.layers.compare(kind, _operand(x), _operand(y))


def _threshold(t: Torch, x: Operand, least: float, value: float) -> str:
    """x where it is greater than ``least``, else ``value``."""
    return _where(t, t.layers.greater(x, _operand(least)), x, value)


_KINDS = ("Scalar", "Tensor")
_ROUNDED = {"floor": lambda t, y: t.layers.apply("floor", y), "trunc": lambda t, y: t.layers.truncated(y)}
_GELU = {"none": "gelu", "tanh": "gelu_tanh"}
HANDLERS: dict[str, Handler] = {
    **{f"aten.{foreign.name}.default": _function(foreign, row) for foreign, row in functions_of("torch")},
    "aten.trunc.default": lambda t, x: t.layers.truncated(x),
    "aten.log1p.default": lambda t, x: t.layers.apply("log", t.layers.affine(x, 1.0, 1.0)),
    "aten.expm1.default": lambda t, x: t.layers.affine(t.layers.apply("exp", x), 1.0, -1.0),
    **{
        f"aten.log{base}.default": lambda t, x, base=base: t.layers.affine(
            t.layers.apply("log", x), 1 / math.log(base), 0.0
        )
        for base in (2, 10)
    },
    "aten.exp2.default": lambda t, x: t.layers.apply("exp", t.layers.affine(x, math.log(2), 0.0)),
    "aten.hardswish.default": lambda t, x: t.layers.hard_swish(x),
    "aten.pow.Tensor_Scalar": lambda t, x, e: t.layers.apply("power", x, float(e)),
    "aten.elu.default": _elu,
    "aten.celu.default": lambda t, x, alpha=1.0: t.layers.celu(x, alpha),
    "aten.gelu.default": lambda t, x, *, approximate="none": t.layers.apply(_GELU[approximate], x),
    "aten.sign.default": lambda t, x: t.layers.sign(x),
    "aten.glu.default": _glu,
    "aten.prelu.default": _prelu,
    "aten.threshold.default": _threshold,
    "aten.pow.Scalar": lambda t, base, x: t.layers.apply("exp", t.layers.affine(x, math.log(base), 0.0)),
    **{f"aten.{name}.{kind}": _compared(name) for name in get_args(Comparison) for kind in _KINDS},
    "aten.logical_not.default": lambda t, x: t.layers.negated(x),
    "aten.logical_and.default": _binary("mul"),
    "aten.logical_or.default": _binary("max"),
    **{f"aten.where.{kind}": _where for kind in ("self", "ScalarSelf", "ScalarOther", "Scalar")},
    **{f"aten.masked_fill.{kind}": lambda t, x, mask, value: _where(t, mask, value, x) for kind in _KINDS},
    "aten.max.other": _binary("max"),
    "aten.min.other": _binary("min"),
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp_between,
    "aten.clamp_min.default": lambda t, x, low: _clamp(t, x, low),
    "aten.clamp_max.default": lambda t, x, high: _clamp(t, x, None, high),
    **{f"aten.{n}.{k}": _binary(n) for n in ("add", "sub", "mul", "div") for k in ("Tensor", "Scalar")},
    "aten.div.Tensor_mode": _binary("div"),
    "aten.rsub.Scalar": lambda t, x, y: _binary("sub")(t, y, x),
    "aten.maximum.default": _binary("max"),
    "aten.minimum.default": _binary("min"),
}
