"""Loops in parts: unrolling, a separate first step, and two scans in place of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, Stage, Step, op_over_time, rename_values
from lstmc.ops import Arg, Concat, Full, Input, Leaf, Linear, Param, Reshape, Split, Stack, Unstack
from lstmc.passes.base import NodePass, Pass, PassResult, Refs, graph_pass, node_pass, note_node, result, rewrite_all
from lstmc.passes.simplify import pruned, simplified, without_repeats
from lstmc.patterns import states_read
from lstmc.process.status import with_progress

__all__ = ["Expand", "KeepTimeAxis", "TimeAxis", "distribute", "named_results", "peel", "step_pattern"]

MOST_NODES = 20_000_000  # nodes of an unrolled scan: some tens of gigabytes of memory here, and of layers in Caffe
Cuts = dict[tuple[Ref, bool], Refs]  # (sequence, whether the axis is kept) -> its steps


@dataclass(frozen=True)
class TimeAxis:
    """Cuts a sequence into steps and joins them, by core ops; a subclass of a backend uses the backend's ops."""

    def unstack(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step] = (), kept: bool = False) -> Refs:
        """Return the T steps of x [T, ...], called ``names``: T values [...], or [1, ...] if the axis is ``kept``."""
        return b.add(Split(0, (1,) * len(names)) if kept else Unstack(), x, names=names, steps=tuple(steps))

    def stack(self, b: Builder, steps: Sequence[Ref], name: str, kept: bool = False) -> Ref:
        """Return T values [...], or [1, ...] if the axis is ``kept``, joined to one value [T, ...] called ``name``."""
        return b.add(Concat(0) if kept else Stack(), *steps, names=(name,))[0]

    def share(self, b: Builder, x: Ref, names: Sequence[str], steps: Sequence[Step]) -> Refs:
        """Return x for each step that reads it. A backend that needs copies of x calls them by ``names``."""
        return (x,) * len(names)


@dataclass(frozen=True)
class Expand(Pass):
    """Unroll every scan.

    1. scan(body) over T steps => T copies of the body (the first of ``first``), each on the previous one's states
    2. an ``x`` argument       => the step's slice of the sequence, cut once and shared by all scans of the sequence
    3. a ``weight`` argument => the outer node itself: sharing is identity; a ``static`` argument => the time axis' copy
       for each step that reads it
    4. an initial state that the first step does not read, and that has no other reader => nothing
    5. a step output that is read => the steps' values stacked; a last state => the last step's value
    6. a body's node on weights, static arguments and constants alone => one node, shared like a static argument

    Scans for which ``loops`` is true stay as they are. A step's nodes are called ``SCAN/tNNN/NAME``; its next states
    and outputs have their own names.
    """

    name = "expand"
    after = Stage.EXPANDED
    time_axis: TimeAxis = TimeAxis()
    loops: Callable[[Scan], bool] = lambda scan: False

    def requires(self, graph: Graph) -> None:
        """Raise :class:`PassError` if an unrolled scan would have more nodes than a net can have."""
        for node in graph:
            scan = node.op
            if isinstance(scan, Scan) and not self.loops(scan) and scan.length * len(scan.body) > MOST_NODES:
                found = f"{scan.length} steps of {len(scan.body)} nodes, {scan.length * len(scan.body)} in all"
                raise PassError(f"{scan.body.name} has {found}: expected at most {MOST_NODES}", loc=node.loc)

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
                args = [rebuild.new.get(ref, ref) for ref in graph.args(node.name)]  # an unread leaf has no new value
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
    """Return the leaves to remove: initial states that no first step of an unrolled scan and no other node reads."""
    read = {output.ref.node for output in graph.outputs}
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan) and not loops(node.op):
            first = node.op.first or node.op.body
            used = {ref.node for ref in first.readers()}
            names = first.arguments()
            args = tuple(ref for i, ref in enumerate(args) if node.op.role(i) != "state" or names[i] in used)
        read.update(ref.node for ref in args)
    return {node.name for node in graph if isinstance(node.op, Leaf) and not isinstance(node.op, Input)} - read


def step_pattern(scan: Scan) -> str:
    """Return the prefix of the names of a step's nodes, with a ``%`` for the step: ``lstm/t%03d/``."""
    return f"{scan.body.name}/t%0{max(3, len(str(scan.length - 1)))}d/"


def named_results(scan: Scan, body: Graph) -> Graph:
    """Return the body with results named as its outputs; if one value is several, the first next state names it."""
    count = len(scan.step_outputs)
    named = (*body.outputs[:count], *reversed(body.outputs[count:]))
    return rename_values(body, {output.ref: output.name for output in named if output.name})


