"""ONNX's Loop, written out as often as it runs, and Scan, as a step over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np

from lstmc.importers.describe.net import NetBuilder
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.describe.shapes import axis_in
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.moves import Operand
from lstmc.importers.frontends.onnx_values import PIN, Node, Onnx, Unsupported, known
from lstmc.importers.frontends.recurrent import rolled
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.refusal import Refusal

_STEPS = 100_000


class Subgraphs(Protocol):
    """What reads the graph that a loop is in."""

    t: Onnx
    opset: int
    origin: str
    values: dict[str, Any]
    refusals: list[Refusal]
    read: set[str]

    def subgraph(self, graph: Any, given: Mapping[str, Any], depth: int) -> list[Any]:
        """The outputs of a graph in a node for these inputs."""
        ...

    def nested(self, t: Onnx) -> Self:
        """A reader of a graph that has a description of its own."""
        ...


def loop(reader: Subgraphs, node: Node, body: Any, depth: int) -> Sequence[Any]:
    """Carried values, then what each step gives, joined along a new first axis. How often it runs must be known."""
    most, goes_on = known(node.operand(0)), known(node.operand(1))
    count = _STEPS if node.operand(0) is None else None if most is None or most.dtype == object else int(most)
    if count is None or (goes_on is None and node.operand(1) is not None):
        raise Refused("M, cond", "computed, or dynamic", "how often it runs must be known here", PIN)
    names = [told.name for told in body.input]
    carried: list[Any] = [*node.operands[2:]]
    made: list[list[Any]] = []
    running = goes_on is None or bool(goes_on)
    while running and len(made) < min(count, _STEPS):
        given = [np.asarray(len(made)), np.asarray(True), *carried]
        told, *results = reader.subgraph(body, dict(zip(names, given, strict=True)), depth)
        if any(result is Unsupported for result in (told, *results)):
            return [Unsupported] * node.results
        condition = known(told)
        if condition is None:
            raise Refused("cond", "computed from the inputs", "how often it runs must be known here", PIN)
        made.append(results[len(carried) :])
        carried, running = results[: len(carried)], bool(condition)
    if not made and node.results > len(carried):
        raise Refused("M", "0", "it has no steps, and so nothing to give of each", "leave it out")
    layers = reader.t.layers
    return [*carried, *(layers.concat([layers.unsqueeze(y, [0]) for y in ys], 0) for ys in zip(*made, strict=True))]


def scan(reader: Subgraphs, node: Node, attributes: Mapping[str, Any], depth: int) -> Sequence[Any]:
    """Last states, then what each step gives. What the step sees of the graph around it is the same at all steps."""
    body, layers = attributes["body"], reader.t.layers
    count = int(attributes["num_scan_inputs"])
    first_x = len(node.operands) - count
    ys = len(body.output) - first_x
    into = [int(a) for a in attributes.get("scan_input_axes", [0] * count)]
    out = [int(a) for a in attributes.get("scan_output_axes", [0] * ys)]
    ways = {
        *attributes.get("scan_input_directions", [0] * count),
        *attributes.get("scan_output_directions", [0] * ys),
    }
    if reader.opset < 9 or len(ways) != 1:
        told = f"version {reader.opset}, {sorted(ways)}"
        raise Refused("directions", told, "all must be the same, from version 9 on", "write them in one direction")
    given: list[Operand] = [node.needed(place) for place in range(len(node.operands))]
    front = [
        layers.transpose(x, _to_front(a, len(layers.shape(x)))) for a, x in zip(into, given[first_x:], strict=True)
    ]
    front = [x if len(layers.shape(x)) > 1 else layers.reshape(x, (*layers.shape(x), 1)) for x in front]
    given = [
        x if layers.shape(x) else layers.reshape(x, (1,)) for x in given[:first_x]
    ]  # an input of a step has an axis
    inner = NetBuilder("step", reader.origin)
    names = [told.name for told in body.input]
    elements = {inner.input(n, layers.shape(x)[1:]): x for n, x in zip(names[first_x:], front, strict=True)}
    states = {inner.input(n, layers.shape(x)): x for n, x in zip(names, given, strict=False)}
    inside: dict[str, Any] = dict(zip([*names[first_x:], *names[:first_x]], [*elements, *states], strict=True))
    static: dict[str, Operand] = {}
    for name in _read_from_outside(body):
        found = reader.values.get(name)
        if isinstance(found, str) and not layers.shape(found):
            found = layers.reshape(found, (1,))  # an input of a step has an axis
        inside[name] = inner.input(name, layers.shape(found)) if isinstance(found, str) else found
        if isinstance(found, str):
            static[inside[name]] = found
    below = reader.nested(Onnx(Layers(inner)))
    outputs = below.subgraph(body, {name: value for name, value in inside.items() if value is not None}, depth)
    reader.refusals += below.refusals
    reader.read |= below.read
    if below.refusals:
        return [Unsupported] * node.results
    inner.outputs |= {f"made_{number}": below.t.layers.value(value) for number, value in enumerate(outputs)}
    if any(isinstance(step.op, Recur | Rolled) for step in inner.steps):
        raise Refused("body", "a recurrent node", "a step has no time of its own", "write it without")
    shapes = {name: inner.inputs[name] for name in (*elements, *states, *static)}
    results = rolled(
        layers, inner.finish(shapes), elements, {name: _start(x) for name, x in states.items()}, static,
        layers.shape(front[0])[0], ways == {1},
    )  # fmt: skip
    single = [told.type.tensor_type.HasField("shape") and not told.type.tensor_type.shape.dim for told in body.output]
    results = tuple(
        layers.reshape(y, layers.shape(y)[:-1]) if one else y
        for y, one in zip(results, [*single[first_x:], *single[:first_x]], strict=True)
    )
    moved = [layers.transpose(y, _from_front(a, len(layers.shape(y)))) for a, y in zip(out, results, strict=False)]
    return [*results[ys:], *moved]


def _start(x: Operand) -> Operand | None:
    """A state's first value; None for zeros, where states start anyway."""
    found = known(x)
    return None if found is not None and not found.any() else x


def _to_front(axis: int, rank: int) -> list[int]:
    axis = axis_in(axis, rank)
    return [axis, *(a for a in range(rank) if a != axis)]


def _from_front(axis: int, rank: int) -> list[int]:
    order = _to_front(axis, rank)
    return [order.index(a) for a in range(rank)]


def _read_from_outside(graph: Any) -> list[str]:
    """The names that a graph in a node reads, and its own nodes do not make before."""
    made = {told.name for told in graph.input} | {tensor.name for tensor in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        inner = [name for a in node.attribute if a.type == 5 for name in _read_from_outside(a.g)]
        found |= dict.fromkeys(name for name in (*node.input, *inner) if name and name not in made)
        made |= set(node.output)
    found |= dict.fromkeys(told.name for told in graph.output if told.name not in made)
    return [*found]
