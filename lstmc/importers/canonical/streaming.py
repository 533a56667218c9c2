"""A dynamic time axis: recurrent layers of any length; convolutions over time as cells whose state is their past."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.canonical.over_time import APART, LOWEST, Closed, Front, OverTime, Value
from lstmc.importers.canonical.time import TIME, TwoTimeAxes, constant, is_running_sum, time_axes, timeless
from lstmc.importers.ir.net import MaskedScan, Net, origin_of
from lstmc.importers.ir.ops import Elementwise, Expand, LogSoftmax, Permute, Select
from lstmc.importers.ir.values import OpenSize, ShapeProblem, fixed
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.ir import Scan, op_of_one
from lstmc.ops import Concat, Conv, Dropout, Reshape, Softmax, Split
from lstmc.ops.layers import MaxPool, Pool
from lstmc.ops.shape import Reduce
from lstmc.passes.unrolled_steps import Step
from lstmc.text import late
from lstmc.types import TensorType

# why a net has no time axis, or two; and the remedy
ATTENTION = (
    "it relates every step to all others, as attention over a whole sequence does, and cannot be streamed",
    "import the whole sequence instead, or train the model with recurrent layers alone",
)
TIMELESS = (
    "it computes each step from all steps of its input",
    "stream the part behind it, or compute each step alone (a LayerNorm in place of a GroupNorm)",
)
STATES = Argument("states", "IN=OUT", 'states={"IN": "OUT"}')
NO_TIME = (
    "it has no recurrent layer and no convolution that is padded in front alone, so that no axis is known as time",
    f"name the axis, as in {TIME}, pad the convolutions in front, or give it a recurrent layer;"
    f" of a net of one frame name its states by {STATES}",
)


def with_dynamic_time(net: Net, step: bool = False) -> Net:
    """Return the net with a dynamic length of its sequences, or the same net with a note if the length matters.
    Convolutions over time become cells whose state is their past. With ``step`` convolutions that see future frames do
    too, and ``delays`` of the result has the number of steps by which each output is late. Raises :class:`RefusedError`
    with ``step`` if a layer needs more of a sequence than its past."""
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
        return opened if not (opening.closed or opened.delays or opening.apart) else net
    if not (opening.closed or opening.ahead or opened.delays or opening.short or opening.apart):
        return opened
    reasons = [f"{one.node}: {one.why}" for one in opening.closed] + opening.ahead + opening.short
    reasons += ["its first steps are computed in another way"]
    note = f"The length of sequences is fixed at {opening.length}. {reasons[0]}."
    if not (opening.closed or opening.mixed):
        note += " Imported with `step` the model can be streamed"
        note += ": its outputs come some steps later." if opened.delays else "."
    return replace(net, notes=(*net.notes, note))


def _refused(net: Net, step: Step | None, otherwise: str, why: str, mend: str) -> RefusedError:
    """Return the error for a net that cannot be streamed, at the op ``step``, or at ``otherwise`` if that is None."""
    node = otherwise if step is None else origin_of(step)
    return RefusedError(net.origin, [Refusal(node, "", "", why, mend)], what="streamed")


class _DynamicTime(OverTime):
    """The rewrite of a net to a dynamic length of its sequences, op by op; a ``step`` is an op of the net."""

    def __init__(self, net: Net, axes: dict[str, int]) -> None:
        """Open the length of the inputs, replace constants along time, and rewrite the needed steps."""
        super().__init__(net, axes)
        for name, axis in axes.items():
            if name in net.inputs:
                self.builder.leaf(name, replace(net.leaves[name], shape=self._opened(net.inputs[name], axis)))
                self.values[name] = Value(name, 0)
            elif name in net.params and not self._pads(name, axis):
                self._constants(name, axis)
        for step in self.needed:
            self._step(step)

    def _pads(self, name: str, axis: int) -> bool:
        """Return whether a parameter is padding: equal numbers that steps only join to sequences along ``axis``."""
        joined = all(isinstance(each.op, Concat) and each.op.axis == axis for each in self.old.readers.get(name, []))
        return joined and constant(self.old, name) is not None

    def net(self) -> Net:
        """Return the net of a dynamic length; the old net if an output could not be rewritten."""
        outputs, delays = {}, {}
        for name, value in self.old.outputs.items():
            if value in self.heads:
                self.step = self.old.producers[value]
                value = self._early_last(value)
            result = self.values.get(value, Value(value, self.late.get(value, 0)))
            if result is None:
                return self.old
            if result.zeros:
                self._close(f"output {name}", "it is padded along time", "pad what reads it instead")
            if value in self.values:
                self._whole(value, f"output {name}")
            outputs[name] = result.name
            if result.lag:
                delays[name] = result.lag
        notes, why = [*self.old.notes], "; ".join(self.ahead) or "it has fewer steps"
        for name, lag in delays.items():
            place = "at" if self.old.outputs[name] in self.axes else "value after step"
            notes.append(
                f"Output {name} comes {late(lag)}: at step t it is the source's {place} t - {lag}, since {why}."
            )
        net = self.old.of_steps(self.builder.steps, self.builder.leaves, self.shapes, outputs, self.params, delays)
        number = {} if isinstance(self.length, OpenSize) else {self.time.name: self.length}
        earlier = self.earlier_net([name for name in delays if self.old.outputs[name] not in self.axes])
        return replace(net, notes=(*notes,), sizes={**net.sizes, **number}, time=(self.time,), earlier=earlier)

    def _step(self, step: Step) -> None:
        """Rewrite an op of the net. If it is refused, its results are refused values (None)."""
        self.step = step
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
                if lates:
                    mend = "read each step, or compute it in the program that streams"
                    self._refuse(self.mixed, "it reads the last step at every step", mend)
                self._over_time(step)
            elif any(value in self.heads for value in step.inputs):
                self._early(lates)
            else:
                self.put(step.op, step.inputs)
        except Closed:
            self.values |= dict.fromkeys(step.outputs, None)
        except ShapeProblem as problem:
            why, mend = self._fixed_frames(step) or (str(problem), "write the model so that it holds for every length")
            self._close(origin_of(step), why, mend)
            self.values |= dict.fromkeys(step.outputs, None)

    def _fixed_frames(self, step: Step) -> tuple[str, str] | None:
        """Return why a reshape from [T*N, ...] to [T, N, ...] fixes T and N, and the remedy; else None."""
        axis = self.axes.get(step.outputs[0])
        if not isinstance(step.op, Reshape) or axis is None:
            return None
        frames, shape = self.old.shapes[step.inputs[0]][0], list(self.old.shapes[step.outputs[0]])
        steps, sequences = (*shape[axis : axis + 2], 1)[:2]
        shape[axis : axis + 2] = [1, 1]
        one = f"for one step, give it the shape {', '.join(map(str, shape))}, and each input 1 frame, step or sequence"
        fixes = f"it fixes {steps} steps of {sequences} sequence{'s' * (sequences != 1)}"
        return (fixes, one) if steps * sequences == frames else None

    def _over_time(self, step: Step) -> None:
        """Rewrite an op that reads sequences, by its kind. Refuse an op that needs all steps of a sequence."""
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
                self._refuse(self.closed, "it puts several steps together", APART)
            fill = float(op.eval(np.full(1, x.fill))[0][0]) if x.zeros and isinstance(op, Elementwise) else x.fill
            self.put(self._at_length(op, result), [x.name])
            self._results(x.lag, x.zeros, fill)
        elif isinstance(op, Scan):
            self._scan(step, op)
        elif any(value in self.heads for value in step.inputs):
            self._early_at_all_steps(op, result)
        elif isinstance(op, Expand) and x is None and result is not None:
            shape = (*op.shape[:result], *op.shape[result + 1 :])
            self._in_order(self.at_every_step(first, shape, result), result, None)
        elif x is not None and axis is not None and is_running_sum(self.old, step):
            x = self._plain(first)  # its product with a triangle of ones becomes a loop
            name = self.masked(x.name, x.lag, axis) if x.lag else x.name
            self._in_order(self.summed(self.front(name, axis)), axis, x.lag)
        elif isinstance(op, Select) and op.axis == axis and x is not None and self._is_early(op.index, first, x):
            self._take_early(step.outputs[0], x, op.index, self.front(x.name, op.axis))
        elif isinstance(op, Reduce) and op.axis == axis and x is not None:
            self._whole(first, origin_of(step))
            if not (isinstance(op, Select) and op.index == -1):
                kind = f"element {op.index}" if isinstance(op, Select) else getattr(op, "kind", op.name)
                why = f"it takes the {kind} of all steps, which are known after the last one only"
                mend = f"read the last step, y[:, -1], or take the {kind} in the program that streams"
                self._refuse(self.mixed, why, mend)
            x = self._plain(first)
            self.put(op, [x.name])
            if x.lag is not None:
                self._take_last(step.outputs[0], first, op.axis, x.lag)
        else:
            if not self._each_step(step):
                refusals = self.mixed if isinstance(op, Softmax | LogSoftmax) else self.closed
                self._refuse(refusals, "it reads all steps at once", APART)
            names, lag = self._aligned(step.inputs)
            self.put(self._at_length(op, result), names)
            self._results(lag)

    def _each_step(self, step: Step) -> bool:
        """Return whether op ``step`` computes its result at each time from operands at this time, or without time."""
        types = [TensorType(self.old.shapes[value]) for value in step.inputs]
        places = [self.axes[value] if value in self.values else None for value in step.inputs]
        return places.count(None) == len(places) or op_of_one(step.op, types, places) is not None

    def _window(self, step: Step, op: Conv | Pool, x: Value, axis: int) -> None:
        """Rewrite a convolution or pooling: over time as a loop whose state is past frames; within a frame as it is."""
        shape = self.old.shapes[step.inputs[0]]
        spatial = axis - len(shape) + 2
        kernel = op.size if isinstance(op, Pool) else self.old.shapes[step.inputs[1]][2:]
        if spatial < 0:  # images at each step
            x = self._plain(step.inputs[0])
            self.put(op, [x.name, *step.inputs[1:]])
            self._results(x.lag)
            return
        width, stride, pad = fixed(kernel[spatial], "a kernel"), op.stride[spatial], op.pad[spatial]
        spread = op.dilation[spatial] if isinstance(op, Conv) else 1
        what = f"a {'convolution' if isinstance(op, Conv) else 'pooling'} of width {width} over time"
        if len(shape) != 4:
            self._refuse(self.closed, f"{what}, of images with more axes in front", "give it four axes")
        if stride != 1:
            mend = "use a stride of 1 along time, or stream only the part after it"
            self._refuse(self.closed, f"{what} has a stride of {stride} frames", mend)
        padding = LOWEST if isinstance(op, MaxPool) else 0.0
        if pad and x.zeros and x.fill != padding:
            x = self._plain(step.inputs[0])
        x = replace(x, zeros=x.zeros + pad, fill=padding if pad else x.fill)
        if x.zeros and x.fill and x.lag:
            x = self._behind_padding(x, axis)
        zeros = x.zeros
        reach = (width - 1) * spread
        lag = (x.lag or 0) - zeros + reach
        if lag < 0:
            self._refuse(self.closed, f"{what} has {zeros} zeros in front of it, more than it sees", "pad less")
        if reach > zeros:
            count = reach - zeros
            self.ahead.append(f"{origin_of(step)}: {what} sees {count} future frame{'s' if count > 1 else ''}")
        frames = self.front(self.masked(x.name, x.lag, axis) if zeros and x.lag else x.name, axis)  # [T, N, C, F]
        windowed = self.framed(op, frames, spatial, reach, x.fill if zeros else 0.0)
        self.put(Permute((1, 2, 0, 3) if spatial == 0 else (1, 2, 3, 0)), [windowed])
        self._results(lag)

    def _padding(self, step: Step, op: Concat) -> None:
        """Record constants of equal numbers before a sequence as its padding; no stream reaches constants after it."""
        sequences = [v for v in step.inputs if constant(self.old, v) is None]
        at = step.inputs.index(sequences[0]) if sequences else 0
        fills = {fill for v in step.inputs[:at] if (fill := constant(self.old, v)) is not None} or {0.0}
        if len(sequences) != 1 or sequences[0] not in self.values or len(fills) > 1:
            self._behind(step, op)
            return
        x = self.values[sequences[0]]
        assert x is not None
        before = sum(fixed(self.old.shapes[v][op.axis], "a padding") for v in step.inputs[:at])
        if x.zeros and (x.lag != 0 or {x.fill} != fills):
            x = self._plain(sequences[0])
        self.values[step.outputs[0]] = Value(x.name, x.lag, x.zeros + before, *fills)

    def _behind(self, step: Step, op: Concat) -> None:
        """Rewrite a Concat of single steps, a sequence, and constants after it, which are dropped; refuse any other."""
        moving = [i for i, v in enumerate(step.inputs) if v in self.values and constant(self.old, v) is None]
        behind = step.inputs[moving[0] + 1 :] if moving else ()
        known = all(constant(self.old, v) is not None for v in behind)
        if len(moving) != 1 or not known or any(v in self.late for v in step.inputs):
            self._refuse(self.closed, "it joins sequences along time", "join them outside of the net")
        *before, sequence = step.inputs[: moving[0] + 1]
        fronts = list[Front]()
        for value in before:
            count = fixed(self.old.shapes[value][op.axis], "steps")
            if value in self.heads and count == 1:
                fronts.append(self._front(*self.head(value), op.axis))
            elif value in self.heads or (row := self._row(value, op.axis)) is None:
                why, mend = f"it begins with {count} steps that differ", "begin with one, or with equal ones"
                self._refuse(self.closed, why, mend)
            else:
                fronts.append(Front(row, count))
        self.apart = True
        x = self._plain(sequence)
        y, lag = self.joined(fronts, self.front(x.name, op.axis), x.lag or 0)
        self._in_order(y, op.axis, lag)

    def _cut(self, step: Step, op: Split, x: Value) -> None:
        """Rewrite the slices that are read: the last element, an early element, or all elements from an index on."""
        at = 0
        for value, size in zip(step.outputs, op.sizes, strict=True):
            start, at = at, at + size
            if value not in self.read:
                continue
            if size == 1 and at == sum(op.sizes) and at > 1:
                x = self._plain(step.inputs[0])
                name = x.name
                self._whole(step.inputs[0], origin_of(step))
                last = self.one(Select(op.axis, -1), name, hint=f"{value}_last")
                shape = self.shapes[last]
                self.put(Reshape((*shape[: op.axis], 1, *shape[op.axis :])), [last], [value])
                self.axes.pop(value, None)
                if x.lag is not None:
                    self._take_last(value, step.inputs[0], op.axis, x.lag)
            elif size == 1 and self._is_early(start, step.inputs[0], x):
                order = self.front(x.name, op.axis)
                shape = self.shapes[order][1:]
                wide = (self.time, *shape[: op.axis], 1, *shape[op.axis :])
                self._take_early(value, x, start, self.one(Reshape(wide), order, hint=f"{value}_of_all"))
            elif size == 1:
                self._refuse(self.closed, f"it reads step {start} alone", "read the last step, or all of them")
            else:
                left = x.zeros - start  # the zeros at the beginning of the slice
                lag = None if x.lag is None else x.lag + max(-left, 0)
                self.values[value] = Value(x.name, lag, max(left, 0), x.fill)

    def _scan(self, step: Step, op: Scan) -> None:
        """Rewrite a loop over time; it waits for a late first input, and for early values from which it starts."""
        sequences = op.of_role("x", step.inputs)
        for value in sequences:
            self._whole(value, origin_of(step))
        if op.reverse:
            mend = f"use a layer of one direction, or, if it runs over another axis than time, name time, as in {TIME}"
            self._refuse(self.mixed, "it runs backwards, so its first step needs the last input", mend)
        if any(value in self.values and op.role(i) != "x" for i, value in enumerate(step.inputs)):
            self._refuse(self.closed, "every step of it reads all steps", APART)
        heads = [v for i, v in enumerate(step.inputs) if v in self.heads and op.role(i) == "state"]
        if any(v in self.heads and op.role(i) != "state" for i, v in enumerate(step.inputs)):
            self._refuse(self.closed, "it reads an early step at every step", APART)
        if heads:
            sequences, late = self._behind_heads(sequences, heads)
            lag: int | None = late
        else:
            sequences, lag = self._aligned(sequences)
        aligned = iter(sequences)
        operands = [next(aligned) if op.role(i) == "x" else value for i, value in enumerate(step.inputs)]
        scan: Scan = replace(op, length=self.time)
        states = scan.of_role("state", operands)
        if heads or (lag and op.states):
            batches = {self.shapes[value][0] for value in states}
            if isinstance(scan, MaskedScan) or (lag and len(heads) < len(states) and len(batches) > 1):
                why = "its states would begin before its first input comes"
                self._refuse(self.closed, why, "pad the convolution before it only in front")
            title = self.titled(scan, operands)
        if heads:
            scan = self.from_heads(scan, operands, lag or 0, title)
        if lag and len(heads) < len(states):
            scan = self.from_first(scan, operands, lag, title)
        self.put(scan, operands)
        self._results(lag)
