"""ONNX's LSTM, GRU and RNN with all attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lstmc.importers.frontends.onnx_values import CHECK, Handler, Node, Onnx, fixed_numbers, weight
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.recur import Cell, Extra, Kind
from lstmc.importers.ir.values import Size, Weight, fixed, listed
from lstmc.importers.refusal import Refused
from lstmc.ops import Op
from lstmc.ops.frameworks import functions_of

# Functions by ONNX's names (in any case), with the defaults of alpha and beta.
_FUNCTIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    foreign.name.lower(): (row.function, (*foreign.settings.values(),))
    for foreign, row in functions_of("onnx")
    if row.cell
}
_KINDS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "LSTM": ("lstm", ("sigmoid", "tanh", "tanh")),
    "GRU": ("gru", ("sigmoid", "tanh")),
    "RNN": ("rnn", ("tanh",)),
}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent(t: Onnx, *, node: Node) -> list[Operand | None]:
    """Return Y [T, directions, N, H], then the last states [directions, N, H]; with layout 1, N comes first."""
    kind, _ = _KINDS[node.op]
    direction = node.get("direction")
    if direction not in _DIRECTIONS:
        raise Refused("direction", str(direction), "there are forward, reverse and bidirectional", "use one of them")
    directions = _DIRECTIONS[direction]
    functions = list(_activations(node, len(directions)))
    w, r = weight(node.operand(1), "W", 3), weight(node.operand(2), "R", 3)
    layout = node.get("layout")
    x = t.value(node.needed(0), "X")
    if layout:
        x = t.transpose(x, (1, 0, 2))
    lengths = _lengths(node.operand(4), t.shape(x)[0])
    extras: dict[Extra, Operand] = {} if lengths is None else {"lengths": lengths}
    units = node.get("hidden_size", r.shape[-1])
    if r.shape[-1] != units or {w.shape[0], r.shape[0]} != {len(directions)}:
        raise Refused("hidden_size, direction", f"{units}, {direction}", f"R is {list(r.shape)}", "check the model")
    hint = node.label.split(" ")[0].strip("/").replace("/", "_")
    if kind == "gru" and not node.get("linear_before_reset"):
        t.builder.notes.append(
            f"{node.label} resets before the recurrent product, as linear_before_reset = 0 says. Some exporters write 0"
            " where the framework meant 1: compare with the source's own numbers."
        )
    ys, last = [], []
    for lane, back in enumerate(directions):
        cell = _cell(node, kind, functions[lane])
        y, *states = t.recur(
            "onnx", cell, x, [w.at(lane), r.at(lane), *_biases(node, cell, lane)],
            _initial(t, node, cell, lane, layout), hint + ("_reverse" if back else ""),
            _peepholes(node, cell, lane), extras, back,
        )  # fmt: skip
        ys.append(t.unsqueeze(y, [1]))
        last.append([t.unsqueeze(state, [0]) for state in states])
    results = [t.concat(ys, 1), *(t.concat(states, 0) for states in zip(*last, strict=True))]
    if layout:
        orders = ((2, 0, 1, 3), *((1, 0, 2),) * len(cell.states))
        results = [t.transpose(value, order) for value, order in zip(results, orders, strict=True)]
    return [*results]


def _activations(node: Node, directions: int) -> Iterator[Sequence[Op]]:
    """Yield the functions of each direction; those with coefficients consume them in order."""
    _, usual = _KINDS[node.op]
    given = any(attribute.name == "activations" for attribute in node.proto.attribute)
    names = (given and node.get("activations")) or usual * directions  # not RNN's default, for two ways
    if len(names) != len(usual) * directions:
        raise Refused("activations", f"{len(names)} of them", f"expected {len(usual) * directions}", "check the model")
    alphas, betas = iter(node.get("activation_alpha", ())), iter(node.get("activation_beta", ()))
    functions = []
    for name in names:
        if name.lower() not in _FUNCTIONS:
            why = "it jumps, which no layer of Caffe does" if name == "ThresholdedRelu" else "it is not known"
            raise Refused("activations", name, why, f"use one of {', '.join(_FUNCTIONS)}")
        word, defaults = _FUNCTIONS[name.lower()]
        numbers = [
            next(coefficients, default) for coefficients, default in zip((alphas, betas), defaults, strict=False)
        ]
        if None in numbers:
            raise Refused("activation_alpha, activation_beta", "none", f"{name} has no defaults", "give both")
        functions.append(function(word, *(float(n) for n in numbers if n is not None)))
    for lane in range(directions):
        yield functions[lane * len(usual) : (lane + 1) * len(usual)]


def _cell(node: Node, kind: Kind, functions: Sequence[Op]) -> Cell:
    usual, clip = Cell(kind), node.attributes.get("clip")
    gate, new, out, *_ = (*([usual.gate] if kind == "rnn" else []), *functions, usual.out)
    return Cell(
        kind,
        gate,
        new,
        out,
        bias=node.operand(3) is not None,
        reset_after=kind == "gru" and bool(node.get("linear_before_reset")),
        peepholes=kind == "lstm" and node.operand(7) is not None,
        coupled=kind == "lstm" and bool(node.get("input_forget")),
        clip=None if not clip else float(clip),
    )


def _biases(node: Node, cell: Cell, lane: int) -> tuple[Weight | None, Weight | None]:
    if not cell.bias:
        return None, None
    whole = _of_direction(weight(node.operand(3), "B", 2), "B", lane)
    half = whole.shape[0] // 2
    return whole.cut(0, half), whole.cut(half, 2 * half)


def _peepholes(node: Node, cell: Cell, lane: int) -> dict[str, Weight]:
    """Return the peephole weights; P has the order i, o, f."""
    if not cell.peepholes:
        return {}
    whole = _of_direction(weight(node.operand(7), "P", 2), "P", lane)
    size = whole.shape[0] // 3
    peepholes = {f"p_{gate}": whole.cut(at * size, (at + 1) * size) for at, gate in enumerate("iof")}
    return {role: part for role, part in peepholes.items() if role.removeprefix("p_") in cell.gates}


def _initial(t: Onnx, node: Node, cell: Cell, lane: int, layout: int) -> dict[str, Operand]:
    """Return the initial values of the states, without zeros, the default."""
    initial: dict[str, Operand] = {}
    for state, place in zip(cell.states, (5, 6), strict=False):
        value = node.operand(place)
        if value is None or ((array := constant(value)) is not None and not array.any()):
            continue
        if isinstance(value, str):
            initial[state] = t.select(value, 1 if layout else 0, lane)
        else:
            start = weight(value, f"initial_{state}", 3)
            start = start.transposed(1, 0, 2) if layout else start
            initial[state] = _of_direction(start, f"initial_{state}", lane)
    return initial


def _of_direction(stored: Weight, name: str, lane: int) -> Weight:
    if lane >= stored.shape[0]:
        raise Refused(name, f"of shape {list(stored.shape)}", "it has no part for each direction", CHECK)
    return stored.at(lane)


def _lengths(operand: Operand | None, steps: Size) -> Operand | None:
    """Return the operand ``sequence_lens``; None if all are known to be the full length."""
    array = constant(operand)
    if array is not None and np.all(array == steps):
        return None
    numbers = [] if array is None else fixed_numbers(operand, "sequence_lens")
    if numbers and not 0 <= min(numbers) <= max(numbers) <= fixed(steps, "the number of steps"):
        raise Refused("sequence_lens", str(numbers[:8]), f"there are {steps} steps", "check the model")
    return operand


def _reverse_sequence(t: Onnx, x: Operand, lengths: Operand, *, time_axis: int, batch_axis: int) -> Operand:
    shape, counts = t.shape(x), t.shape(lengths)
    if sorted((time_axis, batch_axis)) != [0, 1] or len(shape) < 2:
        actual = f"{time_axis}, {batch_axis} of {listed(shape)}"
        raise Refused("time_axis, batch_axis", actual, "they must be 0 and 1, or 1 and 0", "transpose the operand")
    if counts != (shape[batch_axis],):
        raise Refused("sequence_lens", listed(counts), f"{shape[batch_axis]} lengths are expected", CHECK)
    return t.reversed(x, time_axis, _lengths(lengths, shape[time_axis]), batch_axis)


HANDLERS: dict[str, Handler] = {**dict.fromkeys(_KINDS, recurrent), "ReverseSequence": _reverse_sequence}
