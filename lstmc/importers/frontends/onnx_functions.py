"""ONNX operators that are formulas of others: norms, inverse trigonometry, remainders; ONNX Runtime's own operators."""

from __future__ import annotations

from functools import partial
from math import pi
from typing import Any

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.onnx_layers import matmul
from lstmc.importers.frontends.onnx_values import CHECK, Handler, Node, Onnx, called, weight_or_none
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.values import axis_in, number
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import functions_of

# Abramowitz and Stegun 4.4.49: an error of 2e-8 from -1 to 1
_ARCTAN = (
    *(0.0028662257, -0.0161657367, 0.0429096138, -0.0752896400, 0.1065626393, -0.1420889944),
    *(0.1999355085, -0.3333314528, 1.0),
)


def arctan(layers: Layers, x: Operand) -> str:
    """Return the angle whose tangent is x, to 2e-8, by a polynomial; for large x, pi / 2 less the angle of 1 / x."""
    size = layers.apply("abs", x)
    beyond = layers.apply("step", layers.affine(size, 1.0, -1.0))
    inverse = layers.apply("power", layers.apply("maximum", size, 1.0), -1.0)
    u = layers.binary("min", size, inverse)
    squared = layers.apply("power", u, 2.0)
    y = layers.affine(squared, _ARCTAN[0], _ARCTAN[1])
    for number_ in _ARCTAN[2:]:
        y = layers.affine(layers.binary("mul", y, squared), 1.0, number_)
    y = layers.binary("mul", y, u)
    y = layers.binary("add", y, layers.binary("mul", beyond, layers.affine(y, -2.0, pi / 2)))
    return layers.binary("mul", layers.apply("sign", x), y)


def _arcsin(layers: Layers, x: Operand) -> str:
    """Return the angle whose sine is x: twice the angle whose tangent is x / (1 + sqrt(1 - x x))."""
    root = layers.apply("power", layers.affine(layers.apply("power", x, 2.0), -1.0, 1.0), 0.5)
    ratio = layers.binary("div", x, layers.affine(root, 1.0, 1.0))
    return layers.affine(arctan(layers, ratio), 2.0, 0.0)


