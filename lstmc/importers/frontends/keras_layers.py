"""Keras layers other than recurrent ones and those of images; images have their channels last."""

from __future__ import annotations

import numpy as np

from lstmc.importers.frontends import keras_images, keras_recurrent
from lstmc.importers.frontends.keras_call import SAVE, Call, Handler, Settings, activated
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.sizes import axis_in, resolved
from lstmc.importers.refusal import Refused
from lstmc.importers.weight import number
from lstmc.ops import Dropout


def _dense(layers: Layers, call: Call) -> list[str]:
    kernel, *bias = call.weights
    return [activated(layers, call, layers.linear(call.xs[0], kernel.transposed(), *bias))]


def _axis(call: Call) -> int:
    """Return the axis, which must be one."""
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if not isinstance(axis, int):
        raise Refused("axis", str(axis), "one axis is expected", "use one axis")
    return axis


def _embedding(layers: Layers, call: Call) -> list[str]:
    return [layers.embed(call.xs[0], call.weights[0])]


def _masking(layers: Layers, call: Call) -> list[str]:
    mask = output_mask(layers, call)
    assert mask is not None
    return [layers.binary("mul", call.xs[0], mask)]


def output_mask(layers: Layers, call: Call) -> str | None:
    """Return the mask [N, T, 1] that a Masking or Embedding layer makes; None for other layers."""
    if call.name == "Masking":
        away = layers.affine(call.xs[0], 1.0, -call.config.number("mask_value", 0.0))
        return layers.apply("step", layers.reduce("max", layers.apply("abs", away), [-1], keep=True))
    if call.name == "Embedding" and call.config.get("mask_zero"):
        return layers.unsqueeze(layers.apply("step", call.xs[0]), [-1])
    return None


def _mean_over_time(layers: Layers, call: Call) -> list[str]:
    """Global average pooling; of a masked sequence the mean of the steps that are not masked."""
    if call.mask is None:
        return keras_images.HANDLERS["GlobalAveragePooling1D"](layers, call)
    keep = bool(call.config.get("keepdims", False))
    total = layers.reduce("sum", layers.binary("mul", call.xs[0], call.mask), [1], keep)
    return [layers.binary("div", total, layers.reduce("sum", call.mask, [1], keep))]


def _repeat_vector(layers: Layers, call: Call) -> list[str]:
    if len(layers.shape(call.xs[0])) != 2:
        raise Refused("input", str(layers.shape(call.xs[0])), "one row for each example is expected", SAVE)
    n, size = layers.shape(call.xs[0])
    return [layers.expand(layers.unsqueeze(call.xs[0], [1]), (n, call.config["n"], size))]


def _dot(layers: Layers, call: Call) -> list[str]:
    """Sums of products over one axis of each operand; the batch is common (keras/src/layers/merging/dot.py)."""
    x, y = call.several(2)[:2]
    if call.config.get("normalize"):
        raise Refused("normalize", "True", "it is not written", "normalize the operands by UnitNormalization")
    setting = call.config["axes"]
    ranks = [len(layers.shape(one)) for one in (x, y)]
    pair = [setting, setting] if isinstance(setting, int) else setting
    if len(pair) != 2 or max(ranks) > 7:
        raise Refused("axes", str(setting), "one axis of each operand is expected", SAVE)
    axes = [axis_in(axis, rank) for axis, rank in zip(pair, ranks, strict=True)]
    of_x = "n" + "abcdef"[: ranks[0] - 1]
    of_y = "n" + "uvwxyz"[: ranks[1] - 1]
    of_y = of_y[: axes[1]] + of_x[axes[0]] + of_y[axes[1] + 1 :]
    result = "".join(c for c in of_x + of_y[1:] if c != of_x[axes[0]])
    products = layers.product(of_x, of_y, result, x, y)
    return [products if len(result) > 1 else layers.unsqueeze(products, [1])]


