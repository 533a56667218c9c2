"""Parallel in time: the states of linear recurrences for all steps at once, and the scans of what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from lstmc.errors import Argument, PassError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, broadcast, op_over_time, over_steps
from lstmc.ops import Add, Arg, Array, Binary, Full, Leaf, Mul, Op, Param, Reshape, Values
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, rewrite, with_role
from lstmc.passes.dead import pruned
from lstmc.passes.linear_maps import Steps, recurrence_nodes
from lstmc.passes.loop_motion import Hoist, Sink
from lstmc.passes.pass_list import PassList
from lstmc.patterns import Kind, Recurrence, recurrences, state_arguments

Time = Literal["unrolled", "chunks", "doubling", "auto"]
TIMES: tuple[Time, ...] = get_args(Time)
NODE_COST = 500.0  # of a layer of Caffe on a CPU
SOLVED = (Kind.DELAY, Kind.ELEMENTWISE, Kind.MAXIMUM)


@dataclass(frozen=True)
class ParallelTime(Pass):
    """Compute the states of linear recurrences for all steps at once.

    1. a group of states of a scan that are affine in themselves, element by element => nodes on the sequences of their
       factors and offsets; the rest of the scan takes the states' sequences as arguments
    2. a state of which nothing is left after a few steps, such as the last inputs => nodes on sequences, once for each
    3. a state with constant factors and offsets that float32 holds, such as the number of a step => arrays of numbers

    ``chunks``: chunks of about sqrt(T) steps run in lockstep from zero, then the states between are computed, and
    every step is corrected by the state at its chunk's start: at most some 4 sqrt(T) nodes.
    ``doubling``: log2(T) times each step is joined with the one 1, 2, 4, ... steps before: some 8 log2(T) nodes, and
    log2(T) times the operations.

    What is not linear stays a scan, which runs before or after; so do groups of matrices. ``unrolled`` leaves all as it
    is; ``auto`` takes the form that costs least, if a node costs as much as ``node_cost`` elements.
    """

    name = "parallel_time"
    time: Time = "unrolled"
    node_cost: float = NODE_COST

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        if self.time == "unrolled":
            return PassResult(graph, False)
        while True:
            before = counts.total()
            graph = rewrite(graph, lambda b, node, args: self._visit(b, node, args, counts))
            if counts.total() == before:
                break
        if counts:
            graph = Sink().run(Hoist().run(graph).graph).graph
        return PassResult(graph, bool(counts), dict(counts))

    def _visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        scan = node.op
        if not isinstance(scan, Scan) or scan.length < 2 or scan.kept:
            return None
        for recurrence in recurrences(scan.body):
            if recurrence.kind in SOLVED and (form := self._form(scan, recurrence)) != "unrolled":
                return _Parallel(b, node, scan, args, recurrence, form).run(counts)
        return None

    def _form(self, scan: Scan, recurrence: Recurrence) -> Time:
        """The form of a group of states: that which costs least, if it is to be chosen."""
        if self.time != "auto":
            return self.time
        costs = form_costs(scan, recurrence, self.node_cost)
        return min(costs, key=lambda form: costs[form])


def with_time(passes: PassList, time: Time, node_cost: float | None = None) -> PassList:
    """Return the list with recurrences computed as ``time`` says: by the pass that it has, or one after ``sink``.

    Raises :class:`~lstmc.errors.PassError` for a list that does not unroll scans whose nodes are on all steps where
    they can be.
    """
    own = ParallelTime(time, NODE_COST if node_cost is None else node_cost)
    for place, step in enumerate(passes):
        if isinstance(step, ParallelTime):
            passes[place] = own
            return passes
    names = {step.name for step in passes}
    if time == "unrolled" or (time == "auto" and not {"sink", "expand"} <= names):
        return passes
    if not {"sink", "expand"} <= names:
        argument = Argument("time", time)
        raise PassError(
            f"{argument}: this target computes its nets step by step: expected unrolled", arguments=(argument,)
        )
    passes.insert(passes.last("sink") + 1, own)
    return passes


def form_costs(scan: Scan, recurrence: Recurrence, node_cost: float) -> dict[Time, float]:
    """Return about what each form of a group of states costs, in elements."""
    body, steps = scan.body, scan.length
    names = [state_arguments(body)[state] for state in recurrence.states]
    reading = body.dependents(set(names))
    needed = body.needed([scan.next_states[state].ref for state in recurrence.states])
    size = sum(body.type(Ref(name)).size for name in names)
    group = len(names)
    nodes = len(needed & reading) - group
    return {
        "unrolled": steps * nodes * (node_cost + size / group),
        "chunks": group**2 * recurrence_nodes(steps, "chunks") * node_cost + 8 * group * steps * size,
        "doubling": group**2 * recurrence_nodes(steps, "doubling") * node_cost
        + 6 * group * (steps - 1).bit_length() * steps * size,
    }


class _Parallel:
    """One scan: a group of its states in parallel, and the scans of the rest."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs, recurrence: Recurrence, time: Time) -> None:
        self.b, self.node, self.scan, self.recurrence, self.time = b, node, scan, recurrence, time
        self.body = scan.body
        names = [arg.name for arg in self.body.body_args()]
        self.operands = dict(zip(names, args, strict=True))
        self.states = state_arguments(self.body)
        self.following: dict[int, Ref] = {}  # sequences of the states after each step

    def run(self, counts: Counter[str]) -> Refs:
        """Return the results of the scan."""
        sequences = self._before()
        group = self.recurrence.states
        initial = {state: self.operands[self.states[state]] for state in group}
        steps = Steps(self.b, self.scan.length, self.scan.reverse, self.recurrence)
        rule: str = self.time if self.recurrence.kind is not Kind.DELAY else "delay"
        if self.recurrence.delay > 1:
            self.following |= self._delayed(steps, group[0])
        elif numbers := _constant_maps(self.recurrence, self.scan.length):
            self.following |= self._numbered(numbers, group[0])
            rule = "numbers"
        elif self.recurrence.kind is Kind.DELAY:
            self.following |= {state: sequences[self.recurrence.offsets[state]] for state in group}  # type: ignore[index]
        else:
            solve = steps.chunks if self.time == "chunks" else steps.doubling
            self.following |= solve(sequences, initial)
        counts[rule] += 1
        return self._after(steps)

    def _delayed(self, steps: Steps, state: int) -> dict[int, Ref]:
        """A state of which nothing is left after some steps: all steps at once, as often, each from the ones before."""
        alone = replace_outputs(self.body, [Output(self._name_of(state), self._next(state))])
        body = pruned(alone, [0], alone.needed())
        args = body.body_args()
        body = with_role(body, [i for i, arg in enumerate(args) if arg.name in self.states], "x")
        operands = dict(self.operands)
        for other, sequence in self.following.items():
            operands[self.states[other]] = steps.previous(sequence, self.operands[self.states[other]])
        own = self.states[state]
        initial = self.operands[own]
        operands[own] = broadcast(self.b, initial, (self.scan.length, *self.b.type(initial).shape))
        for _ in range(self.recurrence.delay):
            (sequence,) = self._scan(body, [operands[arg.name] for arg in args], [self._name(self._name_of(state))])
            operands[own] = steps.previous(sequence, initial)
        return {state: sequence}

    def _numbered(self, numbers: tuple[Array, Array], state: int) -> dict[int, Ref]:
        """A state with constant factors and offsets, such as the number of a step: by arrays of numbers."""
        initial = self.operands[self.states[state]]
        shape = self.b.type(initial).shape
        whole = (self.scan.length, *shape)
        factors, offsets = (array[::-1] if self.scan.reverse else array for array in numbers)
        op = self.b.node(initial.node).op
        if isinstance(op, Full):
            return {state: broadcast(self.b, self._array(factors * op.value + offsets, len(shape)), whole)}
        (sequence,) = [broadcast(self.b, initial, whole)]
        if (factors != 1).any():
            (sequence,) = self.b.add(Mul(), sequence, self._array(factors, len(shape)))
        return {state: self.b.add(Add(), sequence, self._array(offsets, len(shape)))[0]}

    def _array(self, numbers: Array, axes: int) -> Ref:
        """A fixed array of a number for each step."""
        fill = Values.of(numbers.reshape(-1, *(1,) * axes))
        return self.b.add(Param(fill.shape, fill, 0.0, 0.0), names=(self._name("steps"),))[0]

    def _name(self, name: str) -> str:
        return f"{self.body.name}/{name}"

    def _before(self) -> dict[Ref, Ref]:
        """The sequences of factors and offsets, by what they are in a step; of what they need, a scan runs before."""
        step = self.recurrence.step
        assert step is not None
        read = sorted(self.recurrence.reads)
        varying = step.dependents(
            {a.name for a in step.body_args() if isinstance(a.op, Arg) and a.op.role in ("x", "state")}
        )
        named = {output.ref: output.name for output in step.outputs}
        sequences = {ref: self._repeated(step, ref) for ref in named if ref.node not in varying}
        mapped = [Output(name, ref) for ref, name in named.items() if ref.node in varying]
        if not mapped and not read:
            return sequences
        nexts = [Output(self._name_of(state), self.recurrence.following[state]) for state in read]
        body = replace_outputs(step, [*mapped, *nexts, *nexts])
        kept = {self.states[state] for state in read}
        body = pruned(body, range(len(body.outputs)), body.needed() | kept)
        operands = [self.operands[arg.name] for arg in body.body_args()]
        names = [self._name(o.name) for o in (*mapped, *nexts)] + [self._name(f"{o.name}_T") for o in nexts]
        results = self._scan(body, operands, names)
        sequences |= {output.ref: r for output, r in zip(mapped, results, strict=False)}
        self.following |= dict(zip(read, results[len(mapped) :], strict=False))
        return sequences

    def _scan(self, body: Graph, operands: Sequence[Ref], names: Sequence[str]) -> Refs:
        """A scan of the rest; without states its nodes, on all steps at once."""
        scan = replace(self.scan, body=body)
        if not scan.states and (values := all_steps(self.b, scan, operands, names)) is not None:
            return values
        return self.b.add(scan, *operands, names=names, loc=self.node.loc)

    def _name_of(self, state: int) -> str:
        return self.scan.next_states[state].name or self.states[state]

    def _next(self, state: int) -> Ref:
        return self.scan.next_states[state].ref

    def _repeated(self, step: Graph, ref: Ref) -> Ref:
        """A value that is the same at every step, as a sequence."""
        needed = step.needed([ref])
        new: dict[Ref, Ref] = {}
        for node in step:
            if node.name not in needed:
                continue
            if isinstance(node.op, Arg):
                new[Ref(node.name)] = self.operands[node.name]
                continue
            op: Op = node.op
            if ref.node == node.name and isinstance(op, Full):
                op = replace(op, shape=(self.scan.length, *op.shape))
            names = [self._name(name) for name in node.names]
            outs = self.b.add(op, *[new[r] for r in step.args(node.name)], names=names, loc=node.loc)
            new.update((Ref(node.name, out), r) for out, r in enumerate(outs))
        return broadcast(self.b, new[ref], (self.scan.length, *step.type(ref).shape))

    def _after(self, steps: Steps) -> Refs:
        """The scan of what is left, and all results in the old order."""
        rebuild = Rebuild(self.body)
        operands: list[Ref] = []
        solved = {self.states[state]: state for state in self.following}
        nexts = {self._next(state): state for state in self.following}

        def argument(name: str, shape: tuple[int, ...], sequence: Ref) -> Ref:
            operands.append(sequence)
            return rebuild.builder.add(Arg(shape, "x"), names=(name,), loc=self.node.loc)[0]

        for node in self.body:
            if node.name in solved:
                state = solved[node.name]
                previous = steps.previous(self.following[state], self.operands[node.name])
                rebuild.put(node, (argument(node.name, node.types[0].shape, previous),))
                continue
            rebuild.copy(node)
            if isinstance(node.op, Arg):
                operands.append(self.operands[node.name])
                continue
            for out, type_ in enumerate(node.types):
                if (ref := Ref(node.name, out)) in nexts:
                    state = nexts[ref]
                    rebuild.new[ref] = argument(self._name_of(state), type_.shape, self.following[state])
        count = len(self.scan.step_outputs)
        results: dict[int, Ref] = {
            count + state: steps.last(sequence, self.node.names[count + state])
            for state, sequence in self.following.items()
        }
        left = [i for i in range(len(self.body.outputs)) if i not in results]
        for i in [i for i in left if i < count and self.body.outputs[i].ref in nexts]:
            results[i] = self.following[nexts[self.body.outputs[i].ref]]
            left.remove(i)
        if left:
            body = rebuild.finish([self.body.outputs[i] for i in left])
            names = [self.node.names[i] for i in left]
            values = self._scan(body, operands, names)
            results |= dict(zip(left, values, strict=True))
        return tuple(results[i] for i in range(len(self.body.outputs)))


