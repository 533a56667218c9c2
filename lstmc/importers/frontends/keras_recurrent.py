"""Keras recurrent layers of all versions: gates, biases, CuDNN's layout, both directions, ConvLSTM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lstmc.importers.frontends.keras_calls import SAVE, Call, Config, Handler, Settings, activation, pads_of
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Operand
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.ir.recur import GATES, Cell, Extra, Kind
from lstmc.importers.ir.values import Weight, joined
from lstmc.importers.refusal import Refused
from lstmc.ops import Array, Op
from lstmc.patterns.recognised import GRU_ORDERS, LSTM_ORDERS

KINDS: dict[str, Kind] = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
CELLS = {"SimpleRNNCell": "SimpleRNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}
# Keras 1 stored the three arrays of each gate separately, in this order.
_KERAS_1 = {"lstm": "igfo", "gru": "zrn"}
_KERAS_2 = {"lstm": LSTM_ORDERS["keras"], "gru": GRU_ORDERS["keras"]}


_AT_FIRST = (
    "A masked layer has a first state: where the first steps of a sequence are masked, it gives that state there, and"
    " Keras zeros. Masks at the end make no difference."
)


def recurrent(layers: Layers, call: Call, reverse: bool = False) -> list[str]:
    """Return the outputs [N, T, H], or the last [N, H]; then the last states with ``return_state``. Where the mask is
    0, states stay and the output is repeated. Inside ``TimeDistributed``, N stands for several axes."""
    config, mask, lead = call.config, call.mask, call.lead
    if config.get("stateful"):
        mend = "save it with stateful=False, whose weights are the same; in the written model call scan with carry=True"
        raise Refused("stateful", "True", "states are carried from batch to batch", mend)
    kind = KINDS[call.name]
    w_x, w_h, bias = _arrays(kind, call.weights, call.name.startswith("CuDNN"))
    cell = _cell(kind, call, bias)
    if mask is not None and len(call.xs) > 1:
        layers.builder.notes.append(_AT_FIRST)
    backwards = bool(config.get("go_backwards")) != reverse
    init = dict(zip(cell.states, call.xs[1:], strict=False))
    order = (lead, *range(lead), lead + 1)
    x = layers.transpose(call.xs[0], order)
    extras: dict[Extra, Operand] = {} if mask is None else {"mask": layers.transpose(mask, order)}
    y, *last = layers.recur("keras", cell, x, (w_x, w_h, *bias), init, layers.hint, extras=extras, reverse=backwards)
    if mask is not None and config.get("zero_output_for_mask"):
        y = layers.binary("mul", y, extras["mask"])
    if not config.get("return_sequences"):
        out = last[0]
    else:
        out = layers.transpose(y, np.argsort(order).tolist())
        if config.get("go_backwards"):  # Keras returns them in the order of their creation
            out = layers.flip(out, lead)
    return [out, *last] if config.get("return_state") else [out]


def of_cells(layers: Layers, call: Call, reverse: bool = False) -> list[str]:
    """Return the results of ``RNN(cell)``, or of ``RNN(StackedRNNCells)`` as one layer after the other."""
    config = call.config
    cell_config = config.get("cell") or {}
    stacked = cell_config.get("class_name") == "StackedRNNCells"
    cells = cell_config.get("config", {}).get("cells", []) if stacked else [cell_config]
    strange = [str(cell.get("class_name")) for cell in cells if str(cell.get("class_name")) not in CELLS]
    if strange or not cells:
        why = f"there are {', '.join(CELLS)} and StackedRNNCells"
        raise Refused("cell", ", ".join(strange) or "none", why, "write the layers one by one")
    if len(cells) > 1 and (len(call.xs) > 1 or config.get("return_state")):
        raise Refused("return_state, initial_state", "of several cells", "they are not taken apart", "write layers")
    back, left, hint, operands = bool(config.get("go_backwards")), list(call.weights), layers.hint, list(call.xs)
    for number, cell in enumerate(cells):
        own, inner = cell.get("config", {}), number < len(cells) - 1
        count = _array_count(cell)
        own_weights, left = left[:count], left[count:]
        settings: dict[str, Any] = own | {key: config.get(key) for key in ("return_state", "stateful")}
        settings["return_sequences"] = inner or config.get("return_sequences")
        settings["go_backwards"] = back and not inner
        settings["zero_output_for_mask"] = bool(config.get("zero_output_for_mask")) and not inner
        layers.at(f"{hint}_{number}" if len(cells) > 1 else hint, layers.builder.where)
        one = replace(call, name=CELLS[cell["class_name"]], config=Settings(settings), weights=own_weights, xs=operands)
        operands = recurrent(layers, one, reverse or (back and inner))
    layers.at(hint, layers.builder.where)
    return operands


def _array_count(layer: Config) -> int:
    """Return how many arrays a recurrent layer has, or its cells have together, in Keras 2 and 3."""
    config = layer.get("config", {})
    cell = config.get("cell") or {}
    cells = cell.get("config", {}).get("cells", [cell]) if cell else []
    return sum(map(_array_count, cells)) if cell else 3 if config.get("use_bias", True) else 2


def _arrays(
    kind: Kind, weights: Sequence[Weight], cudnn: bool
) -> tuple[Weight, Weight, tuple[Weight | None, Weight | None]]:
    """Return kernel [D, gates x H], recurrent kernel [H, gates x H] and two biases (None for no bias) in the layout of
    Keras 2. ``weights`` may be in that of Keras 1 or of CuDNN."""
    parts = len(GATES[kind])
    if parts > 1 and len(weights) == 3 * parts:  # Keras 1: W, U and b of each gate
        order = [_KERAS_1[kind].index(gate) for gate in _KERAS_2[kind]]
        w, u, b = ([weights[3 * at + which] for at in order] for which in range(3))
        return _beside(w), _beside(u), (joined(b), None)
    w_x, w_h = weights[0], weights[1]
    if len(weights) == 2:
        return w_x, w_h, (None, None)
    bias, width = weights[2], w_x.shape[1]
    if len(bias.shape) not in (1, 2):
        raise Refused("bias", f"of shape {list(bias.shape)}", "one or two rows are expected", SAVE)
    if len(bias.shape) == 2 or bias.shape[0] == 2 * width:
        if len(bias.shape) == 1 or cudnn:  # CuDNN's layout: two biases in one row, each gate transposed
            bias = bias.reshaped(2, width) if len(bias.shape) == 1 else bias
            w_x, w_h = _from_cudnn(w_x, parts, True), _from_cudnn(w_h, parts, False)
        return w_x, w_h, (bias.at(0), bias.at(1))
    return w_x, w_h, (bias, None)


def _beside(weights: Sequence[Weight]) -> Weight:
    return joined([weight.transposed() for weight in weights]).transposed()


def _from_cudnn(w: Weight, parts: int, inputs: bool) -> Weight:
    """Transpose each gate's block, in CuDNN [units, in], of an input kernel (``inputs``) or a recurrent kernel
    (keras/src/legacy/saving/legacy_h5_format.py)."""

    def make() -> Array:
        blocks = np.split(w.make(), parts, axis=1)
        turned = [b.T.reshape(b.shape, order="F") if inputs else b.T for b in blocks]
        return np.concatenate(turned, axis=1)

    return w.derived(w.shape, f"{w.recipe} out of CuDNN's layout", make)


def _cell(kind: Kind, call: Call, bias: tuple[Weight | None, Weight | None]) -> Cell:
    """Return the cell of a layer. Raises :class:`Refused` if the gates' activation is unknown, or the bias is unfit."""
    name, config, version = call.name, call.config, call.version
    usual = {"CuDNNLSTM": "sigmoid", "CuDNNGRU": "sigmoid", "SimpleRNN": "sigmoid"}
    gate = config.get("recurrent_activation", config.get("inner_activation", usual.get(name)))
    new = activation(config.get("activation", "tanh" if name.startswith("CuDNN") else None), version, "activation")
    if gate is None:
        why, mend = "its default changed with Keras 2.3", "write it into the configuration"
        raise Refused("recurrent_activation", "not given", why, mend)
    opened: Op = activation(gate, version, "recurrent_activation")
    two = bias[1] is not None
    # without the key, reset_after is False: it came with Keras 2.1.6
    after = kind == "gru" and bool(config.get("reset_after", name == "CuDNNGRU"))
    if kind == "gru" and bias[0] is not None and after != two:
        raise Refused("reset_after", str(after), "the bias has another form than that", "correct the configuration")
    return Cell(kind, opened if kind != "rnn" else Cell(kind).gate, new, new, bias[0] is not None, after)


