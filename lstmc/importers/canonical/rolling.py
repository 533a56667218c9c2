"""Recurrences that an exporter wrote out, rolled up by the core's pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lstmc.importers.ir.net import Net, NetBuilder, origin_of
from lstmc.importers.ir.ops import Permute, Select
from lstmc.importers.ir.recur import Recur
from lstmc.importers.ir.values import Shape, Weight, number, open_sizes, result_shapes
from lstmc.importers.printer import traced
from lstmc.ir import Graph, Node, Ref, Scan
from lstmc.ops import Arg, Full, Input, Reshape, Split, Transpose, Unstack
from lstmc.passes.roll_up import roll_up as rolled_up
from lstmc.passes.unrolled_steps import Step, steps_of


def lower_single_steps(net: Net) -> Net:
    """Lower recurrent layers of one step to the ops of their cell's text, where one cell has several of them."""
    ones = [step for step in net.steps if _is_single_step(net, step)]
    counts = Counter(step.op.title for step in ones if isinstance(step.op, Recur))
    if max(counts.values(), default=0) < 2:
        return net
    builder = NetBuilder.of(net)
    for step in net.steps:
        if step in ones and isinstance(step.op, Recur) and counts[step.op.title] > 1:
            _lower(builder, step, step.op)
        else:
            builder.steps.append(step)
    return net.of_steps(builder.steps, builder.leaves, builder.shapes, params=builder.params)


def _is_single_step(net: Net, step: Step) -> bool:
    op = step.op
    if not isinstance(op, Recur) or net.shapes[step.inputs[0]][0] != 1 or op.more:
        return False
    return len(op.init) == len(op.cell.states) or not open_sizes(net.shapes[step.outputs[0]])


def _lower(builder: NetBuilder, step: Step, op: Recur) -> None:
    """Add the ops of one step of a layer, under the names of its results."""
    x, *operands = step.inputs
    y, *states = step.outputs
    weights, init = operands[: len(op.cell.weights())], operands[len(op.cell.weights()) :]
    begun = dict(zip(op.init, init, strict=True))
    result, *last = result_shapes(op, *(builder.shapes[name] for name in step.inputs))
    first = [
        begun[state] if state in begun else _zeros(builder, f"{op.title}_{state}_zero", shape)
        for state, shape in zip(op.cell.states, last, strict=True)
    ]
    body = _body(op, [builder.shapes[name] for name in step.inputs])
    row = builder.one(Reshape(builder.shapes[x][1:]), x, hint=f"{op.title}_value", origin=origin_of(step))
    values = dict(zip((Ref(arg.name) for arg in body.body_args()), [row, *first, *weights], strict=True))
    named = {output.ref: (name,) for output, name in zip(body.outputs[1:], states, strict=True)}
    for node in body:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if not isinstance(node.op, Arg):
            inputs = tuple(values[ref] for ref in body.args(node.name))
            hint = f"{op.title}_{'gate' if isinstance(node.op, Split) else 'value'}"
            results = named.get(refs[0]) or builder.add(node.op, *inputs, hint=hint, origin=origin_of(step))
            if refs[0] in named:
                builder.put(Step(node.op, inputs, results, step.loc))
            values.update(zip(refs, results, strict=True))
    builder.put(Step(Reshape(result), (values[body.outputs[0].ref],), (y,), step.loc))


def _body(op: Recur, shapes: Sequence[Shape]) -> Graph:
    """Return the graph of a step of a recurrent layer on operands of these shapes; open sizes are 2."""
    one, roles = NetBuilder("step", ""), op.cell.weights()
    x = one.input("x", shapes[0])
    weights = {role: number(np.zeros(shape), "zeros") for role, shape in zip(roles, shapes[1:], strict=False)}
    first = [one.input(state, shape) for state, shape in zip(op.init, shapes[1 + len(roles) :], strict=True)]
    y, *_ = one.recur(replace(op, title="layer"), x, weights, first, "")
    one.output("y", y)
    net = one.finish()
    (scan,) = (node.op for node in traced(net, dict.fromkeys(net.open_sizes(), 2)) if isinstance(node.op, Scan))
    return scan.body


def _zeros(builder: NetBuilder, name: str, shape: Shape) -> str:
    """Return a constant of zeros."""
    builder.hold({name: number(np.zeros(shape), "zeros")})
    return name


def roll_up(net: Net) -> Net:
    """Return the net with unrolled recurrences as loops; its notes name the chains that could not be rolled up."""
    lowered = lower_single_steps(net)
    rolled = _roll_up(lowered)
    used = {name for step in rolled.steps if not isinstance(step.op, Recur | Scan) for name in step.inputs}
    if any("/" in name for name in used):  # a cell that was lowered, and is in no loop
        return _roll_up(net)
    return rolled


def _roll_up(net: Net) -> Net:
    net = _with_constants_once(net)
    arrays = {name: leaf for name, weight in net.params.items() if (leaf := _array(weight)) is not None}
    held = net.of_steps(net.steps, {**net.leaves, **arrays}) if arrays else net
    graph, count, left = rolled_up(held.graph, least=2)
    chains = [(net.params[chain.weight], len(chain.numbers)) for chain in left if chain.weight is not None]
    notes = dict.fromkeys(
        f"Products with {weight.recipe} come {steps} times, each after the one before, but what lies between them is"
        " not the same: these steps stay written out."
        for weight, steps in chains
        if weight.sources
    )
    bodies = [node.op.body for node in graph if isinstance(node.op, Scan)]
    fits = all(_fits_a_step(body, node) for body in bodies for node in body if isinstance(node.op, Recur))
    rolled = _with_weights(net, graph, arrays) if count and fits else net
    return replace(rolled, notes=(*net.notes, *notes))


