"""The manifest of a net that a backend has written from a compiled model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lstmc.backend import Compiled
from lstmc.backend.compiled import open_names
from lstmc.files.output import shortest
from lstmc.ir import Graph, Ref, Step
from lstmc.manifest.manifest import FORMAT, Initial, InputPlace, Manifest, Parameter, Place, ScanBlobs, State, Stored
from lstmc.ops import Array, Input, IntegerRange
from lstmc.passes import step_pattern
from lstmc.types import OpenSize
from lstmc.version import __version__
from lstmc.weights import parameters

__all__ = ["describe", "describe_tensors", "manifest_states", "step_blobs"]


def describe(
    compiled: Compiled,
    params: Mapping[str, Array],
    inputs: Mapping[str, tuple[Place, bool]],
    outputs: Mapping[str, Place],
    weights: Graph,
    blobs: Mapping[str, Stored] | None = None,
    opened: Graph | None = None,
) -> Manifest:
    """Return the manifest of a net that was written from ``compiled`` with these values of its parameters.

    ``inputs`` has each input's place, and whether the net fills it itself. ``weights`` is the graph that computes the
    ``blobs`` of weights, as :func:`~lstmc.ir.rebuild` makes it; by default each is stored by its own name.
    ``opened`` is the graph that was written, of :meth:`Compiled.written`.
    """
    if blobs is None:
        blobs = {output.name: Stored(output.name, 0, weights.type(output.ref).shape) for output in weights.outputs}
    return Manifest(
        format=FORMAT,
        lstmc=__version__,
        name=compiled.name,
        source=compiled.source,
        backend=compiled.backend,
        target=compiled.target,
        inputs={name: _input(compiled, opened, name, *entry) for name, entry in inputs.items()},
        outputs={name: replace(place, delay=compiled.delays.get(name, 0)) for name, place in outputs.items()},
        states=manifest_states(compiled, params),
        parameters={
            name: Parameter(op.shape, op.lr_mult, op.decay_mult) for name, op in parameters(compiled.model).items()
        },
        blobs=blobs,
        weights=weights,
        scans=scan_blobs(compiled),
        training_inputs=compiled.training_inputs,
    )


def describe_tensors(
    compiled: Compiled, params: Mapping[str, Array], inputs: Mapping[str, str], outputs: Mapping[str, str],
    weights: Graph, opened: Graph,
) -> Manifest:  # fmt: skip
    """Return the manifest of a net in which each input and output is a tensor of its own name there, in its own shape.

    The other arguments are those of :func:`describe`.
    """
    graph = compiled.expanded

    def place(ref: Ref, name: str) -> Place:
        return Place.from_types(graph.type(ref), ((name, graph.type(ref)),), open_names(opened.type(ref)))

    fed = {own: (place(Ref(own), name), False) for own, name in inputs.items()}
    read = {output.name: place(output.ref, outputs[output.name]) for output in graph.outputs}
    return describe(compiled, params, fed, read, weights, opened=opened)


def manifest_states(compiled: Compiled, params: Mapping[str, Array]) -> dict[str, State] | None:
    """Return the states of a net of one step by name, with their first values; None of another net."""
    if compiled.states is None:
        return None
    return {
        pair.name: State(pair.before, pair.after, _written(pair.first(params)), pair.learned)
        for pair in compiled.states
    }


def _written(first: float | Array | str) -> Initial:
    if not isinstance(first, np.ndarray):
        return first
    return shortest(float(first.flat[0])) if (first == first.flat[0]).all() else np.vectorize(shortest)(first).tolist()


def _input(compiled: Compiled, opened: Graph | None, name: str, place: Place, filled: bool) -> InputPlace:
    op = compiled.model.node(name).op
    if not isinstance(op, Input):
        return InputPlace(place, filled)
    return InputPlace(place, filled, None if filled else op.fill, op.values, _most(opened, name))


def _most(opened: Graph | None, name: str) -> str | None:
    """Return the open dimension whose size is the largest value that an input may have."""
    op = opened.node(name).op if opened is not None and name in opened else None
    most = op.values.high if isinstance(op, Input) and isinstance(op.values, IntegerRange) else None
    return most.name if isinstance(most, OpenSize) else None


def step_blobs(compiled: Compiled) -> set[str]:
    """Return the blobs of every step that the manifest names."""
    scans = scan_blobs(compiled).values()
    return {pattern % t for scan in scans for pattern in scan.blobs.values() for t in range(scan.steps)}


def scan_blobs(compiled: Compiled) -> dict[str, ScanBlobs]:
    """Return for each scan its steps, and for each state and output the pattern of its blobs' names, if any."""
    values = {pair for node in compiled.expanded if node.steps for pair in zip(node.names, node.steps, strict=True)}
    blobs_by_scan = {}
    for title, scan in compiled.scans.items():
        names = dict.fromkeys(output.name for output in (*scan.next_states, *scan.step_outputs))
        pattern = step_pattern(scan)
        blobs = {
            name: pattern + name
            for name in names
            if name and all((pattern % t + name, Step(title, t)) in values for t in range(scan.length))
        }
        blobs_by_scan[title] = ScanBlobs(scan.length, scan.reverse, blobs)
    return blobs_by_scan
