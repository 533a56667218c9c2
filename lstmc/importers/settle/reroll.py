"""Recurrences that an exporter has written out are rolled up again: the same steps over and over, one after the other.

A weight whose products depend on one another, in a chain, is a recurrent one. What lies between two of them is a step.
All steps are walked backwards together: what they make alike is the body, what a step takes from the one before is a
state, what is the same for all is seen by every step, and what is left are elements of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from lstmc.importers.describe.images import Conv
from lstmc.importers.describe.net import Net, NetBuilder, Step
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.ops import Concat, Linear, Reshape, Select, Split, Transpose
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.settle.one_step import in_steps, names_of

MOST = 20_000  # steps of a description that is looked at
Values = tuple[str, ...]  # one value of each step in time


class _Other(Exception):
    """The steps are not the same, or not one after the other."""


def rolled_up(net: Net) -> Net:
    """The same model, each chain of equal steps being one step over time."""
    taken_apart = in_steps(net)
    found = _rolled_up(net if taken_apart is net else _sorted(taken_apart))
    used = {name for step in found.steps if not isinstance(step.op, Recur | Rolled) for name in step.inputs}
    if any("/" in name for name in used):  # a cell that was taken apart, and is no chain
        return _rolled_up(net)
    return found


def _rolled_up(net: Net) -> Net:
    while len(net.steps) <= MOST:
        for weight in _weights_of_chains(net):
            try:
                net = _Chain(net, weight).rolled()
                break
            except (_Other, RecursionError):  # a step deeper than Python goes stays written out
                continue
        else:
            break
    return net


def _ancestors(net: Net) -> tuple[list[int], dict[str, int]]:
    """Of each step those that it depends on, itself too, as bits; and which step makes a value."""
    made: dict[str, int] = {}
    found: list[int] = []
    for number, step in enumerate(net.steps):
        bits = 1 << number
        for name in step.inputs:
            if name in made:
                bits |= found[made[name]]
        found.append(bits)
        made.update(dict.fromkeys(step.outputs, number))
    return found, made


def _products(net: Net, weight: str) -> list[int]:
    return [
        number
        for number, step in enumerate(net.steps)
        if isinstance(step.op, Linear | Conv) and len(step.inputs) > 1 and step.inputs[1] == weight
    ]


def _weights_of_chains(net: Net) -> list[str]:
    """The weights whose products each depend on the one before, those of the longest chains first."""
    ancestors, _ = _ancestors(net)
    counts: dict[str, list[int]] = {}
    for number, step in enumerate(net.steps):
        if isinstance(step.op, Linear | Conv) and step.inputs[1] in net.params:
            counts.setdefault(step.inputs[1], []).append(number)
    chains = {
        weight: found
        for weight, found in counts.items()
        if len(found) > 1 and all(ancestors[b] >> a & 1 for a, b in pairwise(found))
    }
    return sorted(chains, key=lambda weight: -len(chains[weight]))


@dataclass
class _Body:
    """The step, while it is found. ``same`` has the body's value for the values of all steps."""

    builder: NetBuilder
    same: dict[Values, str] = field(default_factory=dict)
    steps: list[tuple[Op, tuple[Values, ...], list[Values]]] = field(default_factory=list)
    states: dict[Values, str] = field(default_factory=dict)
    sequences: dict[Values, str] = field(default_factory=dict)
    static: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


