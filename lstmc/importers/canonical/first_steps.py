"""The first steps of a stream: values of one early step, values in front of a sequence, and counted steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstmc.importers.canonical.time import Frames
from lstmc.importers.ir.net import Net, NetBuilder, body_of, origin_of, scan_of
from lstmc.importers.ir.ops import Divide, Expand, Where
from lstmc.importers.ir.recur import with_mask
from lstmc.importers.ir.values import OpenSize, Shape, Weight
from lstmc.ir import Scan
from lstmc.ops import Affine, Full, Op, Reshape
from lstmc.passes.unrolled_steps import Step
from lstmc.text import unused

COUNTED = 4  # the fewest constants that are recognised as a count


@dataclass(frozen=True)
class Front:
    """The ``count`` steps in front of a sequence: a value without an axis of time, or the first element of a sequence
    [T, ...] that is ``lag`` steps late."""

    name: str
    count: int
    lag: int | None = None


class FirstSteps(Frames):
    """The rewrite of computations that differ at the first steps.

    ``heads`` are values of the old net that belong to a single early step. In the new net such a value is the first
    element of a sequence [T, ...] with a delay, or the step that computes it from other values.
    """

    def __init__(self, old: Net, time: OpenSize) -> None:
        super().__init__(old, time)
        self.heads: dict[str, tuple[str, int] | Step] = {}
        self.titles: dict[str, str] = {}  # states of loops -> the states of the loops with a mask

    def head(self, value: str, step: Step) -> tuple[str, int]:
        """Return a sequence [T, ...] whose first element is a value of one early step, and the sequence's delay."""
        known = self.heads[value]
        if isinstance(known, tuple):
            return known
        needed, inside = {value: None}, list[Step]()
        for one in reversed(self.old.steps):
            if isinstance(self.heads.get(one.outputs[0]), Step) and any(name in needed for name in one.outputs):
                inside.append(one)
                needed |= dict.fromkeys(one.inputs)
        roots = {name: root for name in needed if isinstance(root := self.heads.get(name), tuple)}
        lag = max(own for _, own in roots.values())
        body, names = self.body(step), dict[str, str]()
        names |= {name: body.input("x", self.old.shapes[name]) for name in roots}
        made = {name for one in inside for name in one.outputs}
        static = [name for name in needed if name not in (made | roots.keys() | self.params.keys())]
        names |= {name: body.input("s", self.old.shapes[name]) for name in static}
        names |= {name: body.param(self.params[name], name) for name in needed if name in self.params}
        for one in reversed(inside):
            operands = [names[name] for name in one.inputs]
            names |= zip(one.outputs, body.add(one.op, *operands, hint="value", origin=origin_of(one)), strict=True)
        body.outputs = {"y_0": names[value]}
        sequences = [self.later(name, 0, lag - own, step) if own < lag else name for name, own in roots.values()]
        title, net = self.builder.scan_name(value), body.finish(every_input=True)
        (y,) = self.builder.loop(title, net, sequences, {}, static, self.time, origin_of(step))
        self.heads[value] = y, lag
        return y, lag

    def held(self, name: str, lag: int, step: Step) -> str:
        """Return the first element of a sequence [T, ...], repeated at all steps from its arrival on."""
        shape, body = self.shapes[name][1:], self.body(step)
        begun, now, first = body.input("begun", (1, 1)), body.input("x", shape), body.input("first", shape)
        kept = _chosen(body, begun, first, now)
        body.outputs = {"first": kept, "y_0": kept}
        mask = self.has_begun(lag + 1, 1, step)
        return self.scan(f"{name}_first", body.finish(every_input=True), [mask, name], step)

    def joined(self, fronts: Sequence[Front], name: str, late: int, step: Step) -> tuple[str, int]:
        """Return a sequence [T, ...], ``late`` steps late, after its fronts; and the delay of the result."""
        places = [sum(front.count for front in fronts[:place]) for place in range(len(fronts))]
        behind = sum(front.count for front in fronts)
        lag = max(0, late - behind, *(f.lag - at for f, at in zip(fronts, places, strict=True) if f.lag is not None))
        xs = [self.later(name, 0, lag + behind - late, step) if lag + behind > late else name]
        shape, body = self.shapes[name][1:], self.body(step)
        y = body.input("x", shape)
        pairs = [(body.input("begun", (1, 1)), body.input("front", shape)) for _ in fronts]
        for front, at in zip(fronts, places, strict=True):
            own = front.name
            if front.lag is None:
                own = self.at_every_step(own, shape, 0, step)
            elif front.lag < lag + at:
                own = self.held(own, front.lag, step)
            xs += [self.has_begun(lag + at + front.count, 1, step), own]
        for begun, own in reversed(pairs):
            y = _chosen(body, begun, y, own)
        body.outputs = {"y_0": y}
        title, net = self.builder.scan_name(step.outputs[0]), body.finish(every_input=True)
        (y,) = self.builder.loop(title, net, xs, {}, (), self.time, origin_of(step))
        return y, lag

    def from_heads(self, step: Step, scan: Scan, operands: list[str], lag: int, title: str) -> Scan:
        """Return a scan, ``lag`` steps late, whose states start from values of early steps; it changes the operands."""
        sequences = len(scan.of_role("x", operands))
        body = body_of(scan, [self.params[value] for value in scan.of_role("weight", operands)])
        places = [i for i, value in enumerate(operands) if scan.role(i) == "state" and value in self.heads]
        builder, names = NetBuilder.of(body), [*body.inputs]
        begun, first = builder.input("begun", (1, 1)), dict[str, str]()
        xs, own = [self.has_begun(lag + 1, 1, step)], dict[str, str]()
        for place in places:
            name, late = self.head(operands[place], step)
            xs.append(self.held(name, late, step) if late < lag else name)
            state = names[place]
            first[state] = builder.input(f"{state}_first", body.inputs[state])
            own[state] = _chosen(builder, begun, state, first[state])
            operands[place] = zeros = unused(f"{title}/{state}_0", self.shapes.__contains__)
            self.shapes[zeros] = self.old.shapes[step.inputs[place]]
            self.builder.leaves[zeros] = Full(self.shapes[zeros])
        builder.steps += [replace(s, inputs=tuple(own.get(v, v) for v in s.inputs)) for s in body.steps]
        order = [*names[:sequences], begun, *first.values(), *names[sequences:]]
        leaves = {name: builder.leaves[name] for name in order} | builder.leaves
        outputs = {name: own.get(value, value) for name, value in body.outputs.items()}
        operands[sequences:sequences] = xs
        made = body.of_steps(builder.steps, leaves, builder.shapes, outputs)
        return scan_of(title, made, scan.length, sequences + len(xs), scan.states)

    def titled(self, scan: Scan, operands: list[str]) -> str:
        """Return the name of a scan whose body changes: its own name if other scans share it; and the name of its
        zeros."""
        title = scan.body.name
        if title not in self.titles:
            shared = sum(isinstance(each.op, Scan) and each.op.body.name == title for each in self.old.steps) > 1
            self.titles[title] = self.builder.scan_name(title) if shared else title
        own, leaves = self.titles[title], self.builder.leaves
        for i, value in enumerate(operands):
            if own != title and isinstance(leaves.get(value), Full):  # a scan starts from zeros of its own name
                operands[i] = zeros = unused(f"{own}{value.removeprefix(title)}", self.shapes.__contains__)
                leaves[zeros], self.shapes[zeros] = leaves[value], self.shapes[value]
        return own

    def from_first(self, step: Step, scan: Scan, operands: list[str], lag: int, title: str) -> Scan:
        """Return a scan whose states stay until its first input comes, and insert its mask into the operands."""
        sequences = len(scan.of_role("x", operands))
        batches = {self.shapes[value][0] for value in scan.of_role("state", operands)}
        body = body_of(scan, [self.params[value] for value in scan.of_role("weight", operands)])
        operands.insert(sequences, self.has_begun(lag, batches.pop(), step))
        masked = with_mask(body, sequences, scan.states)
        return scan_of(title, masked, scan.length, sequences + 1, scan.states)

    def counted(self, weight: Weight, axis: int, step: Step) -> str | None:
        """Return constants of all steps as the result of a counter, or as one row, [T, ...]; None for other constants.

        A counter has b t or b (t + 1) at step t, or the reciprocals, with a whole b. Other constants may be computed
        from the number of steps.
        """
        rows = np.moveaxis(weight.array(), axis, 0).reshape(weight.shape[axis], -1)
        count, shape = len(rows), (*weight.shape[:axis], *weight.shape[axis + 1 :])
        column = rows[:, 0].astype(np.float64)
        if weight.sources or count < COUNTED or not np.all(rows == rows[:, :1]):
            return None
        steps = np.arange(count)
        for inverse, first in ((False, 0), (False, 1), (True, 1)):
            factor = np.rint(1 / column[0] if inverse else column[1] / (1 + first))
            expected = factor * (steps + first)
            exact = np.float32(1) / np.float32(expected) if inverse else np.float32(expected)
            if factor > 0 and np.array_equal(exact, np.float32(column)):
                return self._count(float(factor), first, inverse, shape, step)
        return None

    def _count(self, factor: float, first: int, inverse: bool, shape: Shape, step: Step) -> str:
        body = self.body(step)

        def one(op: Op, *xs: str) -> str:
            return body.one(op, *xs, hint="y")

        before = body.input("n", (1, 1))
        following = one(Affine(1.0, 1.0), before)
        y = one(Affine(factor, 0.0), following if first else before)
        if inverse:
            y = one(Divide(), one(Affine(0.0, 1.0), y), y)
        y = one(Expand(shape), one(Reshape((1,) * len(shape)), y))
        body.outputs = {"n": following, "y_0": y}
        return self.scan("count", body.finish(every_input=True), [], step)


def _chosen(body: NetBuilder, begun: str, a: str, b: str) -> str:
    """Return ``a`` where the mask [1, 1] is 1, else ``b``."""
    mask = body.one(Reshape((1,) * len(body.shapes[a])), begun, hint="mask")
    return body.one(Where(), mask, a, b, hint="kept")
