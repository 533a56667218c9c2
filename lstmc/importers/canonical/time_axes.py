"""The time axis of each value: the axis along which recurrent layers, or causal convolutions, run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from lstmc.importers.canonical.layout import groups
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.ops import Einsum, Expand, Permute, Reducing, Select
from lstmc.importers.ir.recur import Recur
from lstmc.importers.ir.sizes import fixed
from lstmc.ir import Scan
from lstmc.ops import Affine, Binary, Concat, Conv, Linear, Reshape, Split
from lstmc.ops.layers import Pool
from lstmc.passes.unrolled_steps import Step

ZEROS = Affine(0.0, 0.0)
# why a net has no time axis, or two, and what to do
ATTENTION = (
    "it relates every step to all others, as attention over a whole sequence does, and cannot be streamed",
    "import the whole sequence instead, or train the model with recurrent layers alone",
)
TIMELESS = (
    "it computes each step from all steps of its input",
    "stream the part behind it, or compute each step alone (a LayerNorm in place of a GroupNorm)",
)
NO_TIME = (
    "it has no recurrent layer and no convolution that is padded in front alone, so that no axis is known as time",
    "pad the convolutions in front, or give it a recurrent layer",
)
Place = tuple[str, int]  # a value, and one of its axes


class TwoTimeAxes(Exception):
    """Raised where a value has two axes of time: every step is related to every other one. ``step`` computes it."""

    def __init__(self, step: Step | None) -> None:
        super().__init__(step)
        self.step = step


def time_axes(net: Net) -> dict[str, int] | None:
    """Return the time axis of each value that has one; None if no layer has one, or if there are several.

    Raises :class:`TwoTimeAxes` where a value has two.
    """
    times = _time_places(net)
    if len(times) != 1:
        return None
    axes, square = dict[str, int](), set[str]()
    for value, axis in times[0]:
        if axes.setdefault(value, axis) != axis:
            square.add(value)
    if square:
        raise TwoTimeAxes(next((step for step in net.steps if square.intersection(step.outputs)), None))
    return axes if any(name in net.inputs for name in axes) else None


def timeless(net: Net) -> Step | None:
    """Return the step that makes a sequence of values without an axis of time, and loses the time of the inputs so."""
    for places in _time_places(net):
        values = {value for value, _ in places}
        if values.isdisjoint(net.inputs):
            makers = (s for s in net.steps if not values.isdisjoint(s.outputs) and values.isdisjoint(s.inputs))
            if (maker := next(makers, None)) is not None:
                return maker
    return None


def _time_places(net: Net) -> list[list[Place]]:
    """Return the axes that are the same time as those along which layers run, for each such time."""
    parent: dict[Place, Place] = {}

    def root(place: Place) -> Place:
        while (above := parent.setdefault(place, place)) != place:
            parent[place] = place = parent[above]
        return place

    for step in net.steps:
        for (operand, axis), (result, other) in _paths(step, net):
            parent[root((operand, axis))] = root((result, other))
    times = {root(place): list[Place]() for place in [*_recurrent_axes(net)] or [*_causal_axes(net)]}
    for value, axis in [*parent]:
        if root((value, axis)) in times and net.shapes[value][axis] != 1:
            times[root((value, axis))].append((value, axis))
    return [*times.values()]


def _recurrent_axes(net: Net) -> Iterator[Place]:
    for step in net.steps:
        if isinstance(step.op, Recur):
            yield step.inputs[0], 0
        elif isinstance(step.op, Scan):
            yield from ((value, 0) for value in step.op.of_role("x", step.inputs))


def _causal_axes(net: Net) -> Iterator[Place]:
    """Yield the axes of convolutions that are padded only in front, as over time and not in images."""
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
            padded = maker is not None and isinstance(maker.op, Concat) and is_zero(net, makers, maker.inputs[0])
            padded = padded and maker is not None and not is_zero(net, makers, maker.inputs[-1])
            after, value = readers.get(step.outputs[0], []), step.outputs[0]
            while len(after) == 1 and isinstance(after[0].op, Reshape):
                value = after[0].outputs[0]
                after = readers.get(value, [])
            cut = len(after) == 1 and isinstance(after[0].op, Split) and len(after[0].op.sizes) == 2
            cut = cut and not readers.get(after[0].outputs[1]) and step.op.pad[spatial] > 0
            if fixed(net.shapes[step.inputs[1]][2 + spatial], "a kernel") > 1 and (padded or cut):
                yield x, axis


def is_zero(net: Net, makers: dict[str, Step], value: str) -> bool:
    if value in net.params:
        weight = net.params[value]
        return not weight.sources and not weight.make().any()
    return value in makers and makers[value].op == ZEROS


def _paths(step: Step, net: Net) -> Iterator[tuple[Place, Place]]:
    """Yield pairs of an operand's and a result's axes that are the same axis, perhaps of another length."""
    op, shapes = step.op, net.shapes
    x, y = step.inputs[0], step.outputs[0]
    old, new = shapes[x], shapes[y]
    if isinstance(op, Permute):
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
    elif isinstance(op, Scan):
        results = step.outputs[: len(step.outputs) - op.states]
        places = [(value, 0) for value in (*op.of_role("x", step.inputs), *results)]
        yield from pairwise(places)
    elif isinstance(op, Reducing | Select):
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
