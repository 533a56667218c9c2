"""A net with one step over time in place of a chain of steps, and what others read of them taken out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lstmc.importers.describe.net import Net, NetBuilder, Step
from lstmc.importers.describe.ops import Concat, Reshape, Select, Split, Transpose
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.describe.shapes import Shape
from lstmc.importers.settle.common_step import CommonStep, NotAlike, Values
from lstmc.importers.settle.elements import in_a_row
from lstmc.importers.settle.one_step import names_of
from lstmc.importers.settle.step_names import names_of_step


def replaced(common: CommonStep) -> Net:
    """The net with the step over time. Raises :class:`NotAlike` where something would be read before it is known."""
    return _Replaced(common).net()


class _Replaced:
    def __init__(self, common: CommonStep) -> None:
        self.common, self.old, self.builder = common, common.net, names_of(common.net)
        self.following = common.following()
        claimed = common.claimed()
        self.left = [step for number, step in enumerate(self.old.steps) if not claimed >> number & 1]
        self.read = {name for step in self.left for name in step.inputs} | set(self.old.outputs.values())
        self.read |= {state[0] for state in common.states if state[0]}
        self.origin = f"{common.count} steps, the first {self.old.steps[common.chain.numbers[0]].origin}"
        backward = [in_a_row(self.old, common.made, values[::-1]) is not None for values in common.sequences]
        forward = [in_a_row(self.old, common.made, values) is not None for values in common.sequences]
        self.reverse = any(backward) and not any(forward)

    def net(self) -> Net:
        common, builder = self.common, self.builder
        ends = {values[-1] for values in self.following.values()}
        results = [values for part in common.parts for values in part.results]
        ys = [v for v in results if {*v} & self.read - ({v[-1]} & ends if v in self.following.values() else set())]
        stem, names = names_of_step(common)
        sequences = [self._joined(values) for values in common.sequences]
        first = {names[state]: state[0] for state in common.states if not self._zero(state[0])}
        inner = self._step(names, ys)
        name = builder.scan_name(stem)
        params = {f"{name}/{role}": weight for role, weight in inner.params.items()}
        builder.shapes |= {role: weight.shape for role, weight in params.items()}
        states = [names[state] for state in common.states]
        op = Rolled(inner, name, common.count, len(sequences), tuple(states), tuple(first), self.reverse)
        hints = [*(f"{name}_{names[values]}" for values in ys), *(f"{name}_{state}_T" for state in states)]
        given = (*params, *sequences, *first.values(), *(values[0] for values in common.static))
        made = builder.add(op, *given, hint="", hints=hints, origin=self.origin)
        lasts = zip(self.following.values(), made[len(ys) :], strict=True)
        renamed = {values[-1]: end for values, end in lasts}
        joins = {self._in_time(values): y for values, y in zip(ys, made, strict=False)}
        steps = [self._joining(step, joins) for step in self.left]
        read = {name for step in steps for name in step.inputs} | {*self.old.outputs.values()}
        for values, y in joins.items():
            for t, value in enumerate(values):
                if value in read and value and value not in renamed:
                    renamed[value] = builder.one(Select(0, t), y, hint=value, origin=self.origin)
        builder.steps += [replace(s, inputs=tuple(renamed.get(name, name) for name in s.inputs)) for s in steps]
        outputs = {name: renamed.get(value, value) for name, value in self.old.outputs.items()}
        net = replace(self.old, params={**self.old.params, **params}, outputs=outputs, shapes=builder.shapes)
        return in_order(replace(net, steps=tuple(builder.steps)))

    def _in_time(self, values: Values) -> Values:
        return values[::-1] if self.reverse else values

    def _shape(self, values: Values) -> Shape:
        return self.old.shapes[values[-1]]  # a first step may have fewer elements, or none

    def _step(self, names: Mapping[Values, str], ys: list[Values]) -> Net:
        """The body of the step over time."""
        common, builder = self.common, NetBuilder("step", self.old.origin)
        for values, name in names.items():
            builder.shapes[name] = self._shape(values)
        builder.params = {names[values]: self.old.params[values[0]] for values in common.params}
        for part in common.parts:
            given, made = (tuple(names[v] for v in values) for values in (part.operands, part.results))
            builder.steps.append(Step(part.op, given, made, part.origin))
        builder.outputs = {names[state]: names[values] for state, values in self.following.items()}
        builder.outputs |= {f"y_{number}": names[values] for number, values in enumerate(ys)}
        order = [*common.sequences, *common.states, *common.static]
        return builder.finish({names[values]: self._shape(values) for values in order})

    def _zero(self, value: str) -> bool:
        """Whether a first value is none or zeros, where states start anyway."""
        weight = self.old.params.get(value)
        return not value or (weight is not None and not weight.sources and not weight.make().any())

    def _joined(self, values: Values) -> str:
        """One sequence [T, ...] of a value of each step: what they were cut from, or they joined."""
        values, shape, builder = self._in_time(values), self._shape(values), self.builder
        place = in_a_row(self.old, self.common.made, values)
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
            base = builder.one(Transpose(order), base, hint=f"{base}_steps", origin=self.origin)
        return self._as(base, (self.common.count, *shape))

    def _as(self, value: str, shape: Shape) -> str:
        if self.builder.shapes[value] == shape:
            return value
        return self.builder.one(Reshape(shape), value, hint=f"{value}_rows", origin=self.origin)

    def _joining(self, step: Step, joins: Mapping[Values, str]) -> Step:
        """Of what joins a value of all steps, the sequence itself in place of its elements."""
        if not isinstance(step.op, Concat):
            return step
        makers = [self.old.steps[self.common.made[name]] if name in self.common.made else None for name in step.inputs]
        plain = tuple(m.inputs[0] if m and isinstance(m.op, Reshape) else "" for m in makers)
        for values, y in joins.items():
            for given in (step.inputs, plain):
                for at in range(len(given) - len(values) + 1):
                    if given[at : at + len(values)] == values:
                        one = self._sequence(y, self.old.shapes[step.inputs[at]], step.op.axis)
                        left = (*step.inputs[:at], one, *step.inputs[at + len(values) :])
                        if len(left) > 1:
                            return self._joining(replace(step, inputs=left), joins)
                        return Step(Reshape(self.old.shapes[step.outputs[0]]), left, step.outputs, step.origin)
        return step

    def _sequence(self, y: str, shape: Shape, axis: int) -> str:
        """[T, ...] with its elements, of this shape, beside one another along an axis of theirs."""
        steps = self.common.count
        size = shape[axis]
        assert isinstance(size, int)
        rest: Shape = shape[:axis] + shape[axis + 1 :] if size == 1 else shape
        y = self._as(y, (steps, *rest))
        if axis:
            order = (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1))
            y = self.builder.one(Transpose(order), y, hint=f"{y}_joined", origin=self.origin)
        return self._as(y, (*shape[:axis], steps * size, *shape[axis + 1 :]))


def in_order(net: Net) -> Net:
    """The steps in an order in which each follows what it reads, without those that nothing needs."""
    made = {name: number for number, step in enumerate(net.steps) for name in step.outputs}
    found: list[Step] = []
    state: dict[int, bool] = {}  # whether a step that was begun is done
    waiting: list[Iterator[int]] = [iter(sorted({made[v] for v in net.outputs.values() if v in made}))]
    path: list[int] = []
    while waiting:
        number = next(waiting[-1], None)
        if number is None:
            waiting.pop()
            if path:
                state[path[-1]] = True
                found.append(net.steps[path.pop()])
        elif number not in state:
            state[number] = False
            path.append(number)
            waiting.append(iter(sorted({made[name] for name in net.steps[number].inputs if name in made})))
        elif not state[number]:
            raise NotAlike  # a sequence that depends on the steps that read it
    there = {*made, *net.inputs, *net.params}
    if any(name not in there for step in found for name in step.inputs):
        raise NotAlike  # something that was one of the steps
    used = {name for step in found for name in step.inputs} | set(net.outputs.values())
    params = {name: weight for name, weight in net.params.items() if name in used}
    return replace(net, steps=tuple(found), params=params)
