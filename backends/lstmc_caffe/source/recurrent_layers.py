"""Caffe's LSTM and RNN layers as a description: one model of all such layers of a net; and its compiled parts. Bottoms
(``recurrent_layer.cpp``): x [T, N, ...], cont [T, N], an optional static input [N, ...], and with ``expose_hidden`` the
initial states [1, N, H]. Tops: h [T, N, H], and with ``expose_hidden`` the final states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from lstmc.backend import Artifact
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import Net, NetBuilder
from lstmc.importers.ir.recur import Cell, Extra
from lstmc.importers.ir.values import number
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.manifest import Manifest, parse_manifest
from lstmc.ops import Linear, Reshape, Tanh
from lstmc.text import Names
from lstmc_caffe.proto.net import LayerParameter, RawLayer, RawNet, net_from_text
from lstmc_caffe.source.layer import Layer, label
from lstmc_caffe.targets.lint import Shape

_ZERO = (
    "Caffe carries states over from one forward pass to the next where cont is 1 at the first step; the converted net"
    " starts each pass from zero states."
)


@dataclass
class Imported:
    """How the inputs, outputs and layers of the description correspond to blobs and layers of the net."""

    inputs: dict[str, str] = field(default_factory=dict)  # input -> blob
    bottoms: dict[int, list[str]] = field(default_factory=dict)  # layer's index -> values
    outputs: dict[str, tuple[int, str]] = field(default_factory=dict)  # output -> layer's index, top


def describe_layers(layers: Sequence[Layer], origin: str, written: Sequence[Sequence[str]]) -> tuple[Net, Imported]:
    """Return the description of all recurrent layers, and the net's blob of each input and output. ``written`` are the
    tops of all layers of the net: a blob has a new version for each layer that writes it."""
    builder, imported = NetBuilder("net", origin), Imported()
    refusals = [refusal for layer in layers for refusal in refusals_of(layer)]
    if refusals:
        raise RefusedError(origin, refusals)
    values: dict[tuple[str, int], str] = {}
    for layer in layers:
        operands = []
        for name, shape in zip(layer.message.bottom, layer.bottoms, strict=True):
            version = max((at for at, tops in enumerate(written[: layer.place]) if name in tops), default=-1)
            if name in layer.fixed:
                values[name, version] = builder.param(number(layer.fixed[name], "a constant that was given"), name)
            elif (name, version) not in values:
                values[name, version] = builder.input(name, shape)
                imported.inputs[values[name, version]] = name
            operands.append(values[name, version])
        imported.bottoms[layer.place] = operands
        for top, value in zip(layer.message.top, recurrent_values(builder, layer, operands), strict=True):
            name = builder.output(top, value)
            imported.outputs[name] = (layer.place, top)
    builder.notes += notes_of(layers)
    return builder.finish(), imported


def notes_of(layers: Sequence[Layer]) -> Iterator[str]:
    if layers:
        yield _ZERO
    for layer in layers:
        if any(spec.lr_mult != 1 or spec.decay_mult != 1 for spec in layer.message.param):
            yield f"Trained on, {layer.message.name} learns at the usual rate: lr_mult and decay_mult are not kept."


def _sizes(layer: Layer) -> tuple[int, int]:
    """Return the number of exposed states and of static inputs (0 or 1) of a layer."""
    exposed = (2 if layer.message.type == "LSTM" else 1) * layer.message.recurrent_param.expose_hidden
    return exposed, int(len(layer.bottoms) > 2 + exposed)


def refusals_of(layer: Layer) -> Iterator[Refusal]:
    """Yield a refusal for each invalid bottom, top, size or blob of a recurrent layer."""
    message, called = layer.message, label(layer.message)
    exposed, static = _sizes(layer)
    if len(layer.bottoms) != 2 + static + exposed or len(message.top) != 1 + exposed:
        actual = f"{len(layer.bottoms)} and {len(message.top)}"
        why = f"with expose_hidden = {str(message.recurrent_param.expose_hidden).lower()} there are others"
        yield Refusal(called, "bottoms and tops", actual, why, "check the net in Caffe")
        return
    x, cont, units = layer.bottoms[0], layer.bottoms[1], message.recurrent_param.num_output
    if len(x) < 2 or cont != x[:2] or not units:
        actual = f"{list(x)}, {list(cont)}, {units}"
        why = "expected [T, N, ...], [T, N], units"
        yield Refusal(called, "x, cont, num_output", actual, why, "check the net in Caffe")
        return
    shapes = _blob_shapes(layer)
    if [blob.shape for blob in layer.blobs] != shapes:
        actual = ", ".join(str(list(blob.shape)) for blob in layer.blobs) or "none"
        why = f"expected {len(shapes)} of them, {', '.join(str(list(shape)) for shape in shapes)}"
        yield Refusal(called, "blobs", actual, why, "give the weights that were trained with this net")
    for place in range(2 + static, len(layer.bottoms)):
        if layer.bottoms[place] != (1, x[1], units):
            actual = f"{message.bottom[place]} {list(layer.bottoms[place])}"
            yield Refusal(called, "first state", actual, f"expected {[1, x[1], units]}", "check the net in Caffe")


def _blob_shapes(layer: Layer) -> list[Shape]:
    """Return the shapes of W_x, b, W_static, W_h, and for an RNN W_o, b_o (``FillUnrolledNet`` of each layer)."""
    lstm, units = layer.message.type == "LSTM", layer.message.recurrent_param.num_output
    rows, static = units * (4 if lstm else 1), _sizes(layer)[1]
    shapes: list[Shape] = [(rows, prod(layer.bottoms[0][2:])), (rows,)]
    shapes += [(rows, prod(layer.bottoms[2][1:]))] if static else []
    return [*shapes, (rows, units), *([] if lstm else [(units, units), (units,)])]


def recurrent_values(builder: NetBuilder, layer: Layer, operands: Sequence[str]) -> list[str]:
    """Return the values of the layer's tops: the outputs of all steps, then the last states if they are exposed."""
    message, lstm = layer.message, layer.message.type == "LSTM"
    units, origin = message.recurrent_param.num_output, label(message)
    _, static = _sizes(layer)

    def reshaped(value: str, *shape: int) -> str:
        if builder.shapes[value] == shape:
            return value
        return builder.one(Reshape(shape), value, hint=f"{value}_rows", origin=origin)

    steps, batch = layer.bottoms[0][:2]
    x = reshaped(operands[0], steps, batch, prod(layer.bottoms[0][2:]))
    w_x, b, *rest = layer.blobs
    roles = {"W_s": rest.pop(0)} if static else {}
    cell = Cell("lstm" if lstm else "rnn", static=bool(static))
    extras: dict[Extra, str] = {}
    if static:
        extras["static"] = reshaped(operands[2], batch, prod(layer.bottoms[2][1:]))
    if not np.all(layer.fixed.get(message.bottom[1], 0) == 1):
        extras["cont"] = operands[1]
    init = {state: reshaped(value, batch, units) for state, value in zip("hc", operands[2 + static :], strict=False)}
    layers = Layers(builder)
    layers.at(message.name or "layer", origin)
    y, *last = layers.recur("caffe", cell, x, (w_x, rest[0], b, None), init, layers.hint, roles, extras)
    if not lstm:
        readout = [builder.param(w, f"{layers.hint}_{role}") for w, role in zip(rest[1:], ("W_o", "b_o"), strict=True)]
        y = builder.one(Linear(2), y, *readout, hint=f"{layers.hint}_o", origin=origin)
        y = builder.one(Tanh(), y, hint=f"{layers.hint}_o", origin=origin)
    exposed = [reshaped(state, 1, batch, units) for state in last] if message.recurrent_param.expose_hidden else []
    return [y, *exposed]


