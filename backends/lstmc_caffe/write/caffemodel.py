"""Weights in a caffemodel: written from the user's parameters, and read back from trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.errors import BackendError, WeightsError
from lstmc.interp import forward
from lstmc.manifest import Stored, read_manifest
from lstmc.ops import Array
from lstmc.weights import unpack_weights
from lstmc_caffe.proto.net import RawNet
from lstmc_caffe.write.net import WrittenNet

SUFFIX = ".caffemodel"
MOST_BYTES = 2**31 - 1 - 2**20  # of arrays, in a protobuf message that has names too
# Up to here a file has every layer, as Caffe's own snapshots have. Caffe looks for each by its name among all, and a
# parameter is there once for each layer that shares it.
WHOLE_NET_LAYERS = 10_000
WHOLE_NET_COPIES = 2**24  # bytes of parameters that are there already


def caffemodel(net: WrittenNet, weights: Mapping[str, Array], every_sharer: bool = False) -> bytes:
    """The bytes of a NetParameter: the whole net with all blobs of each layer, so that who opens it alone has a graph.

    A net past ``WHOLE_NET_LAYERS`` or ``WHOLE_NET_COPIES`` has the layers with blobs alone, by name and type, and of
    these the owners, unless ``every_sharer`` asks for those that only share, as other readers do: Caffe loads a blob
    once, through its owner (``net.cpp: CopyTrainedLayersFrom``), but wants all blobs of a layer that the file names.
    Raises :class:`BackendError` for more than a message can hold, before anything is computed.
    """
    sizes = {output.name: 4 * prod(net.weights.type(output.ref).shape) for output in net.weights.outputs}
    layers = list(net.layers())
    size = sum(sizes.values())
    if size > MOST_BYTES:
        raise BackendError(
            f"{net.name} has {size} bytes of weights: expected at most {MOST_BYTES}, as in a message of Caffe's"
        )
    values = forward(net.weights, params=weights, dtype=np.float32).outputs
    copies = 0 if every_sharer else sum(sizes[spec.name] for layer in layers for spec in layer.param) - size
    whole = len(layers) <= WHOLE_NET_LAYERS and copies <= WHOLE_NET_COPIES
    owning = {owner.layer for owner in net.owners.values()}
    arrays = {name: np.ascontiguousarray(array, "<f4") for name, array in values.items()}
    model = RawNet(name=net.name)
    for layer in layers:
        if not (whole or layer.name in owning or (every_sharer and layer.param)):
            continue
        written = model.layer.add(name=layer.name, type=layer.type)
        if whole:
            written.MergeFromString(layer.SerializeToString())  # fields that a RawLayer does not know stay as they are
        for spec in layer.param:
            array = arrays[spec.name]
            blob = written.blobs.add(data=array.tobytes())
            blob.shape.dim.extend(array.shape)
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def read_blobs(path: Path, blobs: Mapping[str, Stored]) -> dict[str, Array]:
    """Blobs of a caffemodel (lstmc's or one that Caffe trained) by their parameter names.

    ``blobs`` is a manifest's: for each name the owning layer, the blob's index and its shape. Raises
    :class:`WeightsError` for a file that is no caffemodel, or that lacks a blob or has it in another shape.
    """
    try:
        model = RawNet.FromString(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    except DecodeError:
        raise WeightsError(f"{path}: expected a caffemodel, found something else") from None
    layers = {layer.name: layer for layer in model.layer}
    found: dict[str, Array] = {}
    problems = []
    for name, where in blobs.items():
        layer, index, shape = layers.get(where.layer), where.index, where.shape
        if layer is None or len(layer.blobs) <= index:
            problems.append(f"missing: blob {index} of layer {where.layer}, which holds {name}")
            continue
        data = layer.blobs[index].data
        if (sizes := tuple(layer.blobs[index].shape.dim)) != shape:
            problems.append(f"wrong shape: {name} must be {list(shape)}, found {list(sizes)}")
            continue
        if len(data) != 4 * prod(shape):
            problems.append(f"wrong size: {name} {list(shape)} must have {4 * prod(shape)} bytes, found {len(data)}")
            continue
        found[name] = np.frombuffer(data, "<f4").reshape(shape)
    if problems:
        raise WeightsError(f"{path} is not a caffemodel of this net", notes=problems)
    return found


def read_weights(trained: Path, manifest: Path) -> tuple[dict[str, Array], list[str]]:
    """The parameters by the model's names, and the names of those that are in no layer.

    The caffemodel need not be the one that was written: Caffe keeps the names of layers.
    """
    described = read_manifest(manifest)
    unpacked = unpack_weights(described.weights, read_blobs(trained, described.blobs))
    found = {name: array for name, array in unpacked.items() if name in described.parameters}  # without passes' own
    return found, [name for name in described.parameters if name not in found]