class _Template:
    """A body read once: its ``nodes`` with operands; if ``shares``, without those in ``same``: equal at every step."""

    def __init__(self, body: Graph, shares: bool) -> None:
        nodes = [(node, body.args(node.name)) for node in body if not isinstance(node.op, Arg)]
        varying = body.dependents(set(body.arguments("x", "state"))) if shares else {node.name for node, _ in nodes}
        self.nodes = [pair for pair in nodes if pair[0].name in varying]
        self.same = [pair for pair in nodes if pair[0].name not in varying]
        self.arguments = body.arguments()
        self.results = tuple(output.ref for output in body.outputs)

    def reads(self) -> set[Ref]:
        return {ref for _, operands in self.nodes for ref in operands}.union(self.results)


class _Unroller:
    """Adds the unrolled nodes of one scan to ``builder``."""

    def __init__(self, builder: Builder, node: Node, scan: Scan, time_axis: TimeAxis, cuts: Cuts) -> None:
        self.builder, self.node, self.scan, self.time_axis, self.cuts = builder, node, scan, time_axis, cuts
        self.body = _Template(named_results(scan, scan.body), shares=True)
        self.first = self.body if scan.first is None else _Template(named_results(scan, scan.first), shares=False)
        pattern = step_pattern(scan)
        self.prefixes = [pattern % t for t in range(scan.length)]
        self.steps = [Step(scan.body.name, t) for t in range(scan.length)]

    def run(self, args: Sequence[Ref], readers: dict[Ref, int]) -> dict[int, Ref]:
        """Return the scan's results by their positions: the outputs that something reads, and the last states."""
        scan = self.scan
        roles = [scan.role(i) for i in range(len(args))]
        state_slots = [i for i, role in enumerate(roles) if role == "state"]
        slots = {kind: [i for i, role in enumerate(roles) if role == kind] for kind in ("x", "static")}
        varying: dict[int, Refs | dict[int, Ref]] = {i: self._cut(args[i], i) for i in slots["x"]}
        shares = {i: Ref(self.body.arguments[i]) for i in slots["static"]}
        varying |= {i: self._shared(inside, args[i], self.first.reads()) for i, inside in shares.items()}
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
        """Return the steps of a sequence, which is cut once for all scans that read it."""
        key = sequence, self.scan.kept
        if key not in self.cuts:
            names = [prefix + self.body.arguments[slot] for prefix in self.prefixes]
            self.cuts[key] = self.time_axis.unstack(self.builder, sequence, names, self.steps, self.scan.kept)
        return self.cuts[key]

    def _shared(self, inside: Ref, value: Ref, first: set[Ref]) -> dict[int, Ref]:
        """Return for each step what it reads for ``inside``, a value of the body that is ``value`` outside at every
        step. ``first`` has the body's values that the first step reads."""
        body = self.body.reads()
        reading = [t for i, t in enumerate(self.scan.order()) if inside in (first if i == 0 else body)]
        name = inside.node if inside.out == 0 else f"{inside.node}_{inside.out}"
        names, steps = [self.prefixes[t] + name for t in reading], [self.steps[t] for t in reading]
        shared = self.time_axis.share(self.builder, value, names, steps)
        return dict.fromkeys(self.scan.order(), value) | dict(zip(reading, shared, strict=True))

    def _same(self, args: Sequence[Ref]) -> dict[Ref, dict[int, Ref]]:
        """Add the nodes that are the same at every step, each once. Return for each of their values that a step reads a
        dict from each step to the value outside of the body."""
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
        """Add the nodes of step ``t`` and return its outputs, then its states. ``args`` are the values of arguments at
        this step, ``same`` the values that are equal at every step."""
        prefix, at = self.prefixes[t], (self.steps[t],)
        new = {Ref(name): ref for name, ref in zip(template.arguments, args, strict=True)}
        if template is self.body:
            new.update((inside, values[t]) for inside, values in same.items())
        add = self.builder.add
        for node, operands in template.nodes:
            names, steps = [prefix + name for name in node.names], at * len(node.types)
            values = [new[ref] for ref in operands]
            refs = add(node.op, *values, names=names, loc=node.loc, types=node.types, steps=steps)
            for out, ref in enumerate(refs):
                new[Ref(node.name, out)] = ref
        return tuple(new[ref] for ref in template.results)


