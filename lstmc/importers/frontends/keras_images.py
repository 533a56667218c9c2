"""Keras layers of images, and of sequences as images of one row: convolutions, pooling, padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from lstmc.importers.frontends.keras_call import SAVE, Call, Handler, activated
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import Pair
from lstmc.importers.ir.sizes import fixed
from lstmc.importers.refusal import Refused


def _channels_first(layers: Layers, call: Call) -> tuple[str, list[int]]:
    """Return x [..., H, W, C] or [..., W, C] with its channels before these axes, and the permutation to undo that."""
    _require_channels_last(call)
    lead, rank = call.lead, call.rank
    x = layers.transpose(call.xs[0], (*range(lead), lead + rank, *range(lead, lead + rank)))
    return x, [*range(lead), *range(lead + 1, lead + rank + 1), lead]


def _conv(layers: Layers, call: Call) -> list[str]:
    """A convolution; a separable one is a depthwise convolution, then one with 1 x 1 kernels."""
    kernel, *bias = call.weights
    rank, padding = call.rank, call.config.get("padding", call.config.get("border_mode", "valid"))
    strides, dilation = call.pair("strides", rank), call.pair("dilation_rate", rank)
    x, back = _channels_first(layers, call)
    w, group = kernel.transposed(rank + 1, rank, *range(rank)), call.config.get("groups") or 1
    if not call.name.startswith("Conv"):  # [..., C, M]: M kernels for each channel
        group = kernel.shape[rank]
        w = kernel.transposed(rank, rank + 1, *range(rank))
        w = w.reshaped(group * kernel.shape[-1], 1, *kernel.shape[:rank])
    windows = zip(layers.shape(x)[-rank:], w.shape[2:], strides, dilation, strict=True)
    pads = [pads_of(padding, *window) for window in windows]
    point = bias.pop(0) if call.name.startswith("Separable") else None
    b = bias[0] if bias else None
    y = layers.conv(x, w, b if point is None else None, strides, pads, dilation, group)
    if point is not None:
        mixed = point.transposed(rank + 1, rank, *range(rank))
        y = layers.conv(y, mixed, b, (1,) * rank, [(0, 0)] * rank, (1,) * rank, 1)
    return [activated(layers, call, layers.transpose(y, back))]


def _conv_transpose(layers: Layers, call: Call) -> list[str]:
    kernel, *bias = call.weights  # [..., out, in]
    rank = call.rank
    strides, dilation = call.pair("strides", rank), call.pair("dilation_rate", rank)
    if call.config.get("output_padding") is not None or set(dilation) != {1}:
        setting = f"{call.config.get('output_padding')}, {dilation}"
        raise Refused("output_padding, dilation_rate", setting, "only none are read", "leave them out")
    x, back = _channels_first(layers, call)
    w = kernel.transposed(rank + 1, rank, *range(rank))
    pads: list[Pair] = []
    for k, s in zip(kernel.shape[:rank], strides, strict=True):
        # "same" makes n s elements of n, "valid" at least that (keras/src/backend/common/backend_utils.py)
        total = max(k - s, 0) if call.config.get("padding") == "same" else 0
        more = max(s - k, 0)
        pads.append((total // 2, total - total // 2 - more))
    y = layers.conv_transpose(x, w, bias[0] if bias else None, strides, pads, (1,) * rank, 1)
    return [activated(layers, call, layers.transpose(y, back))]


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


def _pool(kind: Literal["max", "mean"]) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        rank = call.rank
        size = call.pair("pool_size", rank, call.config.get("pool_length", 2))
        strides = call.pair("strides", rank, call.config.get("stride") or size)
        padding = call.config.get("padding", call.config.get("border_mode", "valid"))
        x, back = _channels_first(layers, call)
        windows = zip(layers.shape(x)[-rank:], size, strides, strict=True)
        pads = [pads_of(padding, n, k, s, 1) for n, k, s in windows]
        return [layers.transpose(layers.pool(kind, x, size, strides, pads, counted=False), back)]

    return handle


def _global(kind: Literal["max", "mean"]) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        axes = range(call.lead, call.lead + call.rank)
        return [layers.reduce(kind, call.xs[0], axes, bool(call.config.get("keepdims", False)))]

    return handle


def _sides(sizes: Any, rank: int) -> list[Pair]:
    """Return paddings or croppings of each axis, from one number, a number for each, or (before, after) for each."""
    if isinstance(sizes, int):
        return [(sizes, sizes)] * rank
    ends = [one if isinstance(one, list) else [one] for one in sizes]
    if len(sizes) not in (rank, 2 * (rank == 1)) or any(len(one) not in (1, 2) for one in ends):
        raise Refused("padding, cropping, size", str(sizes), f"it is not of {rank} axes", SAVE)
    if rank == 1 and all(isinstance(one, int) for one in sizes):
        return [(int(sizes[0]), int(sizes[-1]))]
    return [(one, one) if isinstance(one, int) else (int(one[0]), int(one[1])) for one in sizes]


def _resized(change: Callable[[Layers, Call, str, int, Any], str], key: str, default: int) -> Handler:
    """Return a handler that changes one axis after the other by the setting of this key."""

    def handle(layers: Layers, call: Call) -> list[str]:
        _require_channels_last(call)
        y = call.xs[0]
        for axis, setting in enumerate(_sides(call.config.get(key, default), call.rank), call.lead):
            y = change(layers, call, y, axis, setting)
        return [y]

    return handle


def _cropped(layers: Layers, call: Call, y: str, axis: int, sides: Pair) -> str:
    return layers.cut(y, axis, sides[0], layers.size(y, axis) - sides[1])


def _enlarged(layers: Layers, call: Call, y: str, axis: int, sides: Pair) -> str:
    if call.config.get("interpolation", "nearest") != "nearest":
        raise Refused("interpolation", str(call.config["interpolation"]), "only nearest is written", "use nearest")
    return layers.enlarged(y, axis, sides[0])


_KINDS: Mapping[str, Handler] = {
    **dict.fromkeys(("Conv", "DepthwiseConv", "SeparableConv"), _conv),
    "MaxPooling": _pool("max"),
    "AveragePooling": _pool("mean"),
    "GlobalMaxPooling": _global("max"),
    "GlobalAveragePooling": _global("mean"),
    "ZeroPadding": _resized(lambda layers, call, y, axis, sides: layers.pad(y, axis, *sides), "padding", 1),
    "Cropping": _resized(_cropped, "cropping", 1),
    "UpSampling": _resized(_enlarged, "size", 2),
}
HANDLERS: dict[str, Handler] = {
    **{f"{kind}{rank}D": handler for kind, handler in _KINDS.items() for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _conv_transpose for rank in (1, 2)},
}
