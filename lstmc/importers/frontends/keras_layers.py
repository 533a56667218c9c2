"""Keras's layers that stand around recurrent ones; images have their channels last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lstmc.importers.describe.ops import Dropout
from lstmc.importers.describe.shapes import axis_in, fixed, resolved
from lstmc.importers.frontends.keras_activations import activation
from lstmc.importers.frontends.keras_recurrent import KINDS, bidirectional, of_cells, recurrent
from lstmc.importers.frontends.layers import Layers, Pair
from lstmc.importers.frontends.refused import Refused
from lstmc.importers.weight import Weight


@dataclass(frozen=True)
class Call:
    """One use of a layer: its class, configuration, weights in order, operands, and the version of Keras."""

    name: str
    config: Mapping[str, Any]
    weights: Sequence[Weight]
    xs: Sequence[str]
    version: int

    def pair(self, key: str, rank: int, default: Any = 1) -> tuple[int, ...]:
        found = self.config.get(key)
        found = default if found is None else found
        return (int(found),) * rank if isinstance(found, int) else tuple(int(n) for n in found)


Handler = Callable[[Layers, Call], list[str]]


def _activated(layers: Layers, call: Call, y: str) -> str:
    told = call.config.get("activation", "linear") or "linear"
    if told == "softmax":
        return layers.softmax(y, -1)
    found = activation(told, call.version, "activation")
    return y if found.function == "affine" else layers.apply(found.function, y, found.a, found.b)


def _dense(layers: Layers, call: Call) -> list[str]:
    kernel, *bias = call.weights
    return [_activated(layers, call, layers.linear(call.xs[0], kernel.transposed(), *bias))]


def _embedding(layers: Layers, call: Call) -> list[str]:
    if call.config.get("mask_zero"):
        raise Refused("mask_zero", "True", *_MASK)
    return [layers.embed(call.xs[0], call.weights[0])]


_MASK = (
    "Keras repeats the last output where a mask leaves steps out, and lengths give zeros",
    "export a model without a mask, and feed whole sequences",
)


def _masking(layers: Layers, call: Call) -> list[str]:
    raise Refused("mask_value", str(call.config.get("mask_value")), *_MASK)


def _conv(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _last(call)
        kernel, *bias = call.weights
        padding = call.config.get("padding", call.config.get("border_mode", "valid"))
        strides = call.pair("strides", rank)
        dilation, group = call.pair("dilation_rate", rank), int(call.config.get("groups", 1) or 1)
        x = layers.transpose(call.xs[0], (0, rank + 1, *range(1, rank + 1)))  # channels first
        w = kernel.transposed(rank + 1, rank, *range(rank))
        shape = layers.shape(x)
        if rank == 1:
            x, w = layers.unsqueeze(x, [2]), w.reshaped(*w.shape[:2], 1, w.shape[2])
            strides, dilation = (1, *strides), (1, *dilation)
        pads = [
            _pads(padding, n, k, s, d)
            for n, k, s, d in zip(layers.shape(x)[2:], w.shape[2:], strides, dilation, strict=True)
        ]
        steps, spread, around = (strides[0], strides[1]), (dilation[0], dilation[1]), (pads[0], pads[1])
        y = layers.conv(x, w, bias[0] if bias else None, steps, around, spread, group)
        y = layers.squeeze(y, [2]) if rank == 1 else y
        assert len(shape) == len(layers.shape(y))
        return [_activated(layers, call, layers.transpose(y, (0, *range(2, rank + 2), 1)))]

    return handle


def _last(call: Call) -> None:
    told = call.config.get("data_format", "channels_last")
    if told not in (None, "channels_last"):
        raise Refused("data_format", str(told), "only channels_last is read", "write the model with channels last")


def _pads(padding: str, size: Any, kernel: int, stride: int, dilation: int) -> Pair:
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
        _last(call)
        size = call.pair("pool_size", rank, call.config.get("pool_length", 2))
        strides = call.pair("strides", rank, call.config.get("stride") or size)
        padding = call.config.get("padding", call.config.get("border_mode", "valid"))
        x = layers.transpose(call.xs[0], (0, rank + 1, *range(1, rank + 1)))
        if rank == 1:
            x, size, strides = layers.unsqueeze(x, [2]), (1, *size), (1, *strides)
        sides = zip(layers.shape(x)[2:], size, strides, strict=True)
        rows, columns = (_pads(padding, n, k, s, 1) for n, k, s in sides)
        pair = (size[0], size[1]), (strides[0], strides[1])
        y = layers.pool(kind, x, *pair, (rows, columns), counted=False)
        y = layers.squeeze(y, [2]) if rank == 1 else y
        return [layers.transpose(y, (0, *range(2, rank + 2), 1))]

    return handle


def _global_mean(rank: int) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        _last(call)
        return [layers.reduce("mean", call.xs[0], range(1, rank + 1), bool(call.config.get("keepdims", False)))]

    return handle


def _batch_norm(layers: Layers, call: Call) -> list[str]:
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) else axis
    left = iter(call.weights)
    gamma = next(left) if call.config.get("scale", True) else None
    beta = next(left) if call.config.get("center", True) else None
    told = [gamma, beta, next(left), next(left)]
    return [layers.batch_norm(call.xs[0], told, float(call.config.get("epsilon", 1e-3)), axis)]


def _layer_norm(layers: Layers, call: Call) -> list[str]:
    axis = call.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    rank = len(layers.shape(call.xs[0]))
    if not isinstance(axis, int) or axis_in(axis, rank) != rank - 1:
        raise Refused("axis", str(axis), "more than the last axis", "normalize the last axis")
    left = iter(call.weights)
    gamma = next(left) if call.config.get("scale", True) else None
    beta = next(left) if call.config.get("center", True) else None
    return [layers.layer_norm(call.xs[0], float(call.config.get("epsilon", 1e-3)), gamma, beta)]


def _dropout(layers: Layers, call: Call) -> list[str]:
    ratio = float(call.config.get("rate", call.config.get("p", 0.5)))
    if not 0 < ratio < 1:
        return [call.xs[0]]
    return [layers.builder.one(Dropout(ratio), call.xs[0], hint=layers.hint, origin=layers.origin)]


def _leaky_relu(layers: Layers, call: Call) -> list[str]:
    slope = float(call.config.get("negative_slope", call.config.get("alpha", 0.3)))
    return [layers.apply("leaky_relu", call.xs[0], slope)]


def _relu(layers: Layers, call: Call) -> list[str]:
    told = {key: call.config.get(key) for key in ("max_value", "negative_slope", "threshold")}
    if any(told.values()):
        raise Refused("max_value, negative_slope, threshold", str(told), "only max(x, 0) is read", "use LeakyReLU")
    return [layers.apply("relu", call.xs[0])]


def _reshape(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    return [layers.reshape(call.xs[0], resolved((shape[0], *call.config["target_shape"]), shape))]


def _flatten(layers: Layers, call: Call) -> list[str]:
    shape = layers.shape(call.xs[0])
    return [layers.reshape(call.xs[0], resolved((shape[0], -1), shape))]


def _merge(kind: str) -> Handler:
    def handle(layers: Layers, call: Call) -> list[str]:
        y = call.xs[0]
        for x in call.xs[1:]:
            y = layers.binary("add" if kind == "mean" else kind, y, x)
        return [layers.affine(y, 1 / len(call.xs), 0.0) if kind == "mean" else y]

    return handle


def _time_distributed(layers: Layers, call: Call) -> list[str]:
    inner = call.config.get("layer") or {}
    name = str(inner.get("class_name", ""))
    if name not in ("Dense", "Dropout", "Activation", "LayerNormalization", "Embedding"):
        raise Refused("layer", name, "only what works on the last axis alone is read in it", "use the layer itself")
    return HANDLERS[name](layers, Call(name, inner.get("config", {}), call.weights, call.xs, call.version))


def _recurrent(layers: Layers, call: Call) -> list[str]:
    return recurrent(layers, call.name, call.config, call.weights, call.xs, call.version)


def _bidirectional(layers: Layers, call: Call) -> list[str]:
    return bidirectional(layers, call.config, call.weights, call.xs, call.version)


def _of_cells(layers: Layers, call: Call) -> list[str]:
    return of_cells(layers, call.config, call.weights, call.xs, call.version)


def _activation(layers: Layers, call: Call) -> list[str]:
    return [_activated(layers, call, call.xs[0])]


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(KINDS, _recurrent),
    "Bidirectional": _bidirectional,
    "RNN": _of_cells,
    "TimeDistributed": _time_distributed,
    "TimeDistributedDense": _dense,  # of Keras 1
    "Dense": _dense,
    "Embedding": _embedding,
    "Masking": _masking,
    "Conv1D": _conv(1),
    "Conv2D": _conv(2),
    "MaxPooling1D": _pool("max", 1),
    "MaxPooling2D": _pool("max", 2),
    "AveragePooling1D": _pool("mean", 1),
    "AveragePooling2D": _pool("mean", 2),
    "GlobalAveragePooling1D": _global_mean(1),
    "GlobalAveragePooling2D": _global_mean(2),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D"), _dropout),
    "Activation": _activation,
    "LeakyReLU": _leaky_relu,
    "ReLU": _relu,
    "ELU": lambda layers, call: [layers.apply("elu", call.xs[0], float(call.config.get("alpha", 1.0)))],
    "Softmax": lambda layers, call: [layers.softmax(call.xs[0], int(call.config.get("axis", -1)))],
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": lambda layers, call: [layers.transpose(call.xs[0], (0, *call.config["dims"]))],
    "Concatenate": lambda layers, call: [layers.concat(call.xs, int(call.config.get("axis", -1)))],
    "Add": _merge("add"),
    "Subtract": _merge("sub"),
    "Multiply": _merge("mul"),
    "Average": _merge("mean"),
    "Maximum": _merge("max"),
    "Minimum": _merge("min"),
}
