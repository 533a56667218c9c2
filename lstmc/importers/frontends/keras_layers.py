"""Keras layers other than recurrent ones: layers of images, which have their channels last; attention and merges, whose
results depend on the masks of several operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from lstmc.importers.frontends import keras_recurrent
from lstmc.importers.frontends.keras_calls import SAVE, UNSETTLED, Call, Handler, Settings, activated, of_layer, pads_of
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.frontends.shape_ops import LARGE, Operand, Pair, Pooled
from lstmc.importers.ir.values import Weight, axis_in, number, resolved
from lstmc.importers.refusal import Refused


def _channels_first(layers: Layers, call: Call) -> tuple[str, list[int]]:
    """Return a layer's operand with its channels before the image, and the permutation that undoes this."""
    _require_channels_last(call)
    lead, rank = call.lead, call.rank
    x = layers.transpose(call.xs[0], (*range(lead), lead + rank, *range(lead, lead + rank)))
    return x, [*range(lead), *range(lead + 1, lead + rank + 1), lead]


def _conv(layers: Layers, call: Call) -> list[str]:
    """Return a convolution of any kind. A separable convolution is a depthwise one, then one with 1 x 1 kernels."""
    kernel, *bias = call.weights
    rank, padding = call.rank, call.config["padding"]
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
    """Return a transposed convolution. Raises :class:`Refused` for output padding and dilation."""
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
        # "same" turns n elements into n s, "valid" into at least n s (keras/src/backend/common/backend_utils.py)
        total = max(k - s, 0) if call.config.get("padding") == "same" else 0
        more = max(s - k, 0)
        pads.append((total // 2, total - total // 2 - more))
    y = layers.conv_transpose(x, w, bias[0] if bias else None, strides, pads, (1,) * rank, 1)
    return [activated(layers, call, layers.transpose(y, back))]


def _require_channels_last(call: Call) -> None:
    order = call.config.get("data_format", "channels_last")
    if order not in (None, "channels_last"):
        raise Refused("data_format", str(order), "only channels_last is read", "write the model with channels last")


def _pool(kind: Pooled, layers: Layers, call: Call) -> list[str]:
    """Return a pooling, with the channels moved before the image's axes and back."""
    rank = call.rank
    size = call.pair("pool_size", rank, call.config.get("pool_length") or call.config["pool_size"])
    strides = call.pair("strides", rank, call.config.get("stride") or size)
    padding = call.config.get("border_mode") or call.config["padding"]
    x, back = _channels_first(layers, call)
    windows = zip(layers.shape(x)[-rank:], size, strides, strict=True)
    pads = [pads_of(padding, n, k, s, 1) for n, k, s in windows]
    return [layers.transpose(layers.pool(kind, x, size, strides, pads, counted=False), back)]


def _global(kind: Pooled, layers: Layers, call: Call) -> list[str]:
    _require_channels_last(call)
    axes = range(call.lead, call.lead + call.rank)
    return [layers.reduce(kind, call.xs[0], axes, bool(call.config.get("keepdims")))]


def _sides(sizes: Any, rank: int) -> list[Pair]:
    """Return (before, after) of each axis, from a setting of one number, or of a number or a pair for each axis."""
    if isinstance(sizes, int):
        return [(sizes, sizes)] * rank
    ends = [one if isinstance(one, list) else [one] for one in sizes]
    if len(sizes) not in (rank, 2 * (rank == 1)) or any(len(one) not in (1, 2) for one in ends):
        raise Refused("padding, cropping, size", str(sizes), f"it is not of {rank} axes", SAVE)
    if rank == 1 and all(isinstance(one, int) for one in sizes):
        return [(int(sizes[0]), int(sizes[-1]))]
    return [(one, one) if isinstance(one, int) else (int(one[0]), int(one[1])) for one in sizes]


def _resized(key: str, change: Callable[[Layers, Call, str, int, Any], str], layers: Layers, call: Call) -> list[str]:
    """Return the image after ``change`` of each axis with the numbers of the setting ``key``."""
    _require_channels_last(call)
    y = call.xs[0]
    for axis, setting in enumerate(_sides(call.config[key], call.rank), call.lead):
        y = change(layers, call, y, axis, setting)
    return [y]


def _enlarged(layers: Layers, call: Call, y: str, axis: int, sides: Pair) -> str:
    if call.config.get("interpolation", "nearest") != "nearest":
        raise Refused("interpolation", str(call.config["interpolation"]), "only nearest is written", "use nearest")
    return layers.enlarged(y, axis, sides[0])


def _cropped(layers: Layers, call: Call, y: str, axis: int, sides: Pair) -> str:
    return layers.cut(y, axis, sides[0], layers.size(y, axis) - sides[1])


_KINDS: Mapping[str, Handler] = {
    **dict.fromkeys(("Conv", "DepthwiseConv", "SeparableConv"), _conv),
    "MaxPooling": partial(_pool, "max"), "GlobalMaxPooling": partial(_global, "max"),
    "AveragePooling": partial(_pool, "mean"), "GlobalAveragePooling": partial(_global, "mean"),
    "ZeroPadding": partial(_resized, "padding", lambda layers, call, y, axis, sides: layers.pad(y, axis, *sides)),
    "Cropping": partial(_resized, "cropping", _cropped), "UpSampling": partial(_resized, "size", _enlarged),
}  # fmt: skip
IMAGES: dict[str, Handler] = {
    **{f"{kind}{rank}D": handler for kind, handler in _KINDS.items() for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _conv_transpose for rank in (1, 2)},
}


def _dense(layers: Layers, call: Call) -> list[str]:
    kernel, *bias = call.weights
    return [activated(layers, call, layers.linear(call.xs[0], kernel.transposed(), *bias))]


def _axes(call: Call) -> list[int]:
    """Return the axes of the setting ``axis``, by default the last, counted among all axes of the value."""
    axis = call.config.get("axis", -1)
    axes = axis if isinstance(axis, list) else [axis]
    if not axes or not all(isinstance(one, int) for one in axes):
        raise Refused("axis", str(axis), "axes are numbers", "give the axes")
    return [one if one <= 0 else one + call.lead - 1 for one in axes]


def _axis(call: Call) -> int:
    axes = _axes(call)
    if len(axes) > 1:
        raise Refused("axis", str(axes), "one axis is expected", "use one axis")
    return axes[0]


def _scale_and_shift(call: Call) -> tuple[Weight | None, Weight | None, Sequence[Weight]]:
    """Return the scale, the shift (None for one that is not learnt), and the other weights of a normalization."""
    left = [*call.weights]
    gamma, beta = (left.pop(0) if call.config.get(key, True) else None for key in ("scale", "center"))
    return gamma, beta, left


def _masking(layers: Layers, call: Call) -> list[str]:
    mask = output_mask(layers, call)
    assert mask is not None
    return [layers.binary("mul", call.xs[0], mask)]


def output_mask(layers: Layers, call: Call) -> str | None:
    """Return the mask [N, T, 1] that a Masking or Embedding layer makes, 1 at steps that count; None without one."""
    if call.name == "Masking":
        away = layers.affine(call.xs[0], 1.0, -call.config.number("mask_value", 0.0))
        return layers.apply("step", layers.reduce("max", layers.apply("abs", away), [-1], keep=True))
    if call.name == "Embedding" and call.config.get("mask_zero"):
        return layers.unsqueeze(layers.apply("step", call.xs[0]), [-1])
    return None


def _mean_over_time(layers: Layers, call: Call) -> list[str]:
    """Return global average pooling; in a masked sequence the mean of the steps that the mask keeps."""
    if call.mask is None:
        return IMAGES["GlobalAveragePooling1D"](layers, call)
    keep = bool(call.config.get("keepdims"))
    total = layers.reduce("sum", layers.binary("mul", call.xs[0], call.mask), [1], keep)
    return [layers.binary("div", total, layers.reduce("sum", call.mask, [1], keep))]


def _repeat_vector(layers: Layers, call: Call) -> list[str]:
    """Return one row for each example, repeated n times along a new axis."""
    *batch, size = layers.shape(call.xs[0])
    if len(batch) != call.lead:
        raise Refused("input", str(layers.shape(call.xs[0])), "one row for each example is expected", SAVE)
    return [layers.expand(layers.unsqueeze(call.xs[0], [call.lead]), (*batch, call.config["n"], size))]


def _dot(layers: Layers, call: Call) -> list[str]:
    """Return sums of products over one axis of each operand (keras/src/layers/merging/dot.py)."""
    x, y = call.several(2)[:2]
    if call.config.get("normalize"):
        raise Refused("normalize", "True", "it is not written", "normalize the operands by UnitNormalization")
    setting, lead = call.config["axes"], call.lead
    ranks = [layers.rank(one) for one in (x, y)]
    pair = [setting, setting] if isinstance(setting, int) else setting
    if len(pair) != 2 or max(ranks) > lead + 6:
        raise Refused("axes", str(setting), "one axis of each operand is expected", SAVE)
    axes = [axis_in(one if one <= 0 else one + lead - 1, rank) for one, rank in zip(pair, ranks, strict=True)]
    of_x = "nlmopq"[:lead] + "abcdef"[: ranks[0] - lead]
    of_y = "nlmopq"[:lead] + "uvwxyz"[: ranks[1] - lead]
    of_y = of_y[: axes[1]] + of_x[axes[0]] + of_y[axes[1] + 1 :]
    result = "".join(c for c in of_x + of_y[lead:] if c != of_x[axes[0]])
    products = layers.product(of_x, of_y, result, x, y)
    return [products if len(result) > lead else layers.unsqueeze(products, [lead])]


def _rms_norm(layers: Layers, call: Call) -> list[str]:
    scale = call.weights[0] if call.weights else None
    return [layers.rms_norm(call.xs[0], call.config.number("epsilon", 1e-6), scale, _axes(call))]


def _normalization(layers: Layers, call: Call) -> list[str]:
    """Write (x - mean) / sqrt(variance) along the last axis. The statistics are weights or in the configuration."""
    if axis_in(_axis(call), rank := layers.rank(call.xs[0])) != rank - 1:
        raise Refused("axis", str(call.config["axis"]), "more than the last axis", "normalize the last axis")
    if call.config.get("invert"):
        raise Refused("invert", "True", "only a normalization is read", "scale and shift by Rescaling")
    statistics = call.weights[:2] or [number(np.asarray(call.config[key]).reshape(-1)) for key in ("mean", "variance")]
    mean, var = (one.reshaped(int(np.prod(one.shape))) for one in statistics)
    return [layers.batch_norm(call.xs[0], (None, None, mean, var), 0.0, -1)]


def _unit(layers: Layers, call: Call) -> list[str]:
    squares = layers.reduce("sum", layers.apply("power", call.xs[0], 2.0), _axes(call), keep=True)
    return [layers.binary("mul", call.xs[0], layers.apply("power", layers.affine(squares, 1.0, 1e-12), -0.5))]


def _group_norm(layers: Layers, call: Call) -> list[str]:
    """Return a group normalization, between two transposes, since Keras's channels are last."""
    x, lead, rank = call.xs[0], call.lead, layers.rank(call.xs[0])
    groups, channels = call.config.get("groups", 32), layers.size(x, -1, "channels")
    gamma, beta, _ = _scale_and_shift(call)
    first = layers.transpose(x, (*range(lead), rank - 1, *range(lead, rank - 1)))
    groups, epsilon = channels if groups == -1 else groups, call.config.number("epsilon", 1e-3)
    y = layers.group_norm(first, groups, epsilon, gamma, beta, lead)
    return [layers.transpose(y, (*range(lead), *range(lead + 1, rank), lead))]


def _batch_norm(layers: Layers, call: Call) -> list[str]:
    gamma, beta, moments = _scale_and_shift(call)
    return [layers.batch_norm(call.xs[0], [gamma, beta, *moments], call.config.number("epsilon", 1e-3), _axis(call))]


def _layer_norm(layers: Layers, call: Call) -> list[str]:
    gamma, beta, _ = _scale_and_shift(call)
    return [layers.layer_norm(call.xs[0], call.config.number("epsilon", 1e-3), gamma, beta, _axes(call))]


def _relu(layers: Layers, call: Call) -> list[str]:
    """Return min(x, max_value) above the threshold, and slope * (x - threshold) below it."""
    most, slope, least = (call.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
    x, slope, least = call.xs[0], float(slope or 0), float(least or 0)
    y = layers.binary("mul", x, layers.compare("gt", x, np.asarray(least))) if least else layers.apply("relu", x)
    y = y if most is None else layers.binary("min", y, np.asarray(float(most)))
    if not slope:
        return [y]
    return [layers.binary("sub", y, layers.affine(layers.apply("relu", layers.affine(x, -1.0, least)), slope, 0.0))]


def _reshape(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    return [layers.reshape(call.xs[0], resolved((*shape[: call.lead], *call.config["target_shape"]), shape))]


def _softmax(layers: Layers, call: Call) -> list[str]:
    """Return a softmax; masked elements become 0. Raises :class:`Refused` if the mask has no element for each score."""
    x, mask = call.xs[0], call.mask
    if mask is not None and layers.shape(mask) == (*layers.shape(x), 1):  # a mask of each element, given as an argument
        mask = layers.squeeze(mask, [-1])
    if mask is not None and layers.shape(mask) != layers.shape(x):
        raise Refused("mask", "of each step", "a mask of each score is expected", "leave the mask out before it")
    y = softmax_of(layers, x, mask, _axis(call))
    return [y if mask is None else layers.binary("mul", y, mask)]


def _flatten(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    flat = 1 if len(shape) == call.lead else resolved((-1,), shape[call.lead :])[0]
    return [layers.reshape(call.xs[0], (*shape[: call.lead], flat))]


def _permute(layers: Layers, call: Call) -> list[str]:
    lead = call.lead
    return [layers.transpose(call.xs[0], (*range(lead), *(lead - 1 + d for d in call.config["dims"])))]


def _attention(layers: Layers, call: Call) -> list[str]:
    """Return softmax(scale q k') v and the softmax, from query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    if call.config.get("score_mode", "dot") != "dot":
        raise Refused("score_mode", str(call.config["score_mode"]), "only dot products are read", "use them")
    scores = layers.matmul(q, layers.turned(k))
    return _attended(layers, call, layers.binary("mul", scores, call.weights[0]) if call.weights else scores, v)


def _additive_attention(layers: Layers, call: Call) -> list[str]:
    """Return softmax(sum(scale tanh(q + k))) v and the softmax, from query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    each = layers.apply("tanh", layers.binary("add", layers.unsqueeze(q, [-2]), layers.unsqueeze(k, [-3])))
    scaled = layers.binary("mul", each, call.weights[0]) if call.weights else each
    return _attended(layers, call, layers.reduce("sum", scaled, [-1], keep=False), v)


def _attended(layers: Layers, call: Call, scores: str, v: str) -> list[str]:
    """Return softmax(scores) v and softmax(scores), of scores [N, T, S] without those that a mask hides."""
    seen, (of_q, of_v) = _past(layers, call, scores), call.masks[:2]
    weights = softmax_of(layers, scores, _both(layers, seen, of_v and layers.turned(of_v)))
    y = layers.matmul(weights, v)
    return [y if of_q is None else layers.binary("mul", y, of_q), weights]


def softmax_of(layers: Layers, scores: str, seen: Operand | None, axis: int = -1) -> str:
    """Return the softmax of scores. Those that ``seen`` hides count as -1e9; with all hidden, all are equal."""
    return layers.softmax(scores if seen is None else layers.where(seen, scores, np.asarray(-LARGE)), axis)


def _past(layers: Layers, call: Call, scores: str) -> Operand | None:
    """Return a mask [1, T, S] by which each step sees no later step; None if each may see all."""
    if not call.causal:
        return None
    rows, columns = (layers.size(scores, axis, "the number of steps") for axis in (-2, -1))
    return np.tri(rows, columns)[None]


def _both(layers: Layers, *masks: Operand | None) -> Operand | None:
    """Return the product of the masks that are given: 1 where all of them are 1; None without a mask."""
    given = [mask for mask in masks if mask is not None]
    return reduce(partial(layers.binary, "mul"), given) if given else None


def _multi_head(layers: Layers, call: Call) -> list[str]:
    """Return softmax(q k' / sqrt(width)) v of each head, put together, and the softmax. The default of k is v."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    rank = layers.rank(q)
    unsupported = {key: call.config.get(key) for key in ("use_gate", "sliding_window", "output_shape")}
    if any(unsupported.values()) or len(call.xs) > 3 or rank != 3:
        raise Refused(", ".join(unsupported), "given", "only heads along one axis of time are read", "leave them out")
    size, left = call.config["key_dim"], list(call.weights)
    heads, biased = call.config["num_heads"], bool(call.config.get("use_bias", True))

    def projected(x: str) -> str:
        """Return x times the next kernel, plus its bias, as [N, heads, T, width]."""
        kernel, bias = left.pop(0), [left.pop(0)] if biased else []
        width = kernel.shape[0]
        flat = [one.reshaped(int(np.prod(one.shape))) for one in bias]
        y = layers.linear(x, kernel.reshaped(width, int(np.prod(kernel.shape[1:]))).transposed(), *flat)
        n, time = layers.shape(x)[:2]
        return layers.transpose(layers.reshape(y, (n, time, heads, kernel.shape[2])), (0, 2, 1, 3))

    of_q, of_k, of_v = projected(q), projected(k), projected(v)
    scores = layers.affine(layers.matmul(of_q, layers.turned(of_k)), size**-0.5, 0.0)
    of_rows, *of_columns = call.masks
    columns = [mask and layers.turned(mask) for mask in of_columns]
    mask = _both(layers, of_rows, *columns, call.seen, _past(layers, call, scores))
    mask = mask if mask is None else layers.unsqueeze(mask, [1])
    weights = softmax_of(layers, scores, mask)
    if mask is not None and call.config.get("dropout"):  # in Keras a step without steps to see then gives zeros
        weights = layers.binary("mul", weights, mask)
    seen = layers.transpose(layers.matmul(weights, of_v), (0, 2, 1, 3))
    kernel, *bias = left
    width = kernel.shape[0] * kernel.shape[1]
    y = layers.reshape(seen, (*layers.shape(seen)[:2], width))
    return [layers.linear(y, kernel.reshaped(width, kernel.shape[2]).transposed(), *bias), weights]


def _merge(kind: str, layers: Layers, call: Call) -> list[str]:
    """Return the operands combined element by element."""
    xs, masks = call.xs, {*call.masks}
    if kind in ("mul", "max", "min") and masks not in (set(), {None}) and call.version >= (3, 4):
        return [_masked_merge(layers, kind, xs, call.masks)]
    y = reduce(partial(layers.binary, "add" if kind == "mean" else kind), xs)
    return [layers.affine(y, 1 / len(xs), 0.0) if kind == "mean" else y]


def _masked_merge(layers: Layers, kind: str, xs: Sequence[str], masks: Sequence[str | None]) -> str:
    """Return the merge of the values that no mask hides (Keras's Multiply, ``_apply_merge_op_and_or_mask``)."""
    whole = None not in masks
    y, kept = xs[0], masks[0]
    if kind == "mul":
        parts = [x if m is None else layers.where(m, x, np.ones(1)) for x, m in zip(xs, masks, strict=True)]
        y = reduce(partial(layers.binary, "mul"), parts)
        return layers.binary("mul", y, reduce(partial(layers.binary, "max"), filter(None, masks))) if whole else y
    for x, mask in zip(xs[1:], masks[1:], strict=True):
        other = x if mask is None else layers.where(mask, x, y)
        y = layers.binary(kind, y if kept is None else layers.where(kept, y, other), other)
        kept = None if mask is None or kept is None else layers.binary("max", kept, mask)
    return y


ATTENTION = ("Attention", "AdditiveAttention", "MultiHeadAttention")
_MERGED = dict(Add="add", Subtract="sub", Multiply="mul", Average="mean", Maximum="max", Minimum="min")  # noqa: C408
MERGES = frozenset({*_MERGED, "Concatenate"})


_ONE_TIME = frozenset({"ConvLSTM1D", "ConvLSTM2D", *ATTENTION})  # layers that do not accept a further axis of time
_MASKED = frozenset({*keras_recurrent.HANDLERS, "GlobalAveragePooling1D", "Softmax"})  # layers that read a mask


def _time_distributed(layers: Layers, call: Call) -> list[str]:
    """Return the results of the inner layer, applied with one more leading axis."""
    inner = call.config["layer"]
    name = str(inner.get("class_name", ""))
    if name not in HANDLERS or name in _ONE_TIME:
        mend = "apply it to the steps in a model of its own, for one step, and import that"
        raise Refused("layer", name, "it is not read inside of TimeDistributed", mend)
    config, lead = Settings(inner.get("config", {})), call.lead + 1
    carried = call.carried if name in (*_MASKED, "TimeDistributed") else None
    if carried not in (None, UNSETTLED) and layers.rank(carried) != layers.rank(call.xs[0]):
        raise Refused("mask", "of whole steps", "it says nothing of the steps inside", "mask inside of TimeDistributed")
    return HANDLERS[name](layers, Call(name, config, call.weights, call.xs, call.version, lead, carried))


# Layers that do something in training alone.
_TRAINING = ("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization")
# Layers whose results have the mask of their operand; recurrent layers if they return all steps.
MASK_GOES_ON = {
    *("Dense", "TimeDistributed", "TimeDistributedDense", "Dropout", "SpatialDropout1D", "Activation", "LeakyReLU"),
    *("ReLU", "ELU", "PReLU", "BatchNormalization", "LayerNormalization", "Rescaling", *_TRAINING),
}


HANDLERS: dict[str, Handler] = {
    **IMAGES,
    **keras_recurrent.HANDLERS,
    "GlobalAveragePooling1D": _mean_over_time, "TimeDistributed": _time_distributed,
    "Dense": _dense, "TimeDistributedDense": _dense,  # of Keras 1
    "Embedding": lambda layers, call: [layers.embed(call.xs[0], call.weights[0])],
    "Masking": _masking, "RepeatVector": _repeat_vector, "Dot": _dot,
    "Attention": _attention, "AdditiveAttention": _additive_attention, "MultiHeadAttention": _multi_head,
    **{name: partial(_merge, kind) for name, kind in _MERGED.items()},
    "PReLU": lambda layers, call: [layers.prelu(call.xs[0], call.weights[0])],
    "Rescaling": lambda layers, call: [
        layers.affine(call.xs[0], call.config.number("scale", 1.0), call.config.number("offset", 0.0))
    ],
    "Normalization": _normalization, "UnitNormalization": _unit, "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm, "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm,
    **dict.fromkeys(_TRAINING, lambda layers, call: [call.xs[0]]),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "SpatialDropout2D"),
        lambda layers, call: [layers.dropout(call.xs[0], call.config.number("rate", call.config.get("p", 0.5)))],
    ),
    "Activation": lambda layers, call: [activated(layers, call, call.xs[0])],
    **dict.fromkeys(
        ("LeakyReLU", "ELU"),
        lambda layers, call: [layers.one(of_layer(call.name, call.config, "class_name"), call.xs[0])],
    ),
    "ReLU": _relu, "Softmax": _softmax, "Flatten": _flatten, "Reshape": _reshape, "Permute": _permute,
    "Concatenate": lambda layers, call: [layers.concat(call.xs, _axis(call))],
}  # fmt: skip
