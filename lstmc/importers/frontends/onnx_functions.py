"""ONNX operators that are formulas of a few others: norms, trigonometry, remainders; and ONNX Runtime's fused ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import pi

import numpy as np

from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.onnx_values import CHECK, Node, Onnx, weight_or_none
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.values import Weight, axis_in, number
from lstmc.importers.refusal import Refused
from lstmc.ops.frameworks import functions_of

Handler = Callable[[Onnx, Node], Operand | list[Operand | None]]
# Abramowitz and Stegun 4.4.49: an error of 2e-8 from -1 to 1
_ARCTAN = (
    *(0.0028662257, -0.0161657367, 0.0429096138, -0.0752896400, 0.1065626393, -0.1420889944),
    *(0.1999355085, -0.3333314528, 1.0),
)


def arctan(layers: Layers, x: Operand) -> str:
    """Return the angle whose tangent is x, to 2e-8; for a large x by that of 1 / x."""
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


def _root_of_one_less(layers: Layers, x: Operand) -> str:
    """Return sqrt(1 - x x)."""
    return layers.apply("power", layers.affine(layers.apply("power", x, 2.0), -1.0, 1.0), 0.5)


def _arcsin(layers: Layers, x: Operand) -> str:
    """Return the angle whose sine is x: twice that whose tangent is x / (1 + sqrt(1 - x x))."""
    ratio = layers.binary("div", x, layers.affine(_root_of_one_less(layers, x), 1.0, 1.0))
    return layers.affine(arctan(layers, ratio), 2.0, 0.0)


def _hyperbolic(sign: float) -> Handler:
    """Return a handler of (exp(x) + sign exp(-x)) / 2."""

    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        there, back = t.apply("exp", x), t.apply("exp", t.affine(x, -1.0, 0.0))
        return t.affine(t.binary("add" if sign > 0 else "sub", there, back), 0.5, 0.0)

    return handle


def _area(shift: float) -> Handler:
    """Return a handler of sign(x) log(|x| + sqrt(x x + shift)), in which no numbers cancel out."""

    def handle(t: Onnx, node: Node) -> Operand:
        size = t.apply("abs", node.needed(0))
        root = t.apply("power", t.affine(t.apply("power", size, 2.0), 1.0, shift), 0.5)
        y = t.apply("log", t.binary("add", size, root))
        return t.binary("mul", t.apply("sign", node.needed(0)), y)

    return handle


def _artanh(t: Onnx, node: Node) -> Operand:
    x = node.needed(0)
    ratio = t.binary("div", t.affine(x, 1.0, 1.0), t.affine(x, -1.0, 1.0))
    return t.affine(t.apply("log", ratio), 0.5, 0.0)


def _mod(t: Onnx, node: Node) -> Operand:
    """Remainder with the sign of the second operand; with fmod of the first one."""
    return t.divided(node.needed(0), node.needed(1), "trunc" if node.get("fmod") else "floor")[1]


def _lrn(t: Onnx, node: Node) -> Operand:
    """x / (bias + alpha / size sum of the squares of near channels) ** beta: the sums are a product."""
    x, size = node.needed(0), node.attributes["size"]
    rank, channels = len(t.shape(x)), t.size(x, 1, "channels")
    offset = np.subtract.outer(np.arange(channels), np.arange(channels))
    near = (offset <= (size - 1) // 2) & (-offset <= size // 2)
    order = [0, *range(2, rank), 1]
    squares = t.transpose(t.apply("power", x, 2.0), order)
    sums = t.linear(squares, number(near.astype(np.float32), f"1 for the {size} channels around each"))
    sums = t.transpose(sums, np.argsort(order).tolist())
    scaled = t.affine(sums, node.get("alpha") / size, node.get("bias"))
    return t.binary("mul", x, t.apply("power", scaled, -node.get("beta")))


def _lp_norm(t: Onnx, node: Node) -> Operand:
    x, order = node.needed(0), node.get("p")
    if order not in (1, 2):
        raise Refused("p", str(order), "there are 1 and 2", CHECK)
    norm = t.norm(x, order, [node.get("axis")], keep=True)
    return t.binary("div", x, t.apply("maximum", norm, 1e-30))  # zeros stay zeros


def _rms_norm(t: Onnx, node: Node) -> Operand:
    x, rank = node.needed(0), len(t.shape(node.needed(0)))
    axes = range(axis_in(node.get("axis", -1), rank), rank)
    return t.rms_norm(x, node.get("epsilon", 1e-5), node.operand(1), axes)


def _cast_like(t: Onnx, node: Node) -> Operand:
    return t.converted(node.needed(0), t.kind(node.needed(1)))


HANDLERS: dict[str, Handler] = {
    "Atan": lambda t, node: arctan(t, node.needed(0)),
    "Asin": lambda t, node: _arcsin(t, node.needed(0)),
    "Acos": lambda t, node: t.affine(_arcsin(t, node.needed(0)), -1.0, pi / 2),
    "Tan": lambda t, node: t.binary("div", t.apply("sin", node.needed(0)), t.apply("cos", node.needed(0))),
    "Sinh": _hyperbolic(-1.0),
    "Cosh": _hyperbolic(1.0),
    "Asinh": _area(1.0),
    "Acosh": _area(-1.0),
    "Atanh": _artanh,
    "Mod": _mod,
    "LRN": _lrn,
    "LpNormalization": _lp_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,  # ONNX Runtime's, in ONNX's domain
    "CastLike": _cast_like,
}


# ONNX Runtime's operators (com.microsoft, docs/ContribOperators.md): fused by its optimizer, or made by its tools.
def _activated(t: Onnx, node: Node, y: Operand) -> Operand:
    """Return a value after the activation that is fused with the operator before it."""
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


def _then_activated(plain: Handler) -> Handler:
    """Return a handler of an operator of ONNX with an activation, and of a convolution a sum, behind it."""

    def handle(t: Onnx, node: Node) -> Operand:
        y = plain(t, replace(node, operands=[*node.operands[:3]]))
        assert not isinstance(y, list)
        more = node.operand(3)
        return _activated(t, node, y if more is None else t.binary("add", y, more))

    return handle


def _fused_matmul(product: Handler) -> Handler:
    """Return a handler of alpha A B, of which either may be transposed."""

    def handle(t: Onnx, node: Node) -> Operand:
        if node.get("transBatchA") or node.get("transBatchB"):
            raise Refused("transBatchA, transBatchB", "1", "batches are not transposed here", "transpose before it")
        operands = [
            _turned(t, x) if node.get(key) else x
            for x, key in zip((node.needed(0), node.needed(1)), ("transA", "transB"), strict=True)
        ]
        y = product(t, replace(node, operands=[*operands]))
        assert not isinstance(y, list)
        return t.affine(y, node.get("alpha", 1.0), 0.0)

    return handle


def _turned(t: Onnx, x: Operand) -> Operand:
    """Return x with its last two axes swapped; a parameter stays one."""
    rank = len(t.shape(x))
    axes = (*range(rank - 2), rank - 1, rank - 2) if rank > 1 else (0,)
    if isinstance(x, str):
        return t.transpose(x, axes)
    return x.transposed(*axes) if isinstance(x, Weight) else x.transpose(axes)


def _skip_norm(mean: bool) -> Handler:
    """Return a handler of the norm of x + skip + bias, and that sum as the fourth result."""

    def handle(t: Onnx, node: Node) -> list[Operand | None]:
        x = t.binary("add", node.needed(0), node.needed(1))
        at = 4 if mean else 3
        if node.operand(at) is not None:
            x = t.binary("add", x, node.needed(at))
        eps, scale = node.get("epsilon", 1e-12), weight_or_none(node.operand(2), "gamma")
        if not mean:
            return [t.rms_norm(x, eps, scale), None, None, x]
        return [t.layer_norm(x, eps, scale, weight_or_none(node.operand(3), "beta")), None, None, x]

    return handle


def _biased(function: str) -> Handler:
    def handle(t: Onnx, node: Node) -> Operand:
        x = node.needed(0)
        return t.apply(function, x if node.operand(1) is None else t.binary("add", x, node.needed(1)))

    return handle


def _quick_gelu(t: Onnx, node: Node) -> Operand:
    return t.apply("swish", node.needed(0), node.get("alpha", 1.702))


def fused(known: dict[str, Handler]) -> dict[str, Handler]:
    """Return the handlers of ONNX Runtime's operators, made of those of ONNX's own."""
    return {
        "FusedMatMul": _fused_matmul(known["MatMul"]),
        "FusedGemm": _then_activated(known["Gemm"]),
        "FusedConv": _then_activated(known["Conv"]),
        "SkipLayerNormalization": _skip_norm(mean=True),
        "SkipSimplifiedLayerNormalization": _skip_norm(mean=False),
        "SimplifiedLayerNormalization": _rms_norm,
        "LayerNormalization": known["LayerNormalization"],
        "Gelu": _biased("gelu"),
        "BiasGelu": _biased("gelu"),
        "FastGelu": _biased("gelu_tanh"),
        "QuickGelu": _quick_gelu,
        "BiasAdd": lambda t, node: t.binary("add", t.binary("add", node.needed(0), node.needed(1)), node.needed(2)),
        **{name: known[name] for name in ("DequantizeLinear", "QuantizeLinear")},
    }
