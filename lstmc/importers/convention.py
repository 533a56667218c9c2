"""The layout of recurrent weights in each framework, and their conversion to the written model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstmc.importers.ir.recur import Cell
from lstmc.importers.weight import Weight
from lstmc.ops import Array
from lstmc.patterns.recognised import GRU_ORDERS, LSTM_ORDERS


@dataclass(frozen=True)
class Convention:
    """``gates``: the order of the blocks in stored weights. ``transposed``: stored [in, gates x H], one gate beside
    the other, where the others have [gates x H, in]. ``source`` says where that is written."""

    gates: tuple[str, ...]
    transposed: bool
    source: str


TORCH = "torch.nn.modules.rnn, 'Variables' of each layer"
ONNX = "onnx/docs/Operators.md"
KERAS = "keras/src/layers/rnn/*.py, the splits of the kernels in each cell's call"
CAFFE = "lstm_unit_layer.cpp, rnn_layer.cpp"
CONVENTIONS: dict[tuple[str, str], Convention] = {
    ("torch", "rnn"): Convention(("h",), False, TORCH),
    ("torch", "lstm"): Convention(tuple(LSTM_ORDERS["pytorch"]), False, TORCH),
    ("torch", "gru"): Convention(tuple(GRU_ORDERS["pytorch"]), False, TORCH),
    ("onnx", "rnn"): Convention(("h",), False, ONNX),
    ("onnx", "lstm"): Convention(tuple(LSTM_ORDERS["onnx"]), False, ONNX),
    ("onnx", "gru"): Convention(tuple(GRU_ORDERS["onnx"]), False, ONNX),
    ("keras", "rnn"): Convention(("h",), True, KERAS),
    ("keras", "lstm"): Convention(tuple(LSTM_ORDERS["keras"]), True, KERAS),
    ("keras", "gru"): Convention(tuple(GRU_ORDERS["keras"]), True, KERAS),
    ("caffe", "rnn"): Convention(("h",), False, CAFFE),
    ("caffe", "lstm"): Convention(tuple(LSTM_ORDERS["caffe"]), False, CAFFE),
}


def cell_weights(
    framework: str,
    cell: Cell,
    w_x: Weight,
    w_h: Weight,
    b_x: Weight | None = None,
    b_h: Weight | None = None,
    more: Mapping[str, Weight] | None = None,
) -> dict[str, Weight]:
    """Return the written cell's weights from the framework's input, recurrent and bias blocks.

    ``more`` are peepholes and the projection, by the cell's own names. A bias that the framework adds outside of the
    recurrent product is b_x; one inside, which matters to a GRU that resets after it, is b_h.
    """
    convention = CONVENTIONS[framework, cell.kind]
    if convention.transposed:
        w_x, w_h = w_x.transposed(), w_h.transposed()
    parts = len(convention.gates)

    def blocks(weight: Weight, gates: tuple[str, ...]) -> Weight:
        return weight.rows(parts, [convention.gates.index(gate) for gate in gates], gates)

    packed = {"W_x": blocks(w_x, cell.gates)}
    if cell.bias:
        packed["b"] = _bias(cell, *(None if b is None else blocks(b, cell.gates) for b in (b_x, b_h)))
    if cell.kind == "gru" and not cell.reset_after:
        packed |= {"W_h": blocks(w_h, ("z", "r")), "U": blocks(w_h, ("n",))}
    else:
        packed["W_h"] = blocks(w_h, cell.gates)
    if cell.kind == "gru" and cell.reset_after and cell.bias:
        assert b_h is not None
        packed["b_h"] = blocks(b_h, ("n",))
    return packed | dict(more or {})


def _bias(cell: Cell, b_x: Weight | None, b_h: Weight | None) -> Weight:
    """Return one bias: the sum of the two, apart from a reset gate's recurrent part."""
    if b_x is None or b_h is None:
        bias = b_x or b_h
        assert bias is not None
        return bias
    if not (cell.kind == "gru" and cell.reset_after):
        return b_x.plus(b_h)
    cut = b_x.shape[0] * 2 // 3

    def make() -> Array:
        return np.concatenate([b_x.make()[:cut] + b_h.make()[:cut], b_x.make()[cut:]])

    return Weight(b_x.shape, (*b_x.sources, *b_h.sources), f"{b_x.recipe} + z, r of {b_h.recipe}", make)
