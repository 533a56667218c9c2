"""Rolling up: a recurrence that was written out step by step becomes a scan.

Equal steps with the same weights form a chain; the ops between two of its members are a step. All steps are walked
backwards together: the common part is the body; a value from the previous step is a state; a value that is the same for
all steps is a static input; all other values are elements of sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from lstmc.dsl.vocabulary import KEYWORDS, python_identifier
from lstmc.ir import Builder, Graph, Output, Ref, Scan, is_step, of_step
from lstmc.ops import Arg, Concat, Full, Leaf, Op, Reshape, Role, Split, Transpose, Unstack
from lstmc.passes import unrolled_steps
from lstmc.passes.base import Pass, PassResult
from lstmc.passes.further_steps import absorb, consecutive, extend
from lstmc.passes.simplify import Cse
from lstmc.passes.unrolled_steps import Chain, CommonStep, Dataflow, Step, StepsDiffer, Values
from lstmc.source import SrcLoc
from lstmc.text import Names
from lstmc.types import TensorType

__all__ = ["RollUp"]

MOST = 20_000  # the most nodes of a graph in which loops are searched
CUTS = 8  # the most chains without products that are compared
LEAST = 3  # the fewest steps that are rolled up
Words = tuple[str, ...]


@dataclass(frozen=True)
class RollUp(Pass):
    """Turn an unrolled recurrence into a scan.

    1. equal steps, each on states of the one before    => a scan of their common part
    2. a first step from zeros, without the nodes that zeros make needless => one of these steps
    """

    name = "roll_up"

    def run(self, graph: Graph) -> PassResult:
        rolled, count, _ = roll_up(Cse().run(graph).graph, LEAST)
        return PassResult(rolled, True, {"scan": count}) if count else PassResult(graph, False)


def roll_up(graph: Graph, least: int) -> tuple[Graph, int, tuple[Chain, ...]]:
    """Return the graph with recurrences of ``least`` steps or more as scans, the number of these scans, and the chains
    of products that are not rolled up: the ops between products with the same weights differ."""
    count, left = 0, list[Chain]()
    while len(graph) <= MOST:
        flow, left, candidates = Dataflow(graph), [], list[Graph]()
        for chain in unrolled_steps.candidate_chains(flow):
            if chain.weight is None and len(candidates) == CUTS:
                break
            if (one := _rolled(flow, chain, least)) is None:
                left += [chain] if chain.weight is not None else []
            else:
                candidates.append(one)
                if chain.weight is not None:
                    break
        if not candidates:
            break
        graph = min(candidates, key=len)  # a step may be cut anywhere: take the smallest graph
        count += 1
    return graph, count, tuple(left)


def _rolled(flow: Dataflow, chain: Chain, least: int) -> Graph | None:
    """Return the graph with the chain rolled up, or None if its steps differ or are fewer than ``least``."""
    for absorbing in (True, False):  # a consumer may depend on the whole loop: then absorb none
        try:
            common = CommonStep(flow, chain)
            if chain.weight is None and not common.sequences:
                return None  # a function of a function, or the like
            extend(common)
            if common.count < least:
                return None
            if absorbing:
                absorb(common)
            return _Rewrite(common).graph()
        except (StepsDiffer, RecursionError):  # a step deeper than Python's recursion stays written out
            continue
    return None


class _Rewrite:
    """The graph of a chain with a scan in place of its steps."""

    def __init__(self, common: CommonStep) -> None:
        self.common, self.flow = common, common.flow
        self.types = dict(self.flow.types)  # of all values, old and new
        bodies = (step.op.body.name for step in self.flow.steps if isinstance(step.op, Scan))
        self.names = Names({*KEYWORDS, *(name.partition("/")[0] for name in self.types), *bodies}, python_identifier)
        self.leaves: dict[str, Leaf] = dict(self.flow.leaves)
        self.new: list[Step] = []  # nodes that are added
        self.loc = self.flow.steps[common.chain.numbers[0]].loc
        self.following = common.following()
        claimed = common.claimed()
        self.left = [step for number, step in enumerate(self.flow.steps) if not claimed >> number & 1]  # outside nodes
        self.read = {name for step in self.left for name in step.inputs} | self.flow.results  # outside the loop
        self.read |= {state[0] for state in common.states if state[0]}
        backward = [consecutive(self.flow, values[::-1]) is not None for values in common.sequences]
        forward = [consecutive(self.flow, values) is not None for values in common.sequences]
        self.reverse = any(backward) and not any(forward)

    def graph(self) -> Graph:
        """Return the graph with a scan and slices of its results in the steps' place. Raise StepsDiffer for a cycle."""
        common = self.common
        ends = {values[-1] for values in self.following.values()}
        results = [values for part in common.parts for values in part.results]
        # the loop's outputs over time: values of the steps that nodes outside read; of a state not the last value alone
        ys = [v for v in results if {*v} & self.read - ({v[-1]} & ends if v in self.following.values() else set())]
        stem, names = body_names(common)
        stem = self.names.unique(stem)
        sequences = [self._joined(values) for values in common.sequences]
        first = [self._first(stem, names[state], state) for state in common.states]
        op = Scan(self._body(stem, names, ys), common.count, self.reverse, inside=is_step(self.flow.graph))
        constants = [values[0] for values in common.constants if not isinstance(self.flow.leaves[values[0]], Full)]
        operands = (*sequences, *first, *(values[0] for values in common.static), *constants)
        hints = [f"{stem}_{names[values]}" for values in ys] + [f"{stem}_{names[state]}_T" for state in common.states]
        scan_values = self._add(op, *operands, hints=hints)
        lasts = zip(self.following.values(), scan_values[len(ys) :], strict=True)
        renamed = {values[-1]: end for values, end in lasts}
        joins = {self._in_time(values): y for values, y in zip(ys, scan_values, strict=False)}
        steps = [self._joining(step, joins) for step in self.left]
        for values, y in joins.items():
            elements = self._add(Unstack(), y, hints=values)
            renamed = dict(zip(values, elements, strict=True)) | renamed
        steps = [replace(step, inputs=tuple(renamed.get(name, name) for name in step.inputs)) for step in steps]
        return self._assembled([*self.new, *steps], renamed)

    def _add(self, op: Op, *inputs: str, hints: Sequence[str]) -> tuple[str, ...]:  # the names of the new results
        types = op.infer(*(self.types[name] for name in inputs))
        hints = hints if len(hints) == len(types) else [hints[0]] * len(types)
        names = tuple(map(self.names.unique, hints))
        self.types.update(zip(names, types, strict=True))
        self.new.append(Step(op, inputs, names, self.loc))
        return names

    def _in_time(self, values: Values) -> Values:
        """Return values in the order of time: reversed if the loop runs backward."""
        return values[::-1] if self.reverse else values

    def _type(self, values: Values) -> TensorType:
        return self.flow.types[values[-1]]  # a first step may have fewer elements, or none

    def _body(self, stem: str, names: Mapping[Values, str], ys: Sequence[Values]) -> Graph:
        """Return the scan's body, whose outputs are the values ``ys`` of each step, then each state after the step."""
        common, builder, refs = self.common, Builder(stem), dict[Values, Ref]()

        def put(op: Op, results: Sequence[Values], operands: Sequence[Values] = (), loc: SrcLoc | None = None) -> None:
            types, args = tuple(map(self._type, results)), [refs[one] for one in operands]
            if isinstance(op, Scan):
                values = _only_step(builder, op, args, types, loc)
            else:
                values = builder.add(op, *args, names=[names[each] for each in results], loc=loc, types=types)
            refs.update(zip(results, values, strict=True))

        roles: tuple[tuple[Role, Iterable[Values]], ...] = (
            ("x", common.sequences), ("state", common.states), ("static", common.static), ("weight", common.constants),
        )  # fmt: skip
        for role, group in roles:
            for values in group:
                leaf = self.flow.leaves.get(values[0])
                alone = role == "weight" and isinstance(leaf, Full)
                put(leaf if alone and leaf is not None else Arg(self._type(values).shape, role), [values])
        for part in common.parts:
            put(part.op, part.results, part.operands, part.loc)
        outputs = [Output(names[values] if len(ys) > 1 else "", refs[values]) for values in ys]
        outputs += [Output(names[state], refs[values]) for state, values in self.following.items()]
        return builder.finish(outputs)

    def _first(self, stem: str, name: str, state: Values) -> str:
        """Return the name of a state's value before the first step: zeros are added if that step has no such value."""
        if state[0]:
            return state[0]
        zeros = f"{stem}/{name}_0"
        self.types[zeros] = self._type(state)
        self.leaves[zeros] = Full(self._type(state).shape)
        return zeros

    def _joined(self, values: Values) -> str:
        """Return the name of the sequence [T, ...] of values: what they were cut from, reshaped, or their Concat."""
        values, shape = self._in_time(values), self._type(values).shape
        if (place := consecutive(self.flow, values)) is None:
            rows = [self._add(Reshape((1, *shape)), v, hints=[f"{v}_row"])[0] for v in values]
            return self._add(Concat(0), *rows, hints=[f"{values[0]}_steps"])[0]
        base, axis, count = place.base, place.axis, self.common.count * place.size
        whole = self.types[base].shape
        sizes = [size for size in (place.start, count, whole[axis] - count - place.start) if size]
        if len(sizes) > 1:
            pieces = self._add(Split(axis, tuple(sizes)), base, hints=[f"{base}_steps"])
            base = pieces[1 if place.start else 0]
        before, after = whole[:axis], whole[axis + 1 :]
        base = self._as(base, (*before, self.common.count, *([place.size] if place.size > 1 else []), *after))
        for other in reversed(range(axis)):
            (base,) = self._add(Transpose(other), base, hints=[f"{base}_steps"])
        return self._as(base, (self.common.count, *shape))

    def _as(self, value: str, shape: tuple[int, ...]) -> str:
        if self.types[value].shape == shape:
            return value
        return self._add(Reshape(shape), value, hints=[f"{value}_rows"])[0]

    def _joining(self, step: Step, joins: Mapping[Values, str]) -> Step:
        """Return a Concat of the values of all steps with the loop's result ``y`` as the operand in their place; a
        Reshape if ``y`` is then the only operand. Any other node is returned unchanged."""
        if not isinstance(step.op, Concat):
            return step
        makers = [self.flow.steps[self.flow.producer[n]] if n in self.flow.producer else None for n in step.inputs]
        plain = tuple(m.inputs[0] if m and isinstance(m.op, Reshape) else "" for m in makers)
        for values, y in joins.items():
            for operands in (step.inputs, plain):
                for at in range(len(operands) - len(values) + 1):
                    if operands[at : at + len(values)] == values:
                        one = self._sequence(y, self.flow.types[step.inputs[at]].shape, step.op.axis)
                        left = (*step.inputs[:at], one, *step.inputs[at + len(values) :])
                        if len(left) > 1:
                            return self._joining(replace(step, inputs=left), joins)
                        return Step(Reshape(self.flow.types[step.outputs[0]].shape), left, step.outputs, step.loc)
        return step

    def _sequence(self, y: str, shape: tuple[int, ...], axis: int) -> str:
        """Return the name of a sequence's elements, each of ``shape``, concatenated along an axis."""
        steps, size = self.common.count, shape[axis]
        y = self._as(y, (steps, *(shape[:axis] + shape[axis + 1 :] if size == 1 else shape)))
        for other in range(axis):
            (y,) = self._add(Transpose(other), y, hints=[f"{y}_joined"])
        return self._as(y, (*shape[:axis], steps * size, *shape[axis + 1 :]))

    def _assembled(self, steps: Sequence[Step], renamed: Mapping[str, str]) -> Graph:
        """Return the graph of the nodes that the outputs need. Raise StepsDiffer if one reads a value of the loop."""
        old = self.flow.graph
        known, ordered = {*self.leaves}, list[Step]()
        for step in _topologically_sorted(steps, [renamed.get(name, name) for name in self.flow.results]):
            if not known.issuperset(step.inputs):
                raise StepsDiffer  # a value inside the loop
            known.update(step.outputs)
            ordered.append(step)
        leaves = {name: (leaf, old.node(name).loc if name in old else self.loc) for name, leaf in self.leaves.items()}
        values = ((one, old.value_name(one.ref)) for one in old.outputs)
        outputs = ((one, renamed.get(name, name)) for one, name in values)
        return unrolled_steps.graph_of_steps(old.name, leaves, ordered, self.types, outputs)


