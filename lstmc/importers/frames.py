"""Ways to read a source: with open sizes or numbers for them, as a net of one frame with states, or as a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lstmc.errors import Argument
from lstmc.importers.canonical import canonicalize, canonicalize_frame
from lstmc.importers.canonical.frame import times
from lstmc.importers.canonical.states import RECURRENT, States, notes, step_states
from lstmc.importers.canonical.time import TIME, TwoTimeAxes, time_axes
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import OpenSize, Shape, open_names, open_sizes
from lstmc.importers.printer import files
from lstmc.importers.refusal import RefusedError, SourceError
from lstmc.importers.sources import SourceNet
from lstmc.ir import Scan
from lstmc.text import nearest_or_all
from lstmc.types import shape_text

LENGTHS = (100, 101)  # the first length is the default of the model
SHORT = 13  # a length at which a branch may differ
FRAMES = 37  # the number of frames for a sequence of open length: no other size has it by chance
Read = Callable[[Mapping[str, Sequence[int]]], SourceNet]


@dataclass(frozen=True)
class Reading:
    """How to read a source: ``step``, ``states`` and ``time`` are as in :func:`~lstmc.importers.import_file`."""

    read: Read
    shapes: Mapping[str, Sequence[int]]
    step: bool = False
    states: Mapping[str, str] = field(default_factory=dict)
    time: Mapping[str, int] = field(default_factory=dict)

    def at(self, shapes: Mapping[str, Sequence[int]] = {}) -> SourceNet:
        """Return the source read with these shapes of its inputs; shapes that the user gave take precedence."""
        return self.read({**shapes, **self.shapes})

    def if_it_can(self, shapes: Mapping[str, Sequence[int]]) -> SourceNet | None:
        """Return the source read with these shapes; None if it cannot be read with them."""
        try:
            return self.at(shapes)
        except (RefusedError, SourceError):  # a source without sizes to choose, as a state dict
            return None


def read_frame(reading: Reading) -> tuple[SourceNet, dict[str, str]]:
    """Return a source and, for a net of one frame, its states, mapped to the outputs with their next values: named by
    the user or proved. Raises :class:`SourceError` for names that the source does not have, and as
    :func:`read_open`."""
    source, refused, given = None, None, reading.states
    try:
        source = read_open(reading)
        inputs = source.described.source_inputs()
    except RefusedError as error:
        refused, inputs = error, error.inputs
    is_open = bool(open_names(inputs))
    if refused is not None and not is_open:
        raise refused
    if source is not None and source.surroundings is not None:
        if not given:
            return source, {}
        source = source.surroundings.whole()
    sequence = source is not None and _is_sequence(source.described)
    frame = source  # read as one frame: with 1 for each open size; None if it cannot be
    if is_open:
        frame = None if sequence and not (reading.step or given) else reading.if_it_can(of_one(inputs))
    found = States() if frame is None else step_states(frame.described)
    if sequence and all(why == RECURRENT for _, why in found.proved.values()):
        found = States()  # a sequence of open length: these are the first and last states of the whole sequence
    if frame is None or not (given or found.proved):
        if source is None:
            assert refused is not None
            raise refused
        return _noted(source, found, {}), {}
    source = frame if source is None or sequence else source  # the frame stands for a sequence
    named = _named(source.described, given)
    said = {*named.values()}
    states = {n: after for n, (after, _) in found.proved.items() if n not in named and after not in said} | named
    states = {name: after for name, after in states.items() if after}
    found = replace(found, proved={name: found.proved[name] for name in states if name not in named})
    return _noted(source, found, {name: after for name, after in named.items() if after}), states


def read_time(reading: Reading) -> tuple[SourceNet, Net, dict[str, int]]:
    """Return a source of sequences, the canonical net of one frame, and the axis of time of its inputs and outputs.
    Time is the axis that the user names, or else the axis along which loops run forwards (an open axis is preferred),
    or else the open axis along which the net reads its past. Raises :class:`SourceError` unless there is exactly one
    such axis, and :class:`RefusedError` for layers that need more than the past, or the number of frames."""
    refused = None
    try:
        inputs = reading.at().described.source_inputs()
    except RefusedError as error:
        refused, inputs = error, error.inputs
        if not open_names(inputs):
            raise
    time = {name: _axis(inputs, name, axis) for name, axis in reading.time.items()}
    names = open_names(inputs)
    said = [str(inputs[name][axis]) for name, axis in time.items()]
    found, opened = list[tuple[SourceNet, dict[str, int]]](), list[tuple[SourceNet, dict[str, int]]]()
    for length in [name for name in names if name in said or not time] or [""]:  # the open size of time
        numbers = {name: FRAMES if name == length or name in said else 1 for name in names}
        source = reading.at(at_sizes(inputs, numbers))
        net = source.described
        own = {called: name for name, called in net.called.items()}
        if time:
            found = [(source, {own.get(name, name): axis for name, axis in time.items()})]
            break
        of_length = [axes for axes in times(net) if not length or FRAMES in (net.inputs[x][axes[x]] for x in axes)]
        found += [(source, axes) for axes in of_length]  # loops run along these axes
        places = {own.get(x, x): [str(size) for size in shape] for x, shape in inputs.items()}
        opened += [(source, {x: sizes.index(length) for x, sizes in places.items() if length in sizes})]
    found = found or [(source, axes) for source, axes in opened if axes and _has_past(source.described, axes)]
    if len(found) != 1:
        raise _not_one_time(net, [axes for _, axes in found])
    ((source, axes),) = found
    net, frames = canonicalize_frame(source.described, axes)
    if not net.states and any(isinstance(step.op, Scan) for step in net.steps):
        along = " and ".join(f"axis {axis} of {net.called.get(name, name)}" for name, axis in axes.items())
        raise SourceError(
            f"{net.origin}: expected a layer that remembers frames along {along}, found none",
            notes=["it computes each frame alone: import it from an example of one frame, without step and time"],
        )
    if refused is not None:  # a layer needs a number, which must not be the number of frames
        given = source.described.source_inputs()
        pairs = [pair for x in given for pair in zip(inputs[x], given[x], strict=True)]
        more = at_sizes(inputs, {size.name: n + (n == FRAMES) for size, n in pairs if isinstance(size, OpenSize)})
        if not one_model([net, canonicalize_frame(reading.at(more).described, axes)[0]]):
            raise refused
    return source, net, frames


def _has_past(net: Net, axes: Mapping[str, int]) -> bool:
    """Return whether the net of one frame, with time along ``axes``, has a state."""
    try:
        return bool(canonicalize_frame(net, axes)[0].states)
    except RefusedError:
        return False


def _not_one_time(net: Net, found: Sequence[Mapping[str, int]]) -> SourceError:
    """Return the error of a net with no axis of time or several, with the option for each axis that may be time."""
    named = [{net.called.get(name, name): axis for name, axis in axes.items()} for axes in found]
    choices = [
        Argument("time", "{}={}".format(*next(iter(axes.items()))), f"time={axes}".replace("'", '"')) for axes in named
    ]
    what = " or ".join(map(str, choices)) or f"name it by time, as in {TIME}"
    return SourceError(
        f"{net.origin}: expected one axis of the inputs along which loops run forwards alone, as time, found"
        f" {len(found)}: {what}"
    )


def _axis(inputs: Mapping[str, Shape], name: str, axis: int) -> int:
    """Return the user's axis of time, counted from the front. Raises :class:`SourceError` if there is no such axis."""
    argument = Argument("time", f"{name}={axis}", f'time={{"{name}": {axis}}}')
    if name not in inputs:
        raise SourceError(f"{argument}: no input {name}{nearest_or_all(name, inputs, 'the inputs are')}")
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
    return at_sizes(inputs, dict.fromkeys(open_names(inputs), 1))