def _constant_maps(recurrence: Recurrence, steps: int) -> tuple[Array, Array] | None:
    """The factors and offsets of the first 1, 2, ... steps together, of one state for which they are numbers.

    None where float32 cannot hold them exactly, since fixed arrays are stored so.
    """
    if recurrence.kind is not Kind.ELEMENTWISE or len(recurrence.states) > 1 or recurrence.step is None:
        return None
    (state,) = recurrence.states
    refs = (recurrence.factors[state, state], recurrence.offsets[state])
    factor, offset = (
        neutral if ref is None else _number(recurrence.step, ref) for ref, neutral in zip(refs, (1.0, 0.0), strict=True)
    )
    if factor is None or offset is None:
        return None
    factors, offsets = np.empty(steps), np.empty(steps)
    a, b = 1.0, 0.0
    for t in range(steps):
        a, b = factor * a, factor * b + offset
        factors[t], offsets[t] = a, b
    with np.errstate(over="ignore"):
        rounded = [array.astype(np.float32) for array in (factors, offsets)]
    exact = all(np.isfinite(x).all() and (x == y).all() for x, y in zip(rounded, (factors, offsets), strict=True))
    return (factors, offsets) if exact else None


def _number(graph: Graph, ref: Ref) -> float | None:
    """The number that all elements of a value are, if it is made of constants."""
    needed = graph.needed([ref])
    nodes = [node for node in graph if node.name in needed]
    if any(isinstance(node.op, Leaf) and not isinstance(node.op, Full) for node in nodes):
        return None
    values: dict[Ref, Array] = {}
    for node in nodes:
        results = node.op.eval(*(values[arg] for arg in graph.args(node.name)))
        values.update((Ref(node.name, out), np.asarray(array)) for out, array in enumerate(results))
    first = float(values[ref].flat[0])
    return first if (values[ref] == first).all() else None


