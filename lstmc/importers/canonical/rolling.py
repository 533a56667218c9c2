"""Steps that an exporter wrote out, rolled up by the core's pass: a net as a graph, and the graph as a net again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from lstmc.importers.ir.net import Net, NetBuilder, Rolled, Step, needed_steps, scan_names
from lstmc.importers.ir.ops import Permute, Select
from lstmc.importers.ir.recur import Loop, Recur
from lstmc.importers.ir.sizes import Shape, open_sizes
from lstmc.importers.weight import Weight, number
from lstmc.importers.write.model import traced
from lstmc.ir import Builder, Graph, Node, Ref, Scan
from lstmc.ops import (
    Arg,
    Full,
    Input,
    Leaf,
    Op,
    Param,
    Reshape,
    Split,
    Transpose,
    Unstack,
)
from lstmc.passes.roll_up import roll_up as rolled_up
from lstmc.source import SrcLoc
from lstmc.types import TensorType


def builder_for(net: Net) -> NetBuilder:
    """Return a builder with the net's shapes, whose new names differ from all of the net's."""
    builder = NetBuilder(net.name, net.origin)
    builder.shapes = dict(net.shapes)
    builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
    for step in net.steps:
        if isinstance(step.op, Recur | Rolled):
            builder.reserve(scan_names(step.op.title))
    return builder


def lower_single_steps(net: Net) -> Net:
    """Lower recurrent layers of one step to the ops of their cell's text, where one cell has several of them."""
    ones = [step for step in net.steps if _is_single_step(net, step)]
    counts = Counter(step.op.title for step in ones if isinstance(step.op, Recur))
    if max(counts.values(), default=0) < 2:
        return net
    builder = builder_for(net)
    builder.params = dict(net.params)
    for step in net.steps:
        if step in ones and isinstance(step.op, Recur) and counts[step.op.title] > 1:
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
        begun[state] if state in begun else _zeros(builder, f"{op.title}_{state}_zero", net.shapes[last])
        for state, last in zip(op.cell.states, states, strict=True)
    ]
    body = _body(net, step)
    row = builder.one(Reshape(net.shapes[x][1:]), x, hint=f"{op.title}_value", origin=step.origin)
    values = dict(zip((Ref(arg.name) for arg in body.body_args()), [row, *first, *weights], strict=True))
    named = {output.ref: (name,) for output, name in zip(body.outputs[1:], states, strict=True)}
    for node in body:
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if not isinstance(node.op, Arg):
            inputs = tuple(values[ref] for ref in body.args(node.name))
            hint = f"{op.title}_{'gate' if isinstance(node.op, Split) else 'value'}"
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


def roll_up(net: Net) -> Net:
    """Return the net with unrolled recurrences as loops; its notes name the chains that could not be rolled up."""
    lowered = lower_single_steps(net)
    rolled = _roll_up(lowered)
    used = {name for step in rolled.steps if not isinstance(step.op, Loop) for name in step.inputs}
    if any("/" in name for name in used):  # a cell that was lowered, and is in no loop
        return _roll_up(net)
    return rolled


def _roll_up(net: Net) -> Net:
    net = _with_constants_once(net)
    graph, count, left = rolled_up(_graph(net), least=2)
    chains = [(net.params[chain.weight], len(chain.numbers)) for chain in left if chain.weight is not None]
    notes = dict.fromkeys(
        f"Products with {weight.recipe} come {steps} times, each after the one before, but what lies between them is"
        " not the same: these steps stay written out."
        for weight, steps in chains
        if weight.sources
    )
    rolled = _FromGraph(net, graph).net() if count else net
    return replace(rolled, notes=(*net.notes, *notes))


def _with_constants_once(net: Net) -> Net:
    """Merge equal constants: an initial state may be stored once for each of its consumers."""
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for name, weight in net.params.items():
        if not weight.sources:
            same[name] = first.setdefault((weight.shape, weight.array().tobytes()), name)
    steps = tuple(replace(step, inputs=tuple(same.get(name, name) for name in step.inputs)) for step in net.steps)
    params = {name: weight for name, weight in net.params.items() if same.get(name, name) == name}
    outputs = {name: same.get(value, value) for name, value in net.outputs.items()}
    return replace(net, steps=steps, params=params, outputs=outputs)


def _graph(net: Net) -> Graph:
    """Return a net as a graph, with values of the same names; constants of one number are arrays of it.

    The line of a node's location is the index of its step.
    """
    builder, refs = Builder(net.name), dict[str, Ref]()
    leaves: dict[str, Leaf] = {name: Input(shape) for name, shape in net.inputs.items()}
    leaves |= {name: _constant(weight) or Param(weight.shape) for name, weight in net.params.items()}
    for name, leaf in leaves.items():
        (refs[name],) = builder.add(leaf, names=[name], types=(TensorType(leaf.shape),))
    for place, step in enumerate(net.steps):
        types = tuple(TensorType(net.shapes[name]) for name in step.outputs)
        operands = [refs[name] for name in step.inputs]
        loc = SrcLoc(net.origin, place, 0, place, 0)
        values = builder.add(step.op, *operands, names=step.outputs, loc=loc, types=types)
        refs.update(zip(step.outputs, values, strict=True))
    return builder.finish((name, refs[value]) for name, value in net.outputs.items())


