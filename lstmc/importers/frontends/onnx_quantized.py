"""ONNX operators in integers of 8 bits, translated to what they approximate in float32.

What is stored is used as it is stored, scaled; what the source rounds while it runs is not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lstmc.importers.frontends import onnx_layers, onnx_recurrent
from lstmc.importers.frontends.onnx_values import Node, Onnx, constant, weight, weight_or_none
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.refusal import Refused
from lstmc.importers.weight import Weight
from lstmc.ops import Array

EXTENSIONS = frozenset({("com.microsoft", "DynamicQuantizeLSTM")})
ROUNDED = (
    "The source rounds to 8 bits what it computes while it runs; the imported model computes in float32. Its outputs"
    " are close to the source's, and not the same."
)


def _note(t: Onnx) -> None:
    if ROUNDED not in t.layers.builder.notes:
        t.layers.builder.notes.append(ROUNDED)


def _dynamic(t: Onnx, node: Node) -> list[Operand | None]:
    """Return x itself with a scale of 1 and a zero point of 0, by which following nodes multiply."""
    _note(t)
    return [t.layers.value(node.needed(0)), np.asarray(1.0, np.float32), np.asarray(0)]


def _floats(w: Weight, zero: Weight | None, scale: Weight | None, axes: Sequence[int]) -> Weight:
    """Return (w - zero) * scale; both are numbers, or arrays along some axes of w."""

    def spread(term: Weight) -> Array:
        array = term.make().astype(np.float32)
        if array.size == 1:
            return array.reshape(())
        return array.reshape([w.shape[at] if at in axes[: array.ndim] else 1 for at in range(len(w.shape))])

    def make() -> Array:
        array = w.make().astype(np.float32) - (0 if zero is None else spread(zero))
        return array if scale is None else array * spread(scale)

    sources = tuple(name for part in (w, zero, scale) if part is not None for name in part.sources)
    return Weight(w.shape, tuple(dict.fromkeys(sources)), f"{w.recipe} as float32", make)


def _integers(t: Onnx, node: Node, axis: int) -> Node:
    """Return the node with its weights as floats; its other operand must be a result of DynamicQuantizeLinear."""
    zero = constant(node.operand(2))
    if not isinstance(node.needed(0), str) or (node.operand(2) is not None and (zero is None or np.any(zero))):
        why = "integers that DynamicQuantizeLinear did not make"
        raise Refused("a_zero_point", "another", why, "import it before it was quantized")
    w = _floats(weight(node.operand(1), "B"), weight_or_none(node.operand(3), "b_zero_point"), None, (axis,))
    return replace(node, operands=[node.needed(0), w, None])


def _lstm(t: Onnx, node: Node) -> list[Operand | None]:
    """DynamicQuantizeLSTM: W [directions, inputs, 4 H] and R [directions, H, 4 H], with scales and zero points."""
    _note(t)
    scales = [weight_or_none(node.operand(place), f"operand {place}") for place in range(8, 12)]
    weights = []
    for place, scale, zero in ((1, scales[0], scales[1]), (2, scales[2], scales[3])):
        axes = (0,) if scale is None or len(scale.shape) < 2 else (0, 2)
        weights.append(_floats(weight(node.operand(place), "WR"[place - 1], 3), zero, scale, axes).transposed(0, 2, 1))
    operands = [node.operands[0], *weights, *node.operands[3:8]]
    return onnx_recurrent.recurrent(t, replace(node, op="LSTM", operands=operands))


def _dequantized(t: Onnx, node: Node) -> Operand:
    """(x - zero) * scale of a computed x, as rows of a stored table are."""
    scale, zero = constant(node.operand(1)), constant(node.operand(2))
    if scale is None or scale.size > 1:
        raise Refused("x_scale", "computed, or several", "it must be one number", "import it before it was quantized")
    factor = float(scale.reshape(-1)[0])
    return t.layers.affine(node.needed(0), factor, 0.0 if zero is None else -factor * float(zero.reshape(-1)[0]))


HANDLERS = {
    "DynamicQuantizeLinear": _dynamic,
    "DequantizeLinear": _dequantized,
    "MatMulInteger": lambda t, node: onnx_layers.HANDLERS["MatMul"](t, _integers(t, node, 1)),
    "ConvInteger": lambda t, node: onnx_layers.HANDLERS["Conv"](t, _integers(t, node, 0)),
    "DynamicQuantizeLSTM": _lstm,
}
