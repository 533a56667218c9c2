"""Caffe's LSTM and RNN layers as a description: one model of all of a net's, each with its own inputs and outputs.

``recurrent_layer.cpp`` says what they read and write: x [T, N, ...], cont [T, N], maybe a static input [N, ...], and
with ``expose_hidden`` the first states [1, N, H] after them, and the last ones after the top h [T, N, H].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.importers.convention import cell_weights
from lstmc.importers.describe.cell import Cell
from lstmc.importers.describe.net import Net, NetBuilder
from lstmc.importers.describe.ops import Apply, Linear, Reshape
from lstmc.importers.describe.pointwise import TANH
from lstmc.importers.describe.recur import Extra, Recur
from lstmc.importers.refusal import Refusal, RefusedError
from lstmc.importers.weight import number
from lstmc_caffe.source.layer import Layer
from lstmc_caffe.targets.shapes import Shape

_ZERO = (
    "Caffe carries states over from one forward pass to the next where cont is 1 at the first step; the converted net"
    " starts each pass from zero states."
)


@dataclass
class Imported:
    """What the description's inputs and outputs are in the net: a blob; a layer's place, and its top.

    ``bottoms`` has the inputs of each layer, by its place.
    """

    inputs: dict[str, str] = field(default_factory=dict)
    bottoms: dict[int, list[str]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, str]] = field(default_factory=dict)


def describe_layers(layers: Sequence[Layer], origin: str, written: Sequence[Sequence[str]]) -> tuple[Net, Imported]:
    """All recurrent layers of a net. ``written``: the tops of all layers, by which a blob's contents are told apart."""
    builder, imported = NetBuilder("net", origin), Imported()
    refusals = [refusal for layer in layers for refusal in refusals_of(layer)]
    if refusals:
        raise RefusedError(origin, refusals)
    known: dict[tuple[str, int], str] = {}
    for layer in layers:
        given = []
        for name, shape in zip(layer.message.bottom, layer.bottoms, strict=True):
            version = max((at for at, tops in enumerate(written[: layer.place]) if name in tops), default=-1)
            if name in layer.fixed:
                known[name, version] = builder.param(number(layer.fixed[name], "a constant that was given"), name)
            elif (name, version) not in known:
                known[name, version] = builder.input(name, shape)
                imported.inputs[known[name, version]] = name
            given.append(known[name, version])
        imported.bottoms[layer.place] = given
        for top, value in zip(layer.message.top, described(builder, layer, given), strict=True):
            name = builder.output(top, value)
            imported.outputs[name] = (layer.place, top)
    builder.notes += notes_of(layers)
    return builder.finish(), imported


def notes_of(layers: Sequence[Layer]) -> Iterator[str]:
    """What a person should know of recurrent layers as they are imported."""
    if layers:
        yield _ZERO
    for layer in layers:
        if any(spec.lr_mult != 1 or spec.decay_mult != 1 for spec in layer.message.param):
            yield f"Trained on, {layer.message.name} learns at the usual rate: lr_mult and decay_mult are not kept."


def _sizes(layer: Layer) -> tuple[int, int, int]:
    """The exposed states, whether there is a static input, the number of blobs."""
    lstm, param = layer.message.type == "LSTM", layer.message.recurrent_param
    exposed = (2 if lstm else 1) * param.expose_hidden
    static = int(len(layer.bottoms) > 2 + exposed)
    return exposed, static, (3 if lstm else 5) + static