class _Chain:
    """One chain of products with a weight, and the steps between them."""

    def __init__(self, net: Net, weight: str) -> None:
        self.net, self.weight = net, weight
        self.ancestors, self.made = _ancestors(net)
        self.products = _products(net, weight)
        self.count = len(self.products) - 1
        self.cores = [self._between(a, b) for a, b in pairwise(self.products)]
        self.body = _Body(NetBuilder("step", net.origin))

    def _between(self, first: int, last: int) -> frozenset[int]:
        """The steps that depend on one product and that the next one depends on."""
        bits = self.ancestors[last]
        return frozenset(
            number for number in range(first, last) if bits >> number & 1 and self.ancestors[number] >> first & 1
        )

    def rolled(self) -> Net:
        root = tuple(self.net.steps[number].inputs[0] for number in self.products[1:])
        self._unified(root)
        self._extend(self._following())
        return self._rebuilt(self._following())

    def _extend(self, following: dict[Values, Values]) -> None:
        """One step more: after the last product nothing follows that bounds it, so it is matched from its beginning."""
        body = self.body
        last = {values: found[-1] for values, found in following.items()} | {(v,) * self.count: v for v in body.static}
        last |= {(name,) * self.count: name for name in body.params}
        claimed = {self.made[value] for _, _, results in body.steps for values in results for value in values}
        for op, operands, results in body.steps:
            number = self._alike(op, operands, last, claimed)
            if number is None:
                return
            claimed.add(number)
            step = self.net.steps[number]
            last |= dict(zip(operands, step.inputs, strict=True)) | dict(zip(results, step.outputs, strict=True))

        def longer(values: Values) -> Values:
            return (*values, last[values])

        self.count += 1
        body.same = {longer(values): name for values, name in body.same.items()}
        body.states = {longer(values): name for values, name in body.states.items()}
        body.sequences = {longer(values): name for values, name in body.sequences.items()}
        body.steps = [(op, tuple(map(longer, given)), [*map(longer, made)]) for op, given, made in body.steps]

    def _alike(self, op: Op, operands: tuple[Values, ...], last: dict[Values, str], claimed: set[int]) -> int | None:
        """The first step that does this with what is known, and that no step of the body is."""
        wanted = [last.get(values) for values in operands]
        for number, step in enumerate(self.net.steps):
            if number in claimed or step.op != op or len(step.inputs) != len(wanted):
                continue
            fits = all(
                name == known if known is not None else self._may_be(name, values)
                for name, known, values in zip(step.inputs, wanted, operands, strict=True)
            )
            if fits:
                return number
        return None

    def _may_be(self, name: str, values: Values) -> bool:
        """Whether a value may be the next element of a sequence."""
        if name in self.net.params or self.net.shapes[name] != self.net.shapes[values[-1]]:
            return False
        mine, before = self.made.get(name), self.made.get(values[-1])
        if mine is None or before is None:
            return mine == before
        places = self._place(name), self._place(values[-1])
        if places[0] is not None and places[1] is not None:
            return places[0][:2] == places[1][:2]
        return type(self.net.steps[mine].op) is type(self.net.steps[before].op)

    def _unified(self, values: Values) -> str:
        """The body's value for a value of each step."""
        if values in self.body.same:
            return self.body.same[values]
        self.body.same[values] = found = self._found(values)
        return found

    def _found(self, values: Values) -> str:
        body, first = self.body, values[0]
        alike = len(set(values)) == 1
        if alike and first in self.net.params:
            if first not in body.params:
                body.params[first] = name = body.builder.fresh(first.rpartition("/")[2])
                body.builder.params[name], body.builder.shapes[name] = self.net.params[first], self.net.shapes[first]
            return body.params[first]
        if len({self.net.shapes[value] for value in values}) > 1:
            raise _Other
        makers = [self.made.get(value) for value in values]
        inside = all(maker in core for maker, core in zip(makers, self.cores, strict=True))
        if (
            not inside
            and all(maker in core for maker, core in zip(makers[1:], self.cores, strict=False))
            and self.count > 1
        ):
            body.states[values] = self._input("h", values)
            return body.states[values]
        if alike and not inside:
            if first not in body.static:
                body.static[first] = self._input("s", values)
            return body.static[first]
        steps = [self.net.steps[maker] for maker in makers if maker is not None]
        if len(steps) == len(values) and self._equal(steps) and (inside or len(set(makers)) == len(makers)):
            place = steps[0].outputs.index(first)
            if all(step.outputs.index(value) == place for step, value in zip(steps, values, strict=True)):
                return self._made(steps)[place]
        if inside or any(value in self.net.params for value in values):
            raise _Other
        body.sequences[values] = self._input("x", values)
        return body.sequences[values]

    def _equal(self, steps: Sequence[Step]) -> bool:
        """Whether steps do the same, whatever they do it with."""
        if isinstance(steps[0].op, Recur | Rolled):
            return False
        return all(step.op == steps[0].op and len(step.inputs) == len(steps[0].inputs) for step in steps)

    def _made(self, steps: Sequence[Step]) -> Values:
        """A step of the body, and its results."""
        operands = tuple(zip(*(step.inputs for step in steps), strict=True))
        names = [self._unified(values) for values in operands]
        results = [*zip(*(step.outputs for step in steps), strict=True)]
        if results[0] in self.body.same:  # its other results were asked for before
            return tuple(self.body.same[result] for result in results)
        made = self.body.builder.add(steps[0].op, *names, hint="", hints=steps[0].outputs, origin=steps[0].origin)
        self.body.same.update(zip(results, made, strict=True))
        self.body.steps.append((steps[0].op, operands, results))
        return made

    def _input(self, hint: str, values: Values) -> str:
        if not self.net.shapes[values[0]]:
            raise _Other  # an input of a step has an axis
        name = self.body.builder.fresh(hint)
        self.body.builder.inputs[name] = self.body.builder.shapes[name] = self.net.shapes[values[0]]
        return name

    def _following(self) -> dict[Values, Values]:
        """For each state its next values, which the body makes."""
        made = {values[0]: values for _, _, results in self.body.steps for values in results}
        found = {}
        for state in self.body.states:
            following = made.get(state[1]) if len(state) > 1 else None
            if following is None or following[:-1] != state[1:]:
                raise _Other
            found[state] = following
        if not found:
            raise _Other
        return found

    def _rebuilt(self, following: dict[Values, Values]) -> Net:
        """The net with the step over time in place of the steps, and what others read of them taken out of it."""
        body, builder = self.body, names_of(self.net)
        claimed = {self.made[value] for _, _, results in body.steps for values in results for value in values}
        left = [step for number, step in enumerate(self.net.steps) if number not in claimed]
        read = {name for step in left for name in step.inputs} | set(self.net.outputs.values())
        ends = {values[-1]: state for state, values in following.items()}
        ys = [v for _, _, results in body.steps for v in results if {*v} & read - ({v[-1]} & ends.keys())]
        origin = f"{self.count} steps, the first {self.net.steps[self.products[0]].origin}"
        sequences = [self._joined(builder, values, origin) for values in body.sequences]
        first = {name: values[0] for values, name in body.states.items() if not self._zero(values[0])}
        inner = body.builder
        inner.outputs = {name: body.same[following[values]] for values, name in body.states.items()}
        inner.outputs |= {f"y_{number}": body.same[values] for number, values in enumerate(ys)}
        order = [*body.sequences.values(), *body.states.values(), *body.static.values()]
        step = inner.finish({name: inner.inputs[name] for name in order})
        name = builder.fresh("rolled")
        params = {f"{name}/{role}": weight for role, weight in step.params.items()}
        builder.shapes |= {role: weight.shape for role, weight in params.items()}
        op = Rolled(step, name, self.count, len(sequences), tuple(body.states.values()), tuple(first))
        hints = [*(f"{name}_y" for _ in ys), *(f"{name}_{state}_T" for state in body.states.values())]
        made = builder.add(op, *params, *sequences, *first.values(), *body.static, hint="", hints=hints, origin=origin)
        lasts = zip(following.values(), made[len(ys) :], strict=True)
        renamed = {values[-1]: end for values, end in lasts if values not in ys}
        for values, y in zip(ys, made, strict=False):
            for t, value in enumerate(values):
                if value in read and value not in renamed:
                    renamed[value] = builder.one(Select(0, t), y, hint=value, origin=origin)
        joins = dict(zip(ys, made, strict=False))
        for step_left in left:
            builder.steps.append(self._joining(builder, step_left, joins) or _renamed(step_left, renamed))
        outputs = {name: renamed.get(value, value) for name, value in self.net.outputs.items()}
        net = replace(self.net, params={**self.net.params, **params}, outputs=outputs, shapes=builder.shapes)
        return _sorted(replace(net, steps=tuple(builder.steps)))

    def _zero(self, value: str) -> bool:
        """Whether a first value is zeros, where states start anyway."""
        weight = self.net.params.get(value)
        return weight is not None and not weight.sources and not weight.make().any()

    def _joined(self, builder: NetBuilder, values: Values, origin: str) -> str:
        """One sequence [T, ...] of a value of each step: what they were cut from, or they joined."""
        shape = self.net.shapes[values[0]]
        whole = self._cut_from(builder, values)
        if whole is not None:
            base, axis = whole
            rest = [a for a in range(len(builder.shapes[base])) if a != axis]
            if axis:
                base = builder.one(Transpose((axis, *rest)), base, hint=f"{base}_steps", origin=origin)
        else:
            rows = [builder.one(Reshape((1, *shape)), value, hint=f"{value}_row", origin=origin) for value in values]
            base = builder.one(Concat(0), *rows, hint=f"{values[0]}_steps", origin=origin)
        wanted = (self.count, *shape)
        if builder.shapes[base] == wanted:
            return base
        return builder.one(Reshape(wanted), base, hint=f"{base}_rows", origin=origin)

    def _cut_from(self, builder: NetBuilder, values: Values) -> tuple[str, int] | None:
        """The value and its axis of which these are all elements, in order."""
        found = [self._place(value) for value in values]
        if any(one is None or one[:2] != found[0][:2] for one in found if found[0] is not None) or found[0] is None:
            return None
        base, axis, _ = found[0]
        in_order = [one[2] for one in found if one is not None] == list(range(self.count))
        return (base, axis) if in_order and builder.shapes[base][axis] == self.count else None

    def _place(self, value: str) -> tuple[str, int, int] | None:
        """The value, axis and place that one element was cut from."""
        if value not in self.made:
            return None
        step = self.net.steps[self.made[value]]
        if isinstance(step.op, Select) and step.op.index >= 0:
            return step.inputs[0], step.op.axis, step.op.index
        if isinstance(step.op, Split):
            at = step.outputs.index(value)
            if step.op.sizes[at] == 1:
                return step.inputs[0], step.op.axis, sum(step.op.sizes[:at])
        return None

    def _joining(self, builder: NetBuilder, step: Step, joins: dict[Values, str]) -> Step | None:
        """What joins a value of all steps, along an axis of one element each: the sequence itself."""
        if not isinstance(step.op, Concat):
            return None
        makers = [self.net.steps[self.made[name]] if name in self.made else None for name in step.inputs]
        shaped = all(maker is not None and isinstance(maker.op, Reshape) for maker in makers)
        for values in (step.inputs, tuple(maker.inputs[0] for maker in makers if maker) if shaped else ()):
            y = joins.get(values)
            shape = self.net.shapes[step.inputs[0]]
            axis = step.op.axis
            if y is None or shape[axis] != 1:
                continue
            rest = (*shape[:axis], *shape[axis + 1 :])
            if builder.shapes[y] != (self.count, *rest):
                y = builder.one(Reshape((self.count, *rest)), y, hint=f"{y}_rows", origin=step.origin)
            order = (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1))
            return Step(Transpose(order), (y,), step.outputs, step.origin)
        return None


def _renamed(step: Step, names: dict[str, str]) -> Step:
    return replace(step, inputs=tuple(names.get(name, name) for name in step.inputs))


def _sorted(net: Net) -> Net:
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
            raise _Other  # a sequence that depends on the steps that read it
    used = {name for step in found for name in step.inputs} | set(net.outputs.values())
    params = {name: weight for name, weight in net.params.items() if name in used}
    return replace(net, steps=tuple(found), params=params)
