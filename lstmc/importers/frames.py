"""Sources of one frame: which inputs are states, as the user says or as it is proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lstmc.errors import Argument
from lstmc.importers.canonical import Read, at_sizes, read_open
from lstmc.importers.canonical.states import RECURRENT, States, notes, step_states
from lstmc.importers.canonical.time import TwoTimeAxes, time_axes
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import Shape, open_sizes
from lstmc.importers.refusal import RefusedError, SourceError
from lstmc.importers.sources import SourceNet
from lstmc.text import nearest_or_all
from lstmc.types import shape_text


def read_frame(
    read: Read, shapes: Mapping[str, Sequence[int]], step: bool, given: Mapping[str, str]
) -> tuple[SourceNet, dict[str, str]]:
    """Return a source and its states, if it is one of one frame: inputs, each with the output that is its next value.

    ``given`` are states by the source's own names; others are found where they are proved. An output without a name
    says that the input is no state. ``step`` is that of :func:`~lstmc.importers.import_file`. Raises
    :class:`SourceError` for names that the source does not have, and what :func:`read_open` raises.
    """
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
        frame = None if sequence and not (step or given) else _read(read, {**_of_one(inputs), **shapes})
    found = States() if frame is None else step_states(frame.described)
    if sequence and all(why == RECURRENT for _, why in found.proved.values()):
        found = States()  # its length is open: its states are the first and last ones of a sequence
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


def _is_sequence(net: Net) -> bool:
    try:
        return time_axes(net) is not None
    except TwoTimeAxes:
        return True


def _of_one(inputs: Mapping[str, Shape]) -> dict[str, list[int]]:
    names = {size.name: 1 for shape in inputs.values() for size in open_sizes(shape)}
    return at_sizes(inputs, names)


def _read(read: Read, shapes: Mapping[str, Sequence[int]]) -> SourceNet | None:
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
                raise SourceError(f"{argument}: {net.origin} has no {kind} {name}{hint}", arguments=(argument,))
        own = net.inputs[inputs[state]]
        new = net.shapes[net.outputs[outputs[after]]] if after else own
        if own != new:
            raise SourceError(
                f"{argument}: expected a state and its next value of one shape, found {state} {shape_text(own)} and"
                f" {after} {shape_text(new)}",
                arguments=(argument,),
            )
        states[inputs[state]] = outputs[after] if after else ""
    return states
