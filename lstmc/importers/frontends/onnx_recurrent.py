"""ONNX's LSTM, GRU and RNN with all attributes; Loop, unrolled; and Scan, as a loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from lstmc.importers.frontends.onnx_values import CHECK, Handler, Node, Onnx, Poison, fixed_numbers, weight
from lstmc.importers.frontends.shape_ops import Operand, constant
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.ops import function
from lstmc.importers.ir.recur import Cell, Extra, Kind
from lstmc.importers.ir.values import Size, Weight, axis_in, fixed, listed
from lstmc.importers.refusal import PIN, Refusal, Refused
from lstmc.ir import Scan
from lstmc.ops import Op
from lstmc.ops.frameworks import functions_of

_STEPS = 100_000


class Subgraphs(Protocol):
    """The interface of the reader of the enclosing graph."""

    t: Onnx
    opset: int
    origin: str
    values: dict[str, Any]
    refusals: list[Refusal]
    read: set[str]

    def subgraph(self, graph: Any, inputs: Mapping[str, Any], depth: int) -> list[Any]:
        """Return the outputs of a node's subgraph for these inputs."""

    def nested(self, t: Onnx) -> Self:
        """Return a reader of a subgraph that builds a separate net."""


def loop(reader: Subgraphs, node: Node, body: Any, depth: int) -> Sequence[Any]:
    """Unroll a Loop; return its carried values, then its scan outputs. The number of iterations must be constant."""
    most, goes_on = constant(node.operand(0)), constant(node.operand(1))
    if any(isinstance(one, str) for one in node.operands[:2]):
        raise _ends_on_data("M, cond")
    if not all(one is None or (one.size == 1 and one.dtype != object) for one in (most, goes_on)):
        raise Refused("M, cond", "a size without a number", "how often it runs must be known here", PIN)
    count = _STEPS if most is None else int(most.reshape(-1)[0])
    names = [info.name for info in body.input]
    carried: list[Any] = [*node.operands[2:]]
    if len(names) != 2 + len(carried) or len(body.output) < 1 + len(carried):
        raise Refused("body", f"{len(names)} inputs, {len(body.output)} outputs", "it has others than the node", CHECK)
    step_outputs: list[list[Any]] = []
    running = goes_on is None or bool(goes_on.all())
    while running and len(step_outputs) < min(count, _STEPS):
        inputs = [np.asarray(len(step_outputs)), np.asarray(True), *carried]
        flag, *results = reader.subgraph(body, dict(zip(names, inputs, strict=True)), depth)
        if any(result is Poison for result in (flag, *results)):
            return [Poison] * node.results
        condition = constant(flag)
        if condition is None or condition.size != 1:
            raise _ends_on_data("cond")
        step_outputs.append(results[len(carried) :])
        carried, running = results[: len(carried)], bool(condition.all())
    return [*carried, *(reader.t.stack(ys, 0) for ys in zip(*step_outputs, strict=True))]  # without steps none to give


def _ends_on_data(operand: str) -> Refused:
    why = "how often it runs depends on the data, and a net has the same steps for all"
    mend = "export it with a fixed number of iterations, and a mask for those behind the end"
    return Refused(operand, "computed from the inputs", why, mend)


def _axes_and_direction(
    reader: Subgraphs, node: Node, attributes: Mapping[str, Any]
) -> tuple[Sequence[int], Sequence[int], bool]:
    """Return the axes of time of a Scan's sequences, of the inputs and of the outputs, and whether it runs backward."""
    body, count = attributes["body"], attributes["num_scan_inputs"]
    first_x = len(node.operands) - count
    ys = len(body.output) - first_x
    if count < 1 or min(first_x, ys) < 0 or len(body.input) != len(node.operands):
        actual = f"{len(body.input)} inputs, {len(body.output)} outputs"
        raise Refused("body", actual, "it has others than the node", CHECK)
    into, out = node.integers("scan_input_axes", count, 0), node.integers("scan_output_axes", ys, 0)
    directions = {
        *node.integers("scan_input_directions", count, 0),
        *node.integers("scan_output_directions", ys, 0),
    }
    if reader.opset < 9 or len(directions) != 1:
        setting = f"version {reader.opset}, {sorted(directions)}"
        raise Refused("directions", setting, "all must be the same, from version 9 on", "write them in one direction")
    return into, out, directions == {1}