def refusals_of(layer: Layer) -> Iterator[Refusal]:
    """What of a recurrent layer is not as Caffe has it."""
    message, label = layer.message, layer.label
    exposed, static, blobs = _sizes(layer)
    if len(layer.bottoms) != 2 + static + exposed or len(message.top) != 1 + exposed:
        found = f"{len(layer.bottoms)} and {len(message.top)}"
        why = f"with expose_hidden = {str(message.recurrent_param.expose_hidden).lower()} there are others"
        yield Refusal(label, "bottoms and tops", found, why, "check the net in Caffe")
        return
    x, cont, units = layer.bottoms[0], layer.bottoms[1], message.recurrent_param.num_output
    if len(x) < 2 or cont != x[:2] or not units:
        found = f"{list(x)}, {list(cont)}, {units}"
        yield Refusal(
            label, "x, cont, num_output", found, "expected [T, N, ...], [T, N], units", "check the net in Caffe"
        )
        return
    wanted = _blob_shapes(layer)
    if [blob.shape for blob in layer.blobs] != wanted:
        found = ", ".join(str(list(blob.shape)) for blob in layer.blobs) or "none"
        why = f"expected {blobs} of them, {', '.join(str(list(shape)) for shape in wanted)}"
        yield Refusal(label, "blobs", found, why, "give the weights that were trained with this net")
    for place in range(2 + static, len(layer.bottoms)):
        if layer.bottoms[place] != (1, x[1], units):
            found = f"{message.bottom[place]} {list(layer.bottoms[place])}"
            yield Refusal(label, "first state", found, f"expected {[1, x[1], units]}", "check the net in Caffe")


def _blob_shapes(layer: Layer) -> list[Shape]:
    """W_x, b, W_static, W_h, and of an RNN W_o, b_o (``lstm_layer.cpp``, ``rnn_layer.cpp``, FillUnrolledNet)."""
    lstm, units = layer.message.type == "LSTM", layer.message.recurrent_param.num_output
    rows, static = units * (4 if lstm else 1), _sizes(layer)[1]
    found: list[Shape] = [(rows, prod(layer.bottoms[0][2:])), (rows,)]
    found += [(rows, prod(layer.bottoms[2][1:]))] if static else []
    return [*found, (rows, units), *([] if lstm else [(units, units), (units,)])]


def described(builder: NetBuilder, layer: Layer, given: Sequence[str]) -> list[str]:
    """The values of its tops."""
    message, lstm = layer.message, layer.message.type == "LSTM"
    units, origin = message.recurrent_param.num_output, layer.label
    _, static, _ = _sizes(layer)

    def reshaped(value: str, *shape: int) -> str:
        if builder.shapes[value] == shape:
            return value
        return builder.one(Reshape(shape), value, hint=f"{value}_rows", origin=origin)

    steps, batch = layer.bottoms[0][:2]
    x = reshaped(given[0], steps, batch, prod(layer.bottoms[0][2:]))
    w_x, b, *rest = layer.blobs
    roles = {"W_s": rest.pop(0)} if static else {}
    cell = Cell("lstm" if lstm else "rnn", static=bool(static))
    weights = cell_weights("caffe", cell, w_x, rest[0], b, more=roles)
    extras: dict[Extra, str] = {}
    if static:
        extras["static"] = reshaped(given[2], batch, prod(layer.bottoms[2][1:]))
    if not np.all(layer.fixed.get(message.bottom[1], 0) == 1):
        extras["cont"] = given[1]
    init = {state: reshaped(value, batch, units) for state, value in zip("hc", given[2 + static :], strict=False)}
    name = builder.cell_name(message.name or "layer", cell, weights)
    op = Recur(cell, units, units, name, init=tuple(init), more=tuple(extras))
    y, *last = builder.recur(op, x, weights, [*init.values(), *extras.values()], origin)
    if not lstm:
        readout = [
            builder.param(weight, f"{name}_{role}") for weight, role in zip(rest[1:], ("W_o", "b_o"), strict=True)
        ]
        y = builder.one(Linear(), y, *readout, hint=f"{name}_o", origin=origin)
        y = builder.one(Apply(TANH), y, hint=f"{name}_o", origin=origin)
    exposed = [reshaped(state, 1, batch, units) for state in last] if message.recurrent_param.expose_hidden else []
    return [y, *exposed]
