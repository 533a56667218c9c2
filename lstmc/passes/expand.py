"""Unrolling: copies of the body for every step, which share parameter nodes.

Steps may keep the time axis, as an axis of 1: a sequence is then cut and joined without changing its rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, Stage, Step, op_over_time, rename_values
from lstmc.ops import Arg, Concat, Input, Leaf, Param, Reshape, Split, Stack, Unstack
from lstmc.passes.base import NodePass, Pass, PassResult, Refs, note_node, result
from lstmc.passes.simplify import pruned
from lstmc.process.status import with_progress

__all__ = ["CoreTimeAxis", "Expand", "KeepTimeAxis", "TimeAxis", "named_results", "step_pattern"]

MOST_NODES = 20_000_000  # nodes of an unrolled scan: some tens of gigabytes of memory here, and of layers in Caffe
Cuts = dict[tuple[Ref, bool], Refs]  # (sequence, whether the axis is kept) -> its steps


class TimeAxis(Protocol):
    """The conversion of a sequence to steps and back, in ops of the stage."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """x [T, ...] as T values [...], or [1, ...] where the axis is ``kept``, called ``names`` and of ``steps``."""

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """T values [...], or [1, ...] where the axis is ``kept``, as one [T, ...], called ``name``."""

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """x once for each of the ``steps`` that read it; ``names`` are there for what must be added for that."""


@dataclass(frozen=True)
class CoreTimeAxis:
    """In core ops: ``unstack`` and ``stack``, or ``split`` and ``concat`` of steps that keep their axis."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        return b.add(Split(0, (1,) * len(names)) if kept else Unstack(), x, names=names, steps=tuple(steps))

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        return b.add(Concat(0) if kept else Stack(), *steps, names=(name,))[0]

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        return (x,) * len(names)


@dataclass(frozen=True)
class Expand(Pass):
    """Unroll every scan.

    1. scan(body) over T steps => T copies of the body (the first of ``first``), each on the previous one's states
    2. an ``x`` argument       => the step's slice of the sequence, cut once and shared by all scans of it
    3. a ``weight`` argument   => the outer node itself: sharing is identity; a ``static`` one => what the time axis
       makes of it for each step that reads it
    4. an initial state that the first step does not read, and that has no other reader => nothing
    5. a step output that is read => the steps' values stacked; a last state => the last step's value
    6. a body's node on weights, static arguments and constants alone => one node, shared like a static argument

    Scans that ``loops`` says yes to stay as they are. A step's nodes are called ``SCAN/tNNN/NAME``; its next states and
    outputs have their own names.
    """

    name = "expand"
    after = Stage.EXPANDED
    time_axis: TimeAxis = CoreTimeAxis()
    loops: Callable[[Scan], bool] = lambda scan: False

    def requires(self, graph: Graph) -> None:
        """Raise :class:`PassError` for more nodes than any net can have, before the first is made."""
        scans = [(node, node.op) for node in graph if isinstance(node.op, Scan) and not self.loops(node.op)]
        for node, scan in scans:
            if (count := scan.length * len(scan.body)) > MOST_NODES:
                raise PassError(
                    f"{scan.body.name} has {scan.length} steps of {len(scan.body)} nodes, {count} in all: expected at"
                    f" most {MOST_NODES}",
                    loc=node.loc,
                )

    def run(self, graph: Graph) -> PassResult:
        rebuild = Rebuild(graph)
        readers = graph.readers()
        cuts: Cuts = {}
        counts: Counter[str] = Counter()
        unread = _unread_leaves(graph, self.loops)
        for node in graph:
            if node.name in unread:
                continue
            if isinstance(node.op, Scan) and not self.loops(node.op):
                args = [rebuild.new.get(ref, ref) for ref in graph.args(node.name)]  # an unread initial state stays
                unroller = _Unroller(rebuild.builder, node, node.op, self.time_axis, cuts)
                try:
                    rebuild.put(node, unroller.run(args, readers))
                except Exception as error:
                    note_node(error, graph, node)
                    raise
                counts["unroll_step"] += node.op.length
            else:
                rebuild.copy(node)
        return result(graph, rebuild.finish(), counts)

    def ensures(self, graph: Graph) -> None:
        for node in graph:
            if isinstance(node.op, Arg) or (isinstance(node.op, Scan) and not self.loops(node.op)):
                raise PassError(f"expand left %{node.name} behind")