@dataclass(frozen=True)
class KeepTimeAxis(NodePass):
    """Let the steps of the scans that ``where`` picks be [1, N, ...] instead of [N, ...].

    1. an ``x`` argument, a state, a step output: [N, ...] => [1, N, ...]; each node of a body computes one step as it
       would compute several at once
    2. a first and a last state outside                     => reshaped to [1, N, ...], and back; a constant is made so

    A value that is the same at every step keeps its shape. A scan with a node that cannot keep the axis is not changed.
    ``reshape`` is the op of the stage that reshapes.
    """

    name = "keep_time_axis"
    where: Callable[[Scan], bool] = lambda scan: True
    reshape: type[Reshape] = Reshape
    bodies = False

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        """Return a scan's results with an axis of time on the values of its body, or None if the scan stays."""
        scan = node.op
        if not isinstance(scan, Scan) or scan.kept or not self.where(scan):
            return None
        body, first = _kept_body(scan.body), None if scan.first is None else _kept_body(scan.first)
        if body is None or (first is None) != (scan.first is None):
            return None
        counts["keep_axis"] += 1
        return self._scan(b, node, replace(scan, body=body, first=first, kept=True), args)

    def _scan(self, b: Builder, node: Node, scan: Scan, args: Refs) -> Refs:
        """Add the scan on first states with the axis of time; its last states are reshaped to lose the axis."""
        operands = [self._step(b, ref) if scan.role(i) == "state" else ref for i, ref in enumerate(args)]
        steps = len(scan.step_outputs)
        names = (*node.names[:steps], *(f"{name}/step" for name in node.names[steps:]))
        results = b.add(scan, *operands, names=names, loc=node.loc)
        last = zip(results[steps:], node.types[steps:], node.names[steps:], strict=True)
        return (*results[:steps], *(b.add(self.reshape(t.shape), ref, names=(name,))[0] for ref, t, name in last))

    def _step(self, b: Builder, state: Ref) -> Ref:
        """Return a first state [N, ...] as [1, N, ...]."""
        node = b.node(state.node)
        shape = (1, *b.type(state).shape)
        if isinstance(node.op, Leaf) and _is_constant(b, state):
            return b.add(_with_axis(node.op), names=(f"{node.name}/step",), loc=node.loc)[0]
        return b.add(self.reshape(shape), state, names=(f"{node.names[state.out]}/step",), loc=node.loc)[0]


def _kept_body(body: Graph) -> Graph | None:
    """Return the body with an axis of time, of size 1, on its sequences, states and results. Return None if an op has
    no form with this axis, or if a result is the same at every step."""
    builder = Builder(body.name, body)
    same: dict[Ref, Ref] = {}  # values that are the same at every step, without the axis
    kept: dict[Ref, Ref] = {}  # values with the axis
    for node in body:
        refs = node.refs
        if isinstance(node.op, Arg) and node.op.role in ("x", "state"):
            (kept[refs[0]],) = builder.add(_with_axis(node.op), names=node.names, loc=node.loc)
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
    """Return whether a value is a constant array, so no input, parameter or argument."""
    op = graph.node(ref.node).op
    return isinstance(op, Leaf) and not isinstance(op, Input | Param | Arg)


def _with_axis(op: Leaf) -> Leaf:
    return replace(op, shape=(1, *op.shape))


