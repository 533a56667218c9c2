"""Sources of one frame, with states that are named by the user or proved; and one frame of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lstmc.errors import Argument
from lstmc.importers.canonical import Read, at_sizes, canonicalize_frame, one_model, read_open
from lstmc.importers.canonical.frame import times
from lstmc.importers.canonical.states import RECURRENT, States, notes, step_states
from lstmc.importers.canonical.time import TwoTimeAxes, time_axes
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import OpenSize, Shape, open_sizes
from lstmc.importers.refusal import RefusedError, SourceError
from lstmc.importers.sources import SourceNet
from lstmc.text import nearest_or_all
from lstmc.types import shape_text

FRAMES = 37  # the number of frames for a sequence of open length: no other size has it by chance


@dataclass(frozen=True)
class Reading:
    """How to read a source: ``step``, ``states`` and ``time`` are the arguments of
    :func:`~lstmc.importers.import_file`."""

    read: Read
    shapes: Mapping[str, Sequence[int]]
    step: bool = False
    states: Mapping[str, str] = field(default_factory=dict)
    time: Mapping[str, int] = field(default_factory=dict)


def read_frame(reading: Reading) -> tuple[SourceNet, dict[str, str]]:
    """Return a source and its states, if it is a source of one frame: inputs, with the outputs that are their next
    values. States are named by the user or proved. Raises :class:`SourceError` for names that the source does not have,
    and the errors of :func:`read_open`."""
    read, shapes, step, given = reading.read, reading.shapes, reading.step, reading.states
    source, refused = None, None
    try:
        source = read_open(read, shapes, step)
        inputs = source.described.source_inputs()
    except RefusedError as error:
        refused, inputs = error, error.inputs
    is_open = any(map(open_sizes, inputs.values()))
    if refused is not None and not is_open:
        raise refused
    if source is not None and source.surroundings is not None:
        if not given:
            return source, {}
        source = source.surroundings.whole()
    sequence = source is not None and _is_sequence(source.described)
    frame = source
    if is_open:
        frame = None if sequence and not (step or given) else read_if_it_can(read, {**of_one(inputs), **shapes})
    found = States() if frame is None else step_states(frame.described)
    if sequence and all(why == RECURRENT for _, why in found.proved.values()):
        found = States()  # its length is open: its states are the first and last states of a sequence
    if frame is None or not (given or found.proved):
        if source is None:
            assert refused is not None
            raise refused
        return _noted(source, found, {}), {}
    source = frame if source is None or sequence else source
    named = _named(source.described, given)
    said = {*named.values()}
    states = {n: after for n, (after, _) in found.proved.items() if n not in named and after not in said} | named
    states = {name: after for name, after in states.items() if after}
    found = replace(found, proved={name: found.proved[name] for name in states if name not in named})
    return _noted(source, found, {name: after for name, after in named.items() if after}), states


def read_time(reading: Reading) -> tuple[SourceNet, Net, dict[str, int]]:
    """Return a source of sequences, the canonical net of one frame, and the axis of time of its inputs and outputs.

    The user names time, or loops run forwards along it; an open axis takes precedence. Raises :class:`SourceError`
    unless there is exactly one such axis, and :class:`RefusedError` for layers that need more than the past, or the
    number of frames.
    """
    refused = None
    try:
        inputs = reading.read(reading.shapes).described.source_inputs()
    except RefusedError as error:
        refused, inputs = error, error.inputs
        if not any(map(open_sizes, inputs.values())):
            raise
    time = {name: _axis(inputs, name, axis) for name, axis in reading.time.items()}
    names = list(dict.fromkeys(size.name for shape in inputs.values() for size in open_sizes(shape)))
    said = [str(inputs[name][axis]) for name, axis in time.items()]
    found: list[tuple[SourceNet, dict[str, int]]] = []
    for length in [name for name in names if name in said or not time] or [""]:
        numbers = {name: FRAMES if name == length or name in said else 1 for name in names}
        source = reading.read({**at_sizes(inputs, numbers), **reading.shapes})
        net = source.described
        own = {called: name for name, called in net.called.items()}
        if time:
            found = [(source, {own.get(name, name): axis for name, axis in time.items()})]
            break
        found += [(source, axes) for axes in times(net) if not length or _length(net, axes) == FRAMES]
    if len(found) != 1:
        raise _not_one_time(net, [axes for _, axes in found])
    ((source, axes),) = found
    net, frames = canonicalize_frame(source.described, axes)
    if refused is not None:  # a layer needs a number, which must not be the number of frames
        numbers = {
            s.name: n
            for x, shape in source.described.source_inputs().items()
            for s, n in zip(inputs[x], shape, strict=True)
            if isinstance(s, OpenSize)
        }
        more = at_sizes(inputs, {name: number + (number == FRAMES) for name, number in numbers.items()})
        other = reading.read({**more, **reading.shapes}).described
        if not one_model([net, canonicalize_frame(other, axes)[0]]):
            raise refused
    return source, net, frames


def _not_one_time(net: Net, found: Sequence[Mapping[str, int]]) -> SourceError:
    """Return the error of a net without one axis of time, with the option for each axis that may be it."""
    example = Argument("time", "x=2", 'time={"x": 2}')
    choices = [
        Argument("time", f"{net.called.get(n, n)}={a}", _time(net, axes))
        for axes in found
        for n, a in [*axes.items()][:1]
    ]
    what = " or ".join(map(str, choices)) or f"name it by time, as in {example}"
    return SourceError(
        f"{net.origin}: expected one axis of the inputs along which loops run forwards alone, as time, found"
        f" {len(found)}: {what}",
    )


def _length(net: Net, axes: Mapping[str, int]) -> int:
    name, axis = next(iter(axes.items()))
    return net.inputs[name][axis]


def _time(net: Net, axes: Mapping[str, int]) -> str:
    return f"time={ {net.called.get(name, name): axis for name, axis in axes.items()} }".replace("'", '"')


def _axis(inputs: Mapping[str, Shape], name: str, axis: int) -> int:
    """Return an axis of a source's input, counted from the first. Raises :class:`SourceError` if there is no such
    axis."""
    argument = Argument("time", f"{name}={axis}", f'time={{"{name}": {axis}}}')
    if name not in inputs:
        hint = nearest_or_all(name, inputs, "the inputs are")
        raise SourceError(f"{argument}: no input {name}{hint}")
    shape = inputs[name]
    if not -len(shape) <= axis < len(shape) or shape[axis] == 1:
        raise SourceError(
            f"{argument}: expected an axis of {name} [{', '.join(map(str, shape))}] with several elements, from 0 on"
        )
    return axis % len(shape)


def _is_sequence(net: Net) -> bool:
    try:
        return time_axes(net) is not None
    except TwoTimeAxes:
        return True


def of_one(inputs: Mapping[str, Shape]) -> dict[str, list[int]]:
    """Return the shapes of inputs with 1 for each open size."""
    names = {size.name: 1 for shape in inputs.values() for size in open_sizes(shape)}
    return at_sizes(inputs, names)


def read_if_it_can(read: Read, shapes: Mapping[str, Sequence[int]]) -> SourceNet | None:
    """Return a source with these shapes, or None if it cannot be read with them."""
    try:
        return read(shapes)
    except (RefusedError, SourceError):  # a source without sizes to choose, as a state dict
        return None


def _noted(source: SourceNet, found: States, given: Mapping[str, str]) -> SourceNet:
    net = source.described
    return replace(source, described=replace(net, notes=(*net.notes, *notes(net, found, given))))


def _named(net: Net, given: Mapping[str, str]) -> dict[str, str]:
    """Return the states that a user named, by the net's own names. Raises :class:`SourceError`."""
    inputs = {net.called.get(name, name): name for name in net.inputs}
    outputs = {net.called.get(name, name): name for name in net.outputs}
    states = {}
    for state, after in given.items():
        argument = Argument("states", f"{state}={after}", f'states={{"{state}": "{after}"}}')
        for name, known, kind in ((state, inputs, "input"), (after, outputs, "output")):
            if name and name not in known:
                hint = nearest_or_all(name, known, f"its {kind}s are")
                raise SourceError(f"{argument}: {net.origin} has no {kind} {name}{hint}")
        own = net.inputs[inputs[state]]
        new = net.shapes[net.outputs[outputs[after]]] if after else own
        if own != new:
            raise SourceError(
                f"{argument}: expected a state and its next value of one shape, found {state} {shape_text(own)} and"
                f" {after} {shape_text(new)}"
            )
        states[inputs[state]] = outputs[after] if after else ""
    return states
