"""A step more at either end of those that a chain bounds: matched with what all of them have in common.

After a chain's last member nothing says where its step ends, and before the first one there may be a step that
started from zeros, whose products with them have been left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from lstmc.importers.describe.images import Conv
from lstmc.importers.describe.net import Step
from lstmc.importers.describe.ops import (
    Apply,
    Binary,
    Concat,
    Einsum,
    Expand,
    Linear,
    Reduce,
    Reshape,
    Select,
    Split,
    Transpose,
)
from lstmc.importers.describe.shapes import ShapeProblem, broadcast
from lstmc.importers.settle.common_step import CommonStep, NotAlike, Part, Values
from lstmc.importers.settle.elements import element


def extend(common: CommonStep) -> None:
    """As many steps more as there are, at the end and at the beginning."""
    while _longer(common, _after(common), at_end=True):
        pass
    while _longer(common, _before(common), at_end=False):
        pass


def extend_from_zero(common: CommonStep) -> None:
    """A first step in which all states, or some, are zero and so not there, if there is one."""
    states = [*common.states]
    for count in range(len(states), 0, -1):
        for zero in combinations(states, count):
            if _longer(common, _from_zero(common, zero), at_end=False):
                return


def _longer(common: CommonStep, column: dict[Values, str] | None, at_end: bool) -> bool:
    if column is None:
        return False
    names = {v: (*v, column[v]) if at_end else (column[v], *v) for v in common.known}
    common.replace(names)
    return True


def _same(common: CommonStep) -> dict[Values, str]:
    """What is the same in every step."""
    return {values: values[0] for values in (*common.params, *common.static)}


def _after(common: CommonStep) -> dict[Values, str] | None:
    states = {state: values[-1] for state, values in common.following().items()}
    return _Column(common, common.parts, _same(common) | states, at_end=True).matched(common.known)


def _before(common: CommonStep) -> dict[Values, str] | None:
    states = {values: state[0] for state, values in common.following().items()}
    return _Column(common, common.parts, _same(common) | states, at_end=False).matched(common.known)


def _from_zero(common: CommonStep, states: Sequence[Values]) -> dict[Values, str] | None:
    zero, same = set(states), dict[Values, Values]()
    parts = []
    for part in common.parts:
        operands = tuple(same.get(values, values) for values in part.operands)
        kept = [values for values in operands if values not in zero]
        if _is_zero(part, [values in zero for values in operands]):
            zero.update(part.results)
        elif isinstance(part.op, Binary) and len(kept) == 1 and (part.op.kind, operands[0] in zero) in _SUMS:
            same[part.results[0]] = kept[0]
        else:
            parts.append(Part(part.op, operands, part.results, part.origin))
    following = common.following()
    if any(values in zero for values in following.values()):
        return None
    starts = {same.get(values, values): state[0] for state, values in following.items()}
    wanted, needed = {*starts}, []
    for part in reversed(parts):
        if wanted & {*part.results}:
            wanted |= {*part.operands}
            needed.append(part)
    made = {values for part in needed for values in part.results}
    if wanted & zero or not made.issuperset(starts):
        return None  # a state that would be an element of a sequence
    column = _Column(common, needed[::-1], _same(common) | starts, at_end=False).matched(wanted)
    if column is None:
        return None
    column |= {values: column[other] for values, other in same.items() if other in made}
    return {values: column.get(values, "") for values in common.known}


_SUMS = {("add", True), ("add", False), ("sub", False)}  # what adds zero, and whether zero is its first operand


def _is_zero(part: Part, zero: list[bool]) -> bool:
    """Whether the results are zero where these operands are."""
    op = part.op
    if isinstance(op, Binary):
        return any(zero) if op.kind == "mul" else all(zero) and op.kind != "div"
    if isinstance(op, Linear | Conv):
        return zero[0] and len(zero) == 2
    if isinstance(op, Einsum):
        return any(zero)
    if isinstance(op, Apply):
        return zero[0] and not np.any(op.eval(np.zeros(1))[0])
    return isinstance(op, Concat | Expand | Reduce | Reshape | Select | Split | Transpose) and all(zero)


class _Column:
    """The values of one step more, found from those that are known of it, both up and down."""

    def __init__(self, common: CommonStep, parts: list[Part], known: dict[Values, str], at_end: bool) -> None:
        self.common, self.net, self.known, self.at_end = common, common.net, known, at_end
        self.waiting = list(parts)
        self.claimed = common.claimed()

    def matched(self, wanted: Iterable[Values]) -> dict[Values, str] | None:
        """One value for each; None where there is no such step."""
        try:
            while self.waiting:
                self._one()
            self._elements()
        except NotAlike:
            return None
        return self.known if all(values in self.known for values in wanted) else None

    def _one(self) -> None:
        """Matches the part of which most is certain: what makes a value that is known, or the only reader of one."""
        several: tuple[Part, int] | None = None
        for part in self.waiting:
            numbers = self._candidates(part)
            if numbers is None:
                continue
            if not numbers:
                raise NotAlike
            if len(numbers) == 1:
                self._take(part, numbers[0])
                return
            several = several or (part, numbers[0])
        if several is None:
            raise NotAlike
        self._take(*several)

    def _candidates(self, part: Part) -> list[int] | None:
        """The steps that may be this part; None where nothing of it is known."""
        made = self.common.made
        for values in part.results:
            if values in self.known:
                number = made.get(self.known[values])
                return [number] if number is not None and self._fits(part, number) else []
        dynamic = [v for v in part.operands if v in self.known and v not in self._fixed]
        if not dynamic:
            return None
        readers = self.common.dependence.readers.get(self.known[dynamic[0]], [])
        return [number for number in readers if self._fits(part, number)]

    @property
    def _fixed(self) -> set[Values]:
        return {*self.common.params, *self.common.static}

    def _fits(self, part: Part, number: int) -> bool:
        step: Step = self.net.steps[number]
        if self.claimed >> number & 1 or step.op != part.op or len(step.inputs) != len(part.operands):
            return False
        pairs = [*zip(part.operands, step.inputs, strict=True), *zip(part.results, step.outputs, strict=True)]
        return all(self.known.get(values, name) == name for values, name in pairs)

    def _take(self, part: Part, number: int) -> None:
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
                raise NotAlike
            self.known[values] = name

    def _elements(self) -> None:
        """An element that no part reads is the one beside those that there are; all are known before the steps run."""
        for values in self.common.sequences:
            if values not in self.known:
                self.known[values] = self._beside(values)
            if self.known[values] in self.net.params or self.known[values] in values:
                raise NotAlike
        self._repeated()
        fixed = [self.known[values] for values in (*self.common.sequences, *self._fixed)]
        fixed += [value for values in self.common.sequences for value in values]
        if not self.at_end:
            fixed += [self.known[values] for values in self.common.states if values in self.known]
        if any(self.common.dependence.on(value, self.claimed) for value in filter(None, fixed)):
            raise NotAlike

    def _repeated(self) -> None:
        """Zeros of fewer elements than a state has are none; what is made of them nobody else may read."""
        for values, name in [*self.known.items()]:
            if self.net.shapes[name] == self.net.shapes[values[-1]]:
                continue
            weight = self.net.params.get(name)
            if values in self.common.states and weight is not None and not weight.sources and not weight.make().any():
                self.known[values] = ""
                continue
            readers = self.common.dependence.readers.get(name, ())
            outside = any(not self.claimed >> number & 1 for number in readers) or name in self.net.outputs.values()
            if outside or not self.claimed >> self.common.made.get(name, len(self.net.steps)) & 1:
                raise NotAlike

    def _beside(self, values: Values) -> str:
        """The element after the last, or before the first, of what they were cut from."""
        places = [element(self.net, self.common.made, value) for value in values]
        first, last = places[0], places[-1]
        if first is None or last is None or len(values) < 2:
            raise NotAlike
        step = places[1].start - first.start if places[1] is not None else 0
        wanted = last.start + step if self.at_end else first.start - step
        for number in self.common.dependence.readers.get(first.base, ()):
            for name in self.net.steps[number].outputs:
                place = element(self.net, self.common.made, name)
                if place is not None and place.of_one(first) and place.start == wanted:
                    return name
        raise NotAlike