def _constant(weight: Weight) -> Full | None:
    """Return a constant of the graph whose elements are one number; None for other weights."""
    if weight.sources or not weight.shape or 0 in weight.shape:
        return None
    array = weight.array()
    return Full(array.shape, float(array.flat[0])) if np.all(array == array.flat[0]) else None


class _FromGraph:
    """The net of a graph that was rolled up from ``old``."""

    def __init__(self, old: Net, graph: Graph) -> None:
        self.old, self.graph, self.builder = old, graph, builder_for(old)
        for node in graph:
            self.builder.shapes |= {name: type_.shape for name, type_ in zip(node.names, node.types, strict=True)}
        self.builder.reserve(self.builder.shapes)
        self.constants = {leaf: weight for weight in old.params.values() if (leaf := _constant(weight)) is not None}
        self.zeros = {node.name for node in graph if isinstance(node.op, Full) and node.op.value == 0}
        self.params = dict(old.params)

    def net(self) -> Net:
        steps = [step for node in self.graph if not isinstance(node.op, Leaf) for step in self._steps(node)]
        outputs = {output.name: self.graph.value_name(output.ref) for output in self.graph.outputs}
        steps, used = needed_steps(steps, outputs.values())
        params = {name: weight for name, weight in self.params.items() if name in used}
        return replace(self.old, params=params, steps=tuple(steps), outputs=outputs, shapes=self.builder.shapes)

    def _steps(self, node: Node) -> list[Step]:
        assert node.loc is not None
        operands = tuple(map(self.graph.value_name, self.graph.args(node.name)))
        origin = self.old.steps[node.loc.line].origin
        if isinstance(node.op, Scan):
            return [self._loop(node, node.op, operands, f"{node.op.length} steps, the first {origin}")]
        if isinstance(node.op, Unstack):
            return [Step(Select(0, at), operands, (name,), origin) for at, name in enumerate(node.names)]
        return [Step(_of_source(node), operands, node.names, origin)]

    def _loop(self, node: Node, scan: Scan, operands: tuple[str, ...], origin: str) -> Step:
        """Return a scan as a step; zeros, with which a state begins by default, are left out."""
        body, inner = scan.body, NetBuilder("step", self.old.origin)
        outer = dict(zip((arg.name for arg in body.body_args()), operands, strict=True))
        inputs: dict[str, dict[str, str]] = {"x": {}, "state": {}, "static": {}}
        names: dict[Ref, str] = {}
        for one in body:
            results = tuple(map(inner.fresh, one.names))
            names.update({Ref(one.name, out): name for out, name in enumerate(results)})
            inner.shapes.update({name: type_.shape for name, type_ in zip(results, one.types, strict=True)})
            if isinstance(one.op, Full):
                inner.params[results[0]] = self.constants[one.op]
            elif isinstance(one.op, Arg) and one.op.role == "weight":
                inner.params[results[0]] = self.old.params[outer[one.name]]
            elif isinstance(one.op, Arg):
                inputs[one.op.role][results[0]] = outer[one.name]
            else:
                values = tuple(names[ref] for ref in body.args(one.name))
                inner.steps.append(Step(_of_source(one), values, results, origin))
        x, states, static = inputs.values()
        inner.outputs = {state: names[following.ref] for state, following in zip(states, scan.next_states, strict=True)}
        inner.outputs |= {f"y_{place}": names[output.ref] for place, output in enumerate(scan.step_outputs)}
        net = inner.finish({name: inner.shapes[name] for name in (*x, *states, *static)})
        name = self.builder.scan_name(body.name)
        params = {f"{name}/{role}": weight for role, weight in net.params.items()}
        self.params |= params
        self.builder.shapes |= {role: weight.shape for role, weight in params.items()}
        init = {state: value for state, value in states.items() if value not in self.zeros}
        op = Rolled(net, name, scan.length, len(x), tuple(states), tuple(init), scan.reverse)
        return Step(op, (*params, *x.values(), *init.values(), *static.values()), node.names, origin)


def _of_source(node: Node) -> Op:
    """Return the op of a net that a node is."""
    if isinstance(node.op, Transpose):
        axes = [*range(node.types[0].rank)]
        axes[node.op.axis : node.op.axis + 2] = [node.op.axis + 1, node.op.axis]
        return Permute(tuple(axes))
    return node.op