def _only_step(
    builder: Builder, scan: Scan, args: Sequence[Ref], types: Sequence[TensorType], loc: SrcLoc | None
) -> tuple[Ref, ...]:
    """Add the nodes of a scan of one step, between reshapes that remove and add the axis of time."""

    def reshaped(ref: Ref, type_: TensorType, name: str) -> Ref:
        return builder.add(Reshape(type_.shape), ref, names=(name,), loc=loc, types=(type_,))[0]

    refs = dict[Ref, Ref]()
    for i, (arg, ref) in enumerate(zip(scan.body.body_args(), args, strict=True)):
        is_sequence = scan.role(i) == "x"
        refs[Ref(arg.name)] = reshaped(ref, of_step(builder.type(ref)), arg.name) if is_sequence else ref
    for node in scan.body:
        if not isinstance(node.op, Arg):
            operands = [refs[ref] for ref in scan.body.args(node.name)]
            values = builder.add(node.op, *operands, names=node.names, loc=loc, types=node.types)
            refs.update(zip((Ref(node.name, out) for out in range(len(values))), values, strict=True))
    results = [refs[output.ref] for output in scan.body.outputs]
    ys = [reshaped(ref, t, "y") for ref, t, _ in zip(results, types, scan.step_outputs, strict=False)]
    return *ys, *results[len(ys) :]


