"""Recurrent layers of one step lowered to ops, so that chains of them are recognised; steps added at a chain's ends.

After a chain's last member nothing marks the end of its step, and before the first one there may be a step that
started from zeros, whose products with zero are absent: a step more is matched at either end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lstmc.importers.canonical.common_step import BodyOp, CommonStep, StepsDiffer, Values
from lstmc.importers.ir.net import Net, NetBuilder, Rolled, Step, scan_names
from lstmc.importers.ir.ops import Divide, Einsum, Elementwise, Expand, Permute, Reducing, Select
from lstmc.importers.ir.recur import Recur
from lstmc.importers.ir.sizes import ShapeProblem, broadcast
from lstmc.importers.weight import number
from lstmc.ops import Add, Binary, Concat, Conv, Linear, Mul, Op, Reshape, Split, Sub


@dataclass(frozen=True)
class Element:
    """A slice: ``size`` elements of an axis of ``base`` from ``start``; ``dropped``: the result lacks the axis."""

    base: str
    axis: int
    size: int
    dropped: bool
    start: int

    def same_source(self, other: Element) -> bool:
        """Return whether both are slices of one value that differ in ``start`` alone."""
        return (self.base, self.axis, self.size, self.dropped) == (other.base, other.axis, other.size, other.dropped)


def element(net: Net, producer: Mapping[str, int], value: str) -> Element | None:
    """Return the slice that a value is; None for any other value."""
    if value not in producer:
        return None
    step = net.steps[producer[value]]
    if isinstance(step.op, Select) and step.op.index >= 0:
        return Element(step.inputs[0], step.op.axis, 1, True, step.op.index)
    if isinstance(step.op, Split):
        at = step.outputs.index(value)
        return Element(step.inputs[0], step.op.axis, step.op.sizes[at], False, sum(step.op.sizes[:at]))
    return None


def consecutive(net: Net, producer: Mapping[str, int], values: Sequence[str]) -> Element | None:
    """Return the first slice if the values are consecutive slices of one value, else None."""
    elements = [element(net, producer, value) for value in values]
    first = elements[0]
    if first is None:
        return None
    for place, one in enumerate(elements):
        if one is None or not one.same_source(first) or one.start != first.start + place * first.size:
            return None
    return first


def builder_for(net: Net) -> NetBuilder:
    """Return a builder with the net's shapes, whose new names differ from all of the net's."""
    builder = NetBuilder(net.name, net.origin)
    builder.shapes = dict(net.shapes)
    builder.reserve(name.partition("/")[0] for name in (*net.shapes, *net.params))
    for step in net.steps:
        if isinstance(step.op, Recur | Rolled):
            builder.reserve(scan_names(step.op.name))
    return builder


def lower_single_steps(net: Net) -> Net:
    """Lower recurrent layers of one step to products and functions, where one cell has several of them."""
    ones = [step for step in net.steps if isinstance(step.op, Recur) and _is_single_step(net, step)]
    counts = Counter(step.op.name for step in ones if isinstance(step.op, Recur))
    lowered = [step for step in ones if isinstance(step.op, Recur) and counts[step.op.name] > 1]
    if not lowered:
        return net
    builder = builder_for(net)
    builder.params = dict(net.params)
    for step in net.steps:
        if step in lowered:
            _Cell(builder, step).write()
        else:
            builder.steps.append(step)
    return Net(
        net.name, net.origin, net.inputs, builder.params, tuple(builder.steps), net.outputs, builder.shapes, net.axes,
        net.notes, net.ignored, net.called,
    )  # fmt: skip


def _is_single_step(net: Net, step: Step) -> bool:
    op = step.op
    assert isinstance(op, Recur)
    cell = op.cell
    plain = not (cell.peepholes or cell.coupled or cell.clip or cell.static or cell.masked or op.more)
    return net.shapes[step.inputs[0]][0] == 1 and plain and (cell.kind != "gru" or cell.reset_after)


class _Cell:
    """Lowers one step of a cell to ops."""

    def __init__(self, builder: NetBuilder, step: Step) -> None:
        assert isinstance(step.op, Recur)
        self.builder, self.step, self.op, self.cell = builder, step, step.op, step.op.cell
        self.w = {role: f"{self.op.name}/{role}" for role in self.cell.weights()}

    def one(self, op: Op, *values: str) -> str:
        return self.builder.one(op, *values, hint=f"{self.op.name}_value", origin=self.step.origin)

    def named(self, op: Op, name: str, *values: str) -> str:
        self.builder.steps.append(Step(op, values, (name,), self.step.origin))
        return name

    def cut(self, x: str, names: Sequence[str]) -> list[str]:
        sizes = (self.op.units,) * len(names)
        return [*self.builder.add(Split(1, sizes), x, hint=f"{self.op.name}_gate", origin=self.step.origin)]

    def first(self, state: str) -> str:
        """Return the initial value of a state; zeros if the layer has none."""
        if state in self.op.init:
            return self.step.inputs[1 + len(self.w) + self.op.init.index(state)]
        batch = self.builder.shapes[self.step.inputs[0]][1]
        assert isinstance(batch, int)
        size = self.op.outputs if state == "h" else self.op.units
        name = f"{self.op.name}_{state}_zero"
        if name not in self.builder.params:
            self.builder.params[name] = zeros = number(np.zeros((batch, size)), "zeros")
            self.builder.shapes[name] = zeros.shape
        return name

    def write(self) -> None:
        y, h_next, *c_next = self.step.outputs
        x = self.step.inputs[0]
        h, bias = self.first("h"), [self.w["b"]] if "b" in self.w else []
        seen = self.one(Linear(1), self.one(Reshape(self.builder.shapes[x][1:]), x), self.w["W_x"], *bias)
        kept = self.one(Linear(1), h, self.w["W_h"])
        if self.cell.kind == "rnn":
            self.named(self.cell.new, h_next, self.one(Add(), seen, kept))
        elif self.cell.kind == "gru":
            self._gru(seen, kept, h, h_next)
        else:
            self._lstm(seen, kept, h_next, c_next[0])
        self.named(Reshape(self.builder.shapes[y]), y, h_next)

    def _gru(self, seen: str, kept: str, h: str, h_next: str) -> None:
        z, r, n = self.cut(seen, self.cell.gates)
        h_z, h_r, h_n = self.cut(kept, self.cell.gates)
        z = self.one(self.cell.gate, self.one(Add(), z, h_z))
        r = self.one(self.cell.gate, self.one(Add(), r, h_r))
        if "b_h" in self.w:
            h_n = self.one(Add(), h_n, self.w["b_h"])
        n = self.one(self.cell.new, self.one(Add(), n, self.one(Mul(), r, h_n)))
        moved = self.one(Mul(), z, self.one(Sub(), h, n))
        self.named(Add(), h_next, n, moved)

    def _lstm(self, seen: str, kept: str, h_next: str, c_next: str) -> None:
        i, f, o, g = self.cut(self.one(Add(), seen, kept), self.cell.gates)
        i, f, o = (self.one(self.cell.gate, value) for value in (i, f, o))
        held = self.one(Mul(), f, self.first("c"))
        update = self.one(Mul(), i, self.one(self.cell.new, g))
        self.named(Add(), c_next, held, update)
        shown = self.one(self.cell.out, c_next)
        if self.cell.projection:
            self.named(Linear(1), h_next, self.one(Mul(), o, shown), self.w["W_p"])
        else:
            self.named(Mul(), h_next, o, shown)


def extend(common: CommonStep) -> None:
    """Add all further steps that match, at the end and at the beginning."""
    while _longer(common, _after(common), at_end=True):
        pass
    while _longer(common, _before(common), at_end=False):
        pass


def extend_from_zero(common: CommonStep) -> None:
    """Add a first step from zero states, whose products with zero are absent, if there is one."""
    states = [*common.states]
    for count in range(len(states), 0, -1):
        for zero in combinations(states, count):
            if _longer(common, _from_zero(common, zero), at_end=False):
                return


def _longer(common: CommonStep, column: dict[Values, str] | None, at_end: bool) -> bool:
    if column is None:
        return False
    names = {v: (*v, column[v]) if at_end else (column[v], *v) for v in common.values}
    common.replace(names)
    return True


def _same(common: CommonStep) -> dict[Values, str]:
    """Return the parameters and static inputs, which are the same in every step."""
    return {values: values[0] for values in (*common.params, *common.static)}


def _after(common: CommonStep) -> dict[Values, str] | None:
    states = {state: values[-1] for state, values in common.following().items()}
    return _Column(common, common.parts, _same(common) | states, at_end=True).matched(common.values)


def _before(common: CommonStep) -> dict[Values, str] | None:
    states = {values: state[0] for state, values in common.following().items()}
    return _Column(common, common.parts, _same(common) | states, at_end=False).matched(common.values)


def _from_zero(common: CommonStep, states: Sequence[Values]) -> dict[Values, str] | None:
    zero, same = set(states), dict[Values, Values]()
    parts = []
    for part in common.parts:
        operands = tuple(same.get(values, values) for values in part.operands)
        kept = [values for values in operands if values not in zero]
        if _is_zero(part, [values in zero for values in operands]):
            zero.update(part.results)
        elif len(kept) == 1 and _adds_zero(part.op, operands[0] in zero):
            same[part.results[0]] = kept[0]
        else:
            parts.append(BodyOp(part.op, operands, part.results, part.origin))
    following = common.following()
    if any(values in zero for values in following.values()):
        return None
    starts = {same.get(values, values): state[0] for state, values in following.items()}
    required, needed = {*starts}, []
    for part in reversed(parts):
        if required & {*part.results}:
            required |= {*part.operands}
            needed.append(part)
    computed = {values for part in needed for values in part.results}
    if required & zero or not computed.issuperset(starts):
        return None  # a state that would be an element of a sequence
    column = _Column(common, needed[::-1], _same(common) | starts, at_end=False).matched(required)
    if column is None:
        return None
    column |= {values: column[other] for values, other in same.items() if other in computed}
    return {values: column.get(values, "") for values in common.values}


def _adds_zero(op: object, first: bool) -> bool:
    """Return whether the result is the other operand where one is zero: the ``first``, or the second."""
    return isinstance(op, Add) or (isinstance(op, Sub) and not first)


def _is_zero(part: BodyOp, zero: list[bool]) -> bool:
    """Return whether the results are zero if these operands are."""
    op = part.op
    if isinstance(op, Binary):
        return any(zero) if isinstance(op, Mul) else all(zero) and not isinstance(op, Divide)
    if isinstance(op, Linear | Conv):
        return zero[0] and len(zero) == 2
    if isinstance(op, Einsum):
        return any(zero)
    if isinstance(op, Elementwise):
        return zero[0] and not np.any(op.eval(np.zeros(1))[0])
    return isinstance(op, Concat | Expand | Reducing | Reshape | Select | Split | Permute) and all(zero)


class _Column:
    """Matches one further step against the body, from the values that are known to producers and consumers."""

    def __init__(self, common: CommonStep, parts: list[BodyOp], match: dict[Values, str], at_end: bool) -> None:
        self.common, self.net, self.match, self.at_end = common, common.net, match, at_end
        self.waiting = list(parts)
        self.claimed = common.claimed()

    def matched(self, required: Iterable[Values]) -> dict[Values, str] | None:
        """Return the step's value for each of the body's; None if there is no such step."""
        try:
            while self.waiting:
                self._one()
            self._elements()
        except StepsDiffer:
            return None
        return self.match if all(values in self.match for values in required) else None

    def _one(self) -> None:
        """Match the op with the fewest candidates: the producer, or the only consumer, of a value that is matched."""
        several: tuple[BodyOp, int] | None = None
        for part in self.waiting:
            numbers = self._candidates(part)
            if numbers is None:
                continue
            if not numbers:
                raise StepsDiffer
            if len(numbers) == 1:
                self._take(part, numbers[0])
                return
            several = several or (part, numbers[0])
        if several is None:
            raise StepsDiffer
        self._take(*several)

    def _candidates(self, part: BodyOp) -> list[int] | None:
        """Return the steps that may be this op; None if none of its values is matched."""
        producer = self.common.producer
        for values in part.results:
            if values in self.match:
                number = producer.get(self.match[values])
                return [number] if number is not None and self._fits(part, number) else []
        dynamic = [v for v in part.operands if v in self.match and v not in self._fixed]
        if not dynamic:
            return None
        readers = self.common.dependence.consumers.get(self.match[dynamic[0]], [])
        return [number for number in readers if self._fits(part, number)]

    @property
    def _fixed(self) -> set[Values]:
        return {*self.common.params, *self.common.static}

    def _fits(self, part: BodyOp, number: int) -> bool:
        step: Step = self.net.steps[number]
        if self.claimed >> number & 1 or step.op != part.op or len(step.inputs) != len(part.operands):
            return False
        pairs = [*zip(part.operands, step.inputs, strict=True), *zip(part.results, step.outputs, strict=True)]
        return all(self.match.get(values, name) == name for values, name in pairs)

    def _take(self, part: BodyOp, number: int) -> None:
        step = self.net.steps[number]
        self.waiting.remove(part)
        self.claimed |= 1 << number
        for values, name in (
            *zip(part.operands, step.inputs, strict=True),
            *zip(part.results, step.outputs, strict=True),
        ):
            shape = self.net.shapes[values[-1]]
            try:
                fits = broadcast(self.net.shapes[name], shape) == shape
            except ShapeProblem:
                fits = False
            if not fits:
                raise StepsDiffer
            self.match[values] = name

    def _elements(self) -> None:
        """Match unread sequence elements as neighbours, and check that no input of the step depends on the loop."""
        for values in self.common.sequences:
            if values not in self.match:
                self.match[values] = self._beside(values)
            if self.match[values] in self.net.params or self.match[values] in values:
                raise StepsDiffer
        self._repeated()
        fixed = [self.match[values] for values in (*self.common.sequences, *self._fixed)]
        fixed += [value for values in self.common.sequences for value in values]
        if not self.at_end:
            fixed += [self.match[values] for values in self.common.states if values in self.match]
        if any(self.common.dependence.depends(value, self.claimed) for value in filter(None, fixed)):
            raise StepsDiffer

    def _repeated(self) -> None:
        """Drop broadcast zero states, and check that nothing else reads values computed from them."""
        for values, name in [*self.match.items()]:
            if self.net.shapes[name] == self.net.shapes[values[-1]]:
                continue
            weight = self.net.params.get(name)
            if values in self.common.states and weight is not None and not weight.sources and not weight.make().any():
                self.match[values] = ""
                continue
            readers = self.common.dependence.consumers.get(name, ())
            outside = any(not self.claimed >> number & 1 for number in readers) or name in self.net.outputs.values()
            if outside or not self.claimed >> self.common.producer.get(name, len(self.net.steps)) & 1:
                raise StepsDiffer

    def _beside(self, values: Values) -> str:
        """Return the slice after the last, or before the first, of the same sequence."""
        places = [element(self.net, self.common.producer, value) for value in values]
        first, last = places[0], places[-1]
        if first is None or last is None or len(values) < 2:
            raise StepsDiffer
        step = places[1].start - first.start if places[1] is not None else 0
        start = last.start + step if self.at_end else first.start - step
        for reader in self.common.dependence.consumers.get(first.base, ()):
            for name in self.net.steps[reader].outputs:
                place = element(self.net, self.common.producer, name)
                if place is not None and place.same_source(first) and place.start == start:
                    return name
        raise StepsDiffer
