"""Roll up recurrences that an exporter has unrolled: equal steps, each depending on the one before.

Equal steps with the same weights form a chain; the ops between two of its members are a step. All steps are walked
backwards together: the common part is the body, a value from the step before is a state, a value that is the same for
all is a static input, and the rest are elements of sequences.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from lstmc.importers.canonical.common_step import Chain, CommonStep, Dependences, StepsDiffer, Values, candidate_chains
from lstmc.importers.canonical.one_step import builder_for, consecutive, extend, extend_from_zero, lower_single_steps
from lstmc.importers.ir.net import Net, NetBuilder, Rolled, Step
from lstmc.importers.ir.ops import Permute, Select
from lstmc.importers.ir.recur import Recur
from lstmc.importers.ir.sizes import Shape
from lstmc.ops import Concat, Reshape, Split

Words = tuple[str, ...]


def body_names(common: CommonStep) -> tuple[str, dict[Values, str]]:
    """Return a name for the loop, and one for each value: ``lstm``, and ``h`` of ``lstm_t000_h``, ``lstm_t001_h``, ...

    A first step from zeros, which lacks some values, is not considered.
    """
    results = [values for part in common.parts for values in part.results]
    first = any("" in state for state in common.states)
    words = {values: common_words(values[first:]) for values in common.values}
    words |= {values: common_words([values[0].rpartition("/")[2]]) for values in common.params}
    stem = _common_stem([words[values] for values in results])
    scope = NetBuilder("names", "")
    names: dict[Values, str] = {}
    hints = {values: "_".join(_without(words[values], stem)) for values in words}
    states = {state: hints[values] for state, values in common.following().items()}
    inputs = {
        **{values: _short(hints[values], "x") for values in common.sequences},
        **{state: _short(states[state], "h") for state in common.states},
        **{values: _short(hints[values], "s") for values in common.static},
    }
    for values, hint in (inputs | {values: hints[values] for values in (*common.params, *results)}).items():
        names[values] = scope.fresh(hint)
    return "_".join(stem) or "rolled", names


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
    """Return the longest common prefix."""
    columns = zip(*names, strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len({*column}) == 1, columns))


def _common_stem(names: Sequence[Words]) -> Words:
    """Return the longest prefix of nine tenths of the names."""
    stem: Words = ()
    while True:
        longer = Counter(words[: len(stem) + 1] for words in names if len(words) > len(stem))
        prefix, count = max(longer.items(), key=lambda item: item[1], default=(stem, 0))
        if 10 * count < 9 * len(names):
            return stem
        stem = prefix


def _without(words: Words, stem: Words) -> Words:
    return (words[len(stem) :] or words[-1:]) if words[: len(stem)] == stem else words


def _short(hint: str, otherwise: str) -> str:
    """Return a hint of one word, else ``otherwise``."""
    return hint if hint and "_" not in hint else otherwise


def with_scan(common: CommonStep) -> Net:
    """Return the net with the steps replaced by a loop. Raises :class:`StepsDiffer` for a cyclic dependence."""
    return _ScanRewrite(common).net()


class _ScanRewrite:
    def __init__(self, common: CommonStep) -> None:
        self.common, self.old, self.builder = common, common.net, builder_for(common.net)
        self.following = common.following()
        claimed = common.claimed()
        self.left = [step for number, step in enumerate(self.old.steps) if not claimed >> number & 1]
        self.read = {name for step in self.left for name in step.inputs} | set(self.old.outputs.values())
        self.read |= {state[0] for state in common.states if state[0]}
        self.origin = f"{common.count} steps, the first {self.old.steps[common.chain.numbers[0]].origin}"
        backward = [consecutive(self.old, common.producer, values[::-1]) is not None for values in common.sequences]
        forward = [consecutive(self.old, common.producer, values) is not None for values in common.sequences]
        self.reverse = any(backward) and not any(forward)

    def net(self) -> Net:
        common, builder = self.common, self.builder
        ends = {values[-1] for values in self.following.values()}
        results = [values for part in common.parts for values in part.results]
        ys = [v for v in results if {*v} & self.read - ({v[-1]} & ends if v in self.following.values() else set())]
        stem, names = body_names(common)
        sequences = [self._joined(values) for values in common.sequences]
        first = {names[state]: state[0] for state in common.states if not self._zero(state[0])}
        inner = self._step(names, ys)
        name = builder.scan_name(stem)
        params = {f"{name}/{role}": weight for role, weight in inner.params.items()}
        builder.shapes |= {role: weight.shape for role, weight in params.items()}
        states = [names[state] for state in common.states]
        op = Rolled(inner, name, common.count, len(sequences), tuple(states), tuple(first), self.reverse)
        hints = [*(f"{name}_{names[values]}" for values in ys), *(f"{name}_{state}_T" for state in states)]
        operands = (*params, *sequences, *first.values(), *(values[0] for values in common.static))
        scan_values = builder.add(op, *operands, hint="", hints=hints, origin=self.origin)
        lasts = zip(self.following.values(), scan_values[len(ys) :], strict=True)
        renamed = {values[-1]: end for values, end in lasts}
        joins = {self._in_time(values): y for values, y in zip(ys, scan_values, strict=False)}
        steps = [self._joining(step, joins) for step in self.left]
        read = {name for step in steps for name in step.inputs} | {*self.old.outputs.values()}
        for values, y in joins.items():
            for t, value in enumerate(values):
                if value in read and value and value not in renamed:
                    renamed[value] = builder.one(Select(0, t), y, hint=value, origin=self.origin)
        builder.steps += [replace(s, inputs=tuple(renamed.get(name, name) for name in s.inputs)) for s in steps]
        outputs = {name: renamed.get(value, value) for name, value in self.old.outputs.items()}
        net = replace(self.old, params={**self.old.params, **params}, outputs=outputs, shapes=builder.shapes)
        return topologically_sorted(replace(net, steps=tuple(builder.steps)))

    def _in_time(self, values: Values) -> Values:
        return values[::-1] if self.reverse else values

    def _shape(self, values: Values) -> Shape:
        return self.old.shapes[values[-1]]  # a first step may have fewer elements, or none

    def _step(self, names: Mapping[Values, str], ys: list[Values]) -> Net:
        """Return the body of the loop."""
        common, builder = self.common, NetBuilder("step", self.old.origin)
        for values, name in names.items():
            builder.shapes[name] = self._shape(values)
        builder.params = {names[values]: self.old.params[values[0]] for values in common.params}
        for part in common.parts:
            operands, results = (tuple(names[v] for v in values) for values in (part.operands, part.results))
            builder.steps.append(Step(part.op, operands, results, part.origin))
        builder.outputs = {names[state]: names[values] for state, values in self.following.items()}
        builder.outputs |= {f"y_{number}": names[values] for number, values in enumerate(ys)}
        order = [*common.sequences, *common.states, *common.static]
        return builder.finish({names[values]: self._shape(values) for values in order})

    def _zero(self, value: str) -> bool:
        """Return whether an initial state is absent or zero, which is the default."""
        weight = self.old.params.get(value)
        return not value or (weight is not None and not weight.sources and not weight.make().any())

    def _joined(self, values: Values) -> str:
        """Return the sequence [T, ...] of a value of each step: the value that it is a slice of, or a concatenation."""
        values, shape, builder = self._in_time(values), self._shape(values), self.builder
        place = consecutive(self.old, self.common.producer, values)
        if place is None:
            rows = [builder.one(Reshape((1, *shape)), v, hint=f"{v}_row", origin=self.origin) for v in values]
            return builder.one(Concat(0), *rows, hint=f"{values[0]}_steps", origin=self.origin)
        base, axis, count = place.base, place.axis, self.common.count * place.size
        whole = builder.shapes[base]
        rest = whole[axis]
        assert isinstance(rest, int)
        sizes = [size for size in (place.start, count, rest - count - place.start) if size]
        if len(sizes) > 1:
            pieces = builder.add(Split(axis, tuple(sizes)), base, hint=f"{base}_steps", origin=self.origin)
            base = pieces[1 if place.start else 0]
        before, after = whole[:axis], whole[axis + 1 :]
        base = self._as(base, (*before, self.common.count, *([place.size] if place.size > 1 else []), *after))
        if axis:
            order = (axis, *(a for a in range(len(builder.shapes[base])) if a != axis))
            base = builder.one(Permute(order), base, hint=f"{base}_steps", origin=self.origin)
        return self._as(base, (self.common.count, *shape))

    def _as(self, value: str, shape: Shape) -> str:
        if self.builder.shapes[value] == shape:
            return value
        return self.builder.one(Reshape(shape), value, hint=f"{value}_rows", origin=self.origin)

    def _joining(self, step: Step, joins: Mapping[Values, str]) -> Step:
        """Return a concatenation of a value of all steps with the sequence in place of its elements."""
        if not isinstance(step.op, Concat):
            return step
        makers = [
            self.old.steps[self.common.producer[name]] if name in self.common.producer else None for name in step.inputs
        ]
        plain = tuple(m.inputs[0] if m and isinstance(m.op, Reshape) else "" for m in makers)
        for values, y in joins.items():
            for operands in (step.inputs, plain):
                for at in range(len(operands) - len(values) + 1):
                    if operands[at : at + len(values)] == values:
                        one = self._sequence(y, self.old.shapes[step.inputs[at]], step.op.axis)
                        left = (*step.inputs[:at], one, *step.inputs[at + len(values) :])
                        if len(left) > 1:
                            return self._joining(replace(step, inputs=left), joins)
                        return Step(Reshape(self.old.shapes[step.outputs[0]]), left, step.outputs, step.origin)
        return step

    def _sequence(self, y: str, shape: Shape, axis: int) -> str:
        """Return a sequence [T, ...] with its elements, of this shape, concatenated along one of their axes."""
        steps = self.common.count
        size = shape[axis]
        assert isinstance(size, int)
        rest: Shape = shape[:axis] + shape[axis + 1 :] if size == 1 else shape
        y = self._as(y, (steps, *rest))
        if axis:
            order = (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1))
            y = self.builder.one(Permute(order), y, hint=f"{y}_joined", origin=self.origin)
        return self._as(y, (*shape[:axis], steps * size, *shape[axis + 1 :]))


def topologically_sorted(net: Net) -> Net:
    """Return the net with its steps in topological order, without unused ones."""
    producer = {name: number for number, step in enumerate(net.steps) for name in step.outputs}
    ordered: list[Step] = []
    state: dict[int, bool] = {}  # whether a step that was begun is done
    waiting: list[Iterator[int]] = [iter(sorted({producer[v] for v in net.outputs.values() if v in producer}))]
    path: list[int] = []
    while waiting:
        number = next(waiting[-1], None)
        if number is None:
            waiting.pop()
            if path:
                state[path[-1]] = True
                ordered.append(net.steps[path.pop()])
        elif number not in state:
            state[number] = False
            path.append(number)
            waiting.append(iter(sorted({producer[name] for name in net.steps[number].inputs if name in producer})))
        elif not state[number]:
            raise StepsDiffer  # a sequence that depends on the steps that read it
    there = {*producer, *net.inputs, *net.params}
    if any(name not in there for step in ordered for name in step.inputs):
        raise StepsDiffer  # something that was one of the steps
    used = {name for step in ordered for name in step.inputs} | set(net.outputs.values())
    params = {name: weight for name, weight in net.params.items() if name in used}
    return replace(net, steps=tuple(ordered), params=params)


MOST = 20_000  # steps of a net in which loops are searched
CUTS = 8  # chains without products that are compared


def roll_up(net: Net) -> Net:
    """Return the net with unrolled recurrences as loops; its notes name the chains that could not be rolled up."""
    net = _with_constants_once(net)
    lowered = lower_single_steps(net)
    rolled = _roll_up(net if lowered is net else topologically_sorted(lowered))
    used = {name for step in rolled.steps if not isinstance(step.op, Recur | Rolled) for name in step.inputs}
    if any("/" in name for name in used):  # a cell that was lowered, and is in no loop
        return _roll_up(net)
    return rolled


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


def _roll_up(net: Net) -> Net:
    while len(net.steps) <= MOST:
        dependence = Dependences(net)
        left: list[Chain] = []
        candidates: list[Net] = []
        for chain in candidate_chains(net, dependence):
            if chain.weight is None and len(candidates) == CUTS:
                break
            one = _roll_chain(net, dependence, chain)
            if one is None:
                left.append(chain)
            else:
                candidates.append(one)
                if chain.weight is not None:
                    break
        if not candidates:
            trained = [chain for chain in left if chain.weight is not None and net.params[chain.weight].sources]
            notes = dict.fromkeys(_note(net, chain) for chain in trained)
            return replace(net, notes=(*net.notes, *notes))
        net = min(
            candidates, key=lambda one: len(one.steps)
        )  # a step may be cut anywhere: where least is left of others
    return net


def _note(net: Net, chain: Chain) -> str:
    weight = net.params[chain.weight or ""].recipe
    return (
        f"Products with {weight} come {len(chain.numbers)} times, each after the one before, but what lies between them"
        " is not the same: these steps stay written out."
    )


def _roll_chain(net: Net, dependence: Dependences, chain: Chain) -> Net | None:
    """Return the net with the chain rolled up; None if its steps differ."""
    for absorbing in (True, False):  # a consumer may depend on the whole loop
        try:
            common = CommonStep(net, dependence, chain)
            if chain.weight is None and not common.sequences:
                return None  # a function of a function, or the like
            extend(common)
            extend_from_zero(common)
            if absorbing:
                common.absorb()
            return with_scan(common)
        except (StepsDiffer, RecursionError):  # a step deeper than Python goes stays written out
            continue
    return None
