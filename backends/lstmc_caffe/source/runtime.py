"""Old nets in real Caffe: what runs a source, and a converted whole net compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lstmc.errors import BackendError
from lstmc.importers.sources import SourceCheck
from lstmc.importers.validate import difference
from lstmc.interp import named_rng
from lstmc.ops import Array
from lstmc_caffe.proto.net import NetParameter
from lstmc_caffe.readers.executor import ReaderSession
from lstmc_caffe.readers.known import load_reader
from lstmc_caffe.runtime.executor import FILE_LAYERS, CaffeExecutor
from lstmc_caffe.runtime.runner import Mode, Net, Runner
from lstmc_caffe.source.layer import TYPES, BlobHints, Layer, constant_of
from lstmc_caffe.source.recurrent_layers import Imported
from lstmc_caffe.source.whole_net import in_use
from lstmc_caffe.targets.shapes import Shape


@dataclass(frozen=True)
class RuntimeNet:
    """A net to run: its text, the description's input for each of its inputs, its blob for each of the outputs.

    ``fixed`` are the inputs that are constants.
    """

    text: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    fixed: Mapping[str, Array]


class CaffeRuntime:
    """Real Caffe on these nets, with a trained net's weights."""

    name = "Caffe's own layers"

    def __init__(self, nets: Sequence[RuntimeNet], caffemodel: bytes) -> None:
        self.nets, self.caffemodel = nets, caffemodel

    def unavailable(self) -> str | None:
        """Return why no Caffe is available, or None."""
        return CaffeExecutor(Runner(), "cpu").unavailable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one forward pass of each net; return the outputs by name."""
        outputs: dict[str, Array] = {}
        with Runner() as runner, TemporaryDirectory() as folder:
            weights = Path(folder, "weights.caffemodel")
            weights.write_bytes(self.caffemodel)
            for net in self.nets:
                with runner.load(net.text, weights=weights) as loaded:
                    fed = {**{blob: inputs[name] for blob, name in net.inputs.items()}, **net.fixed}
                    blobs = loaded.run(fed, want=list(net.outputs.values())).blobs
                outputs |= {name: np.asarray(blobs[blob], np.float64) for name, blob in net.outputs.items()}
        return outputs


def recurrent_nets(layers: Sequence[Layer], imported: Imported) -> Iterator[RuntimeNet]:
    """Yield a net of each recurrent layer alone."""
    for layer in layers:
        copy = type(layer.message)()
        copy.CopyFrom(layer.message)
        copy.ClearField("include")
        copy.ClearField("exclude")
        shapes = dict(zip(layer.message.bottom, layer.bottoms, strict=True))
        text = input_text(shapes) + str(NetParameter(layer=[copy]))
        names = dict(zip(layer.message.bottom, imported.bottoms[layer.place], strict=True))
        fed = {blob: name for blob, name in names.items() if blob not in layer.fixed}
        tops = {name: top for name, (place, top) in imported.outputs.items() if place == layer.place}
        yield RuntimeNet(text, fed, tops, layer.fixed)


def input_text(shapes: Mapping[str, Shape]) -> str:
    """Return the text of an Input layer for each blob."""
    net: Any = NetParameter()
    for blob, shape in shapes.items():
        entry = net.layer.add(name=f"input of {blob}", type="Input", top=[blob])
        entry.input_param.shape.add().dim.extend(shape)
    return str(net)


@dataclass(frozen=True)
class NetFile:
    """A net as it lies in a folder: its text and its weights."""

    name: str
    text: str
    caffemodel: bytes


TOLERANCE = 1e-4  # relative; both nets compute in float32, through all of their layers
# layers that move integers and indicators on to those that need them
_MOVES = ("Reshape", "Flatten", "Slice", "Split", "Concat", "Tile")


def compare_nets(
    source: NetFile, net: Any, written: NetFile, places: Sequence[str], hints: BlobHints, seed: int
) -> list[SourceCheck]:
    """Return a comparison of the outputs of a written net with those of its source in Caffe, for each of the runtimes
    ``places``.

    ``net`` is the source's message. Raises :class:`~lstmc.errors.BackendError` for a runtime that does not load the
    written net or does not run it.
    """
    if not places:
        return []
    with Runner() as runner:
        try:
            inputs, outputs = _run_source(runner, source, net, hints, seed)
        except BackendError as error:
            return [SourceCheck(place, (), f"{source.name}: {error.message}") for place in places]
        return [_compared(runner, written, place, inputs, outputs) for place in places]


def _run_source(
    runner: Runner, source: NetFile, net: Any, hints: BlobHints, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the inputs that were drawn for a net, and its outputs in Caffe: the blobs that no layer reads."""
    for layer in net.layer:
        if layer.type in FILE_LAYERS and in_use(layer):
            raise BackendError(
                f"layer {layer.name} ({layer.type}) reads or writes files: only a net whose inputs are arrays is run"
            )
    high = _integer_ranges(net)
    with _loaded(runner, source, "cpu") as loaded:
        inputs = dict[str, Array]()
        for name in loaded.inputs:
            rng, shape = named_rng(seed, name), loaded.blobs[name]
            drawn = rng.integers(0, high[name], shape).astype(float) if name in high else rng.normal(size=shape)
            inputs[name] = constant_of(hints.values, name, shape) if name in hints.values else drawn
        return inputs, dict(loaded.run(inputs).blobs)


def _integer_ranges(net: Any) -> dict[str, int]:
    """Return the number of integers from 0 on that a blob may hold: indices of an Embed, indicators of sequences."""
    high: dict[str, int] = {}
    for layer in reversed(net.layer):
        if layer.type in TYPES:
            high[layer.bottom[1]] = 2
        elif layer.type == "Embed":
            high[layer.bottom[0]] = layer.embed_param.input_dim
        elif layer.type in _MOVES:
            bounds = [high[top] for top in layer.top if top in high]
            high.update(dict.fromkeys(layer.bottom, min(bounds)) if bounds else {})
    return high


@contextmanager
def _loaded(runner: Runner, net: NetFile, mode: Mode) -> Iterator[Net]:
    with TemporaryDirectory() as folder:
        weights = Path(folder, "weights.caffemodel")
        weights.write_bytes(net.caffemodel)
        with runner.load(net.text, weights=weights, mode=mode) as loaded:
            yield loaded


def _compared(
    runner: Runner, net: NetFile, place: str, inputs: Mapping[str, Array], expected: Mapping[str, Array]
) -> SourceCheck:
    """Run a net in one runtime, and compare its outputs."""
    tolerance = TOLERANCE
    if place.startswith("caffe-"):
        mode: Mode = "gpu" if place == "caffe-gpu" else "cpu"
        with Runner(for_gpu=True) if mode == "gpu" else nullcontext(runner) as own, _loaded(own, net, mode) as loaded:
            actual: Mapping[str, Array] = loaded.run(inputs, want=list(expected)).blobs
    else:
        reader = load_reader(place)
        tolerance = max(tolerance, reader.tolerance or 0.0)
        with ReaderSession(reader) as session:
            shapes = {name: array.shape for name, array in expected.items()}
            actual = session.run(net.text.encode(), net.caffemodel, inputs, shapes)
    return SourceCheck(place, tuple(difference(name, expected[name], actual[name], tolerance) for name in expected))
