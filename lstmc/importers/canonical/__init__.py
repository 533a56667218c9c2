"""Canonicalisation of imported nets: loops rolled up, a dynamic time axis, biases merged, transposes removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from lstmc.importers.canonical.frame import one_frame
from lstmc.importers.canonical.layout import choose_layout, with_biases
from lstmc.importers.canonical.rolling import roll_up
from lstmc.importers.canonical.streaming import with_dynamic_time
from lstmc.importers.ir.net import Net
from lstmc.importers.ir.values import OpenSize, Shape, open_sizes
from lstmc.importers.printer import files
from lstmc.importers.refusal import RefusedError
from lstmc.importers.sources import SourceNet
from lstmc.ir import Scan

__all__ = [
    "at_sizes",
    "canonicalize",
    "canonicalize_frame",
    "canonicalize_static",
    "canonicalize_step",
    "read_open",
]


def canonicalize(net: Net, step: bool = False) -> Net:
    """Return the canonical form of a net, which can be written as a model; with ``step`` a form that can be streamed.

    Raises :class:`~lstmc.importers.refusal.RefusedError` if ``step`` is set and the net cannot be streamed.
    """
    return choose_layout(with_dynamic_time(with_biases(roll_up(net)), step))


def canonicalize_static(net: Net) -> Net:
    """Return the canonical form of a net, with all sizes unchanged."""
    return choose_layout(with_biases(roll_up(net)))


def canonicalize_step(net: Net, states: Mapping[str, str]) -> Net:
    """Return the canonical form of a net of one frame; ``states`` maps inputs to the outputs that are their next
    values."""
    return _step(with_biases(roll_up(replace(net, graph=net.graph.carrying(states), time=()))))


def _step(net: Net) -> Net:
    inside = [replace(s, op=replace(s.op, inside=True)) if isinstance(s.op, Scan) else s for s in net.steps]
    return choose_layout(net.of_steps(inside))


def canonicalize_frame(net: Net, time: Mapping[str, int]) -> tuple[Net, dict[str, int]]:
    """Return the canonical net of one frame, and the axis of time of inputs and outputs; ``time`` is the axis of the
    inputs. Raises :class:`~lstmc.importers.refusal.RefusedError` with the first layer that needs more than the past."""
    frame, axes = one_frame(with_biases(roll_up(net)), time)
    return _step(frame), axes


LENGTHS = (100, 101)  # the first length is the default of the model
SHORT = 13  # a length at which a branch may differ
Read = Callable[[Mapping[str, Sequence[int]]], SourceNet]


def read_open(read: Read, shapes: Mapping[str, Sequence[int]], step: bool) -> SourceNet:
    """Return a source that is read with its dynamic axes, or at a length that :func:`canonicalize` makes dynamic again.

    The second way is for an operator that needs the number of a dynamic axis, such as a padding in front of a sequence:
    the graph is read at two lengths, and both must give the same model. A short length must give that model too, if it
    can be read, because a branch may depend on the length. With ``step``, other dynamic axes are 1 if they must be
    numbers too. Raises :class:`RefusedError` of the first reading, with further refusals at known sizes, or with a
    layer that cannot be streamed.
    """
    try:
        return read(shapes)
    except RefusedError as error:
        if not any(map(open_sizes, error.inputs.values())):
            raise
        refused = error
    streamed: RefusedError | None = None
    pinned: RefusedError | None = None
    for sizes in _candidates(refused.inputs, step):
        sources = list[SourceNet]()
        try:
            for numbers in sizes:
                sources.append(read({**at_sizes(refused.inputs, numbers), **shapes}))
        except RefusedError as error:
            if not sources:  # otherwise it holds for one length only
                pinned = pinned or _both(error, _at_short(read, refused.inputs, shapes, numbers))
            continue
        short = _at_short(read, refused.inputs, shapes, numbers)
        sources += [short] if isinstance(short, SourceNet) else []
        try:
            nets = [canonicalize(source.described, step) for source in sources]
        except RefusedError as error:
            streamed = streamed or error
            continue
        if all(net.time for net in nets) and one_model(nets):
            ones = [name for name, size in sizes[0].items() if size == 1]
            return replace(sources[0], described=_noted(sources[0].described, ones))
    raise streamed or (refused if pinned is None else refused.beside(pinned))


def _at_short(
    read: Read, inputs: Mapping[str, Shape], shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> SourceNet | RefusedError:
    """Return a source at the short length, or the reason why it cannot be read so."""
    try:
        return read(
            {**at_sizes(inputs, {n: SHORT if size in LENGTHS else size for n, size in sizes.items()}), **shapes}
        )
    except RefusedError as error:
        return error


def _both(error: RefusedError, other: SourceNet | RefusedError) -> RefusedError:
    """Return the refusals that occur at both lengths: at one length another branch may be taken."""
    nodes = {one.node for one in other.refusals} if isinstance(other, RefusedError) else set[str]()
    kept = [one for one in error.refusals if one.node in nodes]
    return RefusedError(error.origin, kept, error.what, error.inputs)


def _candidates(inputs: Mapping[str, Shape], step: bool) -> Iterator[list[dict[str, int]]]:
    """Yield numbers for dynamic axes: each axis in turn as time, at both lengths."""
    names = list(dict.fromkeys(size.name for shape in inputs.values() for size in open_sizes(shape)))
    yield from ([{name: length} for length in LENGTHS] for name in names)
    if step and len(names) > 1:
        for time in names:
            ones = {name: 1 for name in names if name != time}
            yield [ones]
            yield [{time: length, **ones} for length in LENGTHS]


def at_sizes(inputs: Mapping[str, Shape], numbers: Mapping[str, int]) -> dict[str, list[int]]:
    """Return shapes with these numbers for their open sizes."""
    return {
        name: [numbers.get(size.name, size) if isinstance(size, OpenSize) else size for size in shape]
        for name, shape in inputs.items()
    }


def one_model(nets: Sequence[Net]) -> bool:
    """Return whether the written models are equal, apart from the default length."""
    first, *others = [files(replace(net, sizes={}), "") for net in nets]
    return all(other == first for other in others)


def _noted(net: Net, ones: Sequence[str]) -> Net:
    note = f"The dynamic axes {', '.join(ones)} are 1, as a layer needs their number."
    return replace(net, notes=(*net.notes, note)) if ones else net
