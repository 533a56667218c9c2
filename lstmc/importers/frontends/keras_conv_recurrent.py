"""Keras's recurrent layers of images: ConvLSTM1D and ConvLSTM2D."""

from __future__ import annotations

from lstmc.importers.describe.net import NetBuilder
from lstmc.importers.frontends.keras_activations import activation
from lstmc.importers.frontends.keras_call import Call
from lstmc.importers.frontends.keras_images import pads_of
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.recurrent import rolled
from lstmc.importers.frontends.refused import Refused


def conv_lstm(layers: Layers, call: Call) -> list[str]:
    """x [N, T, (H,) W, C]; gates in the order i, f, g, o (keras/src/layers/rnn/conv_lstm.py)."""
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
    if rank == 1:
        turned = [w.reshaped(*w.shape[:2], 1, w.shape[2]) for w in turned]
        x, strides, dilation = layers.unsqueeze(x, [3]), (1, *strides), (1, *dilation)
    steps, *shape = layers.shape(x)
    inner = Layers(NetBuilder("step", layers.builder.origin))
    inner.at("a", layers.origin)
    x_t = inner.builder.input("x", tuple(shape))
    windows = zip(shape[2:], turned[0].shape[2:], strides, dilation, strict=True)
    rows, columns = (pads_of(padding, n, k, s, d) for n, k, s, d in windows)
    steps_of, spread = (strides[0], strides[1]), (dilation[0], dilation[1])
    seen = inner.conv(x_t, turned[0], bias[0] if bias else None, steps_of, (rows, columns), spread, 1)
    image = (shape[0], filters, *inner.shape(seen)[2:])
    h, c = inner.builder.input("h", image), inner.builder.input("c", image)
    rows, columns = (pads_of("same", n, k, 1, 1) for n, k in zip(image[2:], turned[1].shape[2:], strict=True))
    kept = inner.conv(h, turned[1], None, (1, 1), (rows, columns), (1, 1), 1)
    pre = inner.split(inner.binary("add", seen, kept), [filters] * 4, 1)
    gate = activation(config.get("recurrent_activation"), call.version, "recurrent_activation")
    new = activation(config.get("activation", "tanh"), call.version, "activation")
    i, f, o = (inner.apply(gate.function, pre[at], gate.a, gate.b) for at in (0, 1, 3))
    g = inner.apply(new.function, pre[2], new.a, new.b)
    c = inner.binary("add", inner.binary("mul", f, c), inner.binary("mul", i, g))
    h = inner.binary("mul", o, inner.apply(new.function, c, new.a, new.b))
    inner.builder.outputs |= {"h": h, "c": c, "y": h}
    body = inner.builder.finish(inputs={"x": tuple(shape), "h": image, "c": image})
    back = bool(config.get("go_backwards", False))
    y, *last = rolled(layers, body, {"x": x}, {"h": None, "c": None}, {}, steps, back)
    whole = bool(config.get("return_sequences", False))
    if whole and back:
        y = layers.flip(y, 0)

    def images(value: str, lead: int) -> str:
        value = layers.squeeze(value, [lead + 1]) if rank == 1 else value
        return layers.transpose(value, (*range(lead), *range(lead + 1, lead + rank + 1), lead))

    out = layers.transpose(images(y, 2), (1, 0, *range(2, rank + 3))) if whole else images(last[0], 1)
    return [out, *(images(state, 1) for state in last)] if config.get("return_state") else [out]


HANDLERS = dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D"), conv_lstm)
