"""One frame of a sequence as a net of one step: time is an axis of the inputs, and loops along other axes stay inside.
A convolution over time reads its past from a state, and a loop over time takes one step from a state. A loop along
another axis, such as the bands of a frame, has time in its batch. A layer that sees frames of the future is that many
frames late: values that meet its result are delayed by states, and what remembers begins with the first true frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NoReturn

from lstmc.importers.canonical.states import step_states
from lstmc.importers.canonical.time import (
    Place,
    begun,
    constant,
    count_of,
    is_running_sum,
    is_zero,
    needed_steps,
    neighbours,
    same_axes,
)
from lstmc.importers.ir.net import Net, NetBuilder, body_of, origin_of, scan_of, unmasked
from lstmc.importers.ir.ops import Expand, Select, Where
from lstmc.importers.ir.values import Shape, fixed
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.ir import Scan
from lstmc.ops import Add, Concat, Conv, Full, Input, Op, Reshape, Split
from lstmc.ops.layers import MaxPool, Pool
from lstmc.passes.unrolled_steps import Step
from lstmc.text import late
from lstmc.types import TensorType

BEFORE = "stream the part before it"
Places = Mapping[Place, list[Place]]  # an axis of a value -> equal axes of others


def equal_axes(net: Net, looped: Mapping[str, str] = {}) -> Places:
    """Return for each axis the axes of other values that an op makes equal, such as the batch of an operand and of the
    result; ``looped`` maps states to their next values, whose axes are equal too."""
    pairs = [pair for step in net.steps for pair in (*same_axes(step, net), *_through_loop(step, net))]
    pairs += [((a, i), (b, i)) for a, b in looped.items() for i in range(len(net.shapes[a]))]
    return neighbours(pairs)


def axes_of(net: Net, near: Places, seeds: Mapping[str, int]) -> dict[str, int]:
    """Return for each value its axis that equals the axis of one of ``seeds`` (value: axis), by the net's
    :func:`equal_axes`, ``near``. Raises :class:`RefusedError` if two axes of one value do."""
    axes: dict[str, int] = {}
    stack: list[Place] = [*seeds.items()]
    while stack:
        value, axis = stack.pop()
        if net.shapes[value][axis] == 1 or value in net.params:
            continue
        if axes.setdefault(value, axis) != axis:
            node = origin_of(net.producers[value]) if value in net.producers else value
            refusal = Refusal(node, "", "", "it relates every step to all others", BEFORE)
            raise RefusedError(net.origin, [refusal], what="streamed")
        stack += [place for place in near.get((value, axis), []) if axes.get(place[0]) != place[1]]
    return axes


def _through_loop(step: Step, net: Net) -> Iterator[tuple[Place, Place]]:
    """Yield pairs of equal axes of a loop's operands and results; the axis along which it runs is in no pair."""
    if not isinstance(step.op, Scan):
        return
    body, looped, arguments = _loop_body(step, step.op, net)
    near = equal_axes(body, looped)
    count = len(step.outputs) - step.op.states
    values = [*step.outputs[count:], *step.outputs[:count]]
    results = [*zip(body.outputs.values(), values, (v in step.outputs[:count] for v in values), strict=True)]
    for name, (value, over) in arguments.items():
        for axis in range(len(body.inputs[name])):
            try:
                axes = axes_of(body, near, {name: axis})
            except RefusedError:  # if this axis is time, the rewrite of the loop refuses it
                continue
            ends = [(v, axes[n] + also) for n, (v, also) in arguments.items() if n in axes]  # a sequence has T too
            ends += [(v, axes[n] + also) for n, v, also in results if n in axes]
            yield from (((value, axis + over), end) for end in ends)


def _loop_body(step: Step, op: Scan, net: Net) -> tuple[Net, dict[str, str], dict[str, tuple[str, bool]]]:
    """Return a loop's body, its states' next values, and for each input the operand and whether it is a sequence."""
    step = unmasked(step)
    body = body_of(op, [net.params[v] for v in op.of_role("weight", step.inputs)])
    operands = [(v, op.role(i) == "x") for i, v in enumerate(step.inputs) if op.role(i) != "weight"]
    xs = sum(over for _, over in operands)
    states = [*body.inputs][xs : xs + op.states]
    return body, dict(zip(states, body.outputs.values(), strict=False)), dict(zip(body.inputs, operands, strict=True))


