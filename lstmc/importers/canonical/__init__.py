"""Canonicalisation of imported nets: loops rolled up, a dynamic time axis, biases merged, transposes removed."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np

from lstmc.importers.canonical.frame import one_frame
from lstmc.importers.canonical.layout import choose_layout, with_biases
from lstmc.importers.canonical.streaming import with_dynamic_time
from lstmc.importers.canonical.time import constant
from lstmc.importers.ir.net import Net, NetBuilder, body_of, origin_of
from lstmc.importers.ir.ops import Permute, Select
from lstmc.importers.ir.values import Weight, number
from lstmc.ir import Graph, Scan
from lstmc.ops import Binary, Full, Leaf, Transpose, Unstack
from lstmc.passes.roll_up import roll_up as rolled_up
from lstmc.passes.unrolled_steps import Step

__all__ = ["canonicalize", "canonicalize_frame", "canonicalize_static", "canonicalize_step", "roll_up"]


def canonicalize(net: Net, step: bool = False) -> Net:
    """Return the form of a net that can be written as a model, or streamed (``step``). Raises :class:`RefusedError`."""
    return choose_layout(with_dynamic_time(_with_small_constants(with_biases(roll_up(net))), step))


def canonicalize_static(net: Net) -> Net:
    """Return the canonical form of a net, with all sizes unchanged."""
    return choose_layout(with_biases(roll_up(net)))


def canonicalize_step(net: Net, states: Mapping[str, str]) -> Net:
    """Return the canonical form of a net of one frame; ``states`` maps inputs to the outputs with their next values."""
    return _step(with_biases(roll_up(replace(net, graph=net.graph.carrying(states), time=()))))


def _step(net: Net) -> Net:
    """Return a net of one frame in its chosen layout, with loops marked as running inside a step, not over time."""
    inside = [replace(s, op=replace(s.op, inside=True)) if isinstance(s.op, Scan) else s for s in net.steps]
    return choose_layout(net.of_steps(inside))


def canonicalize_frame(net: Net, time: Mapping[str, int]) -> tuple[Net, dict[str, int]]:
    """Return the canonical net of one frame, and the time axis of each input and output; ``time`` has the axis of each
    input. Raises :class:`RefusedError` with the first layer that needs more than the past."""
    frame, axes = one_frame(_with_small_constants(with_biases(roll_up(net))), time)
    return _step(frame), axes


def roll_up(net: Net) -> Net:
    """Return the net with loops for unrolled recurrences; a note names each weight whose products stay written out."""
    net = _with_constants_once(net)
    some = {name: weight.shape for name, weight in net.params.items() if weight.shape and 0 not in weight.shape}
    arrays = {name: Full(shape, n) for name, shape in some.items() if (n := constant(net, name)) is not None}
    held = net.of_steps(net.steps, {**net.leaves, **arrays}) if arrays else net
    graph, count, left = rolled_up(held.graph, least=2)
    notes = dict[str, None]()
    for chain in left:
        if chain.weight is not None and (weight := net.params[chain.weight]).sources:
            times = f"Products with {weight.recipe} come {len(chain.numbers)} times, each after the one before"
            notes[f"{times}, but what lies between them is not the same: these steps stay written out."] = None
    return replace(_with_weights(net, graph, arrays) if count else net, notes=(*net.notes, *notes))


def _with_small_constants(net: Net) -> Net:
    """Shrink constants of equal elements to one element, which has no time axis, if all readers broadcast them."""

    def repeats(step: Step, name: str) -> bool:
        others = [net.shapes[value] for value in step.inputs if value != name]
        return isinstance(step.op, Binary) and net.shapes[step.outputs[0]] in others

    small = dict[str, Weight]()
    for name, weight in net.params.items():
        n = None if name in net.outputs.values() else constant(net, name)
        if n is not None and all(repeats(step, name) for step in net.readers.get(name, ())):
            small[name] = number(np.full((1,) * len(weight.shape), n), weight.recipe)
    shapes = {**net.shapes, **{name: weight.shape for name, weight in small.items()}}
    return net.of_steps(net.steps, shapes=shapes, params=small) if small else net


def _with_constants_once(net: Net) -> Net:
    """Join constants of the same shape and numbers: an exporter may store an initial state once for each step."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for name, weight in net.params.items():
        if not weight.sources:
            same[name] = first.setdefault((weight.shape, weight.array().tobytes()), name)
    if all(name == other for name, other in same.items()):
        return net
    steps = [replace(step, inputs=tuple(same.get(name, name) for name in step.inputs)) for step in net.steps]
    return net.of_steps(steps, outputs={name: same.get(value, value) for name, value in net.outputs.items()})


def _with_weights(net: Net, graph: Graph, arrays: Mapping[str, Full]) -> Net:
    """Return the net of ``graph``, with the weights of its new loops, and the constants ``arrays`` that it reads."""
    rolled = replace(net, graph=graph)
    builder, old_loops = NetBuilder.of(net), {step.op.body.name for step in net.steps if isinstance(step.op, Scan)}
    builder.leaves, builder.shapes = dict(rolled.leaves), {**net.shapes, **rolled.shapes}
    builder.reserve(builder.shapes)
    builder.hold({name: net.params[name] for name in arrays if name in rolled.leaves})
    constants: dict[Leaf, Weight] = {leaf: net.params[name] for name, leaf in arrays.items()}
    zeros = {name for name, leaf in rolled.leaves.items() if isinstance(leaf, Full) and leaf.value == 0}
    for step in rolled.steps:
        if isinstance(step.op, Scan) and step.op.body.name not in old_loops:
            _add_loop(builder, net, step, step.op, constants, zeros)
        elif isinstance(step.op, Unstack):
            for at, name in enumerate(step.outputs):
                builder.put(Step(Select(0, at), step.inputs, (name,), step.loc))
        elif isinstance(step.op, Transpose):  # it exchanges two neighbouring axes
            axes, at = [*range(len(rolled.shapes[step.outputs[0]]))], step.op.axis
            axes[at : at + 2] = [at + 1, at]
            builder.put(replace(step, op=Permute(tuple(axes))))
        else:
            builder.put(step)
    return rolled.of_steps(builder.steps, builder.leaves, builder.shapes, params=builder.params)


def _add_loop(
    builder: NetBuilder, net: Net, step: Step, scan: Scan, constants: Mapping[Leaf, Weight], zeros: Container[str]
) -> None:
    """Add a rolled-up loop with its body's weights and constants; states from ``zeros`` get no first value."""
    weights = [net.params[name] for name in scan.of_role("weight", step.inputs)]
    body, title = body_of(scan, weights, constants), builder.scan_name(scan.body.name)
    x, first, static = (scan.of_role(role, step.inputs) for role in ("x", "state", "static"))
    init = (None if value in zeros else value for value in first)
    states = dict(zip([*body.inputs][len(x) :], init, strict=False))
    builder.where = f"{scan.length} steps, the first {origin_of(step)}"
    builder.loop(title, body, x, states, static, scan.length, scan.reverse)
    builder.steps[-1] = replace(builder.steps[-1], outputs=step.outputs)
