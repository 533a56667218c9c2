"""The model's parameters, out of a caffemodel that Caffe may have trained."""

from __future__ import annotations

from pathlib import Path

from lstmc.manifest import read_manifest
from lstmc.ops import Array
from lstmc.weights import unpack_weights
from lstmc_caffe.write.caffemodel import read_blobs


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """The parameters by the model's names, and the names of those that are in no layer.

    The caffemodel need not be the one that was written: Caffe keeps the names of layers.
    """
    described = read_manifest(manifest)
    unpacked = unpack_weights(described.weights, read_blobs(trained, described.blobs))
    found = {name: array for name, array in unpacked.items() if name in described.parameters}  # without passes' own
    return found, [name for name in described.parameters if name not in found]
