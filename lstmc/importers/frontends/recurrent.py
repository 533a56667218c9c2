"""Recurrent layers and loops, shared by the frontends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lstmc.importers.convention import cell_weights
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.net import Net, Rolled
from lstmc.importers.ir.recur import Cell, Extra, Recur
from lstmc.importers.ir.sizes import Size
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
    """Add one cell over x [T, N, D]; return outputs and last states. ``weights``: input, recurrent, two biases."""
    w_x, w_h, b_x, b_h = weights
    assert w_x is not None
    assert w_h is not None
    packed = cell_weights(framework, cell, w_x, w_h, b_x, b_h, more)
    outputs = packed["W_p"].shape[0] if cell.projection else w_h.shape[0 if framework == "keras" else 1]
    units = packed["W_p"].shape[1] if cell.projection else outputs
    name = layers.builder.cell_name(hint, cell, packed)
    op = Recur(cell, units, outputs, name, reverse, tuple(init), tuple(extras))
    operands = [layers.value(value, f"{name}_{state}_0") for state, value in init.items()]
    operands += [layers.value(value, extra) for extra, value in extras.items()]
    return layers.builder.recur(op, x, packed, operands, layers.origin)


def rolled(
    layers: Layers,
    body: Net,
    sequences: Mapping[str, Operand],
    states: Mapping[str, Operand | None],
    static: Mapping[str, Operand],
    steps: Size,
    reverse: bool = False,
) -> tuple[str, ...]:
    """Add a loop over time; return its outputs over time, then the last states.

    ``body`` has inputs of these names in this order; of ``states`` those that start at zero have no first value. Its
    outputs are the next states, then what each step gives.
    """
    builder = layers.builder
    name = builder.fresh(layers.hint)
    weights = {f"{name}/{role}": weight for role, weight in body.params.items()}
    builder.params |= weights
    builder.shapes |= {role: weight.shape for role, weight in weights.items()}
    first = {state: value for state, value in states.items() if value is not None}
    op = Rolled(body, name, steps, len(sequences), tuple(states), tuple(first), reverse)
    operands = [layers.value(value) for value in (*sequences.values(), *first.values(), *static.values())]
    count = len(body.outputs) - len(states)
    hints = [*(f"{name}_y" for _ in range(count)), *(f"{name}_{state}_T" for state in states)]
    return builder.add(op, *weights, *operands, hint="", hints=hints, origin=layers.origin)
