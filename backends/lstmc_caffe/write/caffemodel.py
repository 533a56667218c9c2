"""Weights in Caffe's own file: a caffemodel from the user's parameters, and back."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from lstmc.errors import BackendError, WeightsError
from lstmc.interp import forward
from lstmc.manifest import Stored
from lstmc.ops import Array
from lstmc_caffe.proto.net import RawNet
from lstmc_caffe.write.net import WrittenNet

SUFFIX = ".caffemodel"
MOST_BYTES = 2**31 - 1 - 2**20  # of arrays, in a protobuf message that has names too


def caffemodel(net: WrittenNet, weights: Mapping[str, Array], every_layer: bool = False) -> bytes:
    """The bytes of a NetParameter that holds, for every layer owning a blob, all of that layer's blobs.

    Layers that only share are left out, unless ``every_layer`` asks for them as other readers do: Caffe loads a
    blob once, through its owner (``net.cpp: CopyTrainedLayersFrom``), but wants all blobs of a layer that the file
    names. Raises :class:`BackendError` for more than a message can hold, before anything is computed.
    """
    size = 4 * sum(prod(net.weights.type(output.ref).shape) for output in net.weights.outputs)
    if size > MOST_BYTES:
        raise BackendError(
            f"{net.name} has {size} bytes of weights: expected at most {MOST_BYTES}, as in a message of Caffe's"
        )
    values = forward(net.weights, params=weights, dtype=np.float32).outputs
    model = RawNet(name=net.name)
    owning = {owner.layer for owner in net.owners.values()}
    for layer in net.layers():
        if layer.name not in owning and not (every_layer and layer.param):
            continue
        written = model.layer.add(name=layer.name, type=layer.type)
        for spec in layer.param:
            array = np.ascontiguousarray(values[spec.name], "<f4")
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