def _attention(layers: Layers, call: Call) -> list[str]:
    """softmax(q k') v, of query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    if call.config.get("use_scale") or call.config.get("score_mode", "dot") != "dot":
        raise Refused("use_scale, score_mode", "given", "only dot products without a scale are read", "use them")
    scores = layers.softmax(layers.matmul(q, layers.transpose(k, (0, 2, 1))), -1)
    return [layers.matmul(scores, v)]


def _multi_head(layers: Layers, call: Call) -> list[str]:
    """Multi-head attention: softmax(q k' / sqrt(width)) v of each head, of query, value and an optional key."""
    q, v, k = (*call.several(2), call.xs[1])[:3]
    rank = len(layers.shape(q))
    unsupported = {key: call.config.get(key) for key in ("use_gate", "sliding_window", "output_shape")}
    if any(unsupported.values()) or len(call.xs) > 3 or rank != 3:
        raise Refused(", ".join(unsupported), "given", "only heads along one axis of time are read", "leave them out")
    size, left = call.config["key_dim"], list(call.weights)
    heads, biased = call.config["num_heads"], bool(call.config.get("use_bias", True))

    def projected(x: str) -> str:
        kernel, bias = left.pop(0), [left.pop(0)] if biased else []
        width = kernel.shape[0]
        flat = [one.reshaped(int(np.prod(one.shape))) for one in bias]
        y = layers.linear(x, kernel.reshaped(width, int(np.prod(kernel.shape[1:]))).transposed(), *flat)
        n, time = layers.shape(x)[:2]
        return layers.transpose(layers.reshape(y, (n, time, heads, kernel.shape[2])), (0, 2, 1, 3))

    of_q, of_k, of_v = projected(q), projected(k), projected(v)
    scores = layers.affine(layers.matmul(of_q, layers.transpose(of_k, (0, 1, 3, 2))), size**-0.5, 0.0)
    seen = layers.transpose(layers.matmul(layers.softmax(scores, -1), of_v), (0, 2, 1, 3))
    kernel, *bias = left
    width = kernel.shape[0] * kernel.shape[1]
    y = layers.reshape(seen, (*layers.shape(seen)[:2], width))
    return [layers.linear(y, kernel.reshaped(width, kernel.shape[2]).transposed(), *bias)]


def _rms_norm(layers: Layers, call: Call) -> list[str]:
    axis, rank = call.config.get("axis", -1), len(layers.shape(call.xs[0]))
    if axis not in (-1, rank - 1, [-1], [rank - 1]):
        raise Refused("axis", str(axis), "more than the last axis", "normalize the last axis")
    scale = call.weights[0] if call.weights else None
    return [layers.rms_norm(call.xs[0], call.config.number("epsilon", 1e-6), scale)]


def _prelu(layers: Layers, call: Call) -> list[str]:
    return [layers.prelu(call.xs[0], call.weights[0])]


def _rescaling(layers: Layers, call: Call) -> list[str]:
    return [layers.affine(call.xs[0], call.config.number("scale", 1.0), call.config.number("offset", 0.0))]


def _normalization(layers: Layers, call: Call) -> list[str]:
    """(x - mean) / sqrt(variance) of the last axis, with the statistics in the weights or the configuration."""
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    rank = len(layers.shape(call.xs[0]))
    if axis not in (-1, rank - 1) or call.config.get("invert"):
        raise Refused("axis, invert", f"{axis}, {call.config.get('invert')}", "only the last axis", "use the last axis")
    statistics = call.weights[:2] or [number(np.asarray(call.config[key]).reshape(-1)) for key in ("mean", "variance")]
    mean, var = (one.reshaped(int(np.prod(one.shape))) for one in statistics)
    return [layers.batch_norm(call.xs[0], (None, None, mean, var), 0.0, -1)]


def _unit(layers: Layers, call: Call) -> list[str]:
    if call.config.get("axis", -1) not in (-1, [-1]):
        raise Refused("axis", str(call.config["axis"]), "only the last one is read", "use the last axis")
    squares = layers.reduce("sum", layers.apply("power", call.xs[0], 2.0), [-1], keep=True)
    return [layers.binary("mul", call.xs[0], layers.apply("power", layers.affine(squares, 1.0, 1e-12), -0.5))]


def _group_norm(layers: Layers, call: Call) -> list[str]:
    """Group normalization with the channels last."""
    x, rank = call.xs[0], len(layers.shape(call.xs[0]))
    groups, channels = call.config.get("groups", 32), layers.size(x, -1, "channels")
    left = iter(call.weights)
    gamma = next(left) if call.config.get("scale", True) else None
    beta = next(left) if call.config.get("center", True) else None
    first = layers.transpose(x, (0, rank - 1, *range(1, rank - 1)))
    y = layers.group_norm(first, channels if groups == -1 else groups, call.config.number("epsilon", 1e-3), gamma, beta)
    return [layers.transpose(y, (0, *range(2, rank), 1))]


def _batch_norm(layers: Layers, call: Call) -> list[str]:
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) else axis
    axis = axis if axis < 0 else axis + call.lead - 1
    left = iter(call.weights)
    gamma = next(left) if call.config.get("scale", True) else None
    beta = next(left) if call.config.get("center", True) else None
    statistics = [gamma, beta, next(left), next(left)]
    return [layers.batch_norm(call.xs[0], statistics, call.config.number("epsilon", 1e-3), axis)]


def _layer_norm(layers: Layers, call: Call) -> list[str]:
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    rank = len(layers.shape(call.xs[0]))
    if not isinstance(axis, int) or axis_in(axis, rank) != rank - 1:
        raise Refused("axis", str(axis), "more than the last axis", "normalize the last axis")
    left = iter(call.weights)
    gamma = next(left) if call.config.get("scale", True) else None
    beta = next(left) if call.config.get("center", True) else None
    return [layers.layer_norm(call.xs[0], call.config.number("epsilon", 1e-3), gamma, beta)]