def replacements(
    artifact: Artifact, net: Any, imported: Imported
) -> tuple[dict[int, list[Any]], dict[int, list[bytes]]]:
    """Return the layers that replace each recurrent layer of ``net``, by its index, and their caffemodel messages.
    Raises :class:`RefusedError` if the compiled net has a blob for each step: no layer here cuts or joins steps."""
    content = {name.partition(".")[2]: content for name, content in artifact.files.items()}
    manifest = parse_manifest(content["manifest.json"])
    _check_places(manifest, imported)
    compiled = net_from_text(content["prototxt"].decode())
    names = _Names(net, imported)
    layers = _Partition(compiled.layer, manifest, imported, names).layers()
    return layers, _stored(layers, compiled.layer, RawNet.FromString(content["caffemodel"]), names)


def _check_places(manifest: Manifest, imported: Imported) -> None:
    """Raise RefusedError if an input or output of the compiled net has a blob for each step."""
    inputs = [(imported.inputs[name], entry.place) for name, entry in manifest.inputs.items() if not entry.filled]
    outputs = [(imported.outputs[name][1], place) for name, place in manifest.outputs.items()]
    steps = [(blob, place) for blob, place in (*inputs, *outputs) if len(place.blobs) > 1]
    why = f"target {manifest.target} has a blob for each step, and no layer that cuts or joins them"
    refusals = [Refusal(f"blob {blob}", "steps", str(len(p.blobs)), why, "take another target") for blob, p in steps]
    if refusals:
        raise RefusedError(manifest.source, refusals)


class _Names(dict[str, str]):
    """The names of layers, blobs and parameters of the compiled net in the host net."""

    def __init__(self, net: Any, imported: Imported) -> None:
        super().__init__()
        others = [layer for place, layer in enumerate(net.layer) if place not in imported.bottoms]
        used = {name for layer in others for name in (layer.name, *layer.top, *(p.name for p in layer.param))}
        self.free = Names({*used, *net.input, *(top for _, top in imported.outputs.values())})

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, self.free.unique(name))


