"""Stacks of recurrent layers, as PyTorch and ONNX have them: directions side by side, layers one on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.importers.convention import cell_weights
from lstmc.importers.describe.cell import Cell
from lstmc.importers.describe.recur import Extra, Recur
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.weight import Weight


def one_direction(
    layers: Layers,
    framework: str,
    cell: Cell,
    x: str,
    weights: Sequence[Weight | None],
    more: Mapping[str, Weight],
    init: Mapping[str, Operand],
    extras: Mapping[Extra, Operand],
    reverse: bool,
    hint: str,
) -> tuple[str, ...]:
    """One cell over x [T, N, D]: its outputs, then its last states. ``weights``: input, recurrent, two biases."""
    w_x, w_h, b_x, b_h = weights
    assert w_x is not None
    assert w_h is not None
    made = cell_weights(framework, cell, w_x, w_h, b_x, b_h, more)
    outputs = made["W_p"].shape[0] if cell.projection else w_h.shape[0 if framework == "keras" else 1]
    units = made["W_p"].shape[1] if cell.projection else outputs
    name = layers.builder.cell_name(hint, cell, made)
    op = Recur(cell, units, outputs, name, reverse, tuple(init), tuple(extras))
    given = [layers.value(value, f"{name}_{state}_0") for state, value in init.items()]
    given += [layers.value(value, extra) for extra, value in extras.items()]
    return layers.builder.recur(op, x, made, given, layers.origin)