def _unread_leaves(graph: Graph, loops: Callable[[Scan], bool]) -> set[str]:
    """Return the leaves that are only initial states of unrolled scans whose first steps do not read them."""
    read = {output.ref.node for output in graph.outputs}
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan) and not loops(node.op):
            first = node.op.first or node.op.body
            used = {ref.node for ref in first.readers()}
            names = [arg.name for arg in first.body_args()]
            args = tuple(ref for i, ref in enumerate(args) if node.op.role(i) != "state" or names[i] in used)
        read.update(ref.node for ref in args)
    return {node.name for node in graph if isinstance(node.op, Leaf) and not isinstance(node.op, Input)} - read


def step_pattern(scan: Scan) -> str:
    """Return the prefix of the names of a step's nodes, with a ``%`` for the step: ``lstm/t%03d/``."""
    return f"{scan.body.name}/t%0{max(3, len(str(scan.length - 1)))}d/"


def named_results(scan: Scan, body: Graph) -> Graph:
    """Return the body with its outputs under their own names; an output that is also a next state has the state's
    name."""
    count = len(scan.step_outputs)
    named = (*body.outputs[:count], *reversed(body.outputs[count:]))
    return rename_values(body, {output.ref: output.name for output in named if output.name})


@dataclass(frozen=True)
class _Template:
    """A body read once: its nodes, where each operand comes from, and which nodes are the same at every step."""

    nodes: tuple[tuple[Node, tuple[Ref, ...]], ...]
    arguments: tuple[str, ...]
    results: tuple[Ref, ...]
    same: tuple[tuple[Node, tuple[Ref, ...]], ...] = ()

    @classmethod
    def of(cls, body: Graph) -> _Template:
        nodes = tuple((n, body.args(n.name)) for n in body if not isinstance(n.op, Arg))
        return cls(nodes, tuple(a.name for a in body.body_args()), tuple(o.ref for o in body.outputs))

    def with_shared(self, body: Graph) -> _Template:
        """Return the template with the nodes that depend on no step separated from its other nodes."""
        varying = {a.name for a in body.body_args() if isinstance(a.op, Arg) and a.op.role in ("x", "state")}
        varying = body.dependents(varying)
        same = tuple(pair for pair in self.nodes if pair[0].name not in varying)
        return replace(self, nodes=tuple(pair for pair in self.nodes if pair[0].name in varying), same=same)

    def reads(self) -> set[Ref]:
        """Return the values that the nodes and results of a step read."""
        return {ref for _, operands in self.nodes for ref in operands}.union(self.results)


