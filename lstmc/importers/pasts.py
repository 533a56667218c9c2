"""The pasts of a net: values that its layers keep from step to step, and the part of them that no input or output
carries.

A past that begins from zeros is made an input, and values that may be its next values are made outputs; then
:func:`~lstmc.importers.canonical.states.step_states` can prove the pair like any other state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from lstmc.importers.canonical.states import MOVES, step_states
from lstmc.importers.canonical.time import is_zero, time_places
from lstmc.importers.ir.net import Net, origin_of
from lstmc.importers.ir.values import Shape
from lstmc.ir import Scan
from lstmc.ops import Add, Concat, Conv, Full, Input, Linear, Mul, Pointwise, Reshape, Split
from lstmc.passes.unrolled_steps import Step

MOST = 24  # the most values of one shape that are tried as the next value of a past
DEEPEST = 5  # the most nodes that take a state out of a stack of states
CUT = "/end of a window"


@dataclass(frozen=True)
class Past:
    """A value that a node keeps from step to step: its ``input``, and the ``output`` that is its next value, or "".

    ``why`` is the proof in words, ``lost`` the reason why a stream loses it, or "".
    """

    node: str
    input: str
    output: str
    why: str
    lost: str = ""


def pasts(net: Net, freed: Net, loops: bool = False) -> list[Past]:
    """Return the pasts of a net of one frame, or with ``loops`` the pasts of the loops of a net of sequences.

    ``freed`` is the same net with zeros that may be pasts as inputs.
    """
    called = {name: net.called.get(name, name) for name in (*net.inputs, *net.outputs)}
    proved = step_states(net, {}, loops).proved
    found = [Past(reader(net, a), called[a], called[b], why) for a, (b, why) in proved.items()]
    found = [replace(past, lost=lost) for past, lost in zip(found, crossed(found), strict=True)]
    known = {a: b for a, (b, _) in proved.items()}
    freed = with_zeros_as_inputs(freed, loops)
    for a, (b, why) in step_states(freed, known, loops).proved.items():
        known[a] = b
        if a in net.inputs:
            found.append(Past(reader(freed, a), called[a], called[b], why))
        else:
            lost = f"it starts from zeros at every call: {called[b]} has its next value, and no input takes it"
            found.append(Past(reader(freed, a), "", called[b], why, lost))
    for a, why in unread(freed, known, loops):
        begins = f"{called[a]} has it" if a in net.inputs else "it starts from zeros at every call"
        lost = f"{begins}, and no output is its next value"
        found.append(Past(reader(freed, a), called.get(a, ""), "", why, lost))
    return found


def reader(net: Net, name: str) -> str:
    """Return the first node that computes with a value, and does not only move it."""
    names = {name}
    for step in net.steps:
        if names.intersection(step.inputs):
            if not isinstance(step.op, MOVES) or isinstance(step.op, Concat):
                return origin_of(step)
            names.update(step.outputs)
    return name


def stem(name: str) -> str:
    """Return a state's name without the words for before and after a step."""
    if match := re.fullmatch(r"([hc])_?[0nt]", name):
        return match[1]
    words = re.findall(r"[a-z]+|\d+", name.lower())
    return "_".join(w for w in words if w not in _DIRECTIONS)


_DIRECTIONS = set(
    re.findall(r"\w+", "in out input output prev previous next new old past present initial final i o n t")
)


def crossed(found: list[Past]) -> Iterator[str]:
    """Yield for each pair why its names contradict its proof, or ""."""
    outputs = {stem(past.output): past.output for past in found}
    for past in found:
        named = outputs.get(stem(past.input), past.output)
        crosses = named != past.output and stem(past.output) in {stem(other.input) for other in found}
        yield (f"its next value is {past.output}, and {named} has its name: the two are exchanged" if crosses else "")


def with_zeros_as_inputs(net: Net, loops: bool) -> Net:
    """Return the net with the zeros that layers compute with, and from which loops of one step begin, as inputs."""
    names: dict[str, None] = {}
    for step in net.steps:
        for slot, value in enumerate(step.inputs):
            zeros = value in net.params and prod(net.shapes[value]) > 1 and is_zero(net, value)
            if isinstance(step.op, Scan):
                zeros = zeros or isinstance(net.leaves.get(value), Full)
                zeros = (
                    zeros
                    and step.op.role(slot) == "state"
                    and (step.op.length == 1 or (loops and not step.op.reverse and runs_over(net, step) == "time"))
                )
            elif isinstance(step.op, Add) or (isinstance(step.op, Linear | Conv) and slot):  # a bias, or no weight
                zeros = False
            names |= {value: None} if zeros else {}
    leaves = {**net.leaves, **{name: Input(net.shapes[name]) for name in names}}
    params = {name: weight for name, weight in net.params.items() if name not in names}
    return replace(net, params=params).of_steps(net.steps, leaves)