def times(net: Net) -> list[dict[str, int]]:
    """Return the choices of time: dicts from inputs to their axis along which loops run, all of them forwards."""
    found, near = list[dict[str, int]](), equal_axes(net)
    loops = [(step.op, step.op.of_role("x", step.inputs)) for step in net.steps if isinstance(step.op, Scan)]
    for name, shape in net.inputs.items():
        for axis, size in enumerate(shape):
            if size == 1 or any(other.get(name) == axis for other in found):
                continue
            try:
                axes = axes_of(net, near, {name: axis})
            except RefusedError:
                continue
            along = [op for op, xs in loops if any(axes.get(x) == 0 for x in xs)]
            if along and not any(op.reverse for op in along):
                found.append({each: axes[each] for each in net.inputs if each in axes})
    return found


def one_frame(net: Net, time: Mapping[str, int]) -> tuple[Net, dict[str, int]]:
    """Return the net of one frame, and the time axis of each input and output; ``time`` has the axes of the inputs.
    Raises :class:`RefusedError` with the first layer that needs more than past frames."""
    frame = _OneFrame(net, time)
    made = frame.net()
    known = {*frame.states, *frame.axes}  # an input that has frames of its own keeps nothing between frames
    found = {name: after for name, (after, _) in step_states(made).proved.items() if name not in known}
    outputs = {name: frame.axes[value] for name, value in net.outputs.items() if value in frame.axes}
    made = replace(made, graph=made.graph.carrying({**frame.states, **found}))
    return made, {name: axis for name, axis in frame.axes.items() if name in net.inputs} | outputs


