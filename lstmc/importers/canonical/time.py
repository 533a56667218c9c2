"""Time in an imported net: the axis of each value along which layers run, and cells over frames of a sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lstmc.errors import Argument
from lstmc.importers.ir.net import Net, NetBuilder, origin_of
from lstmc.importers.ir.ops import Divide, Expand, Permute, Select
from lstmc.importers.ir.values import OpenSize, Shape, Size, Weight, fixed, number, plain, result_shapes
from lstmc.ir import Scan
from lstmc.ops import Add, Affine, Binary, Concat, Conv, Linear, Mul, Op, Reshape, Split
from lstmc.ops.layers import Pool
from lstmc.passes.unrolled_steps import Step
from lstmc.types import TensorType

TIME = Argument("time", "x=2", 'time={"x": 2}')
COUNTED = 4  # the fewest constants that are recognised as a count
Place = tuple[str, int]  # a value, and one of its axes
ONES = Affine(0.0, 1.0)


class TwoTimeAxes(Exception):
    """Raised for a value of ``step``, or an input (None), with two time axes, such as the scores of attention."""

    def __init__(self, step: Step | None) -> None:
        super().__init__(step)
        self.step = step


def time_axes(net: Net) -> dict[str, int] | None:
    """Return the time axis of each value that has one. Return None if layers run along no axis, or along axes that are
    not the same time, or if no input has time. Raises :class:`TwoTimeAxes` if a value has two time axes."""
    times = time_places(net)
    if len(times) != 1:
        return None
    axes = dict(times[0])
    if square := {value for value, axis in times[0] if axes[value] != axis}:
        raise TwoTimeAxes(next((step for step in net.steps if square.intersection(step.outputs)), None))
    return axes if any(name in net.inputs for name in axes) else None


def has_several_times(net: Net) -> bool:
    """Return whether layers run along several axes, such as the bands and the frames of a spectrum."""
    return sum(map(bool, time_places(net))) > 1


def timeless(net: Net) -> Step | None:
    """Return the op that makes a sequence from values without time, so unrelated to the inputs' time, or None."""
    for places in time_places(net):
        values = {value for value, _ in places}
        if values.isdisjoint(net.inputs):
            makers = (s for s in net.steps if not values.isdisjoint(s.outputs) and values.isdisjoint(s.inputs))
            if (maker := next(makers, None)) is not None:
                return maker
    return None


def neighbours(pairs: Iterable[tuple[Place, Place]]) -> dict[Place, list[Place]]:
    """Return for each axis the axes that ``pairs`` join to it."""
    near: dict[Place, list[Place]] = {}
    for a, b in pairs:
        near.setdefault(b, []).append(a)
        near.setdefault(a, []).append(b)
    return near


def time_places(net: Net) -> list[list[Place]]:
    """Return groups of axes, one for each time along which layers run: all axes that are this time. Loops show time;
    without a loop, convolutions that are padded only in front do; without these, cumulative sums and shifts."""
    near = neighbours(pair for step in net.steps for pair in same_axes(step, net))
    over_loops = [(x, 0) for s in net.steps if isinstance(s.op, Scan) for x in s.op.of_role("x", s.inputs)]
    times, seen = list[list[Place]](), set[Place]()
    for place in over_loops or [*_causal_axes(net)] or [*_past_axes(net)]:
        if place in seen:
            continue
        time, waiting = {place}, [place]
        while waiting:
            more = {*near.setdefault(waiting.pop(), [])} - time
            time |= more
            waiting += more
        seen |= time
        times.append([each for each in near if each in time and net.shapes[each[0]][each[1]] != 1])
    return times


def _causal_axes(net: Net) -> Iterator[Place]:
    """Yield the axes along which a convolution is padded in front alone, or cut at the end: images have none."""
    for step in net.steps:
        if not isinstance(step.op, Conv):
            continue
        x, rank = step.inputs[0], len(net.shapes[step.inputs[0]])
        maker = net.producers.get(x)
        while maker is not None and isinstance(maker.op, Reshape | Permute):
            maker = net.producers.get(maker.inputs[0])
        for spatial, axis in enumerate((rank - 2, rank - 1)):
            padded = maker is not None and isinstance(maker.op, Concat) and is_zero(net, maker.inputs[0])
            padded = padded and maker is not None and not is_zero(net, maker.inputs[-1])
            after, value = net.readers.get(step.outputs[0], []), step.outputs[0]
            while len(after) == 1 and isinstance(after[0].op, Reshape):
                value = after[0].outputs[0]
                after = net.readers.get(value, [])
            cut = len(after) == 1 and isinstance(after[0].op, Split) and len(after[0].op.sizes) == 2
            cut = cut and not net.readers.get(after[0].outputs[1]) and step.op.pad[spatial] > 0
            if fixed(net.shapes[step.inputs[1]][2 + spatial], "a kernel") > 1 and (padded or cut):
                yield x, axis