class _Unroller:
    """One scan's expansion into ``builder``."""

    def __init__(self, builder: Builder, node: Node, scan: Scan, time_axis: TimeAxis, cuts: Cuts) -> None:
        self.builder, self.node, self.scan, self.time_axis, self.cuts = builder, node, scan, time_axis, cuts
        named = named_results(scan, scan.body)
        self.body = _Template.of(named).with_shared(named)
        self.first = self.body if scan.first is None else _Template.of(named_results(scan, scan.first))
        pattern = step_pattern(scan)
        self.prefixes = [pattern % t for t in range(scan.length)]
        self.steps = [Step(scan.body.name, t) for t in range(scan.length)]

    def run(self, args: Sequence[Ref], readers: dict[Ref, int]) -> dict[int, Ref]:
        """Return the scan's results by position: the results that are read, and the last states."""
        scan = self.scan
        roles = [scan.role(i) for i in range(len(args))]
        state_slots = [i for i, role in enumerate(roles) if role == "state"]
        varying: dict[int, Refs | dict[int, Ref]] = {
            i: self._cut(args[i], i) for i, role in enumerate(roles) if role == "x"
        }
        varying |= {i: self._share(args[i], i) for i, role in enumerate(roles) if role == "static"}
        same = self._same(args)
        current = list(args)
        outputs: dict[int, tuple[Ref, ...]] = {}
        count = len(scan.step_outputs)
        for position, t in enumerate(with_progress(scan.order(), f"unrolling {scan.body.name}")):
            for i, values in varying.items():
                current[i] = values[t]
            results = self._step(self.first if position == 0 else self.body, current, same, t)
            outputs[t] = results[:count]
            for slot, ref in zip(state_slots, results[count:], strict=True):
                current[slot] = ref
        by_index = {count + i: current[slot] for i, slot in enumerate(state_slots)}
        for out in range(count):
            if Ref(self.node.name, out) in readers:
                steps = [outputs[t][out] for t in range(scan.length)]
                by_index[out] = self.time_axis.stack(self.builder, steps, self.node.names[out], scan.kept)
        return by_index

    def _cut(self, sequence: Ref, slot: int) -> Refs:
        key = sequence, self.scan.kept
        if key not in self.cuts:
            names = [prefix + self.body.arguments[slot] for prefix in self.prefixes]
            self.cuts[key] = self.time_axis.unstack(self.builder, sequence, names, self.steps, self.scan.kept)
        return self.cuts[key]

    def _share(self, value: Ref, slot: int) -> dict[int, Ref]:
        """Return the value that each step reads for a static argument of the body."""
        return self._shared(Ref(self.body.arguments[slot]), value, self.first.reads())

    def _shared(self, inside: Ref, value: Ref, first: set[Ref]) -> dict[int, Ref]:
        body = self.body.reads()
        reading = [t for i, t in enumerate(self.scan.order()) if inside in (first if i == 0 else body)]
        name = inside.node if inside.out == 0 else f"{inside.node}_{inside.out}"
        names, steps = [self.prefixes[t] + name for t in reading], [self.steps[t] for t in reading]
        shared = self.time_axis.share(self.builder, value, names, steps)
        return dict.fromkeys(self.scan.order(), value) | dict(zip(reading, shared, strict=True))

    def _same(self, args: Sequence[Ref]) -> dict[Ref, dict[int, Ref]]:
        """Return the values of the body that are the same at every step, with the value that each step reads for
        them."""
        new = {Ref(name): ref for name, ref in zip(self.body.arguments, args, strict=True)}
        shared = {}
        first = self.first.reads() if self.first is self.body else set[Ref]()
        for node, operands in self.body.same:
            names = [f"{self.scan.body.name}/{name}" for name in node.names]
            refs = self.builder.add(node.op, *[new[ref] for ref in operands], names=names, loc=node.loc)
            new.update((Ref(node.name, out), ref) for out, ref in enumerate(refs))
        read = self.body.reads()
        for node, _ in self.body.same:
            for ref in node.refs:
                if ref in read:
                    shared[ref] = self._shared(ref, new[ref], first)
        return shared

    def _step(self, template: _Template, args: Sequence[Ref], same: dict[Ref, dict[int, Ref]], t: int) -> Refs:
        prefix, at = self.prefixes[t], (self.steps[t],)
        new = {Ref(name): ref for name, ref in zip(template.arguments, args, strict=True)}
        if template is self.body:
            new.update((inside, values[t]) for inside, values in same.items())
        add = self.builder.add
        for node, operands in template.nodes:
            names = [prefix + name for name in node.names]
            refs = add(
                node.op,
                *[new[ref] for ref in operands],
                names=names,
                loc=node.loc,
                types=node.types,
                steps=at * len(node.types),
            )
            for out, ref in enumerate(refs):
                new[Ref(node.name, out)] = ref
        return tuple(new[ref] for ref in template.results)


def every_scan(scan: Scan) -> bool:
    """Accept every scan."""
    return True


