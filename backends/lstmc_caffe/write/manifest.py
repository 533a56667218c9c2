"""The manifest: what a program needs to know to feed, read and train a written net, as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from lstmc.backend import Compiled
from lstmc.errors import Mend, WeightsError
from lstmc.ir import Graph, Output, Step, print_graph
from lstmc.ops import Input
from lstmc.passes import step_pattern, unrolled_scans
from lstmc.types import TensorType
from lstmc.version import __version__
from lstmc.weights import parameters
from lstmc_caffe.write.feeds import Fed, fed_inputs, read_blobs
from lstmc_caffe.write.net import WrittenNet

FORMAT = 1


def manifest(compiled: Compiled, net: WrittenNet) -> dict[str, Any]:
    """Names of the model to blobs of the net, with shapes; the blobs of its weights and how they
    are made of the parameters; the blobs of every step."""
    graph = compiled.expanded
    return {
        "format": FORMAT,
        "lstmc": __version__,
        "name": net.name,
        "source": compiled.source,
        "target": compiled.target,
        "inputs": {fed.node.name: _input(compiled, fed) for fed in fed_inputs(graph)},
        "outputs": {o.name: _output(graph, o) for o in graph.outputs},
        "states": {
            pair.name: {"input": pair.before, "output": pair.after, "initial": pair.initial} for pair in compiled.states
        },
        "parameters": {
            name: {"shape": list(op.shape), "lr_mult": op.lr_mult, "decay_mult": op.decay_mult}
            for name, op in parameters(compiled.model).items()
        },
        # a parameter that no step uses is in no blob, as W_h at T = 1 from a zero state
        "blobs": {
            o.name: {
                "layer": net.owners[o.name].layer,
                "index": net.owners[o.name].blob,
                "shape": list(net.weights.type(o.ref).shape),
            }
            for o in net.weights.outputs
        },
        "weights": print_graph(net.weights),
        "scans": _scans(compiled),
    }


def step_blobs(compiled: Compiled) -> set[str]:
    """The blobs of every step that the manifest names."""
    scans = _scans(compiled).values()
    return {pattern % t for scan in scans for pattern in scan["blobs"].values() for t in range(scan["steps"])}


def _input(compiled: Compiled, fed: Fed) -> dict[str, Any]:
    op = compiled.model.node(fed.node.name).op
    fill = {} if fed.filled or not isinstance(op, Input) or op.fill is None else {"fill": repr(op.fill)}
    values = {} if not isinstance(op, Input) or op.values is None else {"values": dataclasses.asdict(op.values)}
    return {**_place(fed.node.types[0], fed.blobs), "filled": fed.filled, **fill, **values}


def _output(graph: Graph, output: Output) -> dict[str, Any]:
    blobs = tuple((graph.value_name(ref), graph.type(ref)) for ref in read_blobs(graph, output.ref))
    return _place(graph.type(output.ref), blobs)


def _place(wanted: TensorType, blobs: tuple[tuple[str, TensorType], ...]) -> dict[str, Any]:
    """Where a value of the model is in the net. A blob may have another shape: the same elements in the same order
    (``[T, N, D]`` as the rows ``[T*N, D]``); or there are several blobs, one for each step."""
    names = [name for name, _ in blobs]
    where: dict[str, Any] = {"blob": names[0] if len(names) == 1 else None}
    if len(names) > 1:
        where["blobs"] = names
    where["shape"] = list(wanted.shape)
    if blobs and blobs[0][1] != wanted:
        where["blob_shape"] = list(blobs[0][1].shape)
    return where


def output_blobs(described: dict[str, Any]) -> list[str]:
    """The blobs of all outputs of a manifest, each once: an output may be several, or share one."""
    places = described["outputs"].values()
    return list(dict.fromkeys(blob for place in places for blob in place.get("blobs") or [place["blob"]]))


def manifest_json(described: dict[str, Any]) -> str:
    """A manifest as text."""
    return json.dumps(described, indent=2) + "\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest from its file. Raises :class:`WeightsError` for a file that is none, or of another format."""
    try:
        described = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such manifest", mends=[Mend.NAME_MANIFEST]) from None
    except (OSError, ValueError):
        described = None
    found = described.get("format") if isinstance(described, dict) else None
    if found != FORMAT:
        raise WeightsError(f"{path}: expected a manifest of format {FORMAT}, found {found or 'something else'}")
    return dict(described)


def _scans(compiled: Compiled) -> dict[str, Any]:
    """For each scan: its steps, and for each state and output the pattern of its blobs' names, where there is one."""
    values = {pair for node in compiled.expanded if node.steps for pair in zip(node.names, node.steps, strict=True)}
    found = {}
    for title, scan in unrolled_scans(compiled.history).items():
        names = dict.fromkeys(output.name for output in (*scan.next_states, *scan.step_outputs))
        pattern = step_pattern(scan)
        found[title] = {
            "steps": scan.length,
            "reverse": scan.reverse,
            "blobs": {
                name: pattern + name
                for name in names
                if name and all((pattern % t + name, Step(title, t)) in values for t in range(scan.length))
            },
        }
    return found