def _past_axes(net: Net) -> Iterator[Place]:
    """Yield the axes of cumulative sums, and of sequences that zeros in front shift to later steps."""
    for step in net.steps:
        result, shape = step.outputs[0], net.shapes[step.outputs[0]]
        if is_running_sum(net, step) and shape[-1] != 1:
            yield result, len(shape) - 1
        elif isinstance(step.op, Concat) and is_zero(net, step.inputs[0]) and len(step.inputs) == 2:
            cut = net.producers.get(step.inputs[1])
            if cut is not None and isinstance(cut.op, Split) and cut.op.axis == step.op.axis:
                yield result, step.op.axis


def constant(net: Net, value: str) -> float | None:
    """Return the number that all elements of a value equal for any inputs; None if there is no such number."""
    if value in net.params and not net.params[value].sources:
        array = net.params[value].make()
        return float(array.flat[0] if array.size else 0) if np.all(array == array.flat[:1]) else None
    op = net.producers[value].op if value in net.producers else None
    return op.shift if isinstance(op, Affine) and op.scale == 0 else None


def is_zero(net: Net, value: str) -> bool:
    return constant(net, value) == 0


def is_running_sum(net: Net, step: Step) -> bool:
    """Return whether an op is a product with a triangle of ones: a cumulative sum along the operand's last axis."""
    weight = net.params.get(step.inputs[1]) if isinstance(step.op, Linear) and len(step.inputs) == 2 else None
    if weight is None or weight.sources or len({*weight.shape}) > 1:
        return False
    return bool(np.array_equal(weight.array(), np.tri(weight.shape[0])))


def same_axes(step: Step, net: Net) -> Iterator[tuple[Place, Place]]:
    """Yield pairs of equal axes of an op, as (value, axis): an operand's axis with an axis of another operand or of a
    result. Equal axes may differ in length. An axis of one element that is repeated is in no pair."""
    types = [TensorType(net.shapes[value]) for value in step.inputs]
    last = len(net.shapes[step.inputs[0]]) - 1 if is_running_sum(net, step) else None
    if last is not None:
        yield (step.inputs[0], last), (step.outputs[0], last)
    for slot, value in enumerate(step.inputs):
        for axis, size in enumerate(net.shapes[value]):
            if last is not None and (slot or axis == last):
                continue
            along = step.op.along(slot, axis, *types)
            if along is None or (along.op is None and slot and value in net.params):
                continue
            if size == 1 and isinstance(step.op, Binary | Expand | Reshape):
                continue
            places = [*zip(step.outputs, along.results, strict=True)]
            if not isinstance(step.op, Concat):  # which may have thousands of operands, and its result has each axis
                places = [*zip(step.inputs, along.operands, strict=True), *places]
            yield from (((value, axis), (name, place)) for name, place in places if place is not None)


@dataclass(frozen=True)
class Count:
    """Constants that count steps, each of ``shape``: at step t they are b t (``first`` 0) or b (t + 1) (``first`` 1),
    with a whole number b = ``factor``, or the reciprocal if ``inverse``."""

    factor: float
    first: int
    inverse: bool
    shape: Shape

    def step(self, net: NetBuilder, before: str) -> tuple[str, str]:
        """Add a time step's ops. From the number of steps done, return the next number [1, 1] and the constants."""

        def one(op: Op, *xs: str) -> str:
            return net.one(op, *xs, hint="y")

        following = one(Affine(1.0, 1.0), before)
        y = one(Affine(self.factor, 0.0), following if self.first else before)
        if self.inverse:
            y = one(Divide(), one(ONES, y), y)
        return following, one(Expand(self.shape), one(Reshape((1,) * len(self.shape)), y))


def count_of(weight: Weight, axis: int) -> Count | None:
    """Return the count 0, 1, 2, ... or 1, 2, 3, ..., times a factor or inverted, that constants follow along an axis.
    Return None for other constants: they may depend on the number of steps."""
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
        if 0 < factor < np.inf and np.array_equal(exact, np.float32(column)):
            return Count(float(factor), first, inverse, shape)
    return None