def bidirectional(layers: Layers, call: Call) -> list[str]:
    """Return the outputs of both directions, merged unless ``merge_mode`` is None, then the last states of both."""
    config, xs = call.config, call.xs
    inner = config.get("layer") or {}
    backward = config.get("backward_layer") or {}
    name, forward_config = str(inner.get("class_name", "")), inner.get("config", {})
    other_name = str(backward.get("class_name", name))
    if not {name, other_name} <= {*_BOTH_WAYS}:
        why = f"only {', '.join(_BOTH_WAYS)} run both ways"
        raise Refused("layer", name if name not in _BOTH_WAYS else other_name, why, "write two layers")
    first = 1 + len(xs) // 2  # the first states of the forward layer precede those of the backward layer
    if forward_config.get("go_backwards"):
        raise Refused("go_backwards", "True", "the first of the two would run backwards", "leave it to Bidirectional")
    counts, hint = (_array_count(inner), _array_count(backward or inner)), layers.hint
    half = len(call.weights) * counts[0] // sum(counts)  # Keras 1 stores three or four times as many arrays
    one = replace(call, name=name, config=Settings(forward_config), weights=call.weights[:half], xs=xs[:first])
    ahead, *last = _BOTH_WAYS[name](layers, one)
    layers.at(f"{hint}_backward", layers.builder.where)
    settings = dict(backward.get("config", forward_config)) | {"go_backwards": False}
    states = [xs[0], *xs[first:]]
    other = replace(one, name=other_name, config=Settings(settings), weights=call.weights[half:], xs=states)
    back, *last_back = _BOTH_WAYS[other_name](layers, other, reverse=True)
    layers.at(hint, layers.builder.where)
    mode = config.get("merge_mode", "concat")
    if mode == "concat":
        return [layers.concat([ahead, back], -1), *last, *last_back]
    if mode is None:
        return [ahead, back, *last, *last_back]
    if mode not in ("sum", "mul", "ave"):
        raise Refused("merge_mode", str(mode), "there are concat, sum, mul, ave and None", "use one of them")
    y = layers.binary("mul" if mode == "mul" else "add", ahead, back)
    return [layers.affine(y, 0.5, 0.0) if mode == "ave" else y, *last, *last_back]


