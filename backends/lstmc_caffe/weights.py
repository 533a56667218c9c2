"""Weights in Caffe's own file: a caffemodel with the blobs of the layers that own them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmc.ops import Array
from lstmc_caffe.emit import WrittenNet
from lstmc_caffe.schema import RawNet


def caffemodel(net: WrittenNet, weights: Mapping[str, Array]) -> bytes:
    """The bytes of a NetParameter that holds, for every layer owning a parameter, all of that layer's blobs.

    Layers that only share are left out: Caffe loads a parameter once, through its owner
    (``net.cpp: CopyTrainedLayersFrom``), but wants all blobs of a layer that the file names.
    """
    model = RawNet(name=net.name)
    owning = {owner.layer for owner in net.owners.values()}
    for layer in net.layers():
        if layer.name not in owning:
            continue
        written = model.layer.add(name=layer.name, type=layer.type)
        for spec in layer.param:
            array = np.ascontiguousarray(weights[spec.name], "<f4")
            blob = written.blobs.add(data=array.tobytes())
            blob.shape.dim.extend(array.shape)
    return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]