class _OneFrame:
    """The rewrite of a net of whole sequences to one frame, with numbers of frames by value: ``zeros``, padding in
    front; ``behind``, padding after the last frame (negative if last frames are missing); ``rest``, last frames that a
    later step must cut off; ``cut``, frames missing in front; ``late``, the delay of the new value."""

    def __init__(self, net: Net, time: Mapping[str, int]) -> None:
        self.old, self.axes = net, axes_of(net, equal_axes(net), time)
        self.builder = NetBuilder.of(net)
        self.zeros, self.behind, self.rest, self.cut, self.late = (dict[str, int]() for _ in range(5))
        self.name: dict[str, str] = {}  # old name -> new name, if they differ
        self.kept: dict[tuple[str, int], str] = {}  # delayed values, and flags of frames that have begun
        self.length = max(net.shapes[name][axis] for name, axis in time.items())
        self.states, self.outputs = dict[str, str](), dict[str, str]()
        for name, leaf in net.leaves.items():
            if isinstance(leaf, Input | Full) and name in self.axes:
                self.builder.leaf(name, replace(leaf, shape=_one(leaf.shape, self.axes[name])))
        steps, self.needed = needed_steps(net, self.axes)
        for step in steps:
            self.builder.where = origin_of(step)
            self._step(step)

    def net(self) -> Net:
        """Return the finished net of one frame, with a note for each late output."""
        outputs = {name: self._read(value) for name, value in self.old.outputs.items()}
        steps, shapes = self.builder.steps, self.builder.shapes
        delays = {name: lag for name, value in self.old.outputs.items() if (lag := self.late.get(value))}
        told = "Output {} comes {}: at step t it is the source's at t - {}."
        said = (told.format(name, late(lag), lag) for name, lag in delays.items())
        made = self.old.of_steps(steps, self.builder.leaves, shapes, {**outputs, **self.outputs}, {}, delays)
        return replace(made, graph=made.graph.carrying(self.states), notes=(*made.notes, *said), time=())

    def _read(self, value: str, padded: bool = False) -> str:
        """Return the new name of an old value. Refuse cut or missing frames, and padding unless ``padded`` is set."""
        if ((self.zeros.get(value) or self.behind.get(value)) and not padded) or self.rest.get(value):
            self._refuse("it reads a sequence that is padded along time", value)
        if self.behind.get(value, 0) < 0:
            self._refuse("it reads a sequence that lost its last frames without as many zeros in front", value)
        if self.cut.get(value):
            self._refuse("it reads a sequence that lost its first frames without as many zeros behind", value)
        return self.name.get(value, value)

    def _all(self, step: Step) -> list[str]:
        """Return an op's new operands, all delayed as much as the latest one; its results get this delay."""
        lag = max((self.late.get(value, 0) for value in step.inputs), default=0)
        operands = [self._delayed(v, lag, step) if v in self.axes else self._read(v) for v in step.inputs]
        self.late |= dict.fromkeys(step.outputs if lag else (), lag)
        return operands

    def _delayed(self, value: str, lag: int, step: Step) -> str:
        """Return the name of a value after states have delayed it until it is ``lag`` frames late in all."""
        name, by = self._read(value), lag - self.late.get(value, 0)
        if by and (name, by) not in self.kept:
            self.kept[name, by] = self._window_of(name, self.axes[value], by, step)[1]
        return self.kept[name, by] if by else name

    def _from_first(self, x: str, old: str, lag: int) -> str:
        """Return a value that is ``old`` in the first ``lag`` frames, and then ``x``, from its first true frame on."""
        if ("", lag) not in self.kept:
            before = self._state("begun", (1, lag))
            self.kept["", lag], following = begun(self.builder, before, lag)
            self._next(before, following)
        mask = self.builder.one(Reshape((1,) * len(self.builder.shapes[x])), self.kept["", lag], hint="mask")
        return self.builder.one(Where(), mask, x, old, hint=f"{x}_begun")

    def _refuse(self, why: str, node: str = "") -> NoReturn:
        refusal = Refusal(node or self.builder.where, "", "", why, BEFORE)
        raise RefusedError(self.old.origin, [refusal], what="streamed")

    def _state(self, hint: str, shape: Shape) -> str:
        return self.builder.leaf(self.builder.fresh(hint), Input(shape))

    def _next(self, state: str, value: str) -> None:
        """Make ``value`` the next value of a state, and an output of the net."""
        out = self.builder.fresh(f"{state}_next")
        self.outputs[out], self.states[state] = value, out

    def _zeros_first(self, x: str, lag: int) -> str:
        """Return ``x`` with zeros in the ``lag`` frames before its first true frame."""
        zeros = self.builder.leaf(self.builder.fresh(f"{x}_zeros"), Full(self.builder.shapes[x]))
        return self._from_first(x, zeros, lag)

    def _put(self, op: Op, step: Step) -> None:
        self.builder.put(Step(op, tuple(self._all(step)), step.outputs, step.loc))

    def _step(self, step: Step) -> None:
        """Rewrite an op for one frame: by its kind if it joins frames, else as the same op on each frame alone."""
        op, shapes = step.op, self.old.shapes
        slot = next((slot for slot, value in enumerate(step.inputs) if value in self.axes), None)
        if slot is None:
            self._put(op, step)
            return
        axis = self.axes[step.inputs[slot]]
        if isinstance(op, Scan):
            self._scan(step, op)
        elif isinstance(op, Concat) and op.axis == axis:
            self._padding(step, op)
        elif isinstance(op, Split) and op.axis == axis:
            self._cut(step, op)
        elif isinstance(op, Conv | Pool) and axis >= len(shapes[step.inputs[0]]) - 2:
            self._window(step, op, axis)
        elif axis == len(shapes[step.inputs[0]]) - 1 and is_running_sum(self.old, step):
            self._running_sum(step)
        elif isinstance(op, Select) and op.axis == axis and op.index in (-1, shapes[step.inputs[0]][axis] - 1):
            if self.late.get(step.inputs[0]):
                self._refuse("it takes the last frame of what sees frames of the future")
            self._put(Reshape(shapes[step.outputs[0]]), step)  # after this step, its frame is the last one
        else:
            along = op.along(slot, axis, *(TensorType(shapes[value]) for value in step.inputs))
            if along is None or along.op is None or None in along.results:
                self._refuse("it takes some steps, or all of them, together")
            for value, place in zip(step.inputs, along.operands, strict=True):
                if place is not None and value in self.old.params and shapes[value][place] != 1:
                    self._count(value, place)
            if isinstance(op, Reshape | Expand):
                op = replace(op, shape=_one(op.shape, self.axes[step.outputs[0]]))
            (self._move if op.moves and len(step.inputs) == 1 else self._put)(op, step)

    def _move(self, op: Op, step: Step) -> None:
        """Add an op that moves elements of each frame; its result takes over the operand's padding, cuts and delay."""
        (value,) = step.inputs
        for frames in (self.zeros, self.behind, self.rest, self.cut, self.late):
            frames |= dict.fromkeys(step.outputs, frames[value]) if value in frames else {}
        self.builder.put(Step(op, (self.name.get(value, value),), step.outputs, step.loc))

    def _running_sum(self, step: Step) -> None:
        """Compute a cumulative sum over time: a state holds the sum of the frames before this one."""
        (value, _), (out,) = step.inputs, step.outputs
        x, lag = self._read(value), self.late.get(value, 0)
        x = self._zeros_first(x, lag) if lag else x
        before = self._state(f"{out}_before", self.builder.shapes[x])
        self.builder.put(Step(Add(), (before, x), step.outputs, step.loc))
        self._next(before, out)
        self.late[out] = lag

    def _count(self, value: str, axis: int) -> None:
        """Replace a constant with a time axis by one number, or by a count of the frames before. Refuse any other."""
        count, number = count_of(self.old.params[value], axis), constant(self.old, value)
        shape = _one(self.old.shapes[value], axis)
        if number is not None:
            self.name[value] = self.builder.leaf(self.builder.fresh(value), Full(shape, number))
        elif count is None:
            self._refuse("it has constants for each step")
        elif value not in self.axes:
            before = self._state("count", (1, 1))
            following, self.name[value] = replace(count, shape=shape).step(self.builder, before)
            self._next(before, following)
            self.axes[value] = axis

    def _padding(self, step: Step, op: Concat) -> None:
        """Rewrite a Concat along time: zeros become recorded padding, or delay a sequence without its last frames."""
        zeros = {i: v for i, v in enumerate(step.inputs) if is_zero(self.old, v)}
        sizes = {i: fixed(self.old.shapes[v][op.axis], "a padding") for i, v in zeros.items()}
        at, *more = [i for i in range(len(step.inputs)) if i not in sizes] or [0, 0]
        front = sum(size for i, size in sizes.items() if i < at)
        behind = sum(sizes.values()) - front
        value, out = step.inputs[at], step.outputs[0]
        missing, short = self.cut.get(value, 0), -self.behind.get(value, 0)
        if more or behind < missing or (short > 0 and (behind or front != short)):
            self._refuse("it joins sequences along time")
        if short > 0:
            self._shift(value, out, short, step)
            return
        self.zeros[out], self.late[out] = front + self.zeros.get(value, 0), self.late.get(value, 0)
        self.behind[out] = behind - missing + self.behind.get(value, 0)
        self.name[out] = self.name.get(value, value) if missing else self._read(value, padded=True)

    def _cut(self, step: Step, op: Split) -> None:
        """Rewrite each slice of a sequence: it ends early, begins later, or begins with zeros; refuse any other."""
        (value,), start = step.inputs, 0
        for part, size in zip(step.outputs, op.sizes, strict=True):
            ahead = start - self.zeros.get(value, 0)
            start += size
            if part not in self.needed:
                continue
            behind = self.behind.get(value, 0) + self.rest.get(value, 0)
            missing = max(0, ahead - behind)
            if size < self.length and not (ahead or behind or self.cut.get(value)):
                self.name[part], self.late[part] = self.name.get(value, value), self.late.get(value, 0)
                self.behind[part] = size - self.length
                continue
            to_end = not missing or start == self.length + self.zeros.get(value, 0) + behind
            if behind < 0 or size != self.length - missing or not to_end:
                self._refuse("it takes some steps, or all of them, together")
            if ahead < 0:
                self._shift(value, part, -ahead, step)
                continue
            self.name[part], self.late[part] = self.name.get(value, value), self.late.get(value, 0) + ahead
            self.cut |= {part: missing} if missing else {}

    def _shift(self, value: str, out: str, by: int, step: Step) -> None:
        """Record ``out`` as ``value`` with ``by`` zero frames in front: a state holds the last ``by`` frames."""
        x, lag = self.name.get(value, value), self.late.get(value, 0)
        x = self._zeros_first(x, lag) if lag else x
        self.name[out], self.late[out] = self._window_of(x, self.axes[value], by, step)[1], lag

    def _window_of(self, x: str, axis: int, reach: int, step: Step) -> tuple[str, str]:
        """Return a frame joined to the ``reach`` frames before it, which a state holds, and the earliest frame."""
        shape = self.builder.shapes[x]
        past = self._state(f"{step.outputs[0]}_past", (*shape[:axis], reach, *shape[axis + 1 :]))
        window = self.builder.one(Concat(axis), past, x, hint="window")
        first, rest = self.builder.add(Split(axis, (1, reach)), window, hint="kept")
        self._next(past, rest)
        return window, first

    def _window(self, step: Step, op: Conv | Pool, axis: int) -> None:
        """Rewrite a convolution or pooling: a state holds past frames, and future frames make the result late."""
        spatial = axis - len(self.old.shapes[step.inputs[0]]) + 2
        kernel = op.size if isinstance(op, Pool) else self.old.shapes[step.inputs[1]][2:]
        spread = op.dilation[spatial] if isinstance(op, Conv) else 1
        value, reach, pad = step.inputs[0], (fixed(kernel[spatial], "a kernel") - 1) * spread, op.pad[spatial]
        front, behind, lag = self.zeros.get(value, 0) + pad, self.behind.get(value, 0) + pad, self.late.get(value, 0)
        if op.stride[spatial] != 1:
            self._refuse(f"it has a stride of {op.stride[spatial]} frames")
        if isinstance(op, MaxPool) and pad:
            self._refuse("it is padded by less than any number, and the frames before the first one are 0")
        if front > reach or (front < reach and front + behind != reach):
            zeros = f"{front} zeros in front, {behind} behind"
            self._refuse(f"its windows of {reach + 1} frames over {zeros}, are not one a frame")
        x, others = self._read(value, padded=True), tuple(map(self._read, step.inputs[1:]))
        if front == reach and behind:  # the frames behind the last one must be cut off
            self.rest[step.outputs[0]] = behind
        x = self._zeros_first(x, lag) if lag and front else x
        if pad:
            op = replace(op, pad=(0 if spatial == 0 else op.pad[0], 0 if spatial == 1 else op.pad[1]))
        if reach:
            x, _ = self._window_of(x, axis, reach, step)
        self.late[step.outputs[0]] = lag + reach - front
        self.builder.put(Step(op, (x, *others), step.outputs, step.loc))

    def _scan(self, step: Step, op: Scan) -> None:
        """Rewrite a loop for one frame: over time it becomes one step from states, along other axes it stays."""
        title, xs = op.body.name, op.of_role("x", step.inputs)
        inputs = self._all(step)
        lag = self.late.get(step.outputs[0], 0)
        if {self.axes.get(value) for value in xs} == {0}:
            if op.reverse:
                self._refuse("it runs backwards, so its first step needs the last frame")
            ends, ends_of = step.outputs[len(step.outputs) - op.states :], dict[str, str]()
            following = zip(ends, op.next_states, strict=True)
            for i, value in enumerate(step.inputs):
                if op.role(i) == "state":
                    end, output = next(following)
                    if value not in self.old.producers and value not in self.old.inputs:
                        leaf = self.old.leaves[value]
                        if not (isinstance(leaf, Full) and leaf.value == 0) and not is_zero(self.old, value):
                            self._refuse("its state begins from constants other than zero")
                        inputs[i] = self._state(f"{title}_{output.name}", self.builder.shapes[inputs[i]])
                        ends_of[inputs[i]] = end
                    elif lag:
                        self._refuse("it begins from a state, behind what sees frames of the future")
                    elif end not in self.needed:
                        self._refuse("it begins from a state that no output hands on to the next frame")
            self.builder.put(Step(replace(op, length=1), tuple(inputs), step.outputs, step.loc))
            if lag and self.needed.intersection(ends):
                self._refuse("it takes the last frame of what sees frames of the future")
            for state, end in ends_of.items():
                self._next(state, self._from_first(end, state, lag) if lag else end)
            return
        body, looped, arguments = _loop_body(step, op, self.old)
        seeds = {name: self.axes[v] - over for name, (v, over) in arguments.items() if v in self.axes}
        small = _resized(body, axes_of(body, equal_axes(body, looped), seeds))
        scan = replace(op, body=scan_of(title, small, op.length, len(xs), op.states, op.reverse).body)
        self.builder.put(Step(scan, tuple(inputs), step.outputs, step.loc))


def _one(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _resized(net: Net, axes: Mapping[str, int]) -> Net:
    """Return the net of a loop's body with size 1 for ``axes`` (value: axis), in inputs, Reshape and Expand."""
    builder = NetBuilder.of(net)
    for name, axis in axes.items():
        if name in net.inputs:
            builder.leaf(name, replace(net.leaves[name], shape=_one(net.shapes[name], axis)))
    for step in net.steps:
        op, place = step.op, axes.get(step.outputs[0])
        if isinstance(op, Reshape | Expand) and place is not None:
            op = replace(op, shape=_one(op.shape, place))
        builder.put(Step(op, step.inputs, step.outputs, step.loc))
    return net.of_steps(builder.steps, builder.leaves, builder.shapes)