@node_pass(bodies=False)
def peel(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Give each scan that starts from a constant its own first step.

    1. scan(body) from full initial states => scan(body, first), where first is the body with those states put in
       and simplified: a product with a zero state is removed, with its matrix
    """
    if not isinstance(node.op, Scan) or node.op.first is not None:
        return None
    if (first := _first_step(node.op, b, args)) is None:
        return None
    counts["peel_first_step"] += 1
    return b.add(replace(node.op, first=first), *args, names=node.names, loc=node.loc)


def _first_step(scan: Scan, b: Builder, operands: Refs) -> Graph | None:
    """Return the body simplified with the initial states that are arrays of equal numbers; None if no state is."""
    states = {name: b.node(operands[slot].node).op for slot, name in enumerate(scan.body.arguments())}
    constants = {name: states[name] for name in scan.body.arguments("state") if isinstance(states[name], Full)}
    if not constants:
        return None
    rebuild = Rebuild(scan.body)
    for node in scan.body:
        rebuild.copy(node)
        if node.name in constants:
            rebuild.put(node, rebuild.builder.add(constants[node.name], loc=node.loc))
    counts: Counter[str] = Counter()
    first = without_repeats(simplified(rebuild.finish(), counts), counts)
    return pruned(first, first.outputs, {arg.name for arg in first.body_args()})


@graph_pass(before_peel=True)
def distribute(graph: Graph, counts: Counter[str]) -> Graph:
    """Compute independent states in a scan of their own first, if products that read only these then leave the loop.

    1. states that depend on no other states, and products of these states alone => a scan of these states, and a scan
       of the rest that reads their sequences, where ``hoist`` then finds the products; unless the sequences have more
       elements than the products

    An example are RWKV's mixtures of an input and the previous input: the products with them leave the loop.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan) or node.op.kept or node.op.states < 2:
            return None
        return _first_that_pays(b, node, node.op, args, counts)

    return rewrite_all(graph, visit, counts)


def _first_that_pays(b: Builder, node: Node, scan: Scan, args: Refs, counts: Counter[str]) -> Refs | None:
    """Return the results of two scans in place of one, for the smallest group of states whose separation moves a
    product out of the loop; None if no separation pays."""
    body = scan.body
    states, reads = body.arguments("state"), states_read(body)
    numbers = {name: number for number, name in enumerate(states)}
    groups: dict[frozenset[int], None] = {}  # states that need no other states, and that a product reads
    for each in body:
        if isinstance(each.op, Linear):
            read = {numbers[name] for name in body.needed([Ref(each.name)]) & numbers.keys()}
            groups[frozenset(read.union(*(reads[number] for number in read)))] = None
    for group in sorted(groups, key=lambda group: (len(group), *sorted(group))):
        if 0 < len(group) < len(states):
            halves = _Halves(scan, group)
            if halves.pays:
                counts["distribute"] += 1
                return halves.scans(b, node, args)
    return None


class _Halves:
    """A scan as two scans: the first has the states with the numbers ``first``, which need no other states.
    ``crossing`` are the values that the second scan reads from the first. ``pays``: the products that leave the loop
    have at least as many elements as these values."""

    def __init__(self, scan: Scan, first: Collection[int]) -> None:
        self.scan, self.body = scan, scan.body
        self.names = self.body.arguments("state")
        self.numbers = sorted(first), [number for number in range(len(self.names)) if number not in first]  # of states
        self.first = {self.names[number] for number in first}
        varying = self.body.dependents(self.first)  # nodes that read the first states
        computed = (self.body.needed([output.ref for output in self._nexts(0)]) | self.first) & varying  # first scan's
        self.crossing = self._crossing(computed)
        alone = varying - self.body.dependents(set(self.names) - self.first) - computed
        freed = [node for node in self.body if node.name in alone and isinstance(node.op, Linear)]
        moved = sum(self.body.type(ref).size for ref in self.crossing)
        self.pays = bool(freed) and moved <= sum(node.types[0].size for node in freed)

    def _nexts(self, half: int) -> list[Output]:
        """Return the next states of the first scan (0) or the second scan (1)."""
        return [self.scan.next_states[number] for number in self.numbers[half]]

    def _crossing(self, computed: set[str]) -> list[Ref]:
        """Return the values that the first scan computes and the second scan reads."""
        stack = [output.ref for output in (*self.scan.step_outputs, *self._nexts(1))]
        seen = set(stack)
        for ref in stack:
            more = [] if ref.node in computed else [arg for arg in self.body.args(ref.node) if arg not in seen]
            seen.update(more)
            stack += more
        return [ref for ref in stack if ref.node in computed]

    def scans(self, b: Builder, node: Node, args: Refs) -> Refs:
        """Add the two scans, and return the results of the one scan that they replace."""
        values = [Output(self.body.value_name(ref), ref) for ref in self.crossing]
        names = [f"{self.body.name}/{output.name}" for output in values]
        operands = dict(zip(self.body.arguments(), args, strict=True))
        steps = node.names[: len(self.scan.step_outputs)]
        ends = node.names[len(steps) :]

        def half(number: int, body: Graph, outputs: Sequence[str]) -> tuple[Refs, Refs]:
            titles = [*outputs, *(ends[state] for state in self.numbers[number])]
            arguments = [operands[arg.name] for arg in body.body_args()]
            results = b.add(replace(self.scan, body=body), *arguments, names=titles, loc=node.loc)
            return results[: len(outputs)], results[len(outputs) :]

        sequences, first = half(0, pruned(self.body, [*values, *self._nexts(0)], self.first), names)
        body, taken = self._rest()
        operands |= {name: sequences[at] for name, at in taken.items()}
        results, second = half(1, body, steps)
        last = dict(zip((*self.numbers[0], *self.numbers[1]), (*first, *second), strict=True))
        return (*results, *(last[number] for number in range(len(ends))))

    def _rest(self) -> tuple[Graph, dict[str, int]]:
        """Return the second scan's body, and for each new argument, by name, the index of its value in ``crossing``."""
        rebuild, taken = Rebuild(self.body), dict[str, int]()
        for node in self.body:
            crossing = [ref for ref in self.crossing if ref.node == node.name]
            for ref in crossing:
                arg = Arg(node.types[ref.out].shape, "x")
                (rebuild.new[ref],) = rebuild.builder.add(arg, names=(node.names[ref.out],), loc=node.loc)
                taken[rebuild.new[ref].node] = self.crossing.index(ref)
            known = all(ref in rebuild.new for ref in self.body.args(node.name))
            if known and not crossing and node.name not in self.first:
                rebuild.copy(node)
        body = rebuild.finish([*self.scan.step_outputs, *self._nexts(1)])
        return pruned(body, body.outputs, body.arguments("state")), taken
