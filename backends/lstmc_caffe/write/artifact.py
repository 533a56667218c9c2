"""The files of a compiled model: its net as text, its weights as a caffemodel, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.backend import Artifact, Compiled
from lstmc.collector import collector_paused
from lstmc.ir import Ref
from lstmc.manifest import step_blobs
from lstmc.ops import Array
from lstmc_caffe.targets.load import load_target
from lstmc_caffe.targets.pitfalls import warnings
from lstmc_caffe.write.caffemodel import caffemodel
from lstmc_caffe.write.generated import layers_files
from lstmc_caffe.write.in_place import overwritten
from lstmc_caffe.write.manifest import manifest
from lstmc_caffe.write.net import WrittenNet, write_net
from lstmc_caffe.write.prototxt import NOT_IN_NET, prototxt


def written_net(compiled: Compiled) -> WrittenNet:
    """The net of a compiled model; for Caffe itself activations are in place, but not on blobs the manifest names."""
    return write_net(compiled.expanded, load_target(compiled.target), blobs_in_place(compiled))


def blobs_in_place(compiled: Compiled) -> dict[Ref, str]:
    """The values that are overwritten in the net, and the name that their blob has then."""
    allowed = load_target(compiled.target).in_place
    return overwritten(compiled.expanded, step_blobs(compiled)) if allowed else {}


@collector_paused()
def artifact(compiled: Compiled, weights: Mapping[str, Array]) -> Artifact:
    """``NAME.prototxt``, ``NAME.caffemodel``, ``NAME.manifest.json``; of generated layers ``NAME.layers.cpp`` and
    ``NAME.layers.cu``.

    Same input, same bytes.
    """
    target = load_target(compiled.target)
    net = written_net(compiled)
    described = manifest(compiled, net)
    return Artifact(
        files={
            f"{compiled.name}.prototxt": prototxt(compiled, net).encode(),
            f"{compiled.name}.caffemodel": caffemodel(net, weights, target.sharers_carry_blobs),
            f"{compiled.name}.manifest.json": described.text().encode(),
            **layers_files(compiled.name, compiled.expanded),
        },
        layers=sum(1 for _ in net.layers()),
        inputs={n: entry.place.label for n, entry in described.inputs.items() if entry.in_net and not entry.filled},
        outputs={n: place.label for n, place in described.outputs.items()},
        notes=(
            *(f"input {n}: {NOT_IN_NET}" for n, entry in described.inputs.items() if not entry.in_net),
            *map(str, warnings(net.layers(), target)),
        ),
    )