def needed_steps(net: Net, axes: Mapping[str, int]) -> tuple[list[Step], set[str]]:
    """Return the ops that the outputs depend on, and the names of all values that these ops and the outputs read. A
    constant with which a Concat only pads along ``axes`` does not count as read."""
    read, steps = set(net.outputs.values()), list[Step]()
    for step in reversed(net.steps):
        if not read.isdisjoint(step.outputs):
            steps.append(step)
            padding = isinstance(step.op, Concat) and axes.get(step.outputs[0]) == step.op.axis
            read |= {value for value in step.inputs if not (padding and constant(net, value) is not None)}
    return steps[::-1], read


def begun(builder: NetBuilder, before: str, lag: int) -> tuple[str, str]:
    """Add a flag that is 0 at the first ``lag`` steps, then 1. Return it, and the next value of the state ``before``,
    which holds the next ``lag`` flags [1, lag] and starts from zeros."""
    first, *rest = builder.add(Split(1, (1, lag - 1)), before, hint="begun") if lag > 1 else [before]
    one = builder.one(ONES, first, hint="one")
    return first, builder.one(Concat(1), *rest, one, hint="after") if rest else one


class Frames:
    """Builds a new net from ``old`` with loops over frames; ``time`` is the open length of its sequences."""

    step: Step  # an op of the old net: new ops are made in its place

    def __init__(self, old: Net, time: OpenSize) -> None:
        """Start a new net from ``old``, without steps. Delayed values and flags are made once."""
        self.old, self.time = old, time
        self.builder = NetBuilder.of(old)
        self.shapes, self.params = self.builder.shapes, self.builder.params
        self.late: dict[str, int] = {}  # value of a single step of a sequence -> its delay in steps
        self._delayed: dict[tuple[str, int, float], str] = {}  # (value, delay, first numbers) -> delayed value
        self._begun: dict[tuple[int, Size], str] = {}  # (delay, batch) -> the flags of :meth:`has_begun`
        self.earlier: dict[str, list[Step]] = {}  # late last value -> the ops that compute it some steps earlier

    def earlier_net(self, outputs: list[str]) -> Net | None:
        """Return the old net with the named outputs, each late one computed earlier by its delay. An output for which
        this is impossible is left out; return None if none is left."""
        steps, new, unknown = list[Step](), dict[str, str](), set[str]()
        for step in self.old.steps:
            steps.append(replace(step, inputs=tuple(new.get(value, value) for value in step.inputs)))
            for value in step.outputs:
                steps += self.earlier.get(value, [])
                if self.earlier.get(value):
                    new[value] = self.earlier[value][-1].outputs[0]
                if self.earlier.get(value) == [] or not unknown.isdisjoint(step.inputs):
                    unknown.add(value)
        of = {name: self.old.outputs[name] for name in outputs if self.old.outputs[name] not in unknown}
        shapes = dict(self.old.shapes)
        for step in steps:
            results = result_shapes(step.op, *(shapes[value] for value in step.inputs))
            shapes |= zip(step.outputs, results, strict=True)
        outputs_of = {name: new.get(value, value) for name, value in of.items()}
        return self.old.of_steps(steps, shapes=shapes, outputs=outputs_of) if of else None

    def take_earlier(self, value: str, sequence: str, axis: int, lag: int) -> None:
        """Record the ops that compute the element ``lag`` steps before a sequence's last; none if that is too short."""
        size = self.old.shapes[sequence][axis]
        self.earlier[value] = []
        if isinstance(size, OpenSize) or size > lag:
            name = f"{value}_earlier"
            taken = Step(Select(axis, -1 - lag), (sequence,), (name,), self.step.loc)
            shaped = Step(Reshape(self.old.shapes[value]), (name,), (f"{name}_as",), self.step.loc)
            self.earlier[value] = [taken, shaped]

    def body(self) -> NetBuilder:
        return NetBuilder("step", self.old.origin, origin_of(self.step))

    def put(self, op: Op, inputs: Sequence[str], outputs: Sequence[str] | None = None) -> None:
        """Add an op in place of the old net's current one; the results are as late as the latest operand."""
        names = self.step.outputs if outputs is None else tuple(outputs)
        self.builder.put(Step(op, tuple(inputs), names, self.step.loc))
        self._late(names, inputs)

    def _late(self, names: Sequence[str], inputs: Sequence[str]) -> None:
        """Record that ``names``, values of a single step in time, are as late as the latest of ``inputs``."""
        if lates := [self.late[name] for name in inputs if name in self.late]:
            self.late |= dict.fromkeys(names, max(lates))

    def one(self, op: Op, *inputs: str, hint: str) -> str:
        name = self.builder.fresh(hint)
        self.put(op, inputs, [name])
        return name

    def front(self, name: str, axis: int) -> str:  # a sequence with its axis of time first
        if axis == 0:
            return name
        order = (axis, *(a for a in range(len(self.shapes[name])) if a != axis))
        return self.one(Permute(order), name, hint=f"{name}_steps")

    def back(self, name: str, axis: int) -> str:  # the first axis, time, is moved to ``axis``
        if axis == 0:
            return name
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(self.shapes[name])))
        return self.one(Permute(order), name, hint=f"{name}_back")

    def scan(self, stem: str, body: NetBuilder, sequences: Sequence[str], fill: float = 0.0) -> str:
        """Add a loop over time with one state, which begins with ``fill``, and return the loop's output over time."""
        state, first = next(iter(body.outputs)), None
        if fill:
            shape = body.inputs[state]
            row = self.builder.param(number(np.full((1,) * len(shape), fill)), "begin")
            first = self.one(Expand(tuple(map(plain, shape))), row, hint="begin")
        y, last = self.loop(stem, body, sequences, {state: first})
        self._late((y, last), sequences)
        return y

    def loop(
        self, stem: str, body: NetBuilder, sequences: Sequence[str], states: Mapping[str, str | None] = {},
        static: Sequence[str] = (),
    ) -> tuple[str, ...]:  # fmt: skip
        """Add a loop over time with this body. Return its outputs over time, then its last states."""
        title = self.builder.scan_name(stem)
        net, self.builder.where = body.finish(every_input=True), origin_of(self.step)
        return self.builder.loop(title, net, sequences, states, static, self.time)

    def at_every_step(self, name: str, shape: Shape, axis: int) -> str:
        """Return a value without time, repeated as a sequence [T, *shape], without its axis ``axis`` of size 1."""
        own = self.shapes[name]
        row = self.one(Reshape((1, *own[:axis], *own[axis + 1 :])), name, hint="row")
        body = self.body()
        kept, given = body.input("kept", (1, 1)), body.input("s", self.shapes[row])
        y = body.one(Expand((1, *shape)), given, hint="y")
        body.outputs = {"kept": kept, "y_0": body.one(Reshape(shape), y, hint="y")}
        return self.loop(self.step.outputs[0], body, (), {"kept": None}, [row])[0]

    def summed(self, frames: str) -> str:
        """Return the cumulative sums of a sequence [T, ...], computed by a loop."""
        shape, body = self.shapes[frames][1:], self.body()
        now, before = body.input("x", shape), body.input("total", shape)
        total = body.one(Add(), before, now, hint="y")
        body.outputs = {"total": total, "y_0": total}
        return self.scan(f"{self.step.outputs[0]}_sum", body, [frames])

    def later(self, name: str, axis: int, by: int, fill: float = 0.0) -> str:
        """Return a value over time that is delayed by ``by`` steps, made once; its first ``by`` steps are ``fill``."""
        if (name, by, fill) not in self._delayed:
            x = self.front(name, axis)
            shape = self.shapes[x][1:]
            body = self.body()
            now, past = body.input("x", shape), body.input("past", (by, *shape))
            row = body.one(Reshape((1, *shape)), now, hint="row")
            window = body.one(Concat(0), past, row, hint="window")
            first, rest = body.add(Split(0, (1, by)), window, hint="rows")
            body.outputs = {"past": rest, "y_0": body.one(Reshape(shape), first, hint="y")}
            self._delayed[name, by, fill] = self.back(self.scan(f"{name}_later", body, [x], fill), axis)
        return self._delayed[name, by, fill]

    def has_begun(self, lag: int, n: Size) -> str:
        """Return a mask [T, n, 1] that is 0 at the first ``lag`` steps, then 1."""
        if (lag, 1) not in self._begun:
            body = self.body()
            first, following = begun(body, body.input("before", (1, lag)), lag)
            body.outputs = {"before": following, "y_0": first}
            self._begun[lag, 1] = self.scan("begun", body, [])
        if (lag, n) not in self._begun:  # an open n, too, as an input's cell would bind it
            flags = self._begun[lag, 1]
            self._begun[lag, n] = self.one(Expand((self.time, n, 1)), flags, hint=f"{flags}_of_all")
        return self._begun[lag, n]

    def masked(self, name: str, lag: int, axis: int) -> str:
        """Return a value over time whose first ``lag`` steps are zero."""
        mask = self.has_begun(lag, 1)
        shape: list[Size] = [1] * len(self.shapes[name])
        shape[axis] = self.time
        mask = self.one(Reshape(tuple(shape)), mask, hint="begun_as")
        return self.one(Mul(), name, mask, hint=f"{name}_begun")

    def framed(self, op: Conv | Pool, frames: str, spatial: int, reach: int, fill: float) -> str:
        """Apply a convolution or pooling over time to frames [T, N, C, F], and return [T, N, O, F']: each result sees a
        frame and the ``reach`` frames before it, which are ``fill`` before the first frame."""
        _, n, channels, features = self.shapes[frames]
        swap = spatial == 1

        def pair(values: tuple[int, int], time: int) -> tuple[int, int]:
            return time, values[1 - spatial]

        weights: list[Weight] = []
        turned: Conv | Pool
        if isinstance(op, Conv):
            w = self.params[self.step.inputs[1]]
            weights = [w.transposed(0, 1, 3, 2) if swap else w, *(self.params[name] for name in self.step.inputs[2:])]
            turned = Conv(pair(op.stride, 1), pair(op.pad, 0), pair(op.dilation, op.dilation[spatial]), op.group)
        else:
            turned = type(op)(pair(op.size, op.size[spatial]), pair(op.stride, 1), pair(op.pad, 0))
        if not reach:  # each frame alone: an image of one row
            rows = self.one(Reshape((self.time, n, channels, 1, features)), frames, hint=f"{frames}_rows")
            roles = [self.builder.param(weight, f"{self.step.outputs[0]}_weight") for weight in weights]
            y = self.one(turned, rows, *roles, hint=f"{self.step.outputs[0]}_rows")
            t, n, out, _, columns = self.shapes[y]
            return self.one(Reshape((t, n, out, columns)), y, hint=f"{self.step.outputs[0]}_steps")
        body = self.body()
        dense = isinstance(op, Conv) and op.group == 1 and features == 1 and weights[0].shape[3] == 1
        dense = dense and op.pad[1 - spatial] == 0
        inner = self._dense if dense else self._rows
        frame: Shape = (n, channels) if dense else (n, channels, features)
        if dense:
            frames = self.one(Reshape((self.time, n, channels)), frames, hint=f"{frames}_flat")
        inner(body, turned, weights, frame, reach)
        owner = weights[0].sources[0].rpartition(".")[0] if weights and weights[0].sources else ""
        y = self.scan(owner.rpartition(".")[2] or self.step.outputs[0], body, [frames], fill)
        if dense:
            y = self.one(Reshape((*self.shapes[y], 1)), y, hint=f"{y}_column")
        return y

    @staticmethod
    def _dense(body: NetBuilder, op: Conv | Pool, weights: list[Weight], frame: Shape, reach: int) -> None:
        """Build a convolution over time alone as a product with its window: y = W [x[t - reach], ..., x[t]] + b."""
        assert isinstance(op, Conv)
        n, channels = frame
        size, spread = fixed(channels, "channels"), op.dilation[0]
        past: Shape = (n, reach * size)
        x, before = body.input("x", frame), body.input("past", past)
        flat = weights[0].reshaped(*weights[0].shape[:3]).transposed(0, 2, 1)
        flat = flat.reshaped(flat.shape[0], flat.shape[1] * flat.shape[2])
        roles = [body.param(weight, hint) for weight, hint in zip((flat, *weights[1:]), ("W", "b"), strict=False)]
        window = body.one(Concat(1), before, x, hint="window")
        seen = window
        if spread > 1:
            pieces = body.add(Split(1, (size,) * (reach + 1)), window, hint="frame")
            seen = body.one(Concat(1), *pieces[::spread], hint="seen")
        y = body.one(Linear(1), seen, *roles, hint="y")
        _, rest = body.add(Split(1, (size, reach * size)), window, hint="kept")
        body.outputs = {"past": rest, "y_0": y}

    @staticmethod
    def _rows(body: NetBuilder, op: Conv | Pool, weights: list[Weight], frame: Shape, reach: int) -> None:
        """Build a body that applies ``op`` to an image whose rows are the past frames and this frame."""
        n, channels, features = frame
        past: Shape = (n, channels, reach, features)
        x, before = body.input("x", frame), body.input("past", past)
        roles = [body.param(weight, hint) for weight, hint in zip(weights, ("W", "b"), strict=False)]
        row = body.one(Reshape((n, channels, 1, features)), x, hint="row")
        window = body.one(Concat(2), before, row, hint="window")
        y = body.one(op, window, *roles, hint="y")
        n, out, _, columns = body.shapes[y]
        y = body.one(Reshape((n, out, columns)), y, hint="y")
        _, rest = body.add(Split(2, (1, reach)), window, hint="kept")
        body.outputs = {"past": rest, "y_0": y}
