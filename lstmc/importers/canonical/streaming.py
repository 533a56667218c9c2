"""A dynamic time axis: recurrent layers of any length; convolutions over time as cells whose state is their past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lstmc.importers.canonical.time import (
    ATTENTION,
    NO_TIME,
    STATES,
    TIMELESS,
    Frames,
    TwoTimeAxes,
    fixed_frames,
    is_running_sum,
    is_zero,
    time_axes,
    timeless,
)
from lstmc.importers.ir.net import MaskedScan, Net, body_of, origin_of, scan_of
from lstmc.importers.ir.ops import Elementwise, Expand, LogSoftmax, Permute, Select
from lstmc.importers.ir.recur import with_mask
from lstmc.importers.ir.values import OpenSize, Shape, ShapeProblem, Size, fixed
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.ir import Scan, op_of_one
from lstmc.ops import Concat, Conv, Dropout, Full, Op, Reshape, Softmax, Split
from lstmc.ops.layers import Pool
from lstmc.ops.shape import Reduce
from lstmc.passes.unrolled_steps import Step
from lstmc.text import late, unused
from lstmc.types import TensorType

APART = "stream the part before it, and compute it outside of the net"


def with_dynamic_time(net: Net, step: bool = False) -> Net:
    """Return the net with a dynamic length of its sequences, if it holds for all lengths.

    Convolutions over time without future frames become cells whose state is their past. With ``step``, others
    become such cells too: ``delays`` then has the number of steps by which each output is late. Raises
    :class:`RefusedError` with ``step`` if a layer needs more of a sequence than its past.
    """
    try:
        axes = time_axes(net)
    except TwoTimeAxes as error:
        if step:
            raise _refused(net, error.step, "the inputs", *ATTENTION) from None
        return net
    if axes is None:
        if step and (maker := timeless(net)) is not None:
            raise _refused(net, maker, "", *TIMELESS)
        if step and not any(isinstance(each.op, Scan) for each in net.steps):
            raise _refused(net, None, "the model", *NO_TIME)
        return net
    opening = _DynamicTime(net, axes)
    opened = opening.net()
    if step:
        if opening.closed or opening.mixed:
            first = {refusal.node: refusal for refusal in reversed([*opening.mixed, *opening.closed])}
            raise RefusedError(net.origin, [*reversed(first.values())], what="streamed")  # the first of each layer
        return opened
    if isinstance(opening.length, OpenSize):
        return opened if not (opening.closed or opened.delays) else net
    if not (opening.closed or opening.ahead or opened.delays or opening.short):
        return opened
    reasons = [f"{one.node}: {one.why}" for one in opening.closed] + opening.ahead + opening.short
    note = f"The length of sequences is fixed at {opening.length}. {reasons[0]}."
    if not (opening.closed or opening.mixed):
        note += " Imported with `step` the model can be streamed: its outputs come some steps later."
    return replace(net, notes=(*net.notes, note))


def _refused(net: Net, step: Step | None, otherwise: str, why: str, mend: str) -> RefusedError:
    node = otherwise if step is None else origin_of(step)
    return RefusedError(net.origin, [Refusal(node, "", "", why, mend)], [STATES], what="streamed")


@dataclass(frozen=True)
class _Value:
    """A value over time in the new net.

    Its step t has the source's element t - ``lag``, or anything before that; with ``zeros`` more elements of zero in
    front of the first one, which are not in it. ``lag`` is None of a value that is the same at all steps.
    """

    name: str
    lag: int | None
    zeros: int = 0


class _DynamicTime(Frames):
    """The rewrite to a dynamic length. ``closed`` are reasons for a fixed length, ``mixed`` against streaming.

    ``ahead`` lists layers that read future frames, ``short`` results with fewer steps than the inputs.
    """

    def __init__(self, net: Net, axes: dict[str, int]) -> None:
        lengths = {net.inputs[name][axis] for name, axis in axes.items() if name in net.inputs}
        self.length: Size = min(lengths, key=str)
        super().__init__(
            net,
            self.length if isinstance(self.length, OpenSize) else OpenSize(unused("T", net.open_sizes().__contains__)),
        )
        self.axes = axes
        self.closed: list[Refusal] = []
        self.mixed: list[Refusal] = []
        self.ahead: list[str] = []
        self.short: list[str] = []
        self.values: dict[str, _Value | None] = {}  # values over time; None where something was refused
        self.titles: dict[str, str] = {}  # of loops, and those that they have with a mask
        if len(lengths) > 1:
            self._close("the inputs", f"their sequences have the lengths {sorted(map(str, lengths))}", "use one")
        for name, axis in axes.items():
            if name in net.inputs:
                self.shapes[name] = self._opened(net.inputs[name], axis)
                self.builder.leaves[name] = replace(net.leaves[name], shape=self.shapes[name])
                self.values[name] = _Value(name, 0)
            elif name in net.params:
                what = f"{net.params[name].recipe}, which has a value for each of {net.shapes[name][axis]} steps"
                reader = next(step for step in net.steps if name in step.inputs)
                self._close(origin_of(reader), f"it reads {what}", "compute it, or make it an input")
                self.values[name] = None
        for step in self._needed():
            self._step(step)

    def _opened(self, shape: Shape, axis: int) -> Shape:
        return (*shape[:axis], self.time, *shape[axis + 1 :])

    def net(self) -> Net:
        outputs, delays = {}, {}
        for name, value in self.old.outputs.items():
            result = self.values.get(value, _Value(value, self.late.get(value, 0)))
            if result is None:
                return self.old
            if result.zeros:
                self._close(f"output {name}", "it is padded along time", "pad what reads it instead")
            if value in self.values:
                self._whole(value, f"output {name}")
            outputs[name] = result.name
            if result.lag:
                delays[name] = result.lag
        notes = [self._delay_note(name, lag) for name, lag in delays.items()]
        return self.old.of_steps(
            self.builder.steps,
            self.builder.leaves,
            self.shapes,
            outputs,
            self.params,
            delays,
            notes=(*self.old.notes, *notes),
            sizes=self.old.sizes
            if isinstance(self.length, OpenSize)
            else {**self.old.sizes, self.time.name: self.length},
            time=(self.time,),
            earlier=self.earlier_net([name for name, lag in delays.items() if self.old.outputs[name] not in self.axes]),
        )

    def _delay_note(self, name: str, lag: int) -> str:
        if self.old.outputs[name] in self.axes:
            meaning = f"at step t it is the source's at t - {lag}"
        else:
            meaning = f"at step t it is the source's value after step t - {lag}"
        return f"Output {name} comes {late(lag)}: {meaning}, since {'; '.join(self.ahead) or 'it has fewer steps'}."

    def _needed(self) -> Iterator[Step]:
        """Return the steps that outputs depend on, apart from padding with zeros."""
        needed, steps = set(self.old.outputs.values()), []
        for step in reversed(self.old.steps):
            if needed & set(step.outputs):
                steps.append(step)
                padding = isinstance(step.op, Concat) and self.axes.get(step.outputs[0]) == step.op.axis
                needed |= {v for v in step.inputs if not (padding and is_zero(self.old, v))}
        return reversed(steps)

    def _close(self, node: str, why: str, mend: str) -> None:
        self.closed.append(Refusal(node, "", "", why, mend))

    def _whole(self, value: str, node: str) -> None:
        """Note where a value has fewer steps than the inputs."""
        size = self.old.shapes[value][self.axes[value]]
        if size != self.length:
            self.short.append(f"{node} has {size} steps of {self.length}")

    def _step(self, step: Step) -> None:
        lates = sorted({self.late[value] for value in step.inputs if value in self.late})
        if len(lates) > 1:
            why = f"its operands are of different steps, {' and '.join(map(str, lates))} steps late"
            self._close(origin_of(step), why, "pad the convolutions before them so that they come at the same step")
            self.values |= dict.fromkeys(step.outputs, None)
            return
        operands = [self.values[value] for value in step.inputs if value in self.values]
        if any(value is None for value in operands):
            self.values |= dict.fromkeys(step.outputs, None)
            return
        try:
            if operands or any(value in self.axes for value in step.outputs):
                self._over_time(step)
            else:
                self.put(step.op, step.inputs, step)
        except ShapeProblem as problem:
            why, mend = fixed_frames(self.old, step, self.axes) or (
                str(problem),
                "write the model so that it holds for every length",
            )
            self._close(origin_of(step), why, mend)
            self.values |= dict.fromkeys(step.outputs, None)

    def _results(self, step: Step, lag: int | None, zeros: int = 0) -> None:
        """Note the results of a step as values over time, those that have that axis."""
        for value in step.outputs:
            if value in self.axes:
                self.values[value] = _Value(value, lag, zeros)
            elif lag is not None:
                self.late[value] = lag
                if lag and isinstance(step.op, Scan):
                    self.earlier[value] = []
                    refs = [output.ref for output in step.op.body.outputs]
                    same = refs.index(refs[step.outputs.index(value)])
                    if same < len(step.op.step_outputs):  # an output is the state
                        self.take_earlier(step, value, step.outputs[same], 0, lag)

    def _refuse(self, step: Step, refusals: list[Refusal], why: str, mend: str) -> None:
        refusals.append(Refusal(origin_of(step), "", "", why, mend))
        if refusals is self.closed:
            raise _Closed

    def _over_time(self, step: Step) -> None:
        try:
            self._by_kind(step)
        except _Closed:
            self.values |= dict.fromkeys(step.outputs, None)

    def _by_kind(self, step: Step) -> None:
        op, first = step.op, step.inputs[0]
        x, axis = self.values.get(first), self.axes.get(first)
        result = self.axes.get(step.outputs[0])
        if isinstance(op, Conv | Pool) and x is not None and axis is not None:
            self._window(step, op, x, axis)
        elif isinstance(op, Concat) and op.axis == result:
            self._padding(step, op)
        elif isinstance(op, Split) and x is not None and op.axis == axis:
            self._cut(step, op, x)
        elif isinstance(op, Permute | Reshape | Elementwise | Dropout) and x is not None:
            if result is None:
                self._refuse(step, self.closed, "it puts several steps together", APART)
            if x.zeros and isinstance(op, Elementwise) and np.any(op.eval(np.zeros(1))[0] != 0):
                self._refuse(step, self.closed, "it changes the zeros of a padding", "pad behind it")
            self.put(self._at_length(op, result), [x.name], step)
            self._results(step, x.lag, x.zeros)
        elif isinstance(op, Scan):
            self._scan(step, op)
        elif isinstance(op, Expand) and x is None and result is not None:
            shape = (*op.shape[:result], *op.shape[result + 1 :])
            self._in_order(self.at_every_step(first, shape, result, step), result, step, None)
        elif x is not None and axis is not None and is_running_sum(self.old, step):
            self._running_sum(step, axis)
        elif isinstance(op, Reduce) and op.axis == axis and x is not None:
            self._whole(first, origin_of(step))
            if not (isinstance(op, Select) and op.index == -1):
                kind = f"element {op.index}" if isinstance(op, Select) else getattr(op, "kind", op.name)
                why = f"it takes the {kind} of all steps, which are known after the last one only"
                mend = f"read the last step, y[:, -1], or take the {kind} in the program that streams"
                self._refuse(step, self.mixed, why, mend)
            x = self._plain(first, step)
            self.put(op, [x.name], step)
            self._results(step, x.lag)
            if x.lag:
                self.take_earlier(step, step.outputs[0], first, op.axis, x.lag)
        else:
            if not self._each_step(step):
                refusals = self.mixed if isinstance(op, Softmax | LogSoftmax) else self.closed
                self._refuse(step, refusals, "it reads all steps at once", APART)
            names, lag = self._aligned(step)
            self.put(self._at_length(op, result), names, step)
            self._results(step, lag)

    def _running_sum(self, step: Step, axis: int) -> None:
        """Rewrite a cumulative sum over time, which is a product with a triangle of ones, as a cell."""
        x = self._plain(step.inputs[0], step)
        name = self.masked(x.name, x.lag, axis, step) if x.lag else x.name
        self._in_order(self.summed(self.front(name, axis, step), step), axis, step, x.lag)

    def _in_order(self, steps: str, axis: int, step: Step, lag: int | None) -> None:
        """Make a sequence [T, ...] the result of a step, which has its time along ``axis``."""
        order = [*range(1, len(self.shapes[steps]))]
        order.insert(axis, 0)
        self.put(Permute(tuple(order)), [steps], step)
        self._results(step, lag)

    def _each_step(self, step: Step) -> bool:
        """Return whether an op computes each step of its operands from the same step of all, and what is of no step."""
        types = [TensorType(self.old.shapes[value]) for value in step.inputs]
        places = [self.axes[value] if value in self.values else None for value in step.inputs]
        return places.count(None) == len(places) or op_of_one(step.op, types, places) is not None

    def _at_length(self, op: Op, axis: int | None) -> Op:
        """Return an op of any length, whose result has its steps along this axis."""
        if axis is None or not isinstance(op, Reshape | Expand):
            return op
        return replace(op, shape=self._opened(op.shape, axis))

    def _plain(self, value: str, step: Step) -> _Value:
        """Return a value over time with the zeros in front of it as its first steps."""
        x = self.values[value]
        assert x is not None
        if not x.zeros:
            return x
        if x.lag is None:
            why = "it reads a sequence that is padded along time"
            self._refuse(step, self.closed, why, "pad where it is convolved")
        lag, axis = x.lag or 0, self.axes[value]
        name = self.masked(x.name, lag, axis, step) if lag else x.name
        behind = x.zeros - lag
        return _Value(self.later(name, axis, behind, step), 0) if behind > 0 else _Value(name, -behind)

    def _aligned(self, step: Step) -> tuple[list[str], int | None]:
        """Return the operands, delayed to the latest of them, and their lag."""
        plain = [None if self.values.get(value) is None else self._plain(value, step) for value in step.inputs]
        lags = [x.lag for x in plain if x is not None and x.lag is not None]
        lag, names = max(lags, default=None), []
        for value, x in zip(step.inputs, plain, strict=True):
            name = value if x is None else x.name
            if x is not None and x.lag is not None and lag is not None and x.lag < lag:
                name = self.later(name, self.axes[value], lag - x.lag, step)
            names.append(name)
        return names, lag

    def _window(self, step: Step, op: Conv | Pool, x: _Value, axis: int) -> None:
        """Rewrite a convolution or pooling, of single frames or over several."""
        shape = self.old.shapes[step.inputs[0]]
        spatial = axis - len(shape) + 2
        kernel = op.size if isinstance(op, Pool) else self._kernel(step)
        if spatial < 0:  # images at each step
            x = self._plain(step.inputs[0], step)
            self.put(op, [x.name, *step.inputs[1:]], step)
            self._results(step, x.lag)
            return
        width, stride, pad = kernel[spatial], op.stride[spatial], op.pad[spatial]
        spread = op.dilation[spatial] if isinstance(op, Conv) else 1
        what = f"a {'convolution' if isinstance(op, Conv) else 'pooling'} of width {width} over time"
        if len(shape) != 4:
            self._refuse(step, self.closed, f"{what}, of images with more axes in front", "give it four axes")
        if stride != 1:
            mend = "use a stride of 1 along time, or stream only the part after it"
            self._refuse(step, self.closed, f"{what} has a stride of {stride} frames", mend)
        zeros = x.zeros + pad
        if isinstance(op, Pool) and zeros and width > 1:
            self._refuse(step, self.closed, f"{what} is padded", "pool without padding along time")
        reach = (width - 1) * spread
        lag = (x.lag or 0) - zeros + reach
        if lag < 0:
            self._refuse(step, self.closed, f"{what} has {zeros} zeros in front of it, more than it sees", "pad less")
        if reach > zeros:
            count = reach - zeros
            self.ahead.append(f"{origin_of(step)}: {what} sees {count} future frame{'s' if count > 1 else ''}")
        name = self.masked(x.name, x.lag, axis, step) if zeros and x.lag else x.name
        frames = self.front(name, axis, step)  # [T, N, C, F]
        windowed = self.framed(step, op, frames, spatial, reach)
        self.put(Permute((1, 2, 0, 3) if spatial == 0 else (1, 2, 3, 0)), [windowed], step)
        self._results(step, lag)

    def _kernel(self, step: Step) -> tuple[int, int]:
        rows, columns = (fixed(size, "a kernel") for size in self.old.shapes[step.inputs[1]][2:])
        return rows, columns

    def _padding(self, step: Step, op: Concat) -> None:
        """Rewrite padding with zeros in front of a sequence, or after it."""
        sequences = [v for v in step.inputs if not is_zero(self.old, v)]
        if len(sequences) != 1 or sequences[0] not in self.values:
            self._refuse(step, self.closed, "it joins sequences along time", "join them outside of the net")
        x = self.values[sequences[0]]
        assert x is not None
        at = step.inputs.index(sequences[0])
        before = sum(fixed(self.old.shapes[v][op.axis], "a padding") for v in step.inputs[:at])
        if x.zeros and x.lag != 0:
            x = self._plain(sequences[0], step)
        self.values[step.outputs[0]] = _Value(x.name, x.lag, x.zeros + before)

    def _cut(self, step: Step, op: Split, x: _Value) -> None:
        """Rewrite a slice of a sequence: all elements from one on, or the last one."""
        readers = {v for s in self._needed() for v in s.inputs} | set(self.old.outputs.values())
        at = 0
        for value, size in zip(step.outputs, op.sizes, strict=True):
            start, at = at, at + size
            if value not in readers:
                continue
            if size == 1 and at == sum(op.sizes) and at > 1:
                x = self._plain(step.inputs[0], step)
                name = x.name
                self._whole(step.inputs[0], origin_of(step))
                last = self.one(Select(op.axis, -1), name, hint=f"{value}_last", step=step)
                shape = self.shapes[last]
                self.put(Reshape((*shape[: op.axis], 1, *shape[op.axis :])), [last], step, [value])
                self.axes.pop(value, None)
                if x.lag is not None:
                    self.late[value] = x.lag
                if x.lag:
                    self.take_earlier(step, value, step.inputs[0], op.axis, x.lag)
            elif size == 1:
                mend = "read the last step, or all of them"
                self._refuse(step, self.closed, f"it reads step {start} alone", mend)
            else:
                left = x.zeros - start  # zeros that the slice begins with
                self.values[value] = _Value(x.name, None if x.lag is None else x.lag + max(-left, 0), max(left, 0))

    def _scan(self, step: Step, op: Scan) -> None:
        sequences = op.of_role("x", step.inputs)
        for value in sequences:
            self._whole(value, origin_of(step))
        if op.reverse:
            mend = "use a layer of one direction, or a loop from the first step to the last one"
            self._refuse(step, self.mixed, "it runs backwards, so its first step needs the last input", mend)
        if any(value in self.values and op.role(i) != "x" for i, value in enumerate(step.inputs)):
            self._refuse(step, self.closed, "every step of it reads all steps", APART)
        names, lag = self._aligned(replace(step, inputs=tuple(sequences)))
        aligned = iter(names)
        operands = [next(aligned) if op.role(i) == "x" else value for i, value in enumerate(step.inputs)]
        scan: Scan = replace(op, length=self.time)
        if lag and op.states:
            scan = self._from_first(step, scan, operands, lag)
        self.put(scan, operands, step)
        self._results(step, lag)

    def _from_first(self, step: Step, scan: Scan, operands: list[str], lag: int) -> Scan:
        """Return a scan whose states stay until its first input comes, and insert its mask into the operands."""
        batches = {self.shapes[value][0] for value in scan.of_role("state", operands)}
        if len(batches) > 1 or isinstance(scan, MaskedScan):
            why = "its states would begin before its first input comes"
            self._refuse(step, self.closed, why, "pad the convolution before it only in front")
        title, sequences = scan.body.name, len(scan.of_role("x", operands))
        if title not in self.titles:
            shared = sum(isinstance(each.op, Scan) and each.op.body.name == title for each in self.old.steps) > 1
            self.titles[title] = self.builder.scan_name(title) if shared else title
        own, leaves = self.titles[title], self.builder.leaves
        for i, value in enumerate(operands):
            if own != title and isinstance(leaves.get(value), Full):  # a scan starts from zeros of its own name
                operands[i] = zeros = unused(f"{own}{value.removeprefix(title)}", self.shapes.__contains__)
                leaves[zeros], self.shapes[zeros] = leaves[value], self.shapes[value]
        body = body_of(scan, [self.params[value] for value in scan.of_role("weight", operands)])
        operands.insert(sequences, self.has_begun(lag, batches.pop(), step))
        masked = with_mask(body, sequences, scan.states)
        return scan_of(own, masked, scan.length, sequences + 1, scan.states)


class _Closed(Exception):
    """Raised for a step that fixes the length."""