class _Partition:
    """The compiled layers, divided into parts: each part replaces one recurrent layer."""

    def __init__(self, layers: Sequence[Any], manifest: Manifest, imported: Imported, names: _Names) -> None:
        self.compiled, self.names, self.imported = layers, names, imported
        inputs = {name: entry.place for name, entry in manifest.inputs.items() if not entry.filled}
        self.fed = {blob: (imported.inputs[name], place) for name, place in inputs.items() for blob in place.names}
        self.entered: set[str] = set()  # fed blobs that a part has read
        self.tops: dict[int, list[str]] = {place: [] for place in imported.bottoms}  # compiled blobs
        self.leaving: dict[int, list[Any]] = {place: [] for place in imported.bottoms}  # Reshapes to tops
        for name, (place, top) in imported.outputs.items():
            where = manifest.outputs[name]
            (blob,) = where.names
            self.tops[place].append(blob)
            # a top of the host net is a compiled blob under another name if the shapes agree, else a Reshape of it
            if where.blob_shape is None and blob not in self.names and blob not in self.fed:
                self.names[blob] = top
            else:
                self.leaving[place].append(_reshape(self.names[blob], top, where.shape))

    def layers(self) -> dict[int, list[Any]]:
        """Return each recurrent layer's part: a compiled layer is in the first part that needs it, or else the last."""
        makers: list[set[int]] = []  # for each layer, the layers that last wrote its bottoms
        writers: dict[str, int] = {}
        for at, layer in enumerate(self.compiled):
            makers.append({writers[bottom] for bottom in layer.bottom if bottom in writers})
            writers.update(dict.fromkeys(layer.top, at))
        visited = {n for n, layer in enumerate(self.compiled) if layer.type == "Input" and {*layer.top} <= {*self.fed}}
        parts = {}
        for place, blobs in self.tops.items():
            part, waiting = set(), [writers[blob] for blob in blobs if blob in writers]
            if place == max(self.tops):
                waiting += range(len(self.compiled))
            while waiting:
                at = waiting.pop()
                if at not in visited:
                    visited.add(at)
                    part.add(at)
                    waiting += makers[at]
            own = [self.compiled[at] for at in sorted(part)]
            tops = {top for owner, top in self.imported.outputs.values() if owner == place}
            parts[place] = [*self._entering(own), *(self._renamed(layer, tops) for layer in own), *self.leaving[place]]
        return parts

    def _entering(self, layers: Sequence[Any]) -> Iterator[Any]:
        """Yield a Reshape for each blob of the host net that ``layers``, as the first part, read in another shape."""
        for blob in dict.fromkeys(bottom for layer in layers for bottom in layer.bottom):
            if blob not in self.fed or blob in self.entered:
                continue
            self.entered.add(blob)
            outer, where = self.fed[blob]
            if where.blob_shape is None:
                self.names[blob] = outer
            else:
                yield _reshape(outer, self.names[blob], where.blob_shape)

    def _renamed(self, layer: Any, tops: set[str]) -> Any:
        """Return the layer with the host net's names; a layer whose only top is one of ``tops`` has this top's name."""
        copy = LayerParameter()
        copy.CopyFrom(layer)
        outputs = [self.names[top] for top in layer.top]
        copy.name = outputs[0] if len(outputs) == 1 and outputs[0] in tops else self.names[layer.name]
        del copy.bottom[:], copy.top[:]
        copy.bottom.extend(self.names[bottom] for bottom in layer.bottom)
        copy.top.extend(outputs)
        for spec in copy.param:
            spec.name = self.names[spec.name]
        return copy


def _stored(
    layers: Mapping[int, Sequence[Any]], compiled: Sequence[Any], weights: Any, names: _Names
) -> dict[int, list[bytes]]:
    """Return caffemodel messages, by the index of the recurrent layer that they replace: of layers with blobs in the
    compiled caffemodel, and of each parameter's first layer."""
    blobs = {layer.name: layer.blobs for layer in weights.layer}
    having = [layer for layer in compiled if layer.name in blobs]
    values = {
        names[spec.name]: blob for layer in having for spec, blob in zip(layer.param, blobs[layer.name], strict=True)
    }
    tops = {tuple(names[top] for top in layer.top) for layer in having}
    stored: dict[int, list[bytes]] = {}
    owned: set[str] = set()
    for place, part in layers.items():
        stored[place] = []
        for layer in part:
            own = [spec.name for spec in layer.param]
            if own and (tuple(layer.top) in tops or not owned.issuperset(own)):
                raw = RawLayer(name=layer.name, type=layer.type, blobs=[values[name] for name in own])
                stored[place].append(raw.SerializeToString(deterministic=True))
            owned.update(own)
    return stored


def _reshape(bottom: str, top: str, shape: Sequence[int]) -> Any:
    layer = LayerParameter(name=top, type="Reshape", bottom=[bottom], top=[top])
    layer.reshape_param.shape.dim.extend(shape)
    return layer
