"""Values over time in a net of dynamic length: their delay, their padding in front, and why a value cannot be
streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lstmc.importers.canonical.first_steps import FirstSteps, Front
from lstmc.importers.canonical.time import constant
from lstmc.importers.ir.net import Net, origin_of
from lstmc.importers.ir.ops import Divide, Expand, Permute, Select
from lstmc.importers.ir.values import OpenSize, Shape, Size, fixed, number
from lstmc.importers.refusal import Refusal
from lstmc.ir import Scan
from lstmc.ops import Binary, Concat, Log, Op, Reshape
from lstmc.passes.unrolled_steps import Step
from lstmc.text import unused

LOWEST = -1e30  # the padding of a maximum
EARLY = 4  # first elements that may be read alone; a later index may depend on the length
APART = "stream the part before it, and compute it outside of the net"


@dataclass(frozen=True)
class Value:
    """A value over time in the new net: its step t has the source's element t - ``lag``, or anything before that.

    The source has ``zeros`` more elements of ``fill`` in front of the first element, which the value lacks. ``lag`` is
    None for a value that is the same at all steps.
    """

    name: str
    lag: int | None
    zeros: int = 0
    fill: float = 0.0


class Closed(Exception):
    """Raised for a step that fixes the length."""


class OverTime(FirstSteps):
    """The values of a net that is rewritten to a dynamic length.

    ``closed`` are reasons for a fixed length, ``mixed`` against streaming.
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
        divides = any(isinstance(each.op, Divide | Log) for each in net.steps)
        self.before = 1.0 if divides else 0.0  # in front of a delayed sequence, against 0 / 0
        self.closed: list[Refusal] = []
        self.mixed: list[Refusal] = []
        self.ahead: list[str] = []
        self.short: list[str] = []
        self.apart = False  # whether early steps are computed differently
        self.values: dict[str, Value | None] = {}  # values over time; None for a refused value
        if len(lengths) > 1:
            self._close("the inputs", f"their sequences have the lengths {sorted(map(str, lengths))}", "use one")

    def _constants(self, name: str, axis: int) -> None:
        """Compute constants of all steps, if they are a count."""
        weight = self.old.params[name]
        reader = next(step for step in self.old.steps if name in step.inputs)
        counted = self.counted(weight, axis, reader)
        if counted is None:
            what = f"{weight.recipe}, which has a value for each of {weight.shape[axis]} steps"
            self._close(origin_of(reader), f"it reads {what}", "compute it, or make it an input")
            self.values[name] = None
        else:
            self.apart = True
            self.values[name] = Value(self.back(counted, axis, reader), 0)

    def _opened(self, shape: Shape, axis: int) -> Shape:
        return (*shape[:axis], self.time, *shape[axis + 1 :])

    def _needed(self) -> Iterator[Step]:
        """Return the steps that outputs depend on, apart from padding with zeros."""
        needed, steps = set(self.old.outputs.values()), []
        for step in reversed(self.old.steps):
            if needed & set(step.outputs):
                steps.append(step)
                padding = isinstance(step.op, Concat) and self.axes.get(step.outputs[0]) == step.op.axis
                needed |= {v for v in step.inputs if not (padding and constant(self.old, v) is not None)}
        return reversed(steps)

    def _close(self, node: str, why: str, mend: str) -> None:
        self.closed.append(Refusal(node, "", "", why, mend))

    def _whole(self, value: str, node: str) -> None:
        """Note a value that has fewer steps than the inputs."""
        size = self.old.shapes[value][self.axes[value]]
        if size != self.length:
            self.short.append(f"{node} has {size} steps of {self.length}")

    def _results(self, step: Step, lag: int | None, zeros: int = 0, fill: float = 0.0) -> None:
        """Note the results of a step that have the axis of time as values over time."""
        for value in step.outputs:
            if value in self.axes:
                self.values[value] = Value(value, lag, zeros, fill)
            elif isinstance(step.op, Scan) and lag is not None and self._read(value):
                late = self._late_by(step, lag, step.op.length)
                self.late[value] = late
                if late:
                    self.earlier[value] = []
                    refs = [output.ref for output in step.op.body.outputs]
                    same = refs.index(refs[step.outputs.index(value)])
                    if same < len(step.op.step_outputs):  # an output is the state
                        self.take_earlier(step, value, step.outputs[same], 0, late)
            elif lag is not None:
                self.late[value] = lag

    def _read(self, value: str) -> bool:
        return value in self.old.outputs.values() or any(value in step.inputs for step in self._needed())

    def _late_by(self, step: Step, lag: int, size: Size) -> int:
        """Return the delay of the last element of a sequence of ``size`` elements that is ``lag`` steps late."""
        late = lag - int(self.length - size)
        if late < 0:
            self.apart = True
            why = f"it reads a sequence that ends {-late} step{'s' * (late < -1)} before the last one"
            self._refuse(step, self.mixed, why, "read it to its end, and feed each step so much later")
        return max(late, 0)

    def _refuse(self, step: Step, refusals: list[Refusal], why: str, mend: str) -> None:
        refusals.append(Refusal(origin_of(step), "", "", why, mend))
        if refusals is self.closed:
            raise Closed

    def _early(self, step: Step, lates: list[int]) -> None:
        """Note a step that computes values of one early step from other such values; compute it if it also reads a last
        step."""
        if isinstance(step.op, Scan) or any(
            self.head(v, step)[1] > late for late in lates for v in step.inputs if v in self.heads
        ):
            self._refuse(step, self.closed, "it reads an early step alone", "read the last step, or all of them")
        if lates:
            names = [self._early_last(value, step) if value in self.heads else value for value in step.inputs]
            self.put(step.op, names, step)
        else:
            self.heads |= dict.fromkeys(step.outputs, step)

    def _early_last(self, value: str, step: Step) -> str:
        """Return a value of one early step as the last element of the sequence that holds it."""
        name, lag = self.head(value, step)
        last = self.one(Select(0, -1), self.held(name, lag, step), hint=f"{value}_held", step=step)
        self.late[last] = lag
        return last

    def _take_last(self, step: Step, value: str, sequence: str, axis: int, lag: int) -> None:
        """Note a value as the last element of a sequence."""
        self.late[value] = late = self._late_by(step, lag, self.old.shapes[sequence][axis])
        if late:
            self.take_earlier(step, value, sequence, axis, late)

    def _is_early(self, index: int, value: str, x: Value) -> bool:
        """Return whether an element of a sequence belongs to an early step; the index of a later element may come from
        the length."""
        size = self.old.shapes[value][self.axes[value]]
        return x.zeros <= index < EARLY and (isinstance(size, OpenSize) or 2 * index < size - 1) and x.lag is not None

    def _take_early(self, step: Step, value: str, x: Value, index: int, frames: str) -> None:
        """Note a value of one early step as the first element of a sequence ``frames`` [T, ...], and the delay of that
        sequence."""
        self.apart = True
        self.heads[value] = frames, (x.lag or 0) + index - x.zeros

    def _early_at_all_steps(self, step: Step, op: Op, axis: int | None) -> None:
        """Compute a step from a sequence and values of an early step, which are repeated along its axis."""
        names = list[str]()
        for value in step.inputs:
            shape = self.old.shapes[value]
            if (
                value in self.heads
                and axis is not None
                and shape[axis : axis + 1] == (1,)
                and isinstance(op, Binary | Expand)
            ):
                name, lag = self.head(value, step)
                rows = Reshape((self.time, *shape[:axis], *shape[axis + 1 :]))
                row = self.one(rows, self.held(name, lag, step), hint=f"{value}_held", step=step)
                value = self.back(row, axis, step)
                self.values[value], self.axes[value] = Value(value, lag), axis
            elif value in self.heads:
                self._refuse(step, self.closed, "it reads an early step at every step", APART)
            names.append(value)
        assert axis is not None
        aligned, late = self._aligned(replace(step, inputs=tuple(names)))
        self.put(self._at_length(op, axis), aligned, step)
        self._results(step, late)

    def _in_order(self, steps: str, axis: int, step: Step, lag: int | None) -> None:
        """Make a sequence [T, ...] the result of a step, which has its time along ``axis``."""
        order = [*range(1, len(self.shapes[steps]))]
        order.insert(axis, 0)
        self.put(Permute(tuple(order)), [steps], step)
        self._results(step, lag)

    def _at_length(self, op: Op, axis: int | None) -> Op:
        """Return an op for any length; its result has the steps along this axis."""
        if axis is None or not isinstance(op, Reshape | Expand):
            return op
        return replace(op, shape=self._opened(op.shape, axis))

    def _plain(self, value: str, step: Step) -> Value:
        """Return a value over time with the zeros in front of it as its first steps."""
        x = self.values[value]
        assert x is not None
        return self._behind_padding(x, self.axes[value], step) if x.zeros else x

    def _behind_padding(self, x: Value, axis: int, step: Step) -> Value:
        """Return a value over time with the padding in front of it as its first steps."""
        if x.lag is None:
            why = "it reads a sequence that is padded along time"
            self._refuse(step, self.closed, why, "pad where it is convolved")
        lag = x.lag or 0
        if x.fill:
            shape = self.shapes[x.name]
            row = self._filled((1, *shape[:axis], *shape[axis + 1 :]), x.fill)
            y, behind = self.joined([Front(row, x.zeros)], self.front(x.name, axis, step), lag, step)
            return Value(self.back(y, axis, step), behind)
        name = self.masked(x.name, lag, axis, step) if lag else x.name
        behind = x.zeros - lag
        return Value(self.later(name, axis, behind, step), 0) if behind > 0 else Value(name, -behind)

    def _filled(self, shape: Shape, fill: float) -> str:
        row = self.builder.fresh("padding")
        self.builder.hold({row: number(np.full(tuple(fixed(size, "a size") for size in shape), fill))})
        return row

    def _aligned(self, step: Step) -> tuple[list[str], int | None]:
        """Return the operands, delayed to the latest operand, and their lag."""
        plain = [None if self.values.get(value) is None else self._plain(value, step) for value in step.inputs]
        lags = [x.lag for x in plain if x is not None and x.lag is not None]
        lag, names = max(lags, default=None), []
        for value, x in zip(step.inputs, plain, strict=True):
            name = value if x is None else x.name
            if x is not None and x.lag is not None and lag is not None and x.lag < lag:
                name = self.later(name, self.axes[value], lag - x.lag, step, self.before)
            names.append(name)
        return names, lag

    def _front(self, name: str, lag: int, axis: int, step: Step) -> Front:
        """Return a sequence [T, ...] whose steps have an axis of one element for time as the front of another
        sequence."""
        shape = self.shapes[name][1:]
        row = self.one(Reshape((self.time, *shape[:axis], *shape[axis + 1 :])), name, hint=f"{name}_front", step=step)
        return Front(row, 1, lag)

    def _row(self, value: str, axis: int, step: Step) -> str | None:
        """Return one step of equal numbers, or a single step, with its axis in front; None for several steps."""
        shape = self.old.shapes[value]
        if (fill := constant(self.old, value)) is not None:
            return self._filled((1, *shape[:axis], *shape[axis + 1 :]), fill)
        return self.front(value, axis, step) if shape[axis] == 1 else None

    def _behind_heads(self, step: Step, sequences: list[str], heads: list[str]) -> tuple[list[str], int]:
        """Return the sequences of a loop and their delay; no sequence begins before the values from which the loop's
        states start."""
        names, lag = self._aligned(replace(step, inputs=tuple(sequences)))
        late = max(lag or 0, *(self.head(value, step)[1] for value in heads))
        by = late - (lag or 0)
        return [
            self.later(n, 0, by, step) if by and v in self.values else n for n, v in zip(names, sequences, strict=True)
        ], late