def _topologically_sorted(steps: Sequence[Step], results: Iterable[str]) -> Iterator[Step]:
    """Yield the nodes that results depend on, in topological order. Raise StepsDiffer if they form a cycle."""
    producer = {name: number for number, step in enumerate(steps) for name in step.outputs}
    done: dict[int, bool] = {}  # step -> whether its visit has ended
    waiting: list[Iterator[int]] = [iter(sorted({producer[name] for name in results if name in producer}))]
    path: list[int] = []
    while waiting:
        if (number := next(waiting[-1], None)) is None:
            waiting.pop()
            if path:
                done[path[-1]] = True
                yield steps[path.pop()]
        elif number not in done:
            done[number] = False
            path.append(number)
            waiting.append(iter(sorted({producer[name] for name in steps[number].inputs if name in producer})))
        elif not done[number]:
            raise StepsDiffer  # a sequence that depends on the steps that read it


def body_names(common: CommonStep) -> tuple[str, dict[Values, str]]:
    """Return a name for the loop and for each value: ``lstm``, and ``h`` for ``lstm_t000_h``, ``lstm_t001_h``, ... A
    first step from zeros, which lacks some values, is not considered."""
    results = [values for part in common.parts for values in part.results]
    first = any("" in state for state in common.states)
    words = {values: common_words(values[first:]) for values in common.values}
    words |= {values: common_words([values[0].rpartition("/")[2]]) for values in common.constants}
    stem = _common_stem([words[values] for values in results])
    hints = {values: "_".join(_without(words[values], stem)) for values in words}
    states = {state: hints[values] for state, values in common.following().items()}
    inputs = {values: _short(hints[values], "x") for values in common.sequences}
    inputs |= {state: _short(states[state], "h") for state in common.states}
    inputs |= {values: _short(hints[values], "s") for values in common.static}
    names: dict[Values, str] = {}
    called = Names(KEYWORDS, python_identifier)
    for values, hint in (inputs | {values: hints[values] for values in (*common.constants, *results)}).items():
        names[values] = called.unique(hint)
    titles = [part.op.body.name for part in common.parts if isinstance(part.op, Scan)]
    return "_".join(stem) or next(iter(titles), "rolled"), names


def common_words(names: Iterable[str]) -> Words:
    """Return the common first and last words of names, without a number at the end."""
    split = [name.replace("/", "_").split("_") for name in names]
    begin = _beginning(split)
    ends = [list(reversed(words[len(begin) :])) for words in split]
    words = [*begin, *reversed(_beginning(ends))]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return tuple(words)


def _beginning(names: Sequence[Sequence[str]]) -> Words:
    columns = zip(*names, strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len({*column}) == 1, columns))


def _common_stem(names: Sequence[Words]) -> Words:
    """Return the most words with which nine tenths of the names begin."""
    stem: Words = ()
    while True:
        longer = Counter(words[: len(stem) + 1] for words in names if len(words) > len(stem))
        prefix, count = max(longer.items(), key=lambda item: item[1], default=(stem, 0))
        if 10 * count < 9 * len(names):
            return stem
        stem = prefix


def _without(words: Words, stem: Words) -> Words:
    """Return a name's words after ``stem``, at least the last word; all words if they do not begin with ``stem``."""
    return (words[len(stem) :] or words[-1:]) if words[: len(stem)] == stem else words


def _short(hint: str, otherwise: str) -> str:
    return hint if hint and "_" not in hint else otherwise
