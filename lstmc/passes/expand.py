"""Unrolling: every step's nodes, parameters shared by being the same node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Ref, Scan, Stage, rename_values
from lstmc.ops import Arg, Input, Leaf, Stack, Unstack
from lstmc.passes.base import Pass, PassResult, Refs


class TimeAxis(Protocol):
    """How a sequence is cut into steps and joined again, in the ops of the stage."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str]) -> Refs:
        """x [T, ...] as T values [...], called ``names``."""
        ...

    def stack(self, b: Builder, steps: Sequence[Ref], name: str) -> Ref:
        """T values [...] as one [T, ...], called ``name``."""
        ...


@dataclass(frozen=True)
class CoreTimeAxis:
    """In core ops: ``unstack`` and ``stack``."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str]) -> Refs:
        return b.add(Unstack(), x, names=names)

    def stack(self, b: Builder, steps: Sequence[Ref], name: str) -> Ref:
        return b.add(Stack(), *steps, names=(name,))[0]


@dataclass(frozen=True)
class Expand(Pass):
    """Unroll every scan.

    1. scan(body) over T steps => T copies of the body (the first of ``first``), each on the previous one's states
    2. an ``x`` argument       => the step's slice of the sequence, cut once and shared by all scans of it
    3. a ``static`` or ``weight`` argument => the outer node itself: sharing is identity
    4. an initial state that the first step does not read, and that has no other reader => nothing
    5. a step output that is read => the steps' values stacked; a last state => the last step's value

    A step's nodes are called ``SCAN/tNNN/NAME``; its next states and outputs have their own names.
    """

    name = "expand"
    after = Stage.EXPANDED
    time_axis: TimeAxis = CoreTimeAxis()

    def run(self, graph: Graph) -> PassResult:
        builder = Builder(graph.name, graph)
        readers = graph.readers()
        new: dict[Ref, Ref] = {}
        cuts: dict[Ref, Refs] = {}
        steps = 0
        unread = _unread_leaves(graph)
        for node in graph:
            if node.name in unread:
                continue
            args = [new.get(ref, ref) for ref in graph.args(node.name)]
            if isinstance(node.op, Scan):
                made = _Unroller(builder, node, node.op, self.time_axis, cuts).run(args, readers)
                new.update((Ref(node.name, out), ref) for out, ref in made.items())
                steps += node.op.length
            else:
                made_refs = builder.copy(node, args)
                new.update((Ref(node.name, out), ref) for out, ref in enumerate(made_refs))
        expanded = builder.finish([(output.name, new[output.ref]) for output in graph.outputs])
        return PassResult(expanded if steps else graph, steps > 0, {"unroll_step": steps} if steps else {})

    def ensures(self, graph: Graph) -> None:
        for node in graph:
            if isinstance(node.op, Scan | Arg):
                raise PassError(f"expand left %{node.name} behind")


def _unread_leaves(graph: Graph) -> set[str]:
    """The leaves that only scans have as initial states, and whose first steps do not look at them."""
    read = {output.ref.node for output in graph.outputs}
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan):
            first = node.op.first or node.op.body
            used = first.needed()
            names = [arg.name for arg in first.body_args()]
            args = tuple(ref for i, ref in enumerate(args) if node.op.role(i) != "state" or names[i] in used)
        read.update(ref.node for ref in args)
    return {node.name for node in graph if isinstance(node.op, Leaf) and not isinstance(node.op, Input)} - read


def step_prefix(scan: Scan, t: int) -> str:
    """What the names of step ``t``'s nodes start with."""
    return f"{scan.body.name}/t{t:0{max(3, len(str(scan.length - 1)))}d}/"


def _named_results(body: Graph) -> Graph:
    """The body with its next states, then its outputs, called by their own names."""
    wanted: dict[Ref, str] = {}
    for output in reversed(body.outputs):
        kind, _, name = output.name.partition(".")
        if name and not (kind == "y" and output.ref in wanted):
            wanted[output.ref] = name
    return rename_values(body, wanted)


@dataclass(frozen=True)
class _Template:
    """A body read once: its nodes, and where each operand comes from."""

    nodes: tuple[tuple[Node, tuple[Ref, ...]], ...]
    arguments: tuple[str, ...]
    results: tuple[Ref, ...]

    @classmethod
    def of(cls, body: Graph) -> _Template:
        nodes = tuple((n, body.args(n.name)) for n in body if not isinstance(n.op, Arg))
        return cls(nodes, tuple(a.name for a in body.body_args()), tuple(o.ref for o in body.outputs))


class _Unroller:
    """One scan's expansion into ``builder``."""

    def __init__(self, builder: Builder, node: Node, scan: Scan, time_axis: TimeAxis, cuts: dict[Ref, Refs]) -> None:
        self.builder, self.node, self.scan, self.time_axis, self.cuts = builder, node, scan, time_axis, cuts
        self.body = _Template.of(_named_results(scan.body))
        self.first = self.body if scan.first is None else _Template.of(_named_results(scan.first))

    def run(self, args: Sequence[Ref], readers: dict[Ref, int]) -> dict[int, Ref]:
        """The scan's results by position: those that are read, and the last states."""
        scan = self.scan
        roles = [scan.role(i) for i in range(len(args))]
        sliced = {i: self._cut(args[i], i) for i, role in enumerate(roles) if role == "x"}
        state_slots = [i for i, role in enumerate(roles) if role == "state"]
        current = list(args)
        outputs: dict[int, tuple[Ref, ...]] = {}
        count = len(scan.step_outputs)
        for position, t in enumerate(scan.order()):
            for i, cut in sliced.items():
                current[i] = cut[t]
            results = self._step(self.first if position == 0 else self.body, current, step_prefix(scan, t))
            outputs[t] = results[:count]
            for slot, ref in zip(state_slots, results[count:], strict=True):
                current[slot] = ref
        made = {count + i: current[slot] for i, slot in enumerate(state_slots)}
        for out in range(count):
            if Ref(self.node.name, out) in readers:
                steps = [outputs[t][out] for t in range(scan.length)]
                made[out] = self.time_axis.stack(self.builder, steps, self.node.names[out])
        return made

    def _cut(self, sequence: Ref, slot: int) -> Refs:
        if sequence not in self.cuts:
            argument = self.body.arguments[slot]
            names = [step_prefix(self.scan, t) + argument for t in range(self.scan.length)]
            self.cuts[sequence] = self.time_axis.unstack(self.builder, sequence, names)
        return self.cuts[sequence]

    def _step(self, template: _Template, args: Sequence[Ref], prefix: str) -> Refs:
        new = {Ref(name): ref for name, ref in zip(template.arguments, args, strict=True)}
        add = self.builder.add
        for node, operands in template.nodes:
            names = [prefix + name for name in node.names]
            made = add(node.op, *[new[ref] for ref in operands], names=names, loc=node.loc, types=node.types)
            for out, ref in enumerate(made):
                new[Ref(node.name, out)] = ref
        return tuple(new[ref] for ref in template.results)
