"""Recurrent layers of one step lowered to ops, so that chains of them are recognised."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from lstmc.importers.ir.net import Net, NetBuilder, Rolled, Step, scan_names
from lstmc.importers.ir.recur import Recur
from lstmc.importers.ir.sizes import Shape, open_sizes
from lstmc.importers.weight import number
from lstmc.importers.write.model import traced
from lstmc.ir import Graph, Ref, Scan
from lstmc.ops import Arg, Reshape, Split


def builder_for(net: Net) -> NetBuilder:
    """Return a builder with the net's shapes, whose new names differ from all of the net's."""
    builder = NetBuilder(net.name, net.origin)
    builder.shapes = dict(net.shapes)
    builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
    for step in net.steps:
        if isinstance(step.op, Recur | Rolled):
            builder.reserve(scan_names(step.op.name))
    return builder


def lower_single_steps(net: Net) -> Net:
    """Lower recurrent layers of one step to the ops of their cell's text, where one cell has several of them."""
    ones = [step for step in net.steps if _is_single_step(net, step)]
    counts = Counter(step.op.name for step in ones if isinstance(step.op, Recur))
    if max(counts.values(), default=0) < 2:
        return net
    builder = builder_for(net)
    builder.params = dict(net.params)
    for step in net.steps:
        if step in ones and isinstance(step.op, Recur) and counts[step.op.name] > 1:
            _lower(net, builder, step, step.op)
        else:
            builder.steps.append(step)
    builder.outputs = net.outputs
    finished = builder.finish(net.inputs)
    return replace(net, params=finished.params, steps=finished.steps, shapes=finished.shapes)


def _is_single_step(net: Net, step: Step) -> bool:
    op = step.op
    if not isinstance(op, Recur) or net.shapes[step.inputs[0]][0] != 1 or op.more:
        return False
    return len(op.init) == len(op.cell.states) or not open_sizes(net.shapes[step.outputs[0]])


def _lower(net: Net, builder: NetBuilder, step: Step, op: Recur) -> None:
    """Add the ops of one step of a layer, under the names of its results."""
    x, *operands = step.inputs
    y, *states = step.outputs
    weights, init = operands[: len(op.cell.weights())], operands[len(op.cell.weights()) :]
    begun = dict(zip(op.init, init, strict=True))
    first = [
        begun[state] if state in begun else _zeros(builder, f"{op.name}_{state}_zero", net.shapes[last])
        for state, last in zip(op.cell.states, states, strict=True)
    ]
    body = _body(net, step)
    row = builder.one(Reshape(net.shapes[x][1:]), x, hint=f"{op.name}_value", origin=step.origin)
    values = dict(zip((Ref(arg.name) for arg in body.body_args()), [row, *first, *weights], strict=True))
    named = {output.ref: (name,) for output, name in zip(body.outputs[1:], states, strict=True)}
    for node in body:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if not isinstance(node.op, Arg):
            inputs = tuple(values[ref] for ref in body.args(node.name))
            hint = f"{op.name}_{'gate' if isinstance(node.op, Split) else 'value'}"
            results = named.get(refs[0]) or builder.add(node.op, *inputs, hint=hint, origin=step.origin)
            if refs[0] in named:
                builder.steps.append(Step(node.op, inputs, results, step.origin))
            values.update(zip(refs, results, strict=True))
    builder.steps.append(Step(Reshape(net.shapes[y]), (values[body.outputs[0].ref],), (y,), step.origin))


def _body(net: Net, step: Step) -> Graph:
    """Return the graph of a step of a recurrent layer; open sizes are 2."""
    params = {name: net.params[name] for name in step.inputs if name in net.params and "/" in name}
    inputs = {name: net.shapes[name] for name in step.inputs if name not in params}
    one = replace(net, inputs=inputs, params=params, steps=(step,), outputs={"y": step.outputs[0]}, axes={}, notes=())
    (scan,) = (node.op for node in traced(one, dict.fromkeys(one.open_sizes(), 2)) if isinstance(node.op, Scan))
    return scan.body


def _zeros(builder: NetBuilder, name: str, shape: Shape) -> str:
    """Return a constant of zeros."""
    builder.params[name], builder.shapes[name] = number(np.zeros(shape), "zeros"), shape
    return name
