"""Chains of equal steps, and the step that a chain has in common: candidates for an unrolled recurrence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lstmc.importers.ir.net import Net, Rolled, Step
from lstmc.importers.ir.op import Op
from lstmc.importers.ir.ops import Concat, Conv, Linear, Reshape, Select, Split, Transpose
from lstmc.importers.ir.recur import Recur

ROUNDS = 3  # so far back steps are told apart by what made their operands, where they have no weights
Label = Hashable


@dataclass(frozen=True)
class Chain:
    """Steps by number, and the weight of a product that all of them have, if there is one."""

    numbers: tuple[int, ...]
    weight: str | None


class Dependence:
    """What of a net's steps depends on what: ``before[n]`` has the steps that n depends on, itself too, as bits."""

    def __init__(self, net: Net) -> None:
        self.made: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.before: list[int] = []
        for number, step in enumerate(net.steps):
            bits = 1 << number
            for name in dict.fromkeys(step.inputs):
                self.readers.setdefault(name, []).append(number)
                if name in self.made:
                    bits |= self.before[self.made[name]]
            self.before.append(bits)
            self.made.update(dict.fromkeys(step.outputs, number))

    def on(self, value: str, steps: int) -> bool:
        """Whether a value depends on any of these steps."""
        return value in self.made and bool(self.before[self.made[value]] & steps)


def chains(net: Net, dependence: Dependence) -> list[Chain]:
    """Products with a weight first, then what else has parameters, then what has none; the longest of each first."""
    with_weights = [number for number, step in enumerate(net.steps) if any(name in net.params for name in step.inputs)]
    labels = _labels(net)
    found = [chain for chain in _ordered(with_weights, labels, dependence) if len(chain) > 1]
    products = [chain for chain in found if isinstance(net.steps[chain[0]].op, Linear | Conv)]
    made = [Chain(chain, net.steps[chain[0]].inputs[1]) for chain in products]
    made += [Chain(chain, None) for chain in found if chain not in products]
    plain = [number for number, step in enumerate(net.steps) if number not in {*with_weights}]
    for _ in range(ROUNDS):
        made += [Chain(chain, None) for chain in _ordered(plain, labels, dependence) if len(chain) > 2]
        labels = [
            (label, *(labels[dependence.made[name]] if name in dependence.made else None for name in step.inputs))
            for label, step in zip(labels, net.steps, strict=True)
        ]
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        labels = [numbers[label] for label in labels]
    return list(dict.fromkeys(made))


def _labels(net: Net) -> list[Label]:
    """What each step does, and with which parameters; a constant may be a state's first value."""
    weights = {name for name, weight in net.params.items() if weight.sources}

    def label(number: int, step: Step) -> Label:
        if isinstance(step.op, Recur | Rolled):
            return number
        return step.op, *(name if name in weights else net.shapes[name] for name in step.inputs)

    return [label(number, step) for number, step in enumerate(net.steps)]


def _ordered(numbers: Sequence[int], labels: Sequence[Label], dependence: Dependence) -> list[tuple[int, ...]]:
    """Steps of one label, each depending on the one before; those that do not, as in two layers, are other chains."""
    found: dict[Label, list[list[int]]] = {}
    for number in numbers:
        alike = found.setdefault(labels[number], [])
        own = next((chain for chain in alike if dependence.before[number] >> chain[-1] & 1), None)
        if own is None:
            alike.append([number])
        else:
            own.append(number)
    return sorted((tuple(chain) for alike in found.values() for chain in alike), key=lambda chain: -len(chain))


Values = tuple[str, ...]  # one value of each step in time; "" where a step has none


class NotAlike(Exception):
    """The steps are not the same, or not one after the other."""


@dataclass(frozen=True)
class Part:
    """An op of the step: its operands and results, as values of all steps."""

    op: Op
    operands: tuple[Values, ...]
    results: tuple[Values, ...]
    origin: str

    def of(self, names: dict[Values, Values]) -> Part:
        """The same with other values."""
        operands, results = (tuple(names[v] for v in values) for values in (self.operands, self.results))
        return Part(self.op, operands, results, self.origin)


