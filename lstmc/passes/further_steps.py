"""Further steps at the ends of a chain, found by matching nodes against the body. Nothing marks the end of the step
after a chain's last member. Before the first member there may be a step that started from zeros, without the products
of zeros. So one more step is matched at each end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np

from lstmc.ops import Add, Binary, Conv, Linear, Op, Pointwise, Split, Sub, Unstack
from lstmc.ops.shape import Reduce
from lstmc.passes.unrolled_steps import BodyOp, CommonStep, Dataflow, Step, StepsDiffer, Values, equal
from lstmc.types import TensorType


@dataclass(frozen=True)
class Element:
    """A slice: ``size`` elements of an axis of ``base`` from ``start``; if ``dropped``, the result lacks the axis."""

    base: str
    axis: int
    size: int
    dropped: bool
    start: int

    def same_source(self, other: Element) -> bool:
        return replace(self, start=other.start) == other


def element(flow: Dataflow, value: str) -> Element | None:
    """Return ``value`` as a slice of another value, or None if no Split or Unstack makes it."""
    if value not in flow.producer:
        return None
    step = flow.steps[flow.producer[value]]
    at = step.outputs.index(value)
    if isinstance(step.op, Split):
        return Element(step.inputs[0], step.op.axis, step.op.sizes[at], False, sum(step.op.sizes[:at]))
    return Element(step.inputs[0], 0, 1, True, at) if isinstance(step.op, Unstack) else None


def consecutive(flow: Dataflow, values: Sequence[str]) -> Element | None:
    """Return the first of ``values`` as a slice if they are consecutive slices of one value, else None."""
    elements = [element(flow, value) for value in values]
    if (first := elements[0]) is None:
        return None
    for place, one in enumerate(elements):
        if one is None or not one.same_source(first) or one.start != first.start + place * first.size:
            return None
    return first


def extend(common: CommonStep) -> None:
    """Add all further steps that match the body, first at the end, then at the beginning. A first step from zero states
    is matched too, although it lacks the products with zeros."""
    for at_end in (True, False):
        while _longer(common, _beyond(common, at_end), at_end):
            pass
    states = [*common.states]  # a first step from zero states lacks the products with zero
    for zero in chain(*(combinations(states, count) for count in range(len(states), 0, -1))):
        if _longer(common, _from_zero(common, zero), at_end=False):
            return


def absorb(common: CommonStep) -> None:
    """Move equal consumers of a result in every step, such as the steps of a following layer, into the body."""
    for part in common.parts:  # the list grows during the loop
        for values in part.results:
            if "" not in values and len({common.flow.types[value] for value in values}) == 1:
                _absorb_consumers(common, values)


def _absorb_consumers(common: CommonStep, values: Values) -> None:
    """Add each op to the body that reads ``values`` in all steps, if the body can have its other operands."""
    for number in common.flow.consumers.get(values[0], ()):
        step, claimed = common.flow.steps[number], common.claimed()
        if claimed >> number & 1 or not _computes(common.flow, step):
            continue
        place = step.inputs.index(values[0])
        steps = [_matching_consumer(common.flow, step, place, value, claimed) for value in values]
        matches = [step for step in steps if step is not None]
        if len(matches) < len(steps) or len({step.outputs for step in matches}) < len(matches):
            continue
        operands = tuple(zip(*(step.inputs for step in matches), strict=True))
        with common.attempt():
            if not all(_can_be_read(common, operand) for operand in operands):
                raise StepsDiffer
            common.add(matches, operands)


def _computes(flow: Dataflow, step: Step, depth: int = 4) -> bool:
    """Return whether a node computes numbers, or only moves elements (``depth`` nodes at most) for one that does."""
    if not step.op.moves:
        return True
    readers = {number for value in step.outputs for number in flow.consumers.get(value, ())}
    return depth > 0 and len(readers) == 1 and _computes(flow, flow.steps[readers.pop()], depth - 1)


def _matching_consumer(flow: Dataflow, pattern: Step, place: int, value: str, claimed: int) -> Step | None:
    """Return a node outside the loop with ``pattern``'s op and constants, and ``value`` at ``place``; or None."""
    for number in flow.consumers.get(value, ()):
        step = flow.steps[number]
        if not claimed >> number & 1 and equal([pattern, step]) and step.inputs[place] == value:
            mine, theirs = (tuple(v if flow.constant(v) else "" for v in s.inputs) for s in (step, pattern))
            if mine == theirs:
                return step
    return None