def _fits_a_step(body: Graph, node: Node) -> bool:
    """Return whether a recurrent layer in a loop is one step of its cell: a loop over time has no other in it."""
    return isinstance(node.op, Recur) and body.type(body.args(node.name)[0]).shape[0] == 1 and not node.op.more


def _with_constants_once(net: Net) -> Net:
    """Merge equal constants: an initial state may be stored once for each of its consumers."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for name, weight in net.params.items():
        if not weight.sources:
            same[name] = first.setdefault((weight.shape, weight.array().tobytes()), name)
    if all(name == other for name, other in same.items()):
        return net
    steps = [replace(step, inputs=tuple(same.get(name, name) for name in step.inputs)) for step in net.steps]
    return net.of_steps(steps, outputs={name: same.get(value, value) for name, value in net.outputs.items()})


def _array(weight: Weight) -> Full | None:
    """Return a constant whose elements are one number as an array of the graph, as the core reads it; else None."""
    if weight.sources or not weight.shape or 0 in weight.shape:
        return None
    array = weight.array()
    return Full(array.shape, float(array.flat[0])) if np.all(array == array.flat[0]) else None


def _with_weights(net: Net, graph: Graph, arrays: Mapping[str, Full]) -> Net:
    """Return the net of a graph that was rolled up: its arrays are parameters, and each loop has its own weights.

    Zeros from which a state starts are no parameters: a loop starts from zeros by itself.
    """
    rolled = replace(net, graph=graph)
    builder, read = NetBuilder.of(net), {step.op.body.name for step in net.steps if isinstance(step.op, Scan)}
    builder.leaves, builder.shapes = dict(rolled.leaves), {**net.shapes, **rolled.shapes}
    builder.reserve(builder.shapes)
    builder.hold({name: net.params[name] for name in arrays if name in rolled.leaves})
    constants = {leaf: net.params[name] for name, leaf in arrays.items()}
    zeros = {name for name, leaf in rolled.leaves.items() if isinstance(leaf, Full) and leaf.value == 0}
    for step in rolled.steps:
        if isinstance(step.op, Scan) and step.op.body.name not in read:
            _add_loop(builder, net, step, step.op, constants, zeros)
        elif isinstance(step.op, Unstack):
            for at, name in enumerate(step.outputs):
                builder.put(Step(Select(0, at), step.inputs, (name,), step.loc))
        else:
            builder.put(step if not isinstance(step.op, Transpose) else replace(step, op=_permuted(step, rolled)))
    return rolled.of_steps(builder.steps, builder.leaves, builder.shapes, params=builder.params)


def _add_loop(
    builder: NetBuilder, net: Net, step: Step, scan: Scan, constants: Mapping[Full, Weight], zeros: Container[str]
) -> None:
    """Add a loop that was rolled up, whose weights and constants become its own."""
    origin = f"{scan.length} steps, the first {origin_of(step)}"
    args, inner = scan.body.body_args(), NetBuilder("step", net.origin)
    names: dict[str, str] = {}
    for node in scan.body:
        results = dict(zip(node.names, map(inner.fresh, node.names), strict=True))
        names |= results
        inner.shapes |= {results[name]: t.shape for name, t in zip(node.names, node.types, strict=True)}
        if isinstance(node.op, Full):
            inner.hold({results[node.name]: constants[node.op]})
        elif isinstance(node.op, Arg) and node.op.role == "weight":
            inner.hold({results[node.name]: net.params[step.inputs[args.index(node)]]})
        elif isinstance(node.op, Arg):
            inner.leaves[results[node.name]] = Input(node.op.shape)
    for one in steps_of(scan.body):
        renamed = replace(one, inputs=tuple(names[n] for n in one.inputs), outputs=tuple(names[n] for n in one.outputs))
        if isinstance(renamed.op, Recur):
            _lower(inner, renamed, renamed.op)
        else:
            inner.put(renamed, [inner.shapes[name] for name in renamed.outputs])
    states = [names[arg.name] for arg in scan.of_role("state", args)]
    outputs = [*zip(states, scan.next_states, strict=True)]
    outputs += [(f"y_{place}", output) for place, output in enumerate(scan.step_outputs)]
    inner.outputs = {name: names[scan.body.value_name(output.ref)] for name, output in outputs}
    x, first, static = (scan.of_role(role, step.inputs) for role in ("x", "state", "static"))
    init = [None if value in zeros else value for value in first]
    body = inner.finish(every_input=True)
    named_init = dict(zip(states, init, strict=True))
    builder.loop(scan.body.name, body, x, named_init, static, scan.length, origin, scan.reverse)
    builder.steps[-1] = replace(builder.steps[-1], outputs=step.outputs)


def _permuted(step: Step, net: Net) -> Permute:
    """Return the permutation that an exchange of two axes is."""
    assert isinstance(step.op, Transpose)
    axes = [*range(len(net.shapes[step.outputs[0]]))]
    axes[step.op.axis : step.op.axis + 2] = [step.op.axis + 1, step.op.axis]
    return Permute(tuple(axes))