class CommonStep:
    """What the steps between the members of a chain have in common.

    A state's values are those before each step; its next ones are those of ``following``. What is the same for all
    steps is ``static`` or a parameter; what is left are elements of ``sequences``.
    """

    def __init__(self, net: Net, dependence: Dependence, chain: Chain) -> None:
        self.net, self.dependence, self.chain = net, dependence, chain
        self.made = dependence.made
        self.ends = [*pairwise(chain.numbers)]
        self.cores = [self._between(first, last) for first, last in self.ends]
        self._begin(len(self.ends))
        root = self._root()
        self._unify(root)
        late = self._without_next()
        if late:  # made after what the next member needs: its last value lies behind the last member
            self._begin(self.count - 1)
            self._unify(root[:-1])
            for state in late:
                self._unify(state[1:])
        self.following()

    def _begin(self, count: int) -> None:
        """Of so many steps nothing is known yet."""
        self.count = count
        self.known: dict[Values, None] = {}
        self.parts: list[Part] = []
        self.states: dict[Values, None] = {}
        self.sequences: dict[Values, None] = {}
        self.static: dict[Values, None] = {}
        self.params: dict[Values, None] = {}

    def _without_next(self) -> list[Values]:
        """The states whose next values are not there."""
        made = {results[:-1] for part in self.parts for results in part.results}
        return [state for state in self.states if state[1:] not in made]

    def _between(self, first: int, last: int) -> frozenset[int]:
        """The steps that depend on one member of the chain and that the next one depends on."""
        bits = self.dependence.before[last]
        return frozenset(n for n in range(first, last) if bits >> n & 1 and self.dependence.before[n] >> first & 1)

    def _within(self, value: str, step: int) -> bool:
        """Whether a value is made after one member of the chain, without the next one."""
        first, last = self.ends[step]
        before = self.dependence.before[self.made[value]] if value in self.made else 0
        return bool(before >> first & 1) and not before >> last & 1

    def _root(self) -> Values:
        """The operand by which each member depends on the one before."""
        numbers = self.chain.numbers
        for place in range(len(self.net.steps[numbers[0]].inputs)):
            values = tuple(self.net.steps[number].inputs[place] for number in numbers[1:])
            if all(self.dependence.on(value, 1 << before) for value, before in zip(values, numbers, strict=False)):
                return values
        raise NotAlike

    def _unify(self, values: Values) -> None:
        """What the values of all steps are in the one that they have in common."""
        if values in self.known:
            return
        first, alike = values[0], len(set(values)) == 1
        if alike and first in self.net.params:
            self._is(self.params, values)
            return
        if len({self.net.shapes[value] for value in values}) > 1:
            raise NotAlike
        makers = [self.made.get(value) for value in values]
        inside = [maker in core for maker, core in zip(makers, self.cores, strict=False)]
        carried = all(maker in core for maker, core in zip(makers[1:], self.cores, strict=False))
        if self.count > 1 and carried and not all(inside):
            self._is(self.states, values)
            return
        if alike and not all(inside):
            self._independent(values)
            self._is(self.static, values)
            return
        steps = [self.net.steps[maker] for maker in makers if maker is not None]
        if len(steps) == len(values) and self.equal(steps) and (all(inside) or len(set(makers)) == len(makers)):
            place = steps[0].outputs.index(first)
            if all(step.outputs.index(value) == place for step, value in zip(steps, values, strict=True)):
                operands = tuple(zip(*(step.inputs for step in steps), strict=True))
                for operand in operands:
                    self._unify(operand)
                self.add(steps, operands)
                return
        if all(inside):
            raise NotAlike
        if self.count > 1 and all(self._within(value, step) for step, value in enumerate(values[1:])):
            self._is(self.states, values)
            return
        self._independent(values)
        self._is(self.sequences, values)

    def _is(self, kind: dict[Values, None], values: Values) -> None:
        if kind is not self.params and not self.net.shapes[values[0]]:
            raise NotAlike  # an input of a step has an axis
        kind[values] = self.known[values] = None

    def _independent(self, values: Values) -> None:
        """Raises where one would be known only once the steps have run, or is a parameter of its own for each."""
        steps = 0
        for number in self.chain.numbers:
            steps |= 1 << number
        if any(self.dependence.on(value, steps) for value in values):
            raise NotAlike
        if len(set(values)) > 1 and any(value in self.net.params for value in values):
            raise NotAlike

    def equal(self, steps: Sequence[Step]) -> bool:
        """Whether steps do the same, whatever they do it with."""
        if isinstance(steps[0].op, Recur | Rolled):
            return False
        return all(step.op == steps[0].op and len(step.inputs) == len(steps[0].inputs) for step in steps)

    def add(self, steps: Sequence[Step], operands: tuple[Values, ...]) -> None:
        """One op more, whose operands are known."""
        results = tuple(zip(*(step.outputs for step in steps), strict=True))
        if results[0] not in self.known:
            self.parts.append(Part(steps[0].op, operands, results, steps[0].origin))
            self.known.update(dict.fromkeys(results))

    def following(self) -> dict[Values, Values]:
        """For each state its next values, which the step makes. Raises :class:`NotAlike` where it makes others."""
        found: dict[Values, Values] = {}
        for state in self.states:
            for results in (results for part in self.parts for results in part.results):
                if results[:-1] == state[1:]:
                    found[state] = results
        if not found or len(found) < len(self.states):
            raise NotAlike
        return found

    def replace(self, names: dict[Values, Values]) -> None:
        """Other values for those that are known, as with a step more."""
        self.known = {names[values]: None for values in self.known}
        self.states, self.sequences, self.static, self.params = (
            {names[values]: None for values in kind} for kind in (self.states, self.sequences, self.static, self.params)
        )
        self.parts = [part.of(names) for part in self.parts]
        self.count = len(next(iter(self.known)))

    def claimed(self) -> int:
        """The steps of the net that are in it, as bits."""
        bits = 0
        for value in {value for part in self.parts for values in part.results for value in values if value}:
            bits |= 1 << self.made[value]
        return bits

    def absorb(self) -> None:
        """What is done to a result of every step alike, as by a layer that reads it, becomes part of the step."""
        for part in self.parts:  # grows while it is walked
            for values in part.results:
                if "" not in values and len({self.net.shapes[value] for value in values}) == 1:
                    self._readers(values)

    def _readers(self, values: Values) -> None:
        claimed = self.claimed()
        for number in self.dependence.readers.get(values[0], ()):
            step = self.net.steps[number]
            if claimed >> number & 1 or isinstance(step.op, Reshape | Transpose | Select | Split | Concat):
                continue
            place = step.inputs.index(values[0])
            steps = [self._alike(step, place, value) for value in values]
            if all(steps):
                found = [step for step in steps if step is not None]
                operands = tuple(zip(*(step.inputs for step in found), strict=True))
                if len({step.outputs for step in found}) == len(found) and all(map(self._can_be_read, operands)):
                    self.add(found, operands)
                    claimed = self.claimed()

    def _alike(self, wanted: Step, place: int, value: str) -> Step | None:
        for number in self.dependence.readers.get(value, ()):
            step = self.net.steps[number]
            if self.equal([wanted, step]) and step.inputs[place] == value:
                mine, theirs = (tuple(v if v in self.net.params else "" for v in s.inputs) for s in (step, wanted))
                if mine == theirs:
                    return step
        return None

    def _can_be_read(self, operand: Values) -> bool:
        """Whether the step has these values, or may have them as a parameter."""
        if operand not in self.known and len(set(operand)) == 1 and operand[0] in self.net.params:
            self.params[operand] = self.known[operand] = None
        return operand in self.known