@dataclass(frozen=True)
class KeepTimeAxis(NodePass):
    """Let the steps of the scans that ``where`` picks be [1, N, ...] instead of [N, ...].

    1. an ``x`` argument, a state, a step output: [N, ...]  => [1, N, ...]; each node of a body does for one step what
       it would do for several at once
    2. a first and a last state outside                     => reshaped to [1, N, ...], and back; a constant is made so

    What is the same at every step stays as it is. A scan stays too, if one of its nodes cannot do this.
    ``reshape`` is the op of the stage that reshapes.
    """

    name = "keep_time_axis"
    where: Callable[[Scan], bool] = every_scan
    reshape: type[Reshape] = Reshape
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        scan = node.op
        if not isinstance(scan, Scan) or scan.kept or not self.where(scan):
            return None
        bodies = [kept for body in scan.bodies if (kept := _kept_body(body)) is not None]
        if len(bodies) < len(scan.bodies):
            return None
        counts["keep_axis"] += 1
        first = bodies[1] if scan.first is not None else None
        return self._scan(b, node, replace(scan, body=bodies[0], first=first, kept=True), args)

    def _scan(self, b: Builder, node: Node, scan: Scan, args: Refs) -> Refs:
        operands = [self._step(b, ref) if scan.role(i) == "state" else ref for i, ref in enumerate(args)]
        steps = len(scan.step_outputs)
        names = (*node.names[:steps], *(f"{name}/step" for name in node.names[steps:]))
        results = b.add(scan, *operands, names=names, loc=node.loc)
        last = zip(results[steps:], node.types[steps:], node.names[steps:], strict=True)
        return (*results[:steps], *(b.add(self.reshape(t.shape), ref, names=(name,))[0] for ref, t, name in last))

    def _step(self, b: Builder, state: Ref) -> Ref:
        """Return a first state as the step before the first step."""
        node = b.node(state.node)
        shape = (1, *b.type(state).shape)
        if isinstance(node.op, Leaf) and _is_constant(b, state):
            return b.add(_with_axis(node.op), names=(f"{node.name}/step",), loc=node.loc)[0]
        return b.add(self.reshape(shape), state, names=(f"{node.names[state.out]}/step",), loc=node.loc)[0]


def _kept_body(body: Graph) -> Graph | None:
    """Return the body on steps that keep their axis; None if a node of it has no such form."""
    builder = Builder(body.name, body)
    same: dict[Ref, Ref] = {}  # values that are the same at every step, without the axis
    kept: dict[Ref, Ref] = {}  # values with the axis
    for node in body:
        refs = node.refs
        if isinstance(node.op, Arg) and node.op.role in ("x", "state"):
            kept[refs[0]] = builder.add(_with_axis(node.op), names=node.names, loc=node.loc)[0]
            continue
        operands = body.args(node.name)
        if kept.keys().isdisjoint(operands):
            outs = builder.copy(node, [same[ref] for ref in operands])
            same.update(zip(refs, outs, strict=True))
            continue
        for ref in operands:
            if ref not in kept and _is_constant(body, ref) and body.type(ref).rank == node.types[0].rank:
                leaf = body.node(ref.node)
                assert isinstance(leaf.op, Leaf)
                (kept[ref],) = builder.add(_with_axis(leaf.op), names=(f"{leaf.name}/step",), loc=leaf.loc)
        mapped = [ref in kept for ref in operands]
        op = op_over_time(node.op, 1, [body.type(ref) for ref in operands], mapped)
        if op is None:
            return None
        outs = builder.add(op, *[kept.get(r) or same[r] for r in operands], names=node.names, loc=node.loc)
        kept.update(zip(refs, outs, strict=True))
    if not kept.keys() >= {output.ref for output in body.outputs}:
        return None  # a result that is the same at every step has no time axis
    whole = builder.finish([(o.name, kept[o.ref]) for o in body.outputs])
    return pruned(whole, whole.outputs, {arg.name for arg in whole.body_args()})


def _is_constant(graph: Graph | Builder, ref: Ref) -> bool:
    op = graph.node(ref.node).op
    return isinstance(op, Leaf) and not isinstance(op, Input | Param | Arg)


def _with_axis(op: Leaf) -> Leaf:
    return replace(op, shape=(1, *op.shape))
