"""ONNX's LSTM, GRU and RNN: all their attributes and operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lstmc.importers.describe.cell import Cell, Kind
from lstmc.importers.describe.pointwise import Activation
from lstmc.importers.describe.recur import Extra
from lstmc.importers.describe.shapes import fixed
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.onnx_values import Node, Onnx, known, weight
from lstmc.importers.frontends.recurrent import one_direction
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight

# Functions by ONNX's names, with what their alpha and beta are if nothing is said (None: something must be).
_FUNCTIONS: dict[str, tuple[str, tuple[float | None, ...]]] = {
    "sigmoid": ("sigmoid", ()),
    "tanh": ("tanh", ()),
    "relu": ("relu", ()),
    "softsign": ("softsign", ()),
    "softplus": ("softplus", ()),
    "leakyrelu": ("leaky_relu", (0.01,)),
    "elu": ("elu", (1.0,)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "affine": ("affine", (None, None)),
    "scaledtanh": ("scaled_tanh", (None, None)),
}
_KINDS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "LSTM": ("lstm", ("sigmoid", "tanh", "tanh")),
    "GRU": ("gru", ("sigmoid", "tanh")),
    "RNN": ("rnn", ("tanh",)),
}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


def recurrent(t: Onnx, node: Node) -> list[Operand | None]:
    """Y [T, directions, N, H], then the last states [directions, N, H]; with layout 1, N comes first."""
    kind, _ = _KINDS[node.op]
    told = node.get("direction", "forward")
    if told not in _DIRECTIONS:
        raise Refused("direction", str(told), "there are forward, reverse and bidirectional", "use one of them")
    directions = _DIRECTIONS[told]
    functions = list(_activations(node, len(directions)))
    w, r = weight(node.operand(1), "W"), weight(node.operand(2), "R")
    layout = int(node.get("layout", 0))
    x = t.layers.value(node.needed(0), "X")
    if layout:
        x = t.layers.transpose(x, (1, 0, 2))
    lengths = _lengths(t, node, x)
    extras: dict[Extra, Operand] = {} if lengths is None else {"lengths": lengths}
    units = int(node.get("hidden_size", r.shape[-1]))
    if r.shape[-1] != units or w.shape[0] != len(directions):
        raise Refused("hidden_size, direction", f"{units}, {told}", f"R is {list(r.shape)}", "check the model")
    hint = node.label.split(" ")[0].strip("/").replace("/", "_")
    if kind == "gru" and not node.get("linear_before_reset", 0):
        t.layers.builder.notes.append(
            f"{node.label} resets before the recurrent product, as linear_before_reset = 0 says. Some exporters write 0"
            " where the framework meant 1: compare with the source's own numbers."
        )
    ys, last = [], []
    for lane, back in enumerate(directions):
        cell = _cell(node, kind, functions[lane])
        y, *states = one_direction(
            t.layers, "onnx", cell, x, [w.at(lane), r.at(lane), *_biases(node, cell, lane)],
            _peepholes(node, cell, lane), _initial(t, node, cell, lane, layout), extras, back,
            hint + ("_reverse" if back else ""),
        )  # fmt: skip
        ys.append(t.layers.unsqueeze(y, [1]))
        last.append([t.layers.unsqueeze(state, [0]) for state in states])
    results = [t.layers.concat(ys, 1), *(t.layers.concat(states, 0) for states in zip(*last, strict=True))]
    if layout:
        orders = ((2, 0, 1, 3), *((1, 0, 2),) * len(cell.states))
        results = [t.layers.transpose(value, order) for value, order in zip(results, orders, strict=True)]
    return [*results]


def _activations(node: Node, directions: int) -> Iterator[Sequence[Activation]]:
    """The functions of each direction; numbers are taken in order by those that have them."""
    _, usual = _KINDS[node.op]
    names = node.attributes.get("activations") or usual * directions
    if len(names) != len(usual) * directions:
        raise Refused("activations", f"{len(names)} of them", f"expected {len(usual) * directions}", "check the model")
    alphas, betas = iter(node.get("activation_alpha", ())), iter(node.get("activation_beta", ()))
    found = []
    for name in (n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names):
        if name.lower() not in _FUNCTIONS:
            why = "it jumps, which no layer of Caffe does" if name == "ThresholdedRelu" else "it is not known"
            raise Refused("activations", name, why, f"use one of {', '.join(_FUNCTIONS)}")
        function, defaults = _FUNCTIONS[name.lower()]
        numbers = [next(given, default) for given, default in zip((alphas, betas), defaults, strict=False)]
        if None in numbers:
            raise Refused("activation_alpha, activation_beta", "none", f"{name} has no defaults", "give both")
        found.append(Activation(function, *(float(n) for n in numbers if n is not None)))
    for lane in range(directions):
        yield found[lane * len(usual) : (lane + 1) * len(usual)]


def _cell(node: Node, kind: Kind, functions: Sequence[Activation]) -> Cell:
    clip = node.attributes.get("clip")
    gate, new = (functions[0], functions[1]) if kind != "rnn" else (functions[0], functions[0])
    return Cell(
        kind,
        gate if kind != "rnn" else Cell(kind).gate,
        new,
        functions[2] if kind == "lstm" else Cell(kind).out,
        bias=node.operand(3) is not None,
        reset_after=kind == "gru" and bool(node.get("linear_before_reset", 0)),
        peepholes=kind == "lstm" and node.operand(7) is not None,
        coupled=kind == "lstm" and bool(node.get("input_forget", 0)),
        clip=None if not clip else float(clip),
    )


def _biases(node: Node, cell: Cell, lane: int) -> tuple[Weight | None, Weight | None]:
    if not cell.bias:
        return None, None
    whole = weight(node.operand(3), "B").at(lane)
    half = whole.shape[0] // 2
    return whole.cut(0, half), whole.cut(half, 2 * half)


def _peepholes(node: Node, cell: Cell, lane: int) -> dict[str, Weight]:
    """P has the order i, o, f."""
    if not cell.peepholes:
        return {}
    whole = weight(node.operand(7), "P").at(lane)
    size = whole.shape[0] // 3
    found = {f"p_{gate}": whole.cut(at * size, (at + 1) * size) for at, gate in enumerate("iof")}
    return {role: part for role, part in found.items() if role.removeprefix("p_") in cell.gates}


def _initial(t: Onnx, node: Node, cell: Cell, lane: int, layout: int) -> dict[str, Operand]:
    """First values of the states; zeros are left out, as states start there anyway."""
    found: dict[str, Operand] = {}
    for state, place in zip(cell.states, (5, 6), strict=False):
        value = node.operand(place)
        if value is None or ((array := known(value)) is not None and not array.any()):
            continue
        if isinstance(value, str):
            found[state] = t.layers.select(value, 1 if layout else 0, lane)
        else:
            given = weight(value, f"initial_{state}")
            found[state] = (given.transposed(1, 0, 2) if layout else given).at(lane)
    return found


def _lengths(t: Onnx, node: Node, x: str) -> Operand | None:
    """sequence_lens; None where they are known to be whole."""
    given, steps = node.operand(4), t.layers.shape(x)[0]
    array = known(given)
    if array is not None and np.all(array == steps):
        return None
    if array is not None and (array.min(initial=0) < 0 or array.max(initial=0) > fixed(steps, "the number of steps")):
        raise Refused("sequence_lens", str(array.tolist()[:8]), f"there are {steps} steps", "check the model")
    return given


HANDLERS = dict.fromkeys(_KINDS, recurrent)