def replace_outputs(graph: Graph, outputs: Sequence[Output]) -> Graph:
    """Return the graph with other outputs."""
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    return rebuild.finish(outputs)


def all_steps(b: Builder, scan: Scan, operands: Sequence[Ref], names: Sequence[str]) -> Refs | None:
    """Add the nodes of a scan without states on all steps at once, and return its results.

    Operands that broadcasting would not line up over time are repeated. None, and nodes that nothing reads, where an op
    has no form for all steps.
    """
    body, length = scan.body, scan.length
    outer: dict[Ref, Ref] = {}
    mapped: set[Ref] = set()
    titles = {output.ref: name for output, name in zip(body.outputs, names, strict=True)}
    arguments = iter(operands)
    for node in body:
        refs, args = [Ref(node.name, out) for out in range(len(node.types))], body.args(node.name)
        if isinstance(node.op, Arg):
            outer[refs[0]] = next(arguments)
            mapped.update(refs if node.op.role == "x" else ())
            continue
        op: Op | None = node.op
        values = [outer[ref] for ref in args]
        of_steps = [ref in mapped for ref in args]
        if any(of_steps):
            types = [body.type(ref) for ref in args]
            op = op_over_time(node.op, length, types, of_steps)
            if op is None and isinstance(node.op, Binary):
                whole = over_steps(node.types[0], length).shape
                own = [(length, *(1,) * (node.types[0].rank - t.rank), *t.shape) for t in types]
                values = [
                    broadcast(b, b.add(Reshape(shape), ref)[0], whole) if is_mapped else ref
                    for ref, shape, is_mapped in zip(values, own, of_steps, strict=True)
                ]
                op = node.op
            mapped.update(refs)
        if op is None:
            return None
        shown = [titles.get(ref) or f"{body.name}/{name}" for ref, name in zip(refs, node.names, strict=True)]
        outer.update(zip(refs, b.add(op, *values, names=shown, loc=node.loc), strict=True))
    repeated = [
        outer[o.ref] if o.ref in mapped else broadcast(b, outer[o.ref], over_steps(body.type(o.ref), length).shape)
        for o in body.outputs
    ]
    return tuple(repeated)
