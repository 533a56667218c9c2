"""The manifest of a written net: which of its blobs are a model's inputs, outputs and parameters."""

from __future__ import annotations

from dataclasses import replace

from lstmc.backend import Compiled
from lstmc.manifest import Manifest, Place, Stored, describe
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.write.feeds import fed_inputs, read_blobs
from lstmc_caffe.write.net import WrittenNet


def manifest(compiled: Compiled, net: WrittenNet) -> Manifest:
    """Names of the model to blobs of the net."""
    graph = compiled.expanded
    read = {
        o.name: tuple((graph.value_name(r), graph.type(r)) for r in read_blobs(graph, o.ref)) for o in graph.outputs
    }
    named = replace(compiled, target=load_target(compiled.target).name)  # not the path of its file
    return describe(
        named,
        inputs={f.node.name: (Place.of(f.node.types[0], f.blobs), f.filled) for f in fed_inputs(graph)},
        outputs={o.name: Place.of(graph.type(o.ref), read[o.name]) for o in graph.outputs},
        weights=net.weights,
        blobs={
            o.name: Stored(net.owners[o.name].layer, net.owners[o.name].blob, net.weights.type(o.ref).shape)
            for o in net.weights.outputs
        },
    )
