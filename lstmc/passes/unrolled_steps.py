"""Equal steps of a written-out recurrence: chains of equal nodes, and the step that a chain has in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from lstmc.ir import Builder, Graph, Output, Ref, Scan
from lstmc.ops import Concat, Conv, Full, Input, Leaf, Linear, Op
from lstmc.source import SrcLoc
from lstmc.types import TensorType

ROUNDS = 3  # depth to which producers of operands distinguish steps without weights
Label = Hashable


@dataclass(frozen=True)
class Step:
    """A node that computes, with the names of its operands and of its results."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    loc: SrcLoc | None = None


def steps_of(graph: Graph) -> Iterator[Step]:
    """Yield the nodes of a graph that compute, in the graph's order."""
    for node in graph:
        if not isinstance(node.op, Leaf):
            yield Step(node.op, tuple(map(graph.value_name, graph.args(node.name))), node.names, node.loc)


def graph_of_steps(
    name: str,
    leaves: Mapping[str, tuple[Leaf, SrcLoc | None]],
    steps: Iterable[Step],
    types: Mapping[str, TensorType],
    outputs: Iterable[tuple[Output, str]],
) -> Graph:
    """Return the graph of leaves and of steps in topological order; each output comes with the name of its value."""
    builder, refs = Builder(name), dict[str, Ref]()
    for leaf_name, (leaf, loc) in leaves.items():
        (refs[leaf_name],) = builder.add(leaf, names=[leaf_name], loc=loc, types=(types[leaf_name],))
    for step in steps:
        results = tuple(types[value] for value in step.outputs)
        operands = [refs[value] for value in step.inputs]
        values = builder.add(step.op, *operands, names=step.outputs, loc=step.loc, types=results)
        refs.update(zip(step.outputs, values, strict=True))
    return builder.finish([output._replace(ref=refs[value]) for output, value in outputs])


