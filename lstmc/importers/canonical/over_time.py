"""Values over time in a net of dynamic length: delay, padding in front, and why a value cannot be streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstmc.importers.canonical.time import Frames, constant, count_of, needed_steps
from lstmc.importers.ir.net import Net, NetBuilder, body_of, origin_of, scan_of
from lstmc.importers.ir.ops import Divide, Expand, Permute, Select, Where
from lstmc.importers.ir.recur import with_mask
from lstmc.importers.ir.values import OpenSize, Shape, Size, fixed, number
from lstmc.importers.refusal import Refusal
from lstmc.ir import Scan
from lstmc.ops import Binary, Full, Log, Op, Reshape
from lstmc.passes.unrolled_steps import Step
from lstmc.text import unused

LOWEST = -1e30  # the padding of a maximum
EARLY = 4  # first elements that may be read alone; a later index may depend on the length
APART = "stream the part before it, and compute it outside of the net"


@dataclass(frozen=True)
class Front:
    """``count`` steps before the first step of a sequence: ``name`` is a value without time if ``lag`` is None, else
    the first element of a sequence [T, ...] that is ``lag`` steps late."""

    name: str
    count: int
    lag: int | None = None


@dataclass(frozen=True)
class Value:
    """A value over time in the new net: its step t has the source's element t - ``lag``; the steps before ``lag`` have
    any numbers. ``zeros`` is the number of padding elements ``fill`` that the source has in front and the new value
    lacks. ``lag`` is None for a value that is the same at all steps."""

    name: str
    lag: int | None
    zeros: int = 0
    fill: float = 0.0


class Closed(Exception):
    """Raised for an op that holds for one length of the sequences only."""


class OverTime(Frames):
    """The values of a net that is rewritten to a dynamic length. ``closed`` has the reasons for a fixed length,
    ``mixed`` the reasons against streaming. ``ahead`` lists layers that read future frames, ``short`` results with
    fewer steps than the inputs. ``needed`` are the ops that outputs depend on, ``read`` the values that these ops and
    the outputs read. ``heads`` has the old net's values of a single early step, such as x[:, 0]: in the new net the
    first element of a sequence [T, ...] with a delay, or the op that computes the value from others of ``heads``."""

    def __init__(self, net: Net, axes: dict[str, int]) -> None:
        """Start a rewrite of ``net``, with time along ``axes``; several lengths are a reason for a fixed length."""
        lengths = {net.inputs[name][axis] for name, axis in axes.items() if name in net.inputs}
        self.length: Size = min(lengths, key=str)
        new = OpenSize(unused("T", net.open_sizes().__contains__))
        super().__init__(net, self.length if isinstance(self.length, OpenSize) else new)
        self.axes = axes
        self.needed, self.read = needed_steps(net, axes)
        divides = any(isinstance(each.op, Divide | Log) for each in net.steps)
        self.before = 1.0 if divides else 0.0  # in front of a delayed sequence; 1 avoids 0 / 0
        self.closed, self.mixed = list[Refusal](), list[Refusal]()
        self.ahead, self.short = list[str](), list[str]()
        self.heads: dict[str, tuple[str, int] | Step] = {}
        self.titles: dict[str, str] = {}  # names of loops -> the names of these loops with another body
        self.apart = False  # whether early steps are computed differently
        self.values: dict[str, Value | None] = {}  # values over time; None for a refused value
        if len(lengths) > 1:
            self._close("the inputs", f"their sequences have the lengths {sorted(map(str, lengths))}", "use one")

    def _constants(self, name: str, axis: int) -> None:
        """Replace constants that count steps along ``axis`` by a counting loop's result. Refuse other constants."""
        weight = self.old.params[name]
        self.step = next(step for step in self.old.steps if name in step.inputs)
        if (count := count_of(weight, axis)) is None:
            what = f"{weight.recipe}, which has a value for each of {weight.shape[axis]} steps"
            self._close(origin_of(self.step), f"it reads {what}", "compute it, or make it an input")
            self.values[name] = None
            return
        body = self.body()
        following, y = count.step(body, body.input("n", (1, 1)))
        body.outputs = {"n": following, "y_0": y}
        self.apart = True
        self.values[name] = Value(self.back(self.scan("count", body, []), axis), 0)

    def _opened(self, shape: Shape, axis: int) -> Shape:
        return (*shape[:axis], self.time, *shape[axis + 1 :])

    def _close(self, node: str, why: str, mend: str) -> None:
        self.closed.append(Refusal(node, "", "", why, mend))

    def _whole(self, value: str, node: str) -> None:
        """Record a value with fewer steps than the inputs as a reason in ``short``."""
        size = self.old.shapes[value][self.axes[value]]
        if size != self.length:
            self.short.append(f"{node} has {size} steps of {self.length}")

    def _results(self, lag: int | None, zeros: int = 0, fill: float = 0.0) -> None:
        """Record the current op's results: values over time with this delay and padding, or late single values."""
        for value in self.step.outputs:
            if value in self.axes:
                self.values[value] = Value(value, lag, zeros, fill)
            elif isinstance(self.step.op, Scan) and lag is not None and value in self.read:
                late = self._late_by(lag, self.step.op.length)
                self.late[value] = late
                if late:
                    self.earlier[value] = []
                    refs = [output.ref for output in self.step.op.body.outputs]
                    same = refs.index(refs[self.step.outputs.index(value)])
                    if same < len(self.step.op.step_outputs):  # an output is the state
                        self.take_earlier(value, self.step.outputs[same], 0, late)
            elif lag is not None:
                self.late[value] = lag

    def _late_by(self, lag: int, size: Size) -> int:
        """Return the delay of the last of ``size`` elements. Refuse a sequence that ends before the inputs do."""
        late = lag - int(self.length - size)
        if late < 0:
            self.apart = True
            why = f"it reads a sequence that ends {-late} step{'s' * (late < -1)} before the last one"
            self._refuse(self.mixed, why, "read it to its end, and feed each step so much later")
        return max(late, 0)

    def _refuse(self, refusals: list[Refusal], why: str, mend: str) -> None:
        """Add a reason at the current op to ``refusals``; if these are ``closed``, raise :class:`Closed`."""
        refusals.append(Refusal(origin_of(self.step), "", "", why, mend))
        if refusals is self.closed:
            raise Closed

    def _early(self, lates: list[int]) -> None:
        """Record the current op, which computes early values, for its readers; add it if it reads last values too."""
        if isinstance(self.step.op, Scan) or any(
            self.head(v)[1] > late for late in lates for v in self.step.inputs if v in self.heads
        ):
            self._refuse(self.closed, "it reads an early step alone", "read the last step, or all of them")
        if lates:
            names = [self._early_last(value) if value in self.heads else value for value in self.step.inputs]
            self.put(self.step.op, names)
        else:
            self.heads |= dict.fromkeys(self.step.outputs, self.step)

    def _early_last(self, value: str) -> str:
        """Return an early step's value as one of the last step: a sequence repeats it once it is known."""
        name, lag = self.head(value)
        last = self.one(Select(0, -1), self.held(name, lag), hint=f"{value}_held")
        self.late[last] = lag
        return last

    def _take_last(self, value: str, sequence: str, axis: int, lag: int) -> None:
        """Record ``value`` as the last element of a sequence, with its delay."""
        self.late[value] = late = self._late_by(lag, self.old.shapes[sequence][axis])
        if late:
            self.take_earlier(value, sequence, axis, late)

    def _is_early(self, index: int, value: str, x: Value) -> bool:
        """Return whether element ``index`` is early at every length; later indices may be computed from the length."""
        size = self.old.shapes[value][self.axes[value]]
        return x.zeros <= index < EARLY and (isinstance(size, OpenSize) or 2 * index < size - 1) and x.lag is not None

    def _take_early(self, value: str, x: Value, index: int, frames: str) -> None:
        """Record ``value`` as element ``index`` of ``x``: the late first element of the sequence ``frames``."""
        self.apart = True
        self.heads[value] = frames, (x.lag or 0) + index - x.zeros

    def _early_at_all_steps(self, op: Op, axis: int | None) -> None:
        """Add the current Binary or Expand of sequences and values of an early step, which are repeated along time."""
        names = list[str]()
        for value in self.step.inputs:
            shape = self.old.shapes[value]
            if (
                value in self.heads
                and axis is not None
                and shape[axis : axis + 1] == (1,)
                and isinstance(op, Binary | Expand)
            ):
                name, lag = self.head(value)
                rows = Reshape((self.time, *shape[:axis], *shape[axis + 1 :]))
                row = self.one(rows, self.held(name, lag), hint=f"{value}_held")
                value = self.back(row, axis)
                self.values[value], self.axes[value] = Value(value, lag), axis
            elif value in self.heads:
                self._refuse(self.closed, "it reads an early step at every step", APART)
            names.append(value)
        assert axis is not None
        aligned, late = self._aligned(names)
        self.put(self._at_length(op, axis), aligned)
        self._results(late)

    def _in_order(self, steps: str, axis: int, lag: int | None) -> None:
        """Add a permutation of a sequence [T, ...] as the current op's result, which has its time along ``axis``."""
        self.put(Permute((*range(1, axis + 1), 0, *range(axis + 1, len(self.shapes[steps])))), [steps])
        self._results(lag)

    def _at_length(self, op: Op, axis: int | None) -> Op:
        """Return an op for any length: a Reshape or Expand gets the open length along ``axis``, None without time."""
        if axis is None or not isinstance(op, Reshape | Expand):
            return op
        return replace(op, shape=self._opened(op.shape, axis))

    def _plain(self, value: str) -> Value:
        """Return a value over time whose padding, if it has any, is part of its steps."""
        x = self.values[value]
        assert x is not None
        return self._behind_padding(x, self.axes[value]) if x.zeros else x

    def _behind_padding(self, x: Value, axis: int) -> Value:
        """Return a value over time with its padding as its first steps. Refuse one that is the same at all steps."""
        if x.lag is None:
            self._refuse(self.closed, "it reads a sequence that is padded along time", "pad where it is convolved")
        lag = x.lag or 0
        if x.fill:
            shape = self.shapes[x.name]
            row = self._filled((1, *shape[:axis], *shape[axis + 1 :]), x.fill)
            y, behind = self.joined([Front(row, x.zeros)], self.front(x.name, axis), lag)
            return Value(self.back(y, axis), behind)
        name = self.masked(x.name, lag, axis) if lag else x.name
        behind = x.zeros - lag
        return Value(self.later(name, axis, behind), 0) if behind > 0 else Value(name, -behind)

    def _filled(self, shape: Shape, fill: float) -> str:
        row = self.builder.fresh("padding")
        self.builder.hold({row: number(np.full(tuple(fixed(size, "a size") for size in shape), fill))})
        return row

    def _aligned(self, values: Sequence[str]) -> tuple[list[str], int | None]:
        """Return operands as late as the latest one, and this delay; None if none is a delayed value over time."""
        plain = [None if self.values.get(value) is None else self._plain(value) for value in values]
        lags = [x.lag for x in plain if x is not None and x.lag is not None]
        lag, names = max(lags, default=None), []
        for value, x in zip(values, plain, strict=True):
            name = value if x is None else x.name
            if x is not None and x.lag is not None and lag is not None and x.lag < lag:
                name = self.later(name, self.axes[value], lag - x.lag, self.before)
            names.append(name)
        return names, lag

    def _front(self, name: str, lag: int, axis: int) -> Front:
        """Return the first element of ``name``, a sequence ``lag`` steps late, as a front of one step at ``axis``."""
        shape = self.shapes[name][1:]
        row = self.one(Reshape((self.time, *shape[:axis], *shape[axis + 1 :])), name, hint=f"{name}_front")
        return Front(row, 1, lag)

    def _row(self, value: str, axis: int) -> str | None:
        """Return one step, or steps of one number, as one row [1, ...] with time first; None if the steps differ."""
        shape = self.old.shapes[value]
        if (fill := constant(self.old, value)) is not None:
            return self._filled((1, *shape[:axis], *shape[axis + 1 :]), fill)
        return self.front(value, axis) if shape[axis] == 1 else None

    def _behind_heads(self, sequences: list[str], heads: list[str]) -> tuple[list[str], int]:
        """Return a loop's sequences, delayed until the early values from which it starts are known; and the delay."""
        names, lag = self._aligned(sequences)
        late = max(lag or 0, *(self.head(value)[1] for value in heads))
        by = late - (lag or 0)
        pairs = zip(names, sequences, strict=True)
        return [self.later(name, 0, by) if by and x in self.values else name for name, x in pairs], late

    def head(self, value: str) -> tuple[str, int]:
        """Return a sequence [T, ...] whose first element is ``value``, which one early step has; and its delay."""
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
        body, names = self.body(), dict[str, str]()
        names |= {name: body.input("x", self.old.shapes[name]) for name in roots}
        made = {name for one in inside for name in one.outputs}
        static = [name for name in needed if name not in (made | roots.keys() | self.params.keys())]
        names |= {name: body.input("s", self.old.shapes[name]) for name in static}
        names |= {name: body.param(self.params[name], name) for name in needed if name in self.params}
        for one in reversed(inside):
            operands = [names[name] for name in one.inputs]
            names |= zip(one.outputs, body.add(one.op, *operands, hint="value", origin=origin_of(one)), strict=True)
        body.outputs = {"y_0": names[value]}
        sequences = [self.later(name, 0, lag - own) if own < lag else name for name, own in roots.values()]
        (y,) = self.loop(value, body, sequences, static=static)
        self.heads[value] = y, lag
        return y, lag

    def held(self, name: str, lag: int) -> str:
        """Return a sequence that repeats the first element of the sequence ``name``, which is ``lag`` steps late."""
        shape, body = self.shapes[name][1:], self.body()
        begun, now, first = body.input("begun", (1, 1)), body.input("x", shape), body.input("first", shape)
        kept = _chosen(body, begun, first, now)
        body.outputs = {"first": kept, "y_0": kept}
        return self.scan(f"{name}_first", body, [self.has_begun(lag + 1, 1), name])

    def joined(self, fronts: Sequence[Front], name: str, late: int) -> tuple[str, int]:
        """Return a sequence of ``fronts``, then ``name``, which is ``late`` steps late; and the delay of the whole."""
        places = [sum(front.count for front in fronts[:place]) for place in range(len(fronts))]
        behind = sum(front.count for front in fronts)
        lag = max(0, late - behind, *(f.lag - at for f, at in zip(fronts, places, strict=True) if f.lag is not None))
        xs = [self.later(name, 0, lag + behind - late) if lag + behind > late else name]
        shape, body = self.shapes[name][1:], self.body()
        y = body.input("x", shape)
        pairs = [(body.input("begun", (1, 1)), body.input("front", shape)) for _ in fronts]
        for front, at in zip(fronts, places, strict=True):
            own = front.name
            if front.lag is None:
                own = self.at_every_step(own, shape, 0)
            elif front.lag < lag + at:
                own = self.held(own, front.lag)
            xs += [self.has_begun(lag + at + front.count, 1), own]
        for begun, own in reversed(pairs):
            y = _chosen(body, begun, y, own)
        body.outputs = {"y_0": y}
        (y,) = self.loop(self.step.outputs[0], body, xs)
        return y, lag

    def from_heads(self, scan: Scan, operands: list[str], lag: int, title: str) -> Scan:
        """Return a loop's scan whose states start from early values; ``operands`` is extended by these and a mask."""
        sequences = len(scan.of_role("x", operands))
        body = body_of(scan, [self.params[value] for value in scan.of_role("weight", operands)])
        places = [i for i, value in enumerate(operands) if scan.role(i) == "state" and value in self.heads]
        builder, names = NetBuilder.of(body), [*body.inputs]
        begun, first = builder.input("begun", (1, 1)), dict[str, str]()
        xs, own = [self.has_begun(lag + 1, 1)], dict[str, str]()
        for place in places:
            name, late = self.head(operands[place])
            xs.append(self.held(name, late) if late < lag else name)
            state = names[place]
            first[state] = builder.input(f"{state}_first", body.inputs[state])
            own[state] = _chosen(builder, begun, state, first[state])
            operands[place] = zeros = unused(f"{title}/{state}_0", self.shapes.__contains__)
            self.builder.leaf(zeros, Full(self.old.shapes[self.step.inputs[place]]))
        builder.steps += [replace(s, inputs=tuple(own.get(v, v) for v in s.inputs)) for s in body.steps]
        order = [*names[:sequences], begun, *first.values(), *names[sequences:]]
        leaves = {name: builder.leaves[name] for name in order} | builder.leaves
        outputs = {name: own.get(value, value) for name, value in body.outputs.items()}
        operands[sequences:sequences] = xs
        made = body.of_steps(builder.steps, leaves, builder.shapes, outputs)
        return scan_of(title, made, scan.length, sequences + len(xs), scan.states)

    def titled(self, scan: Scan, operands: list[str]) -> str:
        """Return the name of a scan whose body changes, new if the body is shared; its zeros are renamed with it."""
        title = scan.body.name
        if title not in self.titles:
            shared = sum(isinstance(each.op, Scan) and each.op.body.name == title for each in self.old.steps) > 1
            self.titles[title] = self.builder.scan_name(title) if shared else title
        own, leaves = self.titles[title], self.builder.leaves
        for i, value in enumerate(operands):
            if own != title and isinstance(leaves.get(value), Full):  # a scan starts from zeros of its own name
                operands[i] = zeros = unused(f"{own}{value.removeprefix(title)}", self.shapes.__contains__)
                self.builder.leaf(zeros, leaves[value])
        return own

    def from_first(self, scan: Scan, operands: list[str], lag: int, title: str) -> Scan:
        """Return a scan whose states wait for its first input, ``lag`` steps late, by a mask added to ``operands``."""
        sequences = len(scan.of_role("x", operands))
        batches = {self.shapes[value][0] for value in scan.of_role("state", operands)}
        body = body_of(scan, [self.params[value] for value in scan.of_role("weight", operands)])
        operands.insert(sequences, self.has_begun(lag, batches.pop()))
        return scan_of(title, with_mask(body, sequences, scan.states), scan.length, sequences + 1, scan.states)


def _chosen(body: NetBuilder, begun: str, a: str, b: str) -> str:
    """Return ``a`` where the mask [1, 1] is 1, else ``b``."""
    mask = body.one(Reshape((1,) * len(body.shapes[a])), begun, hint="mask")
    return body.one(Where(), mask, a, b, hint="kept")
