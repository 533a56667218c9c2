"""Parallel in time: linear recurrences are solved for all steps at once; scans of the other states remain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from lstmc.errors import Argument, PassError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, broadcast
from lstmc.ops import Add, Arg, Array, Full, Leaf, Mul, Param, Price, Values, Work
from lstmc.ops.base import BYTES
from lstmc.passes import linear_maps
from lstmc.passes.base import Pass, PassList, PassResult, Refs, rewrite_all, with_role
from lstmc.passes.linear_maps import MatrixChunks, MatrixSteps, Steps, all_steps, product_radix, recurrence_nodes
from lstmc.passes.loop_motion import Hoist, Sink
from lstmc.passes.precompute import Precompute
from lstmc.passes.simplify import pruned
from lstmc.patterns import Kind, MatrixStep, Recurrence, axes_of_one, matrix_step, operand_masks, recurrences

__all__ = ["TIMES", "ParallelTime", "Time", "with_time"]

Time = Literal["unrolled", "chunks", "doubling", "products", "auto"]
TIMES: tuple[Time, ...] = get_args(Time)
CAFFE = Price(launch=6.6e-7, byte=1.1e-10, flop=1.65e-10)  # on a CPU
MOVED = 3 * BYTES  # by an elementwise op of two operands, for each element
DELAY_NODES = 8  # with so many more, no measured net was slower, from 4 steps on


@dataclass(frozen=True)
class ParallelTime(Pass):
    """Compute the states of linear recurrences for all steps at once.

    1. a group of states of a scan that are affine in themselves, element by element => nodes on the sequences of their
       factors and offsets; the rest of the scan takes the states' sequences as arguments
    2. a state that is forgotten after a few steps, such as the last inputs => nodes on sequences, once for each of
       these steps
    3. a state with constant factors and offsets that float32 holds, such as the number of a step => arrays of numbers
    4. a group of states that a step multiplies by a matrix => the step's nodes for all chunks at once, from zero, from
       the identity, and from the states between chunks

    ``chunks``: chunks of about sqrt(T) steps run in lockstep from zero, then the states between are computed, and
    every step is corrected by the state at its chunk's start: at most some 4 sqrt(T) nodes.
    ``doubling``: each step is joined with the step 1, 2, 4, ... steps before: some 8 log2(T) nodes, and
    log2(T) times the operations. ``products``: where all steps have one matrix, its powers are weights, and a product
    with them joins r steps: some 9 log_r(T) nodes.

    A group without the requested form takes ``chunks``. States that are not linear stay in a scan, which runs before or
    after. ``unrolled`` changes nothing; ``auto`` takes the form that is fastest by ``price``. Values of parameters
    alone become weights if the list of passes has ``precompute``.
    """

    name = "parallel_time"
    before_peel = True
    time: Time = "unrolled"
    price: Price = CAFFE
    trained: bool = False
    precompute: Precompute | None = None

    def run(self, graph: Graph) -> PassResult:
        """Solve groups of states until none is left, then move what has become independent of the loops out of them."""
        counts: Counter[str] = Counter()
        if self.time == "unrolled":
            return PassResult(graph, False)
        graph = rewrite_all(graph, lambda b, node, args: self._visit(b, node, args, counts), counts)
        if counts:
            graph = Sink().run(Hoist().run(graph).graph).graph
            graph = self.precompute.run(graph).graph if self.precompute else graph
        return PassResult(graph, bool(counts), dict(counts))

    def _visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        """Return a scan's results with one group of its states solved; None if no group is worth solving."""
        scan = node.op
        if not isinstance(scan, Scan) or scan.length < 2 or scan.kept:
            return None
        for recurrence in recurrences(scan.body, operand_masks(b, scan, args)):
            if recurrence.kind is None:
                continue
            parallel = _Parallel(b, node, scan, args, recurrence)
            form = self._form(parallel)
            if form != "unrolled" and (results := parallel.run(form, counts)) is not None:
                return results
        return None

    def _form(self, parallel: _Parallel) -> Time:
        """Return the cheapest form of a group for the time "auto", else ``time`` if the group has it, else "chunks"."""
        works = parallel.works(self.trained)
        if self.time == "auto":
            return min(works, key=lambda form: self.price.seconds(works[form]))
        return self.time if self.time in works else "chunks"


