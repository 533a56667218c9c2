"""Time: the axis that recurrent layers run over is left open, and convolutions over it become cells with a past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lstmc.importers.describe.images import Conv, Pool
from lstmc.importers.describe.net import Net, NetBuilder, Step
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.ops import (
    Apply,
    Binary,
    Concat,
    Dropout,
    Einsum,
    Expand,
    Linear,
    Normalize,
    Reduce,
    Reshape,
    Select,
    Softmax,
    Split,
    Transpose,
)
from lstmc.importers.describe.pointwise import Activation
from lstmc.importers.describe.recur import Recur
from lstmc.importers.describe.rolled import Rolled
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, fixed
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.importers.settle.one_step import names_of
from lstmc.importers.settle.regroup import groups
from lstmc.importers.weight import Weight

ZEROS = Apply(Activation("affine", 0.0, 0.0))
ONES = Apply(Activation("affine", 0.0, 1.0))
Place = tuple[str, int]  # a value, and one of its axes


def with_open_time(net: Net, step: bool = False) -> Net:
    """Return the net with a name for the length of its sequences where it holds for all lengths.

    Convolutions over time that see no future frame become cells whose state is their past. With ``step`` those that do
    become such cells too: ``delays`` then says by how many steps each output is late. Raises :class:`RefusedError`
    where ``step`` is asked for and some layer needs more of a sequence than its past.
    """
    axes = _time_axes(net)
    if axes is None:
        return net
    opening = _Opening(net, axes)
    made = opening.net()
    if step:
        if opening.closed or opening.mixed:
            raise RefusedError(net.origin, [*opening.closed, *opening.mixed])
        return made
    if isinstance(opening.length, str):
        return made if not (opening.closed or made.delays) else net
    if not (opening.closed or opening.ahead or made.delays or opening.short):
        return made
    reasons = [f"{one.node}: {one.why}" for one in opening.closed] + opening.ahead + opening.short
    note = f"The length of sequences is fixed at {opening.length}. {reasons[0]}."
    if not (opening.closed or opening.mixed):
        note += " With step=True (--step) the imported model can be streamed: its outputs come some steps later."
    return replace(net, notes=(*net.notes, note))


def _time_axes(net: Net) -> dict[str, int] | None:
    """The axis of time of each value that has one; None where no layer shows it, or several axes would be it."""
    parent: dict[Place, Place] = {}

    def root(place: Place) -> Place:
        while (above := parent.setdefault(place, place)) != place:
            parent[place] = place = parent[above]
        return place

    for step in net.steps:
        for (operand, axis), (result, other) in _paths(step, net):
            parent[root((operand, axis))] = root((result, other))
    starts = [*_recurrent_axes(net)] or [*_causal_axes(net)]
    classes = {root(place) for place in starts}
    if len(classes) != 1:
        return None
    (time,) = classes
    found: dict[str, int] = {}
    for value, axis in [*parent]:
        of_time = root((value, axis)) == time and net.shapes[value][axis] != 1
        if of_time and found.setdefault(value, axis) != axis:
            return None  # two axes of time: every step is related to every other one
    return found if any(name in net.inputs for name in found) else None


def _recurrent_axes(net: Net) -> Iterator[Place]:
    for step in net.steps:
        if isinstance(step.op, Recur):
            yield step.inputs[0], 0
        elif isinstance(step.op, Rolled):
            yield from ((value, 0) for value in step.op.cut(step.inputs)[1])


def _causal_axes(net: Net) -> Iterator[Place]:
    """The axes of convolutions that are padded in front alone, as over time and in no image."""
    makers = {value: step for step in net.steps for value in step.outputs}
    readers: dict[str, list[Step]] = {}
    for step in net.steps:
        for value in step.inputs:
            readers.setdefault(value, []).append(step)
    for step in net.steps:
        if not isinstance(step.op, Conv):
            continue
        x, rank = step.inputs[0], len(net.shapes[step.inputs[0]])
        maker = makers.get(x)
        while maker is not None and isinstance(maker.op, Reshape):
            maker = makers.get(maker.inputs[0])
        for spatial, axis in enumerate((rank - 2, rank - 1)):
            padded = maker is not None and isinstance(maker.op, Concat) and _is_zero(net, makers, maker.inputs[0])
            padded = padded and maker is not None and not _is_zero(net, makers, maker.inputs[-1])
            after, value = readers.get(step.outputs[0], []), step.outputs[0]
            while len(after) == 1 and isinstance(after[0].op, Reshape):
                value = after[0].outputs[0]
                after = readers.get(value, [])
            cut = len(after) == 1 and isinstance(after[0].op, Split) and len(after[0].op.sizes) == 2
            cut = cut and not readers.get(after[0].outputs[1]) and step.op.pad[spatial] > 0
            if fixed(net.shapes[step.inputs[1]][2 + spatial], "a kernel") > 1 and (padded or cut):
                yield x, axis


def _is_zero(net: Net, makers: dict[str, Step], value: str) -> bool:
    if value in net.params:
        weight = net.params[value]
        return not weight.sources and not weight.make().any()
    return value in makers and makers[value].op == ZEROS


def _paths(step: Step, net: Net) -> Iterator[tuple[Place, Place]]:
    """The axes of operands and results that go on in one another, of another length perhaps."""
    op, shapes = step.op, net.shapes
    x, y = step.inputs[0], step.outputs[0]
    old, new = shapes[x], shapes[y]
    if isinstance(op, Transpose):
        yield from (((x, axis), (y, place)) for place, axis in enumerate(op.axes))
    elif isinstance(op, Reshape):
        for mine, theirs in groups(old, new):
            wide = [a for a in mine if old[a] != 1], [a for a in theirs if new[a] != 1]
            if len(wide[0]) == len(wide[1]) == 1:
                yield (x, wide[0][0]), (y, wide[1][0])
    elif isinstance(op, Binary):
        for value in step.inputs:
            shift = len(new) - len(shapes[value])
            yield from (((value, a), (y, a + shift)) for a, size in enumerate(shapes[value]) if size != 1)
    elif isinstance(op, Recur):
        yield (x, 0), (y, 0)
        extras = op.extras(step.inputs)
        yield from (((value, 0), (y, 0)) for what, value in extras.items() if what in ("mask", "cont"))
    elif isinstance(op, Rolled):
        _, sequences, _, _ = op.cut(step.inputs)
        results = step.outputs[: len(step.outputs) - len(op.states)]
        places = [(value, 0) for value in (*sequences, *results)]
        yield from pairwise(places)
    elif isinstance(op, Reduce | Select):
        yield from (((x, a), (y, a - (a > op.axis))) for a in range(len(old)) if a != op.axis)
    elif isinstance(op, Einsum):
        for letters, value in zip((op.of_x, op.of_y), step.inputs, strict=True):
            yield from (((value, letters.index(c)), (y, op.of_result.index(c))) for c in letters if c in op.of_result)
        shared = [c for c in op.of_x if c in op.of_y]
        yield from (((x, op.of_x.index(c)), (step.inputs[1], op.of_y.index(c))) for c in shared)
    elif isinstance(op, Concat):
        yield from (((value, a), (y, a)) for value in step.inputs for a in range(len(new)))
    elif isinstance(op, Linear):
        yield from (((x, a), (y, a)) for a in range(len(old) - 1))
    elif isinstance(op, Conv | Pool):
        kept = [a for a in range(len(old)) if a != len(old) - 3 or isinstance(op, Pool)]
        yield from (((x, a), (y, a)) for a in kept)
    elif isinstance(op, Expand):
        yield from (((x, a), (y, a)) for a in range(len(old)) if old[a] == new[a])
    else:
        yield from (((x, a), (out, a)) for out in step.outputs for a in range(len(old)))


@dataclass(frozen=True)
class _Value:
    """A value over time in the net that is made.

    Its step t has the source's element t - ``lag``, or anything before that; with ``zeros`` more elements of zero in
    front of the first one, which are not in it. ``lag`` is None of a value that is the same at all steps.
    """

    name: str
    lag: int | None
    zeros: int = 0


class _Opening:
    """One try. ``closed`` are reasons why the length is fixed, ``mixed`` why the net cannot go step by step.

    ``ahead`` says which layers see future frames, ``short`` which results have fewer steps than the inputs.
    """

    def __init__(self, net: Net, axes: dict[str, int]) -> None:
        self.old, self.axes = net, axes
        self.closed: list[Refusal] = []
        self.mixed: list[Refusal] = []
        self.ahead: list[str] = []
        self.short: list[str] = []
        self.builder = names_of(net)
        self.builder.steps = []
        self.shapes = self.builder.shapes
        self.params = dict(net.params)
        self.values: dict[str, _Value | None] = {}  # values over time; None where something was refused
        self.late: dict[str, int] = {}  # the lags of values that have no axis of time
        self.delayed: dict[tuple[str, int], str] = {}
        self.begun: dict[tuple[int, Size], str] = {}
        self.makers = {value: step for step in net.steps for value in step.outputs}
        lengths = {net.inputs[name][axis] for name, axis in axes.items() if name in net.inputs}
        self.length: Size = min(lengths, key=str)
        self.time: str = self.length if isinstance(self.length, str) else self._name()
        self.inputs = dict(net.inputs)
        if len(lengths) > 1:
            self._close("the inputs", "", f"their sequences have the lengths {sorted(map(str, lengths))}", "use one")
        for name, axis in axes.items():
            if name in net.inputs:
                self.inputs[name] = self.shapes[name] = self._opened(net.inputs[name], axis)
                self.values[name] = _Value(name, 0)
            elif name in net.params:
                size = net.shapes[name][axis]
                recipe = net.params[name].recipe
                self._close(recipe, "", f"it has a value for each of {size} steps", "compute it, or make it an input")
        for step in self._needed():
            self._step(step)

    def _name(self) -> str:
        taken = {size for shape in self.old.inputs.values() for size in shape if isinstance(size, str)}
        return next(name for name in ("T", "T_2", "T_3", "T_4") if name not in taken)

    def _opened(self, shape: Shape, axis: int) -> Shape:
        return (*shape[:axis], self.time, *shape[axis + 1 :])

    def net(self) -> Net:
        outputs, delays = {}, {}
        for name, value in self.old.outputs.items():
            found = self.values.get(value, _Value(value, self.late.get(value, 0)))
            if found is None:
                return self.old
            if found.zeros:
                self._close(f"output {name}", "", "it is padded along time", "pad what reads it instead")
            if value in self.values:
                self._whole(value, f"output {name}")
            outputs[name] = found.name
            if found.lag:
                delays[name] = found.lag
        wanted, steps = set(outputs.values()), []
        for step in reversed(self.builder.steps):
            if wanted & set(step.outputs):
                steps.append(step)
                wanted |= set(step.inputs)
        notes = [self._delay_note(name, lag) for name, lag in delays.items()]
        return replace(
            self.old,
            inputs=self.inputs,
            params={name: weight for name, weight in self.params.items() if name in wanted},
            steps=tuple(reversed(steps)),
            outputs=outputs,
            shapes=self.shapes,
            notes=(*self.old.notes, *notes),
            sizes={self.time: self.length} if isinstance(self.length, int) else {},
            delays=delays,
            time=(self.time,),
        )

    def _delay_note(self, name: str, lag: int) -> str:
        steps = f"{lag} step{'s' if lag > 1 else ''}"
        if self.old.outputs[name] in self.axes:
            told = f"at step t it is the source's at t - {lag}"
        else:
            told = f"at step t it is that of the sequence up to t - {lag}"
        return f"Output {name} comes {steps} late: {told}, since {'; '.join(self.ahead) or 'it has fewer steps'}."

    def _needed(self) -> Iterator[Step]:
        """The steps that outputs need, where padding with zeros needs nothing."""
        wanted, found = set(self.old.outputs.values()), []
        for step in reversed(self.old.steps):
            if wanted & set(step.outputs):
                found.append(step)
                padding = isinstance(step.op, Concat) and self.axes.get(step.outputs[0]) == step.op.axis
                wanted |= {v for v in step.inputs if not (padding and _is_zero(self.old, self.makers, v))}
        return reversed(found)

    def _close(self, node: str, value: str, why: str, mend: str) -> None:
        self.closed.append(Refusal(node, "", value or "time", why, mend))

    def _whole(self, value: str, node: str) -> None:
        """Note where a value has fewer steps than the inputs."""
        size = self.old.shapes[value][self.axes[value]]
        if size != self.length:
            self.short.append(f"{node} has {size} steps of {self.length}")

    def _step(self, step: Step) -> None:
        given = [self.values[value] for value in step.inputs if value in self.values]
        if any(value is None for value in given):
            self.values |= dict.fromkeys(step.outputs, None)
            return
        try:
            if given or any(value in self.axes for value in step.outputs):
                self._over_time(step)
            else:
                self._put(step.op, step.inputs, step)
        except ShapeProblem as problem:
            self._close(step.origin, "", str(problem), "write the model so that it holds for every length")
            self.values |= dict.fromkeys(step.outputs, None)

    def _put(self, op: Op, inputs: Sequence[str], step: Step, outputs: Sequence[str] | None = None) -> None:
        names = step.outputs if outputs is None else tuple(outputs)
        shapes = op.infer(*(self.shapes[name] for name in inputs))
        self.shapes.update(zip(names, shapes, strict=True))
        self.builder.steps.append(Step(op, tuple(inputs), names, step.origin))
        late = max((self.late.get(name, 0) for name in inputs), default=0)
        self.late |= {name: late for name in names if late}

    def _one(self, op: Op, *inputs: str, hint: str, step: Step) -> str:
        name = self.builder.fresh(hint)
        self._put(op, inputs, step, [name])
        return name

    def _results(self, step: Step, lag: int | None, zeros: int = 0) -> None:
        """Note the results of a step as values over time, those that have that axis."""
        for value in step.outputs:
            if value in self.axes:
                self.values[value] = _Value(value, lag, zeros)
            elif lag:
                self.late[value] = lag

    def _refuse(self, step: Step, refusals: list[Refusal], why: str, mend: str) -> None:
        refusals.append(Refusal(step.origin, "", type(step.op).__name__.lower(), why, mend))
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
        elif isinstance(op, Transpose) and x is not None:
            self._put(op, [x.name], step)
            self._results(step, x.lag, x.zeros)
        elif isinstance(op, Reshape) and x is not None:
            if result is None:
                mend = "keep them apart, or stream what stands before or behind"
                self._refuse(step, self.closed, "it puts several steps together", mend)
            assert result is not None
            self._put(Reshape(self._opened(op.shape, result)), [x.name], step)
            self._results(step, x.lag, x.zeros)
        elif isinstance(op, Apply | Dropout) and x is not None:
            if x.zeros and isinstance(op, Apply) and np.any(op.function(np.zeros(1)) != 0):
                self._refuse(step, self.closed, "it changes the zeros of a padding", "pad behind it")
            self._put(op, [x.name], step)
            self._results(step, x.lag, x.zeros)
        elif isinstance(op, Expand):
            assert result is not None or x is None
            shape = op.shape if result is None else self._opened(op.shape, result)
            self._put(Expand(shape), [first if x is None else self._plain(x, step)], step)
            self._results(step, None if x is None else x.lag)
        elif isinstance(op, Recur) and x is not None:
            self._recur(step, op, x)
        elif isinstance(op, Rolled):
            self._rolled(step, op)
        elif isinstance(op, Reduce | Select) and op.axis == axis and x is not None:
            self._whole(first, step.origin)
            if not (isinstance(op, Select) and op.index == -1):
                what = f"element {op.index} of" if isinstance(op, Select) else f"the {op.kind} of"
                mend = "read the last step, y[:, -1], or compute it outside of the net"
                self._refuse(step, self.mixed, f"it is {what} all steps, which are known after the last one only", mend)
            self._put(op, [self._plain(x, step)], step)
            self._results(step, x.lag)
        else:
            last = isinstance(op, Linear | Normalize) and axis == len(self.old.shapes[first]) - 1
            if last or (isinstance(op, Einsum) and not self._each_step(step, op)):
                self._refuse(step, self.closed, "it reads all steps at once", "stream what stands before or behind it")
            if isinstance(op, Softmax) and op.axis == axis:
                self._refuse(step, self.mixed, "it reads all steps at once", "stream what stands before or behind it")
            names, lag = self._aligned(step)
            self._put(op, names, step)
            self._results(step, lag)

    def _each_step(self, step: Step, op: Einsum) -> bool:
        """Whether a product is of the same step of both operands."""
        letters = {
            of[self.axes[value]]
            for of, value in zip((op.of_x, op.of_y), step.inputs, strict=True)
            if value in self.values
        }
        return len(letters) == 1 and letters <= {*op.of_result} and all(v in self.values for v in step.inputs)

    def _plain(self, x: _Value, step: Step) -> str:
        if x.zeros:
            self._refuse(
                step, self.closed, "it reads a sequence that is padded along time", "pad where it is convolved"
            )
        return x.name

    def _aligned(self, step: Step) -> tuple[list[str], int | None]:
        """The operands, all as late as the latest of them."""
        lags = [x.lag for v in step.inputs if (x := self.values.get(v)) is not None and x.lag is not None]
        lag, names = max(lags, default=None), []
        for value in step.inputs:
            x = self.values.get(value)
            name = value if x is None else self._plain(x, step)
            if x is not None and x.lag is not None and lag is not None and x.lag < lag:
                name = self._later(name, self.axes[value], lag - x.lag, step)
            names.append(name)
        return names, lag

    # cells over time

    def _front(self, name: str, axis: int, step: Step) -> str:
        if axis == 0:
            return name
        order = (axis, *(a for a in range(len(self.shapes[name])) if a != axis))
        return self._one(Transpose(order), name, hint=f"{name}_steps", step=step)

    def _back(self, name: str, axis: int, step: Step) -> str:
        if axis == 0:
            return name
        rank = len(self.shapes[name])
        order = [*range(1, rank)]
        order.insert(axis, 0)
        return self._one(Transpose(tuple(order)), name, hint=f"{name}_back", step=step)

    def _scan(self, stem: str, body: Net, sequences: Sequence[str], step: Step) -> str:
        """A cell with one state, run over time: what it gives at each step."""
        name = self.builder.scan_name(stem)
        weights = {f"{name}/{role}": weight for role, weight in body.params.items()}
        self.params |= weights
        self.shapes |= {role: weight.shape for role, weight in weights.items()}
        state = next(iter(body.outputs))
        op = Rolled(body, name, self.time, len(sequences), (state,))
        y, last = self.builder.fresh(f"{name}_y"), self.builder.fresh(f"{name}_{state}_T")
        self._put(op, [*weights, *sequences], step, [y, last])
        return y

    def _later(self, name: str, axis: int, by: int, step: Step) -> str:
        """A value over time, so many steps later."""
        if (name, by) not in self.delayed:
            x = self._front(name, axis, step)
            shape = self.shapes[x][1:]
            body = NetBuilder("step", self.old.origin)
            now, past = body.input("x", shape), body.input("past", (by, *shape))
            row = body.one(Reshape((1, *shape)), now, hint="row", origin=step.origin)
            window = body.one(Concat(0), past, row, hint="window", origin=step.origin)
            first, rest = body.add(Split(0, (1, by)), window, hint="rows", origin=step.origin)
            y = body.one(Reshape(shape), first, hint="y", origin=step.origin)
            body.outputs = {"past": rest, "y_0": y}
            made = self._scan(f"{name}_later", body.finish({"x": shape, "past": (by, *shape)}), [x], step)
            self.delayed[name, by] = self._back(made, axis, step)
        return self.delayed[name, by]

    def _has_begun(self, lag: int, n: Size, step: Step) -> str:
        """[T, n, 1]: 0 at the first ``lag`` steps, then 1."""
        if (lag, n) not in self.begun:
            body = NetBuilder("step", self.old.origin)
            before = body.input("before", (n, lag))
            first, *rest = (
                body.add(Split(1, (1, lag - 1)), before, hint="parts", origin=step.origin) if lag > 1 else [before]
            )
            ones = body.one(ONES, first, hint="one", origin=step.origin)
            following = body.one(Concat(1), *rest, ones, hint="after", origin=step.origin) if rest else ones
            body.outputs = {"before": following, "y_0": first}
            made = self._scan("begun", body.finish({"before": (n, lag)}), [], step)
            self.begun[lag, n] = made
        return self.begun[lag, n]

    def _window(self, step: Step, op: Conv | Pool, x: _Value, axis: int) -> None:
        """A convolution or pooling, of each frame alone or over several of them."""
        shape = self.old.shapes[step.inputs[0]]
        spatial = axis - len(shape) + 2
        kernel = op.size if isinstance(op, Pool) else self._kernel(step)
        if spatial < 0:  # images at each step
            self._put(op, [self._plain(x, step), *step.inputs[1:]], step)
            self._results(step, x.lag)
            return
        width, stride, pad = kernel[spatial], op.stride[spatial], op.pad[spatial]
        spread = op.dilation[spatial] if isinstance(op, Conv) else 1
        what = f"a {'convolution' if isinstance(op, Conv) else 'pooling'} of width {width} over time"
        if len(shape) != 4:
            self._refuse(step, self.closed, f"{what}, of images with more axes in front", "give it four axes")
        if stride != 1:
            mend = "use a stride of 1 along time, or stream what stands behind it"
            self._refuse(step, self.closed, f"{what} goes on by {stride} frames at a time", mend)
        zeros = x.zeros + pad
        if isinstance(op, Pool) and zeros and width > 1:
            self._refuse(step, self.closed, f"{what} is padded", "pool without padding along time")
        reach = (width - 1) * spread
        lag = (x.lag or 0) - zeros + reach
        if lag < 0:
            self._refuse(step, self.closed, f"{what} has {zeros} zeros in front of it, more than it sees", "pad less")
        if reach > zeros:
            count = reach - zeros
            self.ahead.append(f"{step.origin}: {what} sees {count} future frame{'s' if count > 1 else ''}")
        name = self._masked(x, axis, step) if zeros and x.lag else x.name
        frames = self._front(name, axis, step)  # [T, N, C, F]
        made = self._framed(step, op, frames, spatial, reach)
        self._put(Transpose((1, 2, 0, 3) if spatial == 0 else (1, 2, 3, 0)), [made], step)
        self._results(step, lag)

    def _kernel(self, step: Step) -> tuple[int, int]:
        rows, columns = (fixed(size, "a kernel") for size in self.old.shapes[step.inputs[1]][2:])
        return rows, columns

    def _masked(self, x: _Value, axis: int, step: Step) -> str:
        """A value with zeros before its first element."""
        assert x.lag
        mask = self._has_begun(x.lag, 1, step)
        shape: list[Size] = [1] * len(self.shapes[x.name])
        shape[axis] = self.time
        mask = self._one(Reshape(tuple(shape)), mask, hint="begun_as", step=step)
        return self._one(Binary("mul"), x.name, mask, hint=f"{x.name}_begun", step=step)

    def _framed(self, step: Step, op: Conv | Pool, frames: str, spatial: int, reach: int) -> str:
        """[T, N, C, F] by a window over the last ``reach`` + 1 frames: [T, N, O, F']."""
        _, n, channels, features = self.shapes[frames]
        swap = spatial == 1

        def pair(values: tuple[int, int], time: int) -> tuple[int, int]:
            return time, values[1 - spatial]

        weights: list[Weight] = []
        turned: Conv | Pool
        if isinstance(op, Conv):
            w = self.params[step.inputs[1]]
            weights = [w.transposed(0, 1, 3, 2) if swap else w, *(self.params[name] for name in step.inputs[2:])]
            turned = Conv(pair(op.stride, 1), pair(op.pad, 0), pair(op.dilation, op.dilation[spatial]), op.group)
        else:
            turned = Pool(op.kind, pair(op.size, op.size[spatial]), pair(op.stride, 1), pair(op.pad, 0), op.ceil)
        if not reach:  # each frame alone: an image of one row
            names = [frames]
            rows = self._one(Reshape((self.time, n, channels, 1, features)), *names, hint=f"{frames}_rows", step=step)
            roles = [self._param(weight, step) for weight in weights]
            y = self._one(turned, rows, *roles, hint=f"{step.outputs[0]}_rows", step=step)
            t, n, out, _, columns = self.shapes[y]
            return self._one(Reshape((t, n, out, columns)), y, hint=f"{step.outputs[0]}_steps", step=step)
        body = NetBuilder("step", self.old.origin)
        dense = isinstance(op, Conv) and op.group == 1 and features == 1 and weights[0].shape[3] == 1
        dense = dense and op.pad[1 - spatial] == 0
        inner = self._dense if dense else self._rows
        frame: Shape = (n, channels) if dense else (n, channels, features)
        if dense:
            frames = self._one(Reshape((self.time, n, channels)), frames, hint=f"{frames}_flat", step=step)
        inputs = inner(body, turned, weights, frame, reach, step.origin)
        owner = weights[0].sources[0].rpartition(".")[0] if weights and weights[0].sources else ""
        y = self._scan(owner.rpartition(".")[2] or step.outputs[0], body.finish(inputs), [frames], step)
        if dense:
            y = self._one(Reshape((*self.shapes[y], 1)), y, hint=f"{y}_column", step=step)
        return y

    def _param(self, weight: Weight, step: Step) -> str:
        name = next((name for name, known in self.params.items() if known == weight and "/" not in name), None)
        if name is None:
            name = self.builder.fresh(f"{step.outputs[0]}_weight")
            self.params[name], self.shapes[name] = weight, weight.shape
        return name

    @staticmethod
    def _dense(
        body: NetBuilder, op: Conv | Pool, weights: list[Weight], frame: Shape, reach: int, origin: str
    ) -> dict[str, Shape]:
        """y = W [x[t - reach], ..., x[t]] + b: one product, the past being one row of numbers."""
        assert isinstance(op, Conv)
        n, channels = frame
        size, spread = fixed(channels, "channels"), op.dilation[0]
        past: Shape = (n, reach * size)
        x, before = body.input("x", frame), body.input("past", past)
        flat = weights[0].reshaped(*weights[0].shape[:3]).transposed(0, 2, 1)
        flat = flat.reshaped(flat.shape[0], flat.shape[1] * flat.shape[2])
        roles = [body.param(weight, hint) for weight, hint in zip((flat, *weights[1:]), ("W", "b"), strict=False)]
        window = body.one(Concat(1), before, x, hint="window", origin=origin)
        seen = window
        if spread > 1:
            pieces = body.add(Split(1, (size,) * (reach + 1)), window, hint="frame", origin=origin)
            seen = body.one(Concat(1), *pieces[::spread], hint="seen", origin=origin)
        y = body.one(Linear(), seen, *roles, hint="y", origin=origin)
        _, rest = body.add(Split(1, (size, reach * size)), window, hint="kept", origin=origin)
        body.outputs = {"past": rest, "y_0": y}
        return {x: frame, before: past}

    @staticmethod
    def _rows(
        body: NetBuilder, op: Conv | Pool, weights: list[Weight], frame: Shape, reach: int, origin: str
    ) -> dict[str, Shape]:
        """Frames as the rows of an image of ``reach`` + 1 of them."""
        n, channels, features = frame
        past: Shape = (n, channels, reach, features)
        x, before = body.input("x", frame), body.input("past", past)
        roles = [body.param(weight, hint) for weight, hint in zip(weights, ("W", "b"), strict=False)]
        row = body.one(Reshape((n, channels, 1, features)), x, hint="row", origin=origin)
        window = body.one(Concat(2), before, row, hint="window", origin=origin)
        y = body.one(op, window, *roles, hint="y", origin=origin)
        n, out, _, columns = body.shapes[y]
        y = body.one(Reshape((n, out, columns)), y, hint="y", origin=origin)
        _, rest = body.add(Split(2, (1, reach)), window, hint="kept", origin=origin)
        body.outputs = {"past": rest, "y_0": y}
        return {x: frame, before: past}

    def _padding(self, step: Step, op: Concat) -> None:
        """Zeros in front of a sequence, or after it."""
        given = [v for v in step.inputs if not _is_zero(self.old, self.makers, v)]
        if len(given) != 1 or given[0] not in self.values:
            self._refuse(step, self.closed, "it joins sequences along time", "join them outside of the net")
        x = self.values[given[0]]
        assert x is not None
        at = step.inputs.index(given[0])
        before = sum(fixed(self.old.shapes[v][op.axis], "a padding") for v in step.inputs[:at])
        if x.zeros and x.lag != 0:
            self._refuse(step, self.closed, "it pads what is padded", "pad once")
        self.values[step.outputs[0]] = _Value(x.name, x.lag, x.zeros + before)

    def _cut(self, step: Step, op: Split, x: _Value) -> None:
        """Some elements of a sequence, side by side: the rest of it, from one on; or the last one."""
        readers = {v for s in self._needed() for v in s.inputs} | set(self.old.outputs.values())
        at = 0
        for value, size in zip(step.outputs, op.sizes, strict=True):
            start, at = at, at + size
            if value not in readers:
                continue
            name = self._plain(x, step)
            if size == 1 and at == sum(op.sizes) and at > 1:
                self._whole(step.inputs[0], step.origin)
                last = self._one(Select(op.axis, -1), name, hint=f"{value}_last", step=step)
                shape = self.shapes[last]
                self._put(Reshape((*shape[: op.axis], 1, *shape[op.axis :])), [last], step, [value])
                self.axes.pop(value, None)
                if x.lag:
                    self.late[value] = x.lag
            elif size == 1:
                mend = "read the last step, or all of them"
                self._refuse(step, self.closed, f"it reads step {start} alone", mend)
            else:
                self.values[value] = _Value(name, None if x.lag is None else x.lag + start)

    def _recur(self, step: Step, op: Recur, x: _Value) -> None:
        self._whole(step.inputs[0], step.origin)
        if op.reverse:
            mend = "use a layer of one direction"
            self._refuse(step, self.mixed, "it runs backwards, so its first step needs the last input", mend)
        inputs = [self._plain(x, step), *step.inputs[1:]]
        for number, value in enumerate(inputs[1:], 1):
            other = self.values.get(value)
            if other is not None:
                if other.lag != x.lag:
                    self._refuse(step, self.closed, "its mask and its input come at different steps", "use one of them")
                inputs[number] = self._plain(other, step)
        if x.lag:
            if op.more:
                self._refuse(step, self.closed, f"it has {', '.join(op.more)} behind a convolution", "leave them out")
            inputs.append(self._has_begun(x.lag, self.shapes[x.name][1], step))
            op = replace(op, cell=replace(op.cell, masked=True), more=("mask",))
        self._put(op, inputs, step)
        self._results(step, x.lag)

    def _rolled(self, step: Step, op: Rolled) -> None:
        weights, sequences, first, static = op.cut(step.inputs)
        for value in sequences:
            self._whole(value, step.origin)
        if op.reverse:
            mend = "use a loop from the first step to the last one"
            self._refuse(step, self.mixed, "it runs backwards, so its first step needs the last input", mend)
        if any(value in self.values for value in (*first, *static)):
            self._refuse(step, self.closed, "every step of it reads all steps", "stream what stands before it")
        names, lag = self._aligned(replace(step, inputs=tuple(sequences)))
        if lag:
            mend = "give the convolution before it zeros in front alone"
            self._refuse(step, self.closed, "its states would begin before its first input comes", mend)
        self._put(replace(op, steps=self.time), [*weights, *names, *first, *static], step)
        self._results(step, lag)


class _Closed(Exception):
    """A step was refused."""
