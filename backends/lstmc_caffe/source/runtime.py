"""The recurrent layers alone, as they stand in the net, in real Caffe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lstmc.ops import Array
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.run.executor import CaffeExecutor
from lstmc_caffe.run.runner import Runner
from lstmc_caffe.source.recurrent_layers import Imported, Layer


class CaffeRuntime:
    """Caffe's own LSTM and RNN layers, fed what the description is fed."""

    name = "Caffe's own layers"

    def __init__(self, layers: Sequence[Layer], imported: Imported, caffemodel: bytes) -> None:
        self.layers, self.imported, self.caffemodel = layers, imported, caffemodel

    def unavailable(self) -> str | None:
        """Why there is no Caffe here, or None."""
        return CaffeExecutor(Runner(), "cpu").unavailable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Each layer alone, between Inputs of its bottoms' shapes."""
        found: dict[str, Array] = {}
        with Runner() as runner, TemporaryDirectory() as folder:
            weights = Path(folder, "weights.caffemodel")
            weights.write_bytes(self.caffemodel)
            for layer in self.layers:
                net = NetParameter(name=layer.message.name)
                for blob, shape in dict(zip(layer.message.bottom, layer.bottoms, strict=True)).items():
                    entry = net.layer.add(name=f"input of {blob}", type="Input", top=[blob])
                    entry.input_param.shape.add().dim.extend(shape)
                alone = net.layer.add()
                alone.CopyFrom(layer.message)
                alone.ClearField("include")
                fed = dict(zip(layer.message.bottom, self.imported.bottoms[layer.place], strict=True))
                with runner.load(str(net), weights=weights) as loaded:
                    blobs = loaded.run(
                        {blob: inputs[name] for blob, name in fed.items()}, want=list(layer.message.top)
                    ).blobs
                for name, (place, top) in self.imported.outputs.items():
                    if place == layer.place:
                        found[name] = np.asarray(blobs[top], np.float64)
        return found
