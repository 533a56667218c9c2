"""Keras layers of images, and of sequences as images of one row: convolutions, pooling, padding."""

from __future__ import annotations

from typing import Any, Literal

from lstmc.importers.frontends.keras_call import Call, Handler, activated
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Pair
from lstmc.importers.ir.sizes import fixed
from lstmc.importers.refusal import Refused


def _channels_first(layers: Layers, call: Call, rank: int) -> tuple[str, list[int]]:
    """Return x [..., H, W, C] or [..., W, C] with its channels before these axes, and the permutation to undo that."""
    _require_channels_last(call)
    lead = call.lead
    x = layers.transpose(call.xs[0], (*range(lead), lead + rank, *range(lead, lead + rank)))
    return x, [*range(lead), *range(lead + 1, lead + rank + 1), lead]


def _conv(rank: int, kind: Literal["plain", "depthwise", "separable"] = "plain") -> Handler:
    """Return a handler of convolutions; a separable one is a depthwise convolution, then one with 1 x 1 kernels."""

    def handle(layers: Layers, call: Call) -> list[str]:
        kernel, *bias = call.weights
        padding = call.config.get("padding", call.config.get("border_mode", "valid"))
        strides, dilation = call.pair("strides", rank), call.pair("dilation_rate", rank)
        x, back = _channels_first(layers, call, rank)
        w, group = kernel.transposed(rank + 1, rank, *range(rank)), int(call.config.get("groups", 1) or 1)
        if kind != "plain":  # [..., C, M]: M kernels for each channel
            group = kernel.shape[rank]
            w = kernel.transposed(rank, rank + 1, *range(rank)).reshaped(
                group * kernel.shape[-1], 1, *kernel.shape[:rank]
            )
        windows = zip(layers.shape(x)[-rank:], w.shape[2:], strides, dilation, strict=True)
        pads = [pads_of(padding, *window) for window in windows]
        point = bias.pop(0) if kind == "separable" else None
        b = bias[0] if bias else None
        y = layers.conv(x, w, b if point is None else None, strides, pads, dilation, group)
        if point is not None:
            mixed = point.transposed(rank + 1, rank, *range(rank))
            y = layers.conv(y, mixed, b, (1,) * rank, [(0, 0)] * rank, (1,) * rank, 1)
        return [activated(layers, call, layers.transpose(y, back))]

    return handle


def _conv_transpose(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        kernel, *bias = call.weights  # [..., out, in]
        strides, dilation = call.pair("strides", rank), call.pair("dilation_rate", rank)
        if call.config.get("output_padding") is not None or set(dilation) != {1}:
            setting = f"{call.config.get('output_padding')}, {dilation}"
            raise Refused("output_padding, dilation_rate", setting, "only none are read", "leave them out")
        x, back = _channels_first(layers, call, rank)
        w = kernel.transposed(rank + 1, rank, *range(rank))
        pads: list[Pair] = []
        for k, s in zip(kernel.shape[:rank], strides, strict=True):
            # "same" makes n s elements of n, "valid" at least that (keras/src/backend/common/backend_utils.py)
            total = max(k - s, 0) if call.config.get("padding") == "same" else 0
            more = max(s - k, 0)
            pads.append((total // 2, total - total // 2 - more))
        y = layers.conv_transpose(x, w, bias[0] if bias else None, strides, pads, (1,) * rank, 1)
        return [activated(layers, call, layers.transpose(y, back))]

    return handle


def _require_channels_last(call: Call) -> None:
    order = call.config.get("data_format", "channels_last")
    if order not in (None, "channels_last"):
        raise Refused("data_format", str(order), "only channels_last is read", "write the model with channels last")


def pads_of(padding: str, size: Any, kernel: int, stride: int, dilation: int) -> Pair:
    """Return the zeros before and after an axis for a padding mode."""
    reach = dilation * (kernel - 1)
    if padding == "causal":
        return (reach, 0)
    if padding != "same":
        return (0, 0)
    if stride == 1:
        return (reach // 2, reach - reach // 2)
    n = fixed(size, "an image's size")
    total = max((-(-n // stride) - 1) * stride + reach + 1 - n, 0)
    return (total // 2, total - total // 2)


def _pool(kind: Literal["max", "mean"], rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        size = call.pair("pool_size", rank, call.config.get("pool_length", 2))
        strides = call.pair("strides", rank, call.config.get("stride") or size)
        padding = call.config.get("padding", call.config.get("border_mode", "valid"))
        x, back = _channels_first(layers, call, rank)
        windows = zip(layers.shape(x)[-rank:], size, strides, strict=True)
        pads = [pads_of(padding, n, k, s, 1) for n, k, s in windows]
        return [layers.transpose(layers.pool(kind, x, size, strides, pads, counted=False), back)]

    return handle


def _global(kind: Literal["max", "mean"], rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        axes = range(call.lead, call.lead + rank)
        return [layers.reduce(kind, call.xs[0], axes, bool(call.config.get("keepdims", False)))]

    return handle


def _sides(sizes: Any, rank: int) -> list[Pair]:
    """Return paddings or croppings of each axis, from one number, a number for each, or (before, after) for each."""
    if isinstance(sizes, int):
        return [(sizes, sizes)] * rank
    if rank == 1 and all(isinstance(one, int) for one in sizes):
        return [(int(sizes[0]), int(sizes[-1]))]
    return [(one, one) if isinstance(one, int) else (int(one[0]), int(one[1])) for one in sizes]


def _zero_padding(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        y = call.xs[0]
        for axis, (before, after) in enumerate(_sides(call.config.get("padding", 1), rank), call.lead):
            y = layers.pad(y, axis, before, after)
        return [y]

    return handle


def _cropping(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        y = call.xs[0]
        for axis, (before, after) in enumerate(_sides(call.config.get("cropping", 1), rank), call.lead):
            y = layers.cut(y, axis, before, fixed(layers.shape(y)[axis], f"axis {axis}") - after)
        return [y]

    return handle


def _up_sampling(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        if call.config.get("interpolation", "nearest") != "nearest":
            raise Refused("interpolation", str(call.config["interpolation"]), "only nearest is written", "use nearest")
        y = call.xs[0]
        for axis, times in enumerate(call.pair("size", rank, 2), call.lead):
            y = layers.enlarged(y, axis, times)
        return [y]

    return handle


HANDLERS: dict[str, Handler] = {
    **{f"Conv{rank}D": _conv(rank) for rank in (1, 2)},
    **{f"DepthwiseConv{rank}D": _conv(rank, "depthwise") for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _conv(rank, "separable") for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _conv_transpose(rank) for rank in (1, 2)},
    **{f"MaxPooling{rank}D": _pool("max", rank) for rank in (1, 2)},
    **{f"AveragePooling{rank}D": _pool("mean", rank) for rank in (1, 2)},
    **{f"GlobalMaxPooling{rank}D": _global("max", rank) for rank in (1, 2)},
    **{f"GlobalAveragePooling{rank}D": _global("mean", rank) for rank in (1, 2)},
    **{f"ZeroPadding{rank}D": _zero_padding(rank) for rank in (1, 2)},
    **{f"Cropping{rank}D": _cropping(rank) for rank in (1, 2)},
    **{f"UpSampling{rank}D": _up_sampling(rank) for rank in (1, 2)},
}