def _can_be_read(common: CommonStep, operand: Values, depth: int = 6) -> bool:
    """Return whether the body has the values ``operand``, one for each step, or can have them: constants, slices of one
    value, and values computed from such values, which are added."""
    flow = common.flow
    if operand in common.values:
        return True
    if len(set(operand)) == 1 and flow.constant(operand[0]):
        common.classify(common.constants, operand)
        return True
    claimed = common.claimed()
    if any(flow.constant(v) or flow.depends(v, claimed) for v in operand):
        return False
    if len(set(operand)) == 1 and flow.types[operand[0]].rank:
        common.classify(common.static, operand)
        return True
    if consecutive(flow, operand) or consecutive(flow, operand[::-1]):
        common.classify(common.sequences, operand)
        return True
    makers = [flow.steps[flow.producer[value]] for value in operand if value in flow.producer]
    distinct = len({maker.outputs for maker in makers}) == len(operand)
    if not distinct or not depth or not equal(makers) or isinstance(makers[0].op, Split | Unstack):
        return False
    operands = tuple(zip(*(maker.inputs for maker in makers), strict=True))
    if not all(_can_be_read(common, one, depth - 1) for one in operands):
        return False
    common.add(makers, operands)
    return True


def _longer(common: CommonStep, column: dict[Values, str] | None, at_end: bool) -> bool:
    """Add the values ``column`` of a further step to an end of the chain; return False if ``column`` is None."""
    if column is None:
        return False
    common.replace({v: (*v, column[v]) if at_end else (column[v], *v) for v in common.values})
    return True


def _beyond(common: CommonStep, at_end: bool) -> dict[Values, str] | None:
    """Return the values of the step after the last (``at_end``) or before the first; None if there is no such step."""
    following = common.following().items()
    if at_end:  # a state is read by the new step, and was computed by the last step
        states = {state: computed[-1] for state, computed in following}
    else:  # a state is read by the first step, and was computed by the new step
        states = {computed: state[0] for state, computed in following}
    return _Column(common, common.parts, states, at_end).matched(common.values)


def _from_zero(common: CommonStep, states: Sequence[Values]) -> dict[Values, str] | None:
    """Return the values of a step before the first whose ``states`` are zeros, by the body's values ("" for a value
    that the step lacks, because zeros make it needless); None if there is no such step."""
    zero, same = set(states), dict[Values, Values]()  # zero values; a value -> the equal value without zeros
    parts = []
    for part in common.parts:
        operands = tuple(same.get(values, values) for values in part.operands)
        kept = [values for values in operands if values not in zero]
        if _is_zero(part.op, [values in zero for values in operands]):
            zero.update(part.results)
        elif len(kept) == 1 and (isinstance(part.op, Add) or (isinstance(part.op, Sub) and operands[0] in kept)):
            same[part.results[0]] = kept[0]
        else:
            parts.append(BodyOp(part.op, operands, part.results, part.loc))
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
        return None  # a state would be an element of a sequence
    if (column := _Column(common, needed[::-1], starts, at_end=False).matched(required)) is None:
        return None
    column |= {values: column[other] for values, other in same.items() if other in computed}
    return {values: column.get(values, "") for values in common.values}


def _is_zero(op: Op, zero: Sequence[bool]) -> bool:
    """Return whether an op's results are zero if the operands marked in ``zero`` are zero and the others are not."""
    if isinstance(op, Linear | Conv):
        return zero[0] and len(zero) == 2
    if isinstance(op, Binary | Pointwise):
        with np.errstate(all="ignore"):
            return not np.any(op.eval(*(np.zeros(2) if each else np.array([1.5, -1.5]) for each in zero))[0])
    return (op.moves or isinstance(op, Reduce)) and all(zero)