def scan(reader: Subgraphs, node: Node, attributes: Mapping[str, Any], depth: int) -> Sequence[Any]:
    """Translate a Scan; return its last states, then its scan outputs. Captured values are static inputs."""
    body, layers = attributes["body"], reader.t
    first_x = len(node.operands) - attributes["num_scan_inputs"]
    into, out, is_reverse = _axes_and_direction(reader, node, attributes)
    ys = len(out)
    operands: list[Operand] = [node.needed(place) for place in range(len(node.operands))]
    front = [layers.transpose(x, _to_front(a, layers.rank(x))) for a, x in zip(into, operands[first_x:], strict=True)]
    front = [x if layers.rank(x) > 1 else layers.reshape(x, (*layers.shape(x), 1)) for x in front]
    operands = [
        x if layers.shape(x) else layers.reshape(x, (1,)) for x in operands[:first_x]
    ]  # an input of a step has an axis
    inner = NetBuilder("step", reader.origin)
    names = [info.name for info in body.input]
    elements = {inner.input(n, layers.shape(x)[1:]): x for n, x in zip(names[first_x:], front, strict=True)}
    states = {inner.input(n, layers.shape(x)): x for n, x in zip(names, operands, strict=False)}
    inside: dict[str, Any] = dict(zip([*names[first_x:], *names[:first_x]], [*elements, *states], strict=True))
    static: dict[str, Operand] = {}
    for name in _free_names(body):
        outer = reader.values.get(name)
        if isinstance(outer, str) and not layers.shape(outer):
            outer = layers.reshape(outer, (1,))  # an input of a step has an axis
        inside[name] = inner.input(name, layers.shape(outer)) if isinstance(outer, str) else outer
        if isinstance(outer, str):
            static[inside[name]] = outer
    below = reader.nested(Onnx(inner, reader.t.folding))
    outputs = below.subgraph(body, {name: value for name, value in inside.items() if value is not None}, depth)
    reader.refusals += below.refusals
    reader.read |= below.read
    if below.refusals or any(value is Poison for value in outputs):
        return [Poison] * node.results
    inner.outputs |= {f"made_{number}": below.t.value(value) for number, value in enumerate(outputs)}
    if any(isinstance(step.op, Scan) for step in inner.steps):
        raise Refused("body", "a recurrent node", "a step has no time of its own", "write it without")
    first = {name: _start(x) for name, x in states.items()}
    results = layers.builder.loop(
        layers.builder.scan_name(layers.hint), inner.finish(every_input=True), [*map(layers.value, elements.values())],
        {name: None if x is None else layers.value(x) for name, x in first.items()},
        [*map(layers.value, static.values())], layers.shape(front[0])[0], layers.origin, is_reverse,
    )  # fmt: skip
    single = [info.type.tensor_type.HasField("shape") and not info.type.tensor_type.shape.dim for info in body.output]
    results = tuple(
        layers.reshape(y, layers.shape(y)[:-1]) if one else y
        for y, one in zip(results, [*single[first_x:], *single[:first_x]], strict=True)
    )
    moved = [
        layers.transpose(y, np.argsort(_to_front(a, layers.rank(y))).tolist())
        for a, y in zip(out, results, strict=False)
    ]
    return [*results[ys:], *moved]


def _start(x: Operand) -> Operand | None:
    """Return a state's initial value; None for zeros, the default."""
    array = constant(x)
    return None if array is not None and not array.any() else x


def _to_front(axis: int, rank: int) -> list[int]:
    axis = axis_in(axis, rank)
    return [axis, *(a for a in range(rank) if a != axis)]


def _free_names(graph: Any) -> list[str]:
    """Return the names that a subgraph reads and does not define."""
    defined = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    free: dict[str, None] = {}
    for node in graph.node:
        inner = [name for a in node.attribute if a.type == 5 for name in _free_names(a.g)]
        free |= dict.fromkeys(name for name in (*node.input, *inner) if name and name not in defined)
        defined |= set(node.output)
    free |= dict.fromkeys(info.name for info in graph.output if info.name not in defined)
    return [*free]


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