def layer_axes(net: Net) -> tuple[dict[str, int], dict[str, int]]:
    """Return the axis of time of each value, and the axis of bands: along it loops run both ways, beside loops over
    time."""
    places = [dict(axis) for axis in time_places(net) if axis]
    backwards = {v for s in net.steps if isinstance(s.op, Scan) and s.op.reverse for v in s.op.of_role("x", s.inputs)}
    both = [axis for axis in places if any(axis.get(value) == 0 for value in backwards)]
    single = any(isinstance(step.op, Scan) and step.op.length == 1 for step in net.steps)
    both = both if single or len(both) < len(places) else []
    time = [axis for axis in places if axis not in both and not axis.keys().isdisjoint(net.inputs)]
    return time[0] if len(time) == 1 else {}, {value: axis for one in both for value, axis in one.items()}


def runs_over(net: Net, step: Step) -> str:
    """Return what a loop runs over: "time" or "bands"."""
    assert isinstance(step.op, Scan)
    bands = layer_axes(net)[1]
    return "bands" if any(bands.get(value) == 0 for value in step.op.of_role("x", step.inputs)) else "time"


def unread(net: Net, known: Mapping[str, str], loops: bool) -> Iterator[tuple[str, str]]:
    """Yield inputs, or parts of them, whose next value is computed but is no output, with the proof."""
    known = dict(known)
    for depth in range(DEEPEST):
        made, owner = exposed(net, [name for name in net.inputs if name not in known], depth)
        for name, (_, why) in step_states(made, known, loops).proved.items():
            if owner[name] not in known:
                known[owner[name]] = ""
                yield owner[name], why


def exposed(net: Net, inputs: Collection[str], depth: int) -> tuple[Net, dict[str, str]]:
    """Return the net with all values as outputs that may be next values of these inputs, and a map to the inputs. A
    part of an input, taken out by up to ``depth`` nodes, is an input of its own there."""
    owner = {name: name for name in inputs}
    steps, leaves, shapes = list(net.steps), dict(net.leaves), dict(net.shapes)
    for _ in range(depth):
        cut = [
            step for step in steps if isinstance(step.op, MOVES) and len(step.inputs) == 1 and step.inputs[0] in owner
        ]
        cut = [step for step in cut if step.inputs[0] in leaves]
        for step in cut:
            owner |= dict.fromkeys(step.outputs, owner[step.inputs[0]])
            leaves |= {name: Input(shapes[name]) for name in step.outputs}
        steps = [step for step in steps if step not in cut]
    wanted = {shapes[name] for name in owner if name in leaves}
    values, counts = dict[str, str](), dict[object, int]()
    for step in [*steps]:
        if isinstance(step.op, Conv):
            steps += _ends(net, step, wanted, shapes, values)
        if _may_be_next(net, step):
            for value in step.outputs:
                count = counts[shapes[value]] = counts.get(shapes[value], 0) + 1
                if shapes[value] in wanted and count <= MOST:
                    values[f"{value}/"] = value
    made = replace(net, graph=net.graph).of_steps(
        steps, leaves, shapes, {**net.outputs, **values}, every_input=not depth
    )
    return made, owner


def _may_be_next(net: Net, step: Step) -> bool:
    """Return whether a step's results may be the next values of states, by its op."""
    makers = [net.producers.get(name) for name in step.inputs]
    if isinstance(step.op, Reshape):
        return makers[0] is not None and _may_be_next(net, makers[0])
    if isinstance(step.op, Mul):  # the output gate times the function of an LSTM's cell state
        return all(maker is not None and isinstance(maker.op, Pointwise) for maker in makers)
    return isinstance(step.op, Add | Concat | Scan)


def _ends(
    net: Net, step: Step, wanted: Collection[object], shapes: dict[str, Shape], values: dict[str, str]
) -> Iterator[Step]:
    """Yield the steps that cut the end of a convolution's window, as long as the past that is joined in front of it."""
    window = step.inputs[0]
    join = net.producers.get(window)
    while join is not None and isinstance(join.op, Reshape):
        join = net.producers.get(join.inputs[0])
    if join is None or not isinstance(join.op, Concat):
        return
    window, axis, past = join.outputs[0], join.op.axis, shapes[join.inputs[0]]
    rest = shapes[window][axis] - past[axis]
    if past in wanted and f"{window}{CUT}" not in values:
        names = (f"{window}/front", f"{window}{CUT}")
        shapes |= {names[0]: (*past[:axis], rest, *past[axis + 1 :]), names[1]: past}
        values[names[1]] = names[1]
        yield Step(Split(axis, (rest, past[axis])), (window,), names, step.loc)