_BOTH_WAYS: Mapping[str, Callable[..., list[str]]] = {**dict.fromkeys(KINDS, recurrent), "RNN": of_cells}


def conv_lstm(layers: Layers, call: Call) -> list[str]:
    """Return a ConvLSTM of x [N, T, (H,) W, C], its gates i, f, g, o (keras/src/layers/rnn/conv_lstm.py)."""
    config, rank = call.config, int(call.name[-2])
    first = config.get("data_format") not in (None, "channels_last")
    if first or config.get("stateful") or call.mask is not None or len(call.xs) > 1:
        why = "channels first, states from outside and masks are not read of it"
        raise Refused("data_format, stateful, mask", str(config.get("data_format")), why, "write it without them")
    kernel, recurrent, *bias = call.weights
    filters, padding = kernel.shape[-1] // 4, config.get("padding", "valid")
    strides, dilation = call.pair("strides", rank), call.pair("dilation_rate", rank)
    turned = [w.transposed(rank + 1, rank, *range(rank)) for w in (kernel, recurrent)]
    x = layers.transpose(call.xs[0], (1, 0, rank + 2, *range(2, rank + 2)))
    steps, *shape = layers.shape(x)
    inner = Layers(NetBuilder("step", layers.builder.origin))
    inner.at("a", layers.builder.where)
    x_t, ones = inner.builder.input("x", tuple(shape)), (1,) * rank
    windows = zip(shape[2:], turned[0].shape[2:], strides, dilation, strict=True)
    pads = [pads_of(padding, n, k, s, d) for n, k, s, d in windows]
    seen = inner.conv(x_t, turned[0], bias[0] if bias else None, strides, pads, dilation, 1)
    image = (shape[0], filters, *inner.shape(seen)[2:])
    h, c = inner.builder.input("h", image), inner.builder.input("c", image)
    pads = [pads_of("same", n, k, 1, 1) for n, k in zip(image[2:], turned[1].shape[2:], strict=True)]
    kept = inner.conv(h, turned[1], None, ones, pads, ones, 1)
    pre = inner.split(inner.binary("add", seen, kept), [filters] * 4, 1)
    gate = activation(config.get("recurrent_activation"), call.version, "recurrent_activation")
    new = activation(config.get("activation", "tanh"), call.version, "activation")
    i, f, o = (inner.one(gate, pre[at]) for at in (0, 1, 3))
    g = inner.one(new, pre[2])
    c = inner.binary("add", inner.binary("mul", f, c), inner.binary("mul", i, g))
    h = inner.binary("mul", o, inner.one(new, c))
    inner.builder.outputs |= {"h": h, "c": c, "y": h}
    body = inner.builder.finish(every_input=True)
    back = bool(config.get("go_backwards"))
    title, states = layers.builder.scan_name(layers.hint), dict.fromkeys(("h", "c"))
    y, *last = layers.builder.loop(title, body, [x], states, (), steps, back)
    whole = bool(config.get("return_sequences"))
    if whole and back:
        y = layers.flip(y, 0)

    def images(value: str, lead: int) -> str:
        return layers.transpose(value, (*range(lead), *range(lead + 1, lead + rank + 1), lead))

    out = layers.transpose(images(y, 2), (1, 0, *range(2, rank + 3))) if whole else images(last[0], 1)
    return [out, *(images(state, 1) for state in last)] if config.get("return_state") else [out]


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(KINDS, recurrent),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D"), conv_lstm),
    "Bidirectional": bidirectional,
    "RNN": of_cells,
}