def _dropout(layers: Layers, call: Call) -> list[str]:
    ratio = call.config.number("rate", call.config.get("p", 0.5))
    if not 0 < ratio < 1:
        return [call.xs[0]]
    return [layers.one(Dropout(ratio), call.xs[0])]


def _leaky_relu(layers: Layers, call: Call) -> list[str]:
    slope = call.config.number("negative_slope", call.config.get("alpha", 0.3))
    return [layers.apply("leaky_relu", call.xs[0], slope)]


def _relu(layers: Layers, call: Call) -> list[str]:
    """min(x, max_value) from the threshold on; below it slope * (x - threshold)."""
    most, slope, least = (call.config.get(key) for key in ("max_value", "negative_slope", "threshold"))
    x, slope, least = call.xs[0], float(slope or 0), float(least or 0)
    y = layers.apply("relu", x) if not least else layers.binary("mul", x, layers.greater(x, np.asarray(least)))
    y = y if most is None else layers.binary("min", y, np.asarray(float(most)))
    if not slope:
        return [y]
    return [layers.binary("sub", y, layers.affine(layers.apply("relu", layers.affine(x, -1.0, least)), slope, 0.0))]


def _reshape(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    return [layers.reshape(call.xs[0], resolved((*shape[: call.lead], *call.config["target_shape"]), shape))]


def _flatten(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    flat = 1 if len(shape) == call.lead else resolved((-1,), shape[call.lead :])[0]
    return [layers.reshape(call.xs[0], (*shape[: call.lead], flat))]


def _permute(layers: Layers, call: Call) -> list[str]:
    lead = call.lead
    return [layers.transpose(call.xs[0], (*range(lead), *(lead - 1 + d for d in call.config["dims"])))]


def _merge(kind: str) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        y = call.xs[0]
        for x in call.xs[1:]:
            y = layers.binary("add" if kind == "mean" else kind, y, x)
        return [layers.affine(y, 1 / len(call.xs), 0.0) if kind == "mean" else y]

    return handle


# Layers that have a time of their own.
_OVER_TIME = frozenset({*keras_recurrent.HANDLERS, "RepeatVector", "Dot", "Attention", "MultiHeadAttention"})


def _time_distributed(layers: Layers, call: Call) -> list[str]:
    inner = call.config["layer"]
    name = str(inner.get("class_name", ""))
    if name not in HANDLERS or name in _OVER_TIME:
        raise Refused("layer", name, "a layer applied to each step is expected there", "rewrite it")
    return HANDLERS[name](
        layers, Call(name, Settings(inner.get("config", {})), call.weights, call.xs, call.version, call.lead + 1)
    )


# What does something in training alone.
_TRAINING = ("GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization")
# Layers whose results have the mask of their operand; recurrent ones if they give all steps.
MASK_GOES_ON = frozenset(
    {
        *("Dense", "TimeDistributed", "TimeDistributedDense", "Dropout", "SpatialDropout1D", "Activation", "LeakyReLU"),
        *("ReLU", "ELU", "PReLU", "BatchNormalization", "LayerNormalization", "Rescaling", *_TRAINING),
    }
)
# Layers that would see a mask, and do not here.
MASK_REFUSED = frozenset({"Softmax", "Attention", "MultiHeadAttention", "Dot"})
MERGES = frozenset({"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"})


def _activation(layers: Layers, call: Call) -> list[str]:
    return [activated(layers, call, call.xs[0])]


HANDLERS: dict[str, Handler] = {
    **keras_images.HANDLERS,
    **keras_recurrent.HANDLERS,
    "GlobalAveragePooling1D": _mean_over_time,
    "TimeDistributed": _time_distributed,
    "TimeDistributedDense": _dense,  # of Keras 1
    "Dense": _dense,
    "Embedding": _embedding,
    "Masking": _masking,
    "RepeatVector": _repeat_vector,
    "Dot": _dot,
    "Attention": _attention,
    "MultiHeadAttention": _multi_head,
    "RMSNormalization": _rms_norm,
    "PReLU": _prelu,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "UnitNormalization": _unit,
    "GroupNormalization": _group_norm,
    **dict.fromkeys(_TRAINING, lambda layers, call: [call.xs[0]]),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D"), _dropout),
    "Activation": _activation,
    "LeakyReLU": _leaky_relu,
    "ReLU": _relu,
    "ELU": lambda layers, call: [layers.apply("elu", call.xs[0], call.config.number("alpha", 1.0))],
    "Softmax": lambda layers, call: [layers.softmax(call.xs[0], _axis(call))],
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "Concatenate": lambda layers, call: [layers.concat(call.xs, _axis(call))],
    "Add": _merge("add"),
    "Subtract": _merge("sub"),
    "Multiply": _merge("mul"),
    "Average": _merge("mean"),
    "Maximum": _merge("max"),
    "Minimum": _merge("min"),
}