class Dataflow:
    """The nodes of a graph that compute, in order (``steps``), with values by their names; ``leaves`` are the other
    nodes. Bit m of ``ancestors[n]`` is set if node n depends on node m, or is m."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.leaves: dict[str, Leaf] = {}
        self.types: dict[str, TensorType] = {}
        self.producer: dict[str, int] = {}  # value -> the number of the node that computes it
        self.consumers: dict[str, list[int]] = {}  # value -> the numbers of the nodes that read it
        self.ancestors: list[int] = []
        self.results = {graph.value_name(output.ref) for output in graph.outputs}
        for node in graph:
            self.types.update(zip(node.names, node.types, strict=True))
            if isinstance(node.op, Leaf):
                self.leaves[node.name] = node.op
        for number, step in enumerate(steps_of(graph)):
            bits = 1 << number
            for name in dict.fromkeys(step.inputs):
                self.consumers.setdefault(name, []).append(number)
                if name in self.producer:
                    bits |= self.ancestors[self.producer[name]]
            self.steps.append(step)
            self.ancestors.append(bits)
            self.producer.update(dict.fromkeys(step.outputs, number))

    def constant(self, value: str) -> bool:
        """Return whether a value is a parameter or an array of equal numbers."""
        return value in self.leaves and not isinstance(self.leaves[value], Input)

    def zero(self, value: str) -> bool:
        """Return whether a value is an array of zeros."""
        leaf = self.leaves.get(value)
        return isinstance(leaf, Full) and leaf.value == 0

    def depends(self, value: str, steps: int) -> bool:
        """Return whether a value depends on any node of the bitset ``steps``."""
        return value in self.producer and bool(self.ancestors[self.producer[value]] & steps)


@dataclass(frozen=True)
class Chain:
    """Indices of equal nodes, each depending on the one before: products with ``weight``, or no products (None)."""

    numbers: tuple[int, ...]
    weight: str | None


def candidate_chains(flow: Dataflow) -> list[Chain]:
    """Return chains of equal nodes, the longest first: products with weights, then others with constants, then rounds
    of nodes without constants: each round compares one more maker of the operands."""
    with_weights = [number for number, step in enumerate(flow.steps) if any(map(flow.constant, step.inputs))]
    labels = [_label(flow, number) for number in range(len(flow.steps))]
    repeated = [chain for chain in _chains_by_label(with_weights, labels, flow) if len(chain) > 1]
    products = [chain for chain in repeated if isinstance(flow.steps[chain[0]].op, Linear | Conv)]
    candidates = [Chain(chain, flow.steps[chain[0]].inputs[1]) for chain in products]
    candidates += [Chain(chain, None) for chain in repeated if chain not in products]
    plain = [number for number in range(len(flow.steps)) if number not in {*with_weights}]
    for _ in range(ROUNDS):
        chains = [chain for chain in _chains_by_label(plain, labels, flow) if len(chain) > 2]
        chains.sort(key=lambda chain: (len(chain), chain[-1]), reverse=True)  # further steps are found backwards
        candidates += [Chain(chain, None) for chain in chains]
        makers = [[flow.producer.get(name) for name in step.inputs] for step in flow.steps]
        made_by = [tuple(None if maker is None else labels[maker] for maker in each) for each in makers]
        labels = [(label, *each) for label, each in zip(labels, made_by, strict=True)]
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        labels = [numbers[label] for label in labels]
    return list(dict.fromkeys(candidates))


def is_one_step(op: Op) -> bool:
    """Return whether an op is a scan of one step, which may itself be in the step of another scan."""
    return type(op) is Scan and op.length == 1 and op.first is None and not op.kept


def _label(flow: Dataflow, number: int) -> Label:
    """Return a label that is equal for nodes with equal ops and parameters; constant arrays may differ, as initial
    states do. A scan of several steps is equal to no other node."""
    step = flow.steps[number]
    if isinstance(step.op, Scan) and not is_one_step(step.op):
        return number
    weights = {name for name in step.inputs if flow.constant(name) and not isinstance(flow.leaves[name], Full)}
    return step.op, *(name if name in weights else flow.types[name] for name in step.inputs)


def _chains_by_label(numbers: Sequence[int], labels: Sequence[Label], flow: Dataflow) -> list[tuple[int, ...]]:
    """Return chains of nodes of one label, the longest first. A node continues the first chain of its label whose end
    it depends on; without such a chain it starts one."""
    by_label: dict[Label, list[list[int]]] = {}
    for number in numbers:
        alike = by_label.setdefault(labels[number], [])
        own = next((chain for chain in alike if flow.ancestors[number] >> chain[-1] & 1), None)
        if own is None:
            alike.append([number])
        else:
            own.append(number)
    return sorted((tuple(chain) for alike in by_label.values() for chain in alike), key=lambda chain: -len(chain))


Values = tuple[str, ...]  # one value of each step in time; "" where a step has none


class StepsDiffer(Exception):
    """Raised for steps that differ, or that do not follow each other."""


@dataclass(frozen=True)
class BodyOp:
    """An op of the loop's body, with its operands and results in every step in time."""

    op: Op
    operands: tuple[Values, ...]
    results: tuple[Values, ...]
    loc: SrcLoc | None

    def of(self, names: dict[Values, Values]) -> BodyOp:
        """Return the op with its operands and results replaced by the values to which ``names`` maps them."""
        operands, results = (tuple(names[v] for v in values) for values in (self.operands, self.results))
        return BodyOp(self.op, operands, results, self.loc)


