"""Nets, or parts of them, in real Caffe, fed what their descriptions are fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lstmc.ops import Array
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.source.layer import Layer
from lstmc_caffe.source.recurrent_layers import Imported
from lstmc_caffe.targets.shapes import Shape


@dataclass(frozen=True)
class Fed:
    """A net's text; for each of its inputs the description's, and for each of the description's outputs its blob.

    ``fixed`` are the inputs that are constants.
    """

    text: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    fixed: Mapping[str, Array]


class CaffeRuntime:
    """Real Caffe on these nets, with a trained net's weights."""

    name = "Caffe's own layers"

    def __init__(self, nets: Sequence[Fed], caffemodel: bytes) -> None:
        self.nets, self.caffemodel = nets, caffemodel

    def unavailable(self) -> str | None:
        """Why there is no Caffe here, or None."""
        return CaffeExecutor(Runner(), "cpu").unavailable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One forward pass of each net."""
        found: dict[str, Array] = {}
        with Runner() as runner, TemporaryDirectory() as folder:
            weights = Path(folder, "weights.caffemodel")
            weights.write_bytes(self.caffemodel)
            for net in self.nets:
                with runner.load(net.text, weights=weights) as loaded:
                    fed = {**{blob: inputs[name] for blob, name in net.inputs.items()}, **net.fixed}
                    blobs = loaded.run(fed, want=list(net.outputs.values())).blobs
                found |= {name: np.asarray(blobs[blob], np.float64) for name, blob in net.outputs.items()}
        return found


def each_alone(layers: Sequence[Layer], imported: Imported) -> Iterator[Fed]:
    """The recurrent layers, a net each, as they stand in their own."""
    for layer in layers:
        alone = type(layer.message)()
        alone.CopyFrom(layer.message)
        alone.ClearField("include")
        alone.ClearField("exclude")
        shapes = dict(zip(layer.message.bottom, layer.bottoms, strict=True))
        text = input_text(shapes) + str(NetParameter(layer=[alone]))
        names = dict(zip(layer.message.bottom, imported.bottoms[layer.place], strict=True))
        fed = {blob: name for blob, name in names.items() if blob not in layer.fixed}
        tops = {name: top for name, (place, top) in imported.outputs.items() if place == layer.place}
        yield Fed(text, fed, tops, layer.fixed)


def input_text(shapes: Mapping[str, Shape]) -> str:
    """A layer of type Input for each blob."""
    net: Any = NetParameter()
    for blob, shape in shapes.items():
        entry = net.layer.add(name=f"input of {blob}", type="Input", top=[blob])
        entry.input_param.shape.add().dim.extend(shape)
    return str(net)