def _lrn(t: Onnx, x: Operand, *, size: int, alpha: float, beta: float, bias: float) -> Operand:
    """Return x / (bias + alpha / size s) ** beta, where s is the sum of squares of neighbouring channels."""
    channels = t.size(x, 1, "channels")
    offset = np.subtract.outer(np.arange(channels), np.arange(channels))
    near = (offset <= (size - 1) // 2) & (-offset <= size // 2)
    weight = number(near.astype(np.float32), f"1 for the {size} channels around each")
    sums = t.along_last(t.apply("power", x, 2.0), 1, lambda squares: t.linear(squares, weight))
    return t.binary("mul", x, t.apply("power", t.affine(sums, alpha / size, bias), -beta))


def _lp_norm(t: Onnx, x: Operand, *, axis: int, p: int) -> Operand:
    if p not in (1, 2):
        raise Refused("p", str(p), "there are 1 and 2", CHECK)
    return t.binary("div", x, t.apply("maximum", t.norm(x, p, [axis], keep=True), 1e-30))  # zeros stay zeros


def _rms_norm(t: Onnx, x: Operand, scale: Operand | None = None, *, axis: int = -1, epsilon: float = 1e-5) -> Operand:
    return t.rms_norm(x, epsilon, scale, range(axis_in(axis, t.rank(x)), t.rank(x)))


HANDLERS: dict[str, Handler] = {
    "Atan": arctan,
    "Asin": _arcsin,
    "Acos": lambda t, x: t.affine(_arcsin(t, x), -1.0, pi / 2),
    # the sign comes from the second operand; with fmod from the first
    "Mod": lambda t, x, y, *, fmod: t.divided(x, y, "trunc" if fmod else "floor")[1],
    "LRN": _lrn,
    "LpNormalization": _lp_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,  # ONNX Runtime's, in ONNX's domain
    "CastLike": lambda t, x, like: t.converted(x, t.kind(like)),
}


# ONNX Runtime's operators (com.microsoft, docs/ContribOperators.md): fused by its optimizer, or made by its tools.
def _activated(t: Onnx, node: Node, y: Operand) -> Operand:
    """Return y after the activation that the operator includes, if any. Raises :class:`Refused` if it is not known."""
    name = node.get("activation")
    if not name:
        return y
    rows = {foreign.name: (foreign, row) for foreign, row in functions_of("onnx") if row.operator}
    if name == "Clip":
        low, high = node.get("activation_params")
        return t.clip(y, np.asarray(low), np.asarray(high))
    if name not in rows:
        raise Refused("activation", str(name), "it is not known", f"use one of {', '.join(rows)}")
    foreign, row = rows[name]
    given = [node.get(f"activation_{key}", value) for key, value in foreign.settings.items()]
    given = [*node.get("activation_params", given)][: len(given)]
    return t.apply(row.function, y, *(given or row.numbers))


def _then_activated(plain: Handler, t: Onnx, *, node: Node) -> Operand:
    """Return the activation of what ``plain`` computes, plus the fourth operand if there is one."""
    y, more = called(plain, t, node), node.operand(3)
    return _activated(t, node, y if more is None else t.binary("add", y, more))


def _fused_matmul(
    t: Onnx, a: Operand, b: Operand, *,
    alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0, transBatchB: int = 0,
) -> Operand:  # fmt: skip
    """Return alpha A B, where A and B may be transposed. Raises :class:`Refused` for a transposed batch."""
    if transBatchA or transBatchB:
        raise Refused("transBatchA, transBatchB", "1", "batches are not transposed here", "transpose before it")
    x, y = (t.turned(one) if turned else one for one, turned in ((a, transA), (b, transB)))
    return t.affine(matmul(t, x, y), alpha, 0.0)


def _skip_norm(
    t: Onnx, x: Operand, skip: Operand, scale: Any, shift: Any = None, bias: Any = None, *, epsilon: float = 1e-12,
    rms: bool = False,
) -> list[Operand | None]:  # fmt: skip
    """Return the norm of x + skip + bias, two results that are not computed, and the sum itself."""
    y = t.binary("add", x, skip)
    y = y if bias is None else t.binary("add", y, bias)
    a, b = weight_or_none(scale, "gamma"), weight_or_none(shift, "beta")
    return [t.rms_norm(y, epsilon, a) if rms else t.layer_norm(y, epsilon, a, b), None, None, y]


def _biased(function: str) -> Handler:
    return lambda t, x, bias=None: t.apply(function, x if bias is None else t.binary("add", x, bias))


def fused(known: dict[str, Handler]) -> dict[str, Handler]:
    """Return the handlers of ONNX Runtime's operators, made from the handlers of ONNX's operators."""
    return {
        "FusedMatMul": _fused_matmul,
        "FusedGemm": partial(_then_activated, known["Gemm"]),
        "FusedConv": partial(_then_activated, known["Conv"]),
        "SkipLayerNormalization": _skip_norm,
        "SkipSimplifiedLayerNormalization": lambda t, x, skip, scale, bias=None, *, epsilon=1e-12: _skip_norm(
            t, x, skip, scale, None, bias, epsilon=epsilon, rms=True
        ),
        "SimplifiedLayerNormalization": _rms_norm,
        "LayerNormalization": known["LayerNormalization"],
        "Gelu": _biased("gelu"),
        "BiasGelu": _biased("gelu"),
        "FastGelu": _biased("gelu_tanh"),
        "QuickGelu": lambda t, x, *, alpha=1.702: t.apply("swish", x, alpha),
        "BiasAdd": lambda t, x, bias, skip: t.binary("add", t.binary("add", x, bias), skip),
        **{name: known[name] for name in ("DequantizeLinear", "QuantizeLinear")},
    }