class CommonStep:
    """The loop body that the steps between the members of a chain have in common. ``parts`` are the body's ops. The
    values of a state are its values before each step; :meth:`following` maps them to its values after each step. A
    value that is the same in all steps is ``static``, or a constant if it is a parameter or an array of equal numbers;
    all other operands are elements of ``sequences``."""

    def __init__(self, flow: Dataflow, chain: Chain) -> None:
        """Build the body backward from the members' operands. Raise StepsDiffer if the steps have no common body."""
        self.flow, self.chain = flow, chain
        self.ends = [*pairwise(chain.numbers)]  # of each step in time: the chain's members before and after it
        self.cores = [self._between(first, last) for first, last in self.ends]  # the nodes of each step
        self.joined = False  # whether the operand of a chain's member was split as a concatenation
        self._begin(len(self.ends))
        root = self._root()
        self._unify(root)
        next_values = {results[:-1] for part in self.parts for results in part.results}
        late = [state for state in self.states if state[1:] not in next_values]
        if late:  # computed after the operands of the next member: the last value lies behind the last member
            self._begin(self.count - 1)
            self._unify(root[:-1])
            for state in late:
                self._unify(state[1:])
        if self.joined:  # the operand of the next member is no part of the step
            following = self.following()
            self._begin(self.count)
            for values in following.values():
                self._unify(values)
        self.following()

    def _begin(self, count: int) -> None:
        """Begin an empty body of ``count`` steps."""
        self.count = count
        self.values: dict[Values, None] = {}  # all values of the body, of each kind below and of the ops
        self.parts: list[BodyOp] = []
        self.states: dict[Values, None] = {}
        self.sequences: dict[Values, None] = {}
        self.static: dict[Values, None] = {}
        self.constants: dict[Values, None] = {}

    def _between(self, first: int, last: int) -> frozenset[int]:
        """Return the nodes that depend on one member of the chain and that the next member depends on."""
        bits = self.flow.ancestors[last]
        return frozenset(n for n in range(first, last) if bits >> n & 1 and self.flow.ancestors[n] >> first & 1)

    def _within(self, value: str, step: int) -> bool:
        """Return whether a value depends on the chain's member ``step`` and not on the next member."""
        first, last = self.ends[step]
        before = self.flow.ancestors[self.flow.producer[value]] if value in self.flow.producer else 0
        return bool(before >> first & 1) and not before >> last & 1

    def _root(self) -> Values:
        """Return each further member's operand that depends on the member before. Raise StepsDiffer for none."""
        numbers = self.chain.numbers
        for place in range(len(self.flow.steps[numbers[0]].inputs)):
            values = tuple(self.flow.steps[number].inputs[place] for number in numbers[1:])
            if all(self.flow.depends(value, 1 << before) for value, before in zip(values, numbers, strict=False)):
                return values
        raise StepsDiffer

    def _unify(self, values: Values) -> None:
        """Classify values, one for each step: a constant, a state, static, a sequence, or results of equal ops, whose
        operands are classified in turn. Raise StepsDiffer if they are none of these."""
        if values in self.values:
            return
        first, alike = values[0], len(set(values)) == 1
        if alike and self.flow.constant(first):
            self.classify(self.constants, values)
            return
        if len({self.flow.types[value] for value in values}) > 1:
            raise StepsDiffer
        makers = [self.flow.producer.get(value) for value in values]
        inside = [maker in core for maker, core in zip(makers, self.cores, strict=False)]
        carried = all(maker in core for maker, core in zip(makers[1:], self.cores, strict=False))  # by the step before
        if self.count > 1 and carried and not all(inside):
            if not self._joins(values, makers):
                self.classify(self.states, values)
            return
        if alike and not all(inside):
            self._independent(values)
            self.classify(self.static, values)
            return
        steps = [self.flow.steps[maker] for maker in makers if maker is not None]
        if len(steps) == len(values) and equal(steps) and (all(inside) or len(set(makers)) == len(makers)):
            place = steps[0].outputs.index(first)
            if all(step.outputs.index(value) == place for step, value in zip(steps, values, strict=True)):
                operands = tuple(zip(*(step.inputs for step in steps), strict=True))
                for operand in operands:
                    self._unify(operand)
                self.add(steps, operands)
                return
        if all(inside):
            raise StepsDiffer
        if self.count > 1 and all(self._within(value, step) for step, value in enumerate(values[1:])):
            self.classify(self.states, values)
            return
        self._independent(values)
        self.classify(self.sequences, values)

    def _joins(self, values: Values, makers: Sequence[int | None]) -> bool:
        """Return whether values are concatenations of a state and the step's input; if so, add these to the body."""
        steps = [self.flow.steps[maker] for maker in makers if maker is not None]
        distinct = len({step.outputs for step in steps}) == len(values)
        if not distinct or not isinstance(steps[0].op, Concat) or not equal(steps):
            return False
        operands = tuple(zip(*(step.inputs for step in steps), strict=True))
        with self.attempt():
            for operand in operands:
                self._unify(operand)
            self.add(steps, operands)
            self.joined = True
            return True
        return False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run the block. If it raises :class:`StepsDiffer`, undo what the block added to the body, and continue after
        it without the error."""
        kinds = (self.values, self.states, self.sequences, self.static, self.constants)
        before, count = [{**kind} for kind in kinds], len(self.parts)
        try:
            yield
        except StepsDiffer:
            del self.parts[count:]
            for kind, known in zip(kinds, before, strict=True):
                kind.clear()
                kind.update(known)

    def classify(self, kind: dict[Values, None], values: Values) -> None:
        """Add values to the body and to ``kind``, as ``self.states``. Raise StepsDiffer for a non-constant scalar."""
        if kind is not self.constants and not self.flow.types[values[0]].rank:
            raise StepsDiffer  # an input of a step has an axis
        kind[values] = self.values[values] = None

    def _independent(self, values: Values) -> None:
        """Raise StepsDiffer if a value depends on the chain, or if the values differ and some are constants."""
        steps = 0
        for number in self.chain.numbers:
            steps |= 1 << number
        if any(self.flow.depends(value, steps) for value in values):
            raise StepsDiffer
        if len(set(values)) > 1 and any(map(self.flow.constant, values)):
            raise StepsDiffer

    def add(self, steps: Sequence[Step], operands: tuple[Values, ...]) -> None:
        """Add the op of the equal nodes ``steps``, with ``operands`` of the body, unless the body has it."""
        results = tuple(zip(*(step.outputs for step in steps), strict=True))
        if results[0] not in self.values:
            self.parts.append(BodyOp(steps[0].op, operands, results, steps[0].loc))
            self.values.update(dict.fromkeys(results))

    def following(self) -> dict[Values, Values]:
        """Map each state's values before the steps to its values after. Raises StepsDiffer if the body lacks these."""
        next_values: dict[Values, Values] = {}
        for state in self.states:
            for results in (results for part in self.parts for results in part.results):
                if results[:-1] == state[1:]:
                    next_values[state] = results
        if not next_values or len(next_values) < len(self.states):
            raise StepsDiffer
        return next_values

    def replace(self, names: dict[Values, Values]) -> None:
        """Replace all values by the values to which ``names`` maps them, which have one step more at one end."""
        self.values = {names[values]: None for values in self.values}
        for kind in (self.states, self.sequences, self.static, self.constants):
            renamed = {names[values]: None for values in kind}
            kind.clear()
            kind.update(renamed)
        self.parts = [part.of(names) for part in self.parts]
        self.count = len(next(iter(self.values)))

    def claimed(self) -> int:
        """Return the bitset of the graph's nodes that the loop covers."""
        bits = 0
        for value in {value for part in self.parts for values in part.results for value in values if value}:
            bits |= 1 << self.flow.producer[value]
        return bits


def equal(steps: Sequence[Step]) -> bool:
    """Return whether nodes have the same op and number of operands. A scan of several steps is never equal."""
    first = steps[0]
    if isinstance(first.op, Scan) and not is_one_step(first.op):
        return False
    return all(step.op == first.op and len(step.inputs) == len(first.inputs) for step in steps)
