"""A whole net, described for inference in programs without Caffe's layers, and run in real Caffe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmc.errors import BackendError, ShapeError
from lstmc.importers.checks import difference
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.values import ShapeProblem, Weight, number
from lstmc.importers.refusal import Refusal, Refused, RefusedError, SourceError
from lstmc.importers.sources import SourceCheck, checked_shape
from lstmc.interp import named_rng
from lstmc.ops import Array
from lstmc_caffe.ops import CAFFE_OPS
from lstmc_caffe.proto.net import NetParameter, field_value
from lstmc_caffe.readers.executor import ReaderSession
from lstmc_caffe.readers.known import load_reader
from lstmc_caffe.runtime.executor import FILE_LAYERS, CaffeExecutor
from lstmc_caffe.runtime.runner import Mode, Runner
from lstmc_caffe.source.layer import TYPES, BlobHints, Layer, constant_of, label, unknown_bottoms
from lstmc_caffe.source.other_layers import LayerCall, layer_values
from lstmc_caffe.source.recurrent_layers import Imported, notes_of, recurrent_values, refusals_of
from lstmc_caffe.targets.lint import Shape, old_inputs

_CHECK = "check the net in Caffe"
_UNUSED = ("Accuracy", "HDF5Output")  # and all losses: no net that is used has them
_SHARING = ("Reshape", "Flatten", "Split")  # layers whose tops have the memory of their bottom (``ShareData``)


def in_use(message: Any) -> bool:
    """Return whether Caffe has a layer in the phase TEST, at level 0, without stages (``Net<Dtype>::FilterNet``)."""
    return any(map(_met, message.include)) if message.include else not any(map(_met, message.exclude))


def _met(rule: Any) -> bool:
    phase = not rule.HasField("phase") or field_value(rule, "phase") == "TEST"
    return phase and rule.min_level <= 0 and (rule.max_level >= 0 or not rule.HasField("max_level")) and not rule.stage


class WholeNetReader:
    """Describes a net's layers of the phase TEST, except losses and scores, one after another. Outputs are the blobs
    that nothing reads; layers of data, such as Data, become inputs."""

    def __init__(self, net: Any, blobs: Mapping[int, Sequence[Weight]], origin: str, hints: BlobHints) -> None:
        self.net, self.blobs, self.origin, self.hints = net, blobs, origin, hints
        self.builder = NetBuilder("net", origin)
        self.layers = Layers(self.builder)
        self.values: dict[str, str] = {}  # blob -> its present value in the description
        self.memory: dict[str, str] = {}  # blob -> the blob whose memory it shares
        self.unknown: set[str] = set()  # blobs of unknown shape
        self.unread: dict[str, None] = {}  # blobs, in order
        self.parts: dict[str, Sequence[str]] = {}  # a blob that a Slice wrote, with all that it wrote
        self.inputs: dict[str, str] = {}  # the net's blob of each input of the description
        self.outputs: dict[str, str] = {}  # and of each output
        self.constants: dict[str, Array] = {}  # inputs that are constants
        self.fixed: dict[str, Array] = {}  # constants that no layer has overwritten
        self.refusals: list[Refusal] = []
        self.refused: set[str] = set()  # blobs that refused layers write
        self.recurrent: list[Layer] = []  # those in the description
        self.places: list[int] = []  # of the layers in the description

    def whole(self) -> Net:
        """Return the description; raise RefusedError for refused layers, SourceError without inputs."""
        for name, shape in old_inputs(self.net).items():
            self._input(name, shape)
        for place, message in enumerate(self.net.layer):
            used = message.type not in _UNUSED and not message.type.endswith("Loss")
            if used and in_use(message):
                self._layer(place, message)
        if self.refusals:
            raise RefusedError(self.origin, self.refusals)
        whole = self.unread.keys() & self.parts.keys()
        # unread pieces of a Slice whose other pieces are read
        remains = [top for top in self.unread if not whole.issuperset(self.parts.get(top, ()))]
        self.outputs = {self.builder.output(top, self.values[top]): top for top in self.unread if top not in remains}
        if remains:
            self.builder.notes.append(f"No outputs: {', '.join(remains)}, which a Slice had to name and nothing reads.")
        self.builder.notes += notes_of(self.recurrent)
        net = self.builder.finish()
        if not net.inputs:
            constants = ", ".join(top for layer in self.net.layer if layer.type == "DummyData" for top in layer.top)
            why = f"; give the shapes of those that are to be fed of {constants} (DummyData)" if constants else ""
            raise SourceError(f"{self.origin}: it has no inputs{why}")
        self.inputs = {name: blob for name, blob in self.inputs.items() if name in net.inputs}
        return net

    def _input(self, blob: str, shape: Sequence[int] | None) -> None:
        """Add an input of the net: as input of the description, constant from the user, or of unknown shape."""
        shape = self.hints.shapes.get(blob, shape)
        if shape is not None:
            shape = checked_shape(self.origin, blob, tuple(shape))
        if shape is None:
            self.unknown.add(blob)
        elif blob in self.hints.values:
            self.constants[blob] = self.fixed[blob] = constant_of(self.hints.values, blob, shape)
            self.values[blob] = self.builder.param(number(self.fixed[blob], "a constant that was given"), blob)
        else:
            self.values[blob] = self.builder.input(blob, shape)
            self.inputs[self.values[blob]] = blob

    def _layer(self, place: int, message: Any) -> None:
        """Add a layer. Refuse it if a bottom's shape is unknown; skip it if a refused layer writes a bottom."""
        if not message.bottom and (message.type != "DummyData" or self.hints.shapes.keys() >= {*message.top}):
            shapes = list(message.input_param.shape)
            for number_, top in enumerate(message.top):
                self._input(top, tuple(shapes[min(number_, len(shapes) - 1)].dim) if shapes else None)
            return
        for blob in message.bottom:
            self.unread.pop(blob, None)
        if message.type == "Silence":
            return
        unknown = [blob for blob in message.bottom if blob in self.unknown]
        if unknown:
            self.refusals.append(unknown_bottoms(message, unknown, unknown))
        tops: Sequence[str] = ()
        if not unknown and not self.refused.intersection(message.bottom):
            tops = self._tops(place, message)
        if not tops:
            self.refused.update(message.top)
            return
        self.places.append(place)
        for top, value in zip(message.top, tops, strict=True):
            self._write(message, top, value)
            self.fixed.pop(top, None)
            self.unread[top] = None
            self.parts.pop(top, None)
        if message.type == "Slice":
            self.parts.update(dict.fromkeys(message.top, tuple(message.top)))

    def _write(self, message: Any, top: str, value: str) -> None:
        """Set a top's value, and that of all blobs in the same memory if the layer overwrites its bottom in place."""
        before, self.values[top] = self.values.get(top), value
        if top in message.bottom and value != before:
            for other, old in self.values.items():
                if other != top and self.memory.get(other, other) == self.memory.get(top, top):
                    self.values[other] = self.layers.reshape(value, self.builder.shapes[old])
                    self.fixed.pop(other, None)
        elif message.bottom and top not in message.bottom:
            unchanged = message.type in ("Concat", "Slice") and len(message.bottom) == len(message.top) == 1
            (bottom, *_) = message.bottom
            self.memory[top] = self.memory.get(bottom, bottom) if unchanged or message.type in _SHARING else top

    def _tops(self, place: int, message: Any) -> Sequence[str]:
        """Return the values of a layer's tops; none for a layer that is refused."""
        self.layers.at(message.top[0] if message.top else message.name, label(message))
        try:
            missing = [blob for blob in message.bottom if blob not in self.values]
            if missing:
                raise Refused("bottoms", ", ".join(missing), "no layer before it writes that", _CHECK)
            tops = self._described(place, message, [self.values[blob] for blob in message.bottom])
            if tops and len(tops) != len(message.top):
                raise Refused("tops", str(len(message.top)), f"expected {len(tops)}", _CHECK)
            return tops
        except Refused as refused:
            why = refused
        except (ShapeError, ShapeProblem) as problem:
            text = problem.message if isinstance(problem, ShapeError) else str(problem)
            why = Refused("bottoms", text, "they do not fit the layer", _CHECK)
        self.refusals.append(why.at(label(message)))
        return ()

    def _described(self, place: int, message: Any, operands: Sequence[str]) -> Sequence[str]:
        if message.type in TYPES:
            return self._recurrent(place, message, operands)
        if message.type == "DummyData":
            return list(self._constants(message))
        return layer_values(LayerCall(self.layers, message, operands, self.blobs[place]))

    def _recurrent(self, place: int, message: Any, operands: Sequence[str]) -> Sequence[str]:
        """Return the values of the tops of an LSTM or RNN layer; nothing for a refused layer."""
        shapes = [tuple(int(size) for size in self.builder.shapes[value]) for value in operands]
        fixed = {blob: self.fixed[blob] for blob in message.bottom if blob in self.fixed}
        layer = Layer(place, message, shapes, self.blobs[place], fixed)
        refusals = list(refusals_of(layer))
        self.refusals += refusals
        self.recurrent += [layer] if not refusals else []
        return [] if refusals else recurrent_values(self.builder, layer, operands)

    def _constants(self, message: Any) -> Iterator[str]:
        """Yield the constants of a DummyData layer: one number for all elements of a top."""
        param = message.dummy_data_param
        for at, top in enumerate(message.top):
            filler = param.data_filler[min(at, len(param.data_filler) - 1)] if param.data_filler else None
            if filler is not None and filler.type != "constant":
                raise Refused("data_filler", filler.type, "it is drawn again in each pass", "make it an Input")
            if not param.shape:
                raise Refused("shape", "none", "a constant must have one", _CHECK)
            shape = checked_shape(self.origin, top, tuple(param.shape[min(at, len(param.shape) - 1)].dim))
            value = np.full(shape, 0.0 if filler is None else filler.value, np.float32)
            yield self.builder.param(number(value, "a constant of the net"), top)