def with_time(passes: PassList, time: Time, trained: bool, price: Price | None = None) -> PassList:
    """Return the list with recurrences computed as ``time`` says: by the list's own pass, or by a pass inserted after
    ``sink``. Nets that are ``trained`` have no products: a parameter cannot be read back from powers of a matrix.
    Raises :class:`~lstmc.errors.PassError` for an unknown form, and for a list of passes that computes nets step by
    step."""
    argument = Argument("time", time)
    if time not in TIMES:
        raise PassError(f"{argument}: expected one of {', '.join(TIMES)}")
    precompute = next((step for step in passes if isinstance(step, Precompute)), None)
    own = ParallelTime(time, price or CAFFE, trained, precompute)
    for place, step in enumerate(passes):
        if isinstance(step, ParallelTime):
            passes[place] = own
            return passes
    names = {step.name for step in passes}
    if time == "unrolled" or (time == "auto" and not {"sink", "expand"} <= names):
        return passes
    if not {"sink", "expand"} <= names:
        raise PassError(f"{argument}: this target computes its nets step by step: expected unrolled")
    passes.insert(passes.last("sink") + 1, own)
    return passes


class _Parallel:
    """A scan with a group of states, ``recurrence``, to compute for all steps at once; other states stay in scans."""

    def __init__(self, b: Builder, node: Node, scan: Scan, args: Refs, recurrence: Recurrence) -> None:
        self.b, self.node, self.scan, self.recurrence = b, node, scan, recurrence
        self.body = scan.body
        names = self.body.arguments()
        self.operands = dict(zip(names, args, strict=True))
        self.states = self.body.arguments("state")
        self.following: dict[int, Ref] = {}  # sequences of the states after each step

    @cached_property
    def step(self) -> MatrixStep:
        """Return the step of the group as products with matrices."""
        same = {}
        for slot, (name, ref) in enumerate(self.operands.items()):
            before = 1 if self.scan.role(slot) == "x" else 0
            same[name] = frozenset(axis - before for axis in axes_of_one(self.b, ref) if axis >= before)
        return matrix_step(self.body, self.recurrence.states, same)

    def works(self, trained: bool) -> dict[Time, Work]:
        """Return the approximate work of each form that the group of states has."""
        body, steps, kind = self.body, self.scan.length, self.recurrence.kind
        names = [self.states[state] for state in self.recurrence.states]
        inside = body.dependents(set(names)) & body.needed([self._next(state) for state in self.recurrence.states])
        size, group = sum(body.type(Ref(name)).size for name in names), len(names)
        nodes = len(inside) - group
        if kind is Kind.DELAY:  # what reads this state alone leaves the loop
            others = body.dependents({name for name in self.states if name not in names})
            nodes = len(body.dependents(set(names)) - others) - group
            delayed = nodes * self.recurrence.delay + DELAY_NODES
            return {"unrolled": Work(launches=steps * nodes), "chunks": Work(launches=delayed)}
        if kind is Kind.MATRIX:
            elements = sum(type_.size for name in inside for type_ in body.node(name).types)
            chunks = MatrixChunks.of(self.step, steps)
            of_chunks = chunks.nodes, (2 + chunks.runs) * steps * elements + chunks.work
            counts: dict[Time, tuple[int, int]] = {"unrolled": (steps * nodes, steps * elements), "chunks": of_chunks}
        else:
            levels = (steps - 1).bit_length()
            counts = {
                "unrolled": (steps * nodes, steps * nodes * size // group),
                "chunks": (group**2 * recurrence_nodes(steps, "chunks"), 8 * group * steps * size),
                "doubling": (group**2 * recurrence_nodes(steps, "doubling"), 6 * group * levels * steps * size),
            }
        works = {form: Work(launches=launches, bytes=MOVED * elements) for form, (launches, elements) in counts.items()}
        invariant = kind in (Kind.MATRIX, Kind.ELEMENTWISE) and not self.recurrence.varies
        if invariant and not trained and (radix := product_radix(size, steps)):
            works["products"] = Work(steps * (radix + 1) * size**2, launches=linear_maps.product_nodes(steps, radix))
        return works

    def run(self, form: Time, counts: Counter[str]) -> Refs | None:
        """Return the results of the scan with the group in this form; None if an op has no form for all chunks."""
        recurrence, length = self.recurrence, self.scan.length
        initial = {state: self.operands[self.states[state]] for state in recurrence.states}
        steps = Steps(self.b, length, self.scan.reverse, recurrence)
        if recurrence.kind is Kind.MATRIX or (form == "products" and not _constant_maps(recurrence, length)):
            rule = self._by_matrices(form, steps, initial)
        else:
            rule = self._by_factors(form, steps, initial)
        if rule is None:
            return None
        counts[rule] += 1
        return self._after(steps)

    def _by_factors(self, form: Time, steps: Steps, initial: Mapping[int, Ref]) -> str:
        """Solve the group from factors and offsets, into ``following``. Return the name of the rule."""
        recurrence, length, step = self.recurrence, self.scan.length, self.recurrence.step
        assert step is not None
        offsets = set(recurrence.offsets.values())
        whole = {output.ref: (length,) if output.ref in offsets else (1,) for output in step.outputs}
        sequences = self._before(step, step.outputs, whole, recurrence.following)
        state = recurrence.states[0]
        if recurrence.delay > 1:
            self.following |= self._delayed(steps, state)
        elif numbers := _constant_maps(recurrence, length):
            self.following |= self._numbered(numbers, state)
            return "numbers"
        elif recurrence.kind is Kind.DELAY:
            self.following |= {state: sequences[recurrence.offsets[state]] for state in recurrence.states}  # type: ignore[index]
        else:
            solve = steps.chunks if form == "chunks" else steps.doubling
            self.following |= solve(sequences, initial)
            return form
        return "delay"

    def _by_matrices(self, form: Time, steps: Steps, initial: Mapping[int, Ref]) -> str | None:
        """Solve the group with nodes like the nodes of its steps, into ``following``. Return the name of the rule, or
        None if an op has no form for all steps at once or the matrix is too large."""
        outputs = [Output(self.body.value_name(ref), ref) for ref in self.step.operands]
        following = {state: self._next(state) for state in self.recurrence.reads}
        sequences = self._before(self.body, outputs, dict.fromkeys(self.step.operands, ()), following)
        maps = MatrixSteps(steps, self.step, [sequences[ref] for ref in self.step.operands])
        values = (maps.products if form == "products" else maps.chunks)(initial)
        if values is None:
            return None
        self.following |= values
        return "products" if form == "products" else "matrices"

    def _delayed(self, steps: Steps, state: int) -> dict[int, Ref]:
        """Return the sequence of a state that forgets its past after ``delay`` steps. The body runs for all steps at
        once, first on the initial state, then ``delay`` - 1 times on the states that the last run gave."""
        body = pruned(self.body, [Output(self._name_of(state), self._next(state))])
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
        """Return the sequence of a state with constant factors and offsets, such as a count of steps, from arrays."""
        initial = self.operands[self.states[state]]
        shape = self.b.type(initial).shape
        whole = (self.scan.length, *shape)
        factors, offsets = (array[::-1] if self.scan.reverse else array for array in numbers)
        op = self.b.node(initial.node).op
        if isinstance(op, Full):
            return {state: broadcast(self.b, self._array(factors * op.value + offsets, len(shape)), whole)}
        sequence = broadcast(self.b, initial, whole)
        if (factors != 1).any():
            (sequence,) = self.b.add(Mul(), sequence, self._array(factors, len(shape)))
        return {state: self.b.add(Add(), sequence, self._array(offsets, len(shape)))[0]}

    def _array(self, numbers: Array, axes: int) -> Ref:
        """Return a fixed array with a number for each step."""
        fill = Values.of(numbers.reshape(-1, *(1,) * axes))
        return self.b.add(Param(fill.shape, fill, 0.0, 0.0), names=(self._name("steps"),))[0]

    def _name(self, name: str) -> str:
        return f"{self.body.name}/{name}"

    def _before(
        self, step: Graph, outputs: Sequence[Output], leads: Mapping[Ref, tuple[int, ...]], following: Mapping[int, Ref]
    ) -> dict[Ref, Ref]:
        """Return the sequence of each of a step's ``outputs``, computed by a scan of the states that they need.
        ``following`` has the next values of these states by number; ``self.following`` gets their sequences. A value
        that is the same at every step gets the further first axes that ``leads`` has for it."""
        read = sorted(following)
        varying = step.dependents(set(step.arguments("x", "state")))
        named = {output.ref: output.name for output in outputs}
        sequences = {ref: self._constant(step, ref, leads[ref]) for ref in named if ref.node not in varying}
        mapped = [Output(name, ref) for ref, name in named.items() if ref.node in varying]
        if not mapped and not read:
            return sequences
        nexts = [Output(self._name_of(state), following[state]) for state in read]
        body = pruned(step, [*mapped, *nexts, *nexts], {self.states[state] for state in read})
        operands = [self.operands[arg.name] for arg in body.body_args()]
        names = [self._name(o.name) for o in (*mapped, *nexts)] + [self._name(f"{o.name}_T") for o in nexts]
        results = self._scan(body, operands, names)
        sequences |= {output.ref: r for output, r in zip(mapped, results, strict=False)}
        self.following |= dict(zip(read, results[len(mapped) :], strict=False))
        return sequences

    def _scan(self, body: Graph, operands: Sequence[Ref], names: Sequence[str]) -> Refs:
        """Add a scan, or nodes on all steps at once if it has no states and all its ops have a form for all steps."""
        scan = replace(self.scan, body=body)
        if not scan.states and (values := all_steps(self.b, body, scan.length, operands, names)) is not None:
            return values
        return self.b.add(scan, *operands, names=names, loc=self.node.loc)

    def _name_of(self, state: int) -> str:
        """Return the name of a state's next value, or of its argument if the next value has none."""
        return self.scan.next_states[state].name or self.states[state]

    def _next(self, state: int) -> Ref:
        return self.scan.next_states[state].ref

    def _constant(self, step: Graph, ref: Ref, lead: tuple[int, ...]) -> Ref:
        """Return a value that is the same at every step, computed outside, with the axes ``lead`` in front."""
        needed = step.needed([ref])
        new: dict[Ref, Ref] = {}
        for node in step:
            if node.name not in needed:
                continue
            if isinstance(node.op, Arg):
                new[Ref(node.name)] = self.operands[node.name]
                continue
            names = [self._name(name) for name in node.names]
            outs = self.b.add(node.op, *[new[r] for r in step.args(node.name)], names=names, loc=node.loc)
            new.update((Ref(node.name, out), r) for out, r in enumerate(outs))
        return broadcast(self.b, new[ref], (*lead, *step.type(ref).shape))

    def _after(self, steps: Steps) -> Refs:
        """Add a scan of the unsolved states, which reads the solved ones. Return the old scan's results in order."""
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
        last = {count + state: sequence for state, sequence in self.following.items()}
        results = {out: steps.last(sequence, self.node.names[out]) for out, sequence in last.items()}
        left = [i for i in range(len(self.body.outputs)) if i not in results]
        for i in [i for i in left if i < count and self.body.outputs[i].ref in nexts]:
            results[i] = self.following[nexts[self.body.outputs[i].ref]]
            left.remove(i)
        if left:
            body = rebuild.finish([self.body.outputs[i] for i in left])
            values = self._scan(body, operands, [self.node.names[i] for i in left])
            results |= dict(zip(left, values, strict=True))
        return tuple(results[i] for i in range(len(self.body.outputs)))


def _constant_maps(recurrence: Recurrence, steps: int) -> tuple[Array, Array] | None:
    """Return arrays of the factors and offsets of the first 1, 2, ... steps together, if one state has the same numbers
    at each step, and float32, in which fixed arrays are stored, holds the arrays exactly. Return None otherwise."""
    if recurrence.kind is not Kind.ELEMENTWISE or len(recurrence.states) > 1 or recurrence.step is None:
        return None
    (state,) = recurrence.states
    both = (recurrence.factors[state, state], 1.0), (recurrence.offsets[state], 0.0)
    factor, offset = (neutral if ref is None else _number(recurrence.step, ref) for ref, neutral in both)
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
    """Return the number that all elements of a constant are; None for any other value."""
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