class _Column:
    """Matches a further step in time against the body, from known values to their producers and consumers. ``match``
    maps each value of the body to the step's value; ``claimed`` is the bitset of the graph's nodes in use."""

    def __init__(self, common: CommonStep, parts: list[BodyOp], match: dict[Values, str], at_end: bool) -> None:
        self.common, self.flow, self.at_end = common, common.flow, at_end
        self.waiting = list(parts)
        self.claimed = common.claimed()
        same = (*common.constants, *common.static)  # at every step
        self.fixed, self.match = {*same}, {values: values[0] for values in same} | match

    def matched(self, required: Iterable[Values]) -> dict[Values, str] | None:
        """Return the step's value for each value of the body; None if it lacks a ``required`` value or differs."""
        try:
            while self.waiting:
                self._one()
            self._elements()
        except StepsDiffer:
            return None
        return self.match if all(values in self.match for values in required) else None

    def _one(self) -> None:
        """Match one op: the first with a single candidate, else the first with several. Raise StepsDiffer for none."""
        several: tuple[BodyOp, int] | None = None
        for part in self.waiting:
            if (numbers := self._candidates(part)) is None:
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
        """Return the nodes that may be ``part``: the producer of a matched result, or consumers of a matched operand.
        Return None if no result and no operand is matched yet."""
        for values in part.results:
            if values in self.match:
                number = self.flow.producer.get(self.match[values])
                return [number] if number is not None and self._fits(part, number) else []
        dynamic = [v for v in part.operands if v in self.match and v not in self.fixed]
        if not dynamic:
            return None
        readers = self.flow.consumers.get(self.match[dynamic[0]], [])
        return [number for number in readers if self._fits(part, number)]

    def _fits(self, part: BodyOp, number: int) -> bool:
        """Return whether a node of the graph is unclaimed, has the op ``part``, and agrees with all matched values."""
        step = self.flow.steps[number]
        if self.claimed >> number & 1 or step.op != part.op or len(step.inputs) != len(part.operands):
            return False
        pairs = [*zip(part.operands, step.inputs, strict=True), *zip(part.results, step.outputs, strict=True)]
        return all(self.match.get(values, name) == name for values, name in pairs)

    def _take(self, part: BodyOp, number: int) -> None:
        """Match an op with a node, and their values. Raise StepsDiffer if a type of the node does not broadcast."""
        step = self.flow.steps[number]
        self.waiting.remove(part)
        self.claimed |= 1 << number
        pairs = [*zip(part.operands, step.inputs, strict=True), *zip(part.results, step.outputs, strict=True)]
        for values, name in pairs:
            if not _broadcasts(self.flow.types[name], self.flow.types[values[-1]]):
                raise StepsDiffer
            self.match[values] = name

    def _elements(self) -> None:
        """Match each sequence without a match with the slice beside its slices. Raise StepsDiffer if such an element or
        another value from outside depends on the new step or on the loop."""
        for values in self.common.sequences:
            if values not in self.match:
                self.match[values] = self._beside(values)
            if self.flow.constant(self.match[values]) or self.match[values] in values:
                raise StepsDiffer
        self._repeated()
        fixed = [self.match[values] for values in (*self.common.sequences, *self.fixed)]
        fixed += [value for values in self.common.sequences for value in values]
        if not self.at_end:
            fixed += [self.match[values] for values in self.common.states if values in self.match]
        if any(self.flow.depends(value, self.claimed) for value in filter(None, fixed)):
            raise StepsDiffer

    def _repeated(self) -> None:
        """Match a state with "" if its value is zeros that are broadcast. Raise StepsDiffer for any other value smaller
        than the body's that nodes outside the loop read or compute."""
        for values, name in [*self.match.items()]:
            if self.flow.types[name] == self.flow.types[values[-1]]:
                continue
            if values in self.common.states and self.flow.zero(name):
                self.match[values] = ""
                continue
            readers = self.flow.consumers.get(name, ())
            outside = any(not self.claimed >> number & 1 for number in readers) or name in self.flow.results
            if outside or not self.claimed >> self.flow.producer.get(name, len(self.flow.steps)) & 1:
                raise StepsDiffer

    def _beside(self, values: Values) -> str:
        """Return the slice before or after all slices of a sequence; raise StepsDiffer if there is none."""
        places = [place for place in (element(self.flow, value) for value in values) if place is not None]
        if len(places) < len(values):
            raise StepsDiffer
        first, second, *_ = places
        step = second.start - first.start
        start = places[-1].start + step if self.at_end else first.start - step
        for reader in self.flow.consumers.get(first.base, ()):
            for name in self.flow.steps[reader].outputs:
                place = element(self.flow, name)
                if place is not None and place.same_source(first) and place.start == start:
                    return name
        raise StepsDiffer


def _broadcasts(own: TensorType, whole: TensorType) -> bool:
    """Return whether a value of type ``own`` can stand for ``whole``, repeated along axes of one element."""
    pairs = zip(reversed(own.shape), reversed(whole.shape), strict=False)
    return own.rank <= whole.rank and all(size in (1, n) for size, n in pairs)