@dataclass(frozen=True)
class RuntimeNet:
    """A net for Caffe: its text, the description's input of each input blob, the blob of each output, fixed inputs."""

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
        return CaffeExecutor(Runner(), "cpu").unavailable()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one forward pass of each net; return the outputs by name."""
        outputs: dict[str, Array] = {}
        with Runner() as runner:
            for net in self.nets:
                with runner.load(net.text, weights=self.caffemodel) as loaded:
                    fed = {**{blob: inputs[name] for blob, name in net.inputs.items()}, **net.fixed}
                    blobs = loaded.run(fed, want=list(net.outputs.values())).blobs
                outputs |= {name: np.asarray(blobs[blob], np.float64) for name, blob in net.outputs.items()}
        return outputs


def recurrent_nets(layers: Sequence[Layer], imported: Imported) -> Iterator[RuntimeNet]:
    """Yield a net of a single layer for each recurrent layer."""
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
    net: Any = NetParameter()
    for blob, shape in shapes.items():
        entry = net.layer.add(name=f"input of {blob}", type="Input", top=[blob])
        entry.input_param.shape.add().dim.extend(shape)
    return str(net)


@dataclass(frozen=True)
class NetFile:
    """The two files of a net: its text and its weights, under one name."""

    name: str
    text: str
    caffemodel: bytes


TOLERANCE = 1e-4  # relative; both nets compute in float32, through all of their layers
# layers that move integers and indicators on to those that need them
_MOVES = ("Flatten", "Split", *(op.layer_type for op in CAFFE_OPS if op.moves))


def compare_nets(
    source: NetFile, net: Any, written: NetFile, places: Sequence[str], hints: BlobHints, seed: int
) -> list[SourceCheck]:
    """Compare a written net's outputs, in each of the runtimes ``places``, with its source's outputs in Caffe. Raises
    :class:`~lstmc.errors.BackendError` for a runtime that does not load or run the written net."""
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
            why = "reads or writes files: only a net whose inputs are arrays is run"
            raise BackendError(f"layer {label(layer)} {why}")
    high = _integer_ranges(net)
    with runner.load(source.text, weights=source.caffemodel) as loaded:
        inputs = dict[str, Array]()
        for name in loaded.inputs:
            rng, shape = named_rng(seed, name), loaded.blobs[name]
            drawn = rng.integers(0, high[name], shape).astype(float) if name in high else rng.normal(size=shape)
            inputs[name] = constant_of(hints.values, name, shape) if name in hints.values else drawn
        return inputs, dict(loaded.run(inputs).blobs)


def _integer_ranges(net: Any) -> dict[str, int]:
    """Return how many values, from 0 on, each blob of integers takes: indices of an Embed, markers of sequences."""
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


def _compared(
    runner: Runner, net: NetFile, place: str, inputs: Mapping[str, Array], expected: Mapping[str, Array]
) -> SourceCheck:
    """Run the written net in the runtime ``place``, and compare its outputs with the ``expected`` ones."""
    tolerance = TOLERANCE
    if place.startswith("caffe-"):
        mode: Mode = "gpu" if place == "caffe-gpu" else "cpu"
        with (
            Runner(for_gpu=True) if mode == "gpu" else nullcontext(runner) as own,
            own.load(net.text, weights=net.caffemodel, mode=mode) as loaded,
        ):
            actual: Mapping[str, Array] = loaded.run(inputs, want=list(expected)).blobs
    else:
        reader = load_reader(place)
        tolerance = max(tolerance, reader.tolerance or 0.0)
        with ReaderSession(reader) as session:
            shapes = {name: array.shape for name, array in expected.items()}
            actual = session.run(net.text.encode(), net.caffemodel, inputs, shapes)
    return SourceCheck(place, tuple(difference(name, expected[name], actual[name], tolerance) for name in expected))