def _noted(source: SourceNet, found: States, given: Mapping[str, str]) -> SourceNet:
    net = source.described
    return replace(source, described=replace(net, notes=(*net.notes, *notes(net, found, given))))


def _named(net: Net, given: Mapping[str, str]) -> dict[str, str]:
    """Return the user's states by the net's names ("": no state). Raises :class:`SourceError` for names it lacks."""
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


def read_open(reading: Reading) -> SourceNet:
    """Return a source that is read with its dynamic axes, or at a length that :func:`canonicalize` makes dynamic again.
    The second way is for an operator that needs the number of a dynamic axis, such as a padding in front of a sequence:
    the graph is read at two lengths, and both must give the same model; a short length too, if it can be read, because
    a branch may depend on the length. With ``step``, other axes than time may become 1. Raises :class:`RefusedError` of
    the first reading, with further refusals at known sizes, or with a layer that cannot be streamed."""
    try:
        return reading.at()
    except RefusedError as error:
        if not open_names(error.inputs):
            raise
        refused = error
    streamed: RefusedError | None = None
    pinned: RefusedError | None = None
    for sizes in _candidates(refused.inputs, reading.step):
        sources = list[SourceNet]()
        try:
            for numbers in sizes:
                sources.append(reading.at(at_sizes(refused.inputs, numbers)))
        except RefusedError as error:
            if not sources:  # otherwise the source can be read at one length only
                pinned = pinned or _both(error, _at_short(reading, refused.inputs, numbers))
            continue
        short = _at_short(reading, refused.inputs, numbers)
        sources += [short] if isinstance(short, SourceNet) else []
        try:
            nets = [canonicalize(source.described, reading.step) for source in sources]
        except RefusedError as error:
            streamed = streamed or error
            continue
        if all(net.time for net in nets) and one_model(nets):
            ones, net = [name for name, size in sizes[0].items() if size == 1], sources[0].described
            note = f"The dynamic axes {', '.join(ones)} are 1, as a layer needs their number."
            return replace(sources[0], described=replace(net, notes=(*net.notes, *[note] * bool(ones))))
    raise streamed or (refused if pinned is None else refused.beside(pinned))


def _at_short(reading: Reading, inputs: Mapping[str, Shape], sizes: Mapping[str, int]) -> SourceNet | RefusedError:
    """Return the source at the short length, or the reason why it cannot be read at this length."""
    try:
        return reading.at(at_sizes(inputs, {n: SHORT if size in LENGTHS else size for n, size in sizes.items()}))
    except RefusedError as error:
        return error


def _both(error: RefusedError, other: SourceNet | RefusedError) -> RefusedError:
    """Return ``error`` with the refusals at nodes that ``other`` refuses too: other lengths may take another branch."""
    nodes = {one.node for one in other.refusals} if isinstance(other, RefusedError) else set[str]()
    kept = [one for one in error.marked_refusals if one.node in nodes]
    return RefusedError(error.origin, kept, error.what, error.inputs)


def _candidates(inputs: Mapping[str, Shape], step: bool) -> Iterator[list[dict[str, int]]]:
    """Yield sizes to read at, dicts by dynamic axis: each axis in turn is time; with ``step`` others may be 1."""
    names = open_names(inputs)
    yield from ([{name: length} for length in LENGTHS] for name in names)
    if step and len(names) > 1:
        for time in names:
            ones = {name: 1 for name in names if name != time}
            yield [ones]
            yield [{time: length, **ones} for length in LENGTHS]


def at_sizes(inputs: Mapping[str, Shape], numbers: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the shapes of the inputs that have open sizes, with ``numbers`` in place of these sizes."""
    return {
        name: [numbers.get(size.name, size) if isinstance(size, OpenSize) else size for size in shape]
        for name, shape in inputs.items()
        if open_sizes(shape)
    }


def one_model(nets: Sequence[Net]) -> bool:
    """Return whether the nets give the same written model, apart from the default length."""
    first, *others = [files(replace(net, sizes={}), "") for net in nets]
    return all(other == first for other in others)
