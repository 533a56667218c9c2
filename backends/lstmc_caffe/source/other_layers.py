"""Caffe's layers other than recurrent ones as steps of a description: the computation of each type in inference. A
layer that an op models is read as that op, which refuses fields that it does not model; the fields of other layers as
``src/caffe/layers/*_layer.cpp`` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import log, prod
from typing import Any, Literal

import numpy as np

from lstmc.files.output import shortest
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.values import Weight, in_pieces, number
from lstmc.importers.refusal import Refused
from lstmc.ops import CORE, Affine, Array, Conv, Types
from lstmc.types import TensorType
from lstmc_caffe import ops
from lstmc_caffe.ops import CaffeOp, front_axis, layer_ops, read_layer
from lstmc_caffe.proto.net import field_value, other_settings
from lstmc_caffe.targets.lint import flattened


@dataclass(frozen=True)
class LayerCall:
    """A layer to describe: the description's builder ``layers``, its message, its bottoms as values, and its blobs."""

    layers: Layers
    message: Any
    xs: Sequence[str]
    blobs: Sequence[Weight]

    @property
    def x(self) -> str:
        return self.xs[0]

    @property
    def types(self) -> Types:
        return tuple(TensorType(tuple(int(s) for s in self.layers.shape(x))) for x in self.xs)

    def is_always(self, x: str, value: float) -> bool:
        weight = self.layers.builder.params.get(x)
        return weight is not None and not weight.sources and bool(np.all(weight.make() == value))

    def weights(self, *shapes: Sequence[int]) -> list[Weight]:
        """Return the layer's blobs in these shapes. Raises :class:`Refused` for blobs of other sizes."""
        expected = [tuple(shape) for shape in shapes]
        if [prod(blob.shape) for blob in self.blobs] != [prod(shape) for shape in expected]:
            actual = ", ".join(str(list(blob.shape)) for blob in self.blobs) or "none"
            why = f"expected {len(expected)} of them, {', '.join(str(list(shape)) for shape in expected)}"
            raise Refused("blobs", actual, why, "give the weights that were trained with this net")
        return [blob.reshaped(*shape) for blob, shape in zip(self.blobs, expected, strict=True)]

    def learned(self, op: CaffeOp) -> list[Weight]:
        return self.weights(*(type_.shape for type_ in op.blob_types(self.types)))


def _convolution(g: LayerCall, op: ops.Convolution) -> str:
    w, *b = g.learned(op)
    (rows, columns), bias = op.pad, b[0] if b else None
    return g.layers.conv(g.x, w, bias, op.stride, ((rows, rows), (columns, columns)), op.dilation, op.group)


def _pooling(g: LayerCall, op: ops.MaxPooling | ops.AvePooling) -> str:
    op.infer(*g.types)  # refuses a last window that begins beyond the image: Caffe reads memory outside of it
    rows, columns = op.pad
    kind: Literal["max", "mean"] = "max" if isinstance(op, ops.MaxPooling) else "mean"
    return g.layers.pool(kind, g.x, op.size, op.stride, ((rows, rows), (columns, columns)), ceil=True)


def _product(g: LayerCall, op: ops.InnerProduct | ops.TransposedInnerProduct) -> str:
    """Return the value of an InnerProduct: x, flattened from ``axis`` on, times W, plus b if there is one."""
    w, *b = g.learned(op)
    shape = g.types[0].shape
    x = g.layers.reshape(g.x, (*shape[: op.axis], prod(shape[op.axis :])))
    return g.layers.linear(x, w if isinstance(op, ops.InnerProduct) else w.transposed(), b[0] if b else None)


def _rounded(g: LayerCall) -> str | None:
    """Return the rounded x if this layer subtracts a large shift that the layer before has added; None otherwise."""
    maker = g.layers.builder.producer(g.x)
    shift = maker.op.shift if maker is not None and isinstance(maker.op, Affine) and maker.op.scale == 1 else 0.0
    shifted = shift in (ops.RoundingPower.shift, ops.RoundingPower.HALF)
    back = len(g.xs) == 2 and g.is_always(g.xs[1], -shift)
    return maker.inputs[0] if maker is not None and shifted and back else None


def _eltwise(g: LayerCall, op: ops.Eltwise) -> str:
    """Return the sum, product or maximum of the bottoms, each times its coefficient; x for a sum that rounds x."""
    if op == ops.Eltwise("SUM") and (rounded := _rounded(g)) is not None:
        return rounded
    kind = {"SUM": "add", "PROD": "mul", "MAX": "max"}[op.operation]
    coefficients = op.coeff or (1.0,) * len(g.xs)
    y, *rest = (g.layers.affine(x, c, 0.0) for x, c in zip(g.xs, coefficients, strict=True))
    for x in rest:
        y = g.layers.binary(kind, y, x)
    return y


def _broadcast(g: LayerCall, op: ops.Scale | ops.Bias, blobs: Sequence[Weight]) -> str:
    """Return x times, or plus, a blob or a second bottom that covers some axes of x."""
    kind = "mul" if isinstance(op, ops.Scale) else "add"
    covered = g.types[0].shape[op.axis : op.axis + op.num_axes]
    shape = (*covered, *(1,) * (g.types[0].rank - op.axis - len(covered)))
    return g.layers.binary(kind, g.x, blobs[0].reshaped(*shape) if blobs else g.layers.reshape(g.xs[1], shape))


def _power(g: LayerCall, op: ops.PowerLayer) -> str:
    y = g.layers.affine(g.x, op.scale, op.shift)
    return y if op.power == 1 else g.layers.apply("power", y, op.power)


def _lstm_unit(g: LayerCall, op: ops.LSTMUnit) -> list[str]:
    """Return the tops c and h of an LSTMUnit, without factors that are always 1 and terms that are always 0."""
    if len(g.xs) != 3:
        raise Refused("bottoms", str(len(g.xs)), "three are expected", "check the net in Caffe")
    c_prev, gates, cont = g.xs
    units = g.types[0].shape[2]
    i, f, o, new = g.layers.split(gates, [units] * 4, 2)
    c = g.layers.binary("mul", g.layers.apply("sigmoid", i), g.layers.apply("tanh", new))
    if not g.is_always(c_prev, 0):
        carried = g.layers.binary("mul", g.layers.apply("sigmoid", f), c_prev)
        if not g.is_always(cont, 1):
            carried = g.layers.binary("mul", carried, g.layers.reshape(cont, (*g.types[2].shape, 1)))
        c = g.layers.binary("add", carried, c)
    return [c, g.layers.binary("mul", g.layers.apply("sigmoid", o), g.layers.apply("tanh", c))]


def _core(g: LayerCall, op: CaffeOp) -> str | None:
    """Return the value of a layer that is a core op on one bottom. Return None for any other layer."""
    kind = next((kind for kind in type(op).__mro__ if kind in CORE and kind.operands == ("x",)), None)
    if kind is None:
        return None
    return g.layers.one(kind(**{field.name: getattr(op, field.name) for field in fields(kind)}), g.x)


# The values of the tops, by the op that models a layer; not for core ops on one bottom: see `_core`.
OPS: Mapping[type[CaffeOp], Callable[[LayerCall, Any], str | list[str]]] = {
    ops.Convolution: _convolution,
    ops.MaxPooling: _pooling,
    ops.AvePooling: _pooling,
    ops.InnerProduct: _product,
    ops.TransposedInnerProduct: _product,
    ops.Eltwise: _eltwise,
    ops.Bias: lambda g, op: _broadcast(g, op, g.learned(op)),
    ops.PowerLayer: _power,
    ops.RoundingPower: lambda g, op: g.layers.affine(g.layers.apply("round", g.x), 1.0, op.shift),
    ops.SliceLayer: lambda g, op: g.layers.split(g.x, op.sizes, op.axis),
    ops.ConcatLayer: lambda g, op: g.layers.concat(g.xs, op.axis),
    ops.ReshapeLayer: lambda g, op: g.layers.reshape(g.x, op.shape),
    ops.TileLayer: lambda g, op: g.layers.concat([g.x] * in_pieces(op.tiles), op.axis),
    ops.LSTMUnit: _lstm_unit,
    ops.SplitLayer: lambda g, op: [g.x] * op.copies,
}


def _scale(g: LayerCall) -> str:
    """Return the value of a Scale. A bias so large that float32 cannot hold a fraction beside it rounds the value."""
    plain = type(g.message)()
    plain.CopyFrom(g.message)
    plain.scale_param.ClearField("bias_term")
    op = ops.Scale.read(plain, g.types)
    if op is None:
        why = "a Scale layer is read by its scale_param alone, and with these it may compute something else"
        mend = "remove them if it does not, or replace the layer"
        raise Refused("fields", ", ".join(other_settings(plain, {"scale_param"})), why, mend)
    bias = bool(g.message.scale_param.bias_term)
    blobs = g.weights(*[type_.shape for type_ in op.blob_types(g.types)] * (1 + bias)) if op.learned else g.blobs
    y = _broadcast(g, op, blobs[: op.learned])
    if not bias:
        return y
    (b,) = blobs[op.learned :]
    if np.all(b.make() == ops.RoundingPower.shift):
        y = g.layers.apply("round", y)
    return _broadcast(LayerCall(g.layers, g.message, (y,), ()), ops.Bias(op.axis, op.num_axes), [b])


def _embed(g: LayerCall) -> str:
    param = g.message.embed_param
    shapes = [(param.input_dim, param.num_output), (param.num_output,)][: 1 + param.bias_term]
    w, *b = g.weights(*shapes)
    y = g.layers.embed(g.x, w)
    return g.layers.binary("add", y, b[0]) if b else y


def _exponential(g: LayerCall) -> str:
    """Return the value of an Exp, base ** (shift + scale x), or a Log, log_base(shift + scale x); -1 means e."""
    exp = g.message.type == "Exp"
    param = g.message.exp_param if exp else g.message.log_param
    base, scale, shift = (field_value(param, field) for field in ("base", "scale", "shift"))
    y, ln = g.layers.affine(g.x, scale, shift), 1.0 if base == -1 else log(base)
    if exp:
        return g.layers.apply("exp", g.layers.affine(y, ln, 0.0))
    return g.layers.affine(g.layers.apply("log", y), 1 / ln, 0.0)


def _reduction(g: LayerCall) -> str:
    """Return ``coeff`` times the sum or mean over all axes from ``axis`` on: of |x| for ASUM, of x * x for SUMSQ."""
    param = g.message.reduction_param
    operation, x = field_value(param, "operation"), g.x
    if operation == "ASUM":
        x = g.layers.apply("abs", x)
    elif operation == "SUMSQ":
        x = g.layers.binary("mul", x, x)
    kind = "mean" if operation == "MEAN" else "sum"
    first = front_axis(g.message.type, param.axis, g.types[0])
    y = g.layers.reduce(kind, x, range(first, g.types[0].rank), keep=False)  # type: ignore[arg-type]
    return g.layers.affine(y, shortest(param.coeff), 0.0)


def _batch_norm(g: LayerCall) -> str:
    """Return x normalized by the stored moments, each divided by the third blob (``batch_norm_layer.cpp``)."""
    param = g.message.batch_norm_param
    if param.HasField("use_global_stats") and not param.use_global_stats:
        why = "then it depends on what else is in the batch"
        raise Refused("use_global_stats", "false", why, "train on, or use the net, with those that were stored")
    channels = (g.types[0].shape[1] if g.types[0].rank > 1 else 1,)
    mean, variance, factor = g.weights(channels, channels, (1,))

    def moment(blob: Weight) -> Weight:
        """Return a stored blob divided by the third blob, or zeros if that is 0."""

        def make() -> Array:
            count = float(factor.make()[0])
            return blob.make() * (0.0 if count == 0 else 1 / count)

        return blob.derived(channels, f"{blob.recipe} by {factor.recipe}", make)

    return g.layers.batch_norm(g.x, (None, None, moment(mean), moment(variance)), field_value(param, "eps"))


def _prelu(g: LayerCall) -> str:
    """Return x where x is positive, otherwise x times a slope: one for each channel, or one for all."""
    shared = g.message.prelu_param.channel_shared
    shape = (1,) if shared else (g.types[0].shape[1], *(1,) * (g.types[0].rank - 2))
    (slope,) = g.weights(shape)
    below = g.layers.apply("relu", g.layers.affine(g.x, -1.0, 0.0))
    return g.layers.binary("sub", g.layers.apply("relu", g.x), g.layers.binary("mul", below, slope))


def _lrn(g: LayerCall) -> str:
    """Return x / (k + alpha / n S) ** beta, where S sums the squares of n neighbouring channels (``lrn_layer.cpp``)."""
    param = g.message.lrn_param
    if field_value(param, "norm_region") != "ACROSS_CHANNELS":
        raise Refused("norm_region", "WITHIN_CHANNEL", "only sums over channels can be expressed", "replace the layer")
    size, channels = param.local_size, g.types[0].shape[1]
    alpha, beta, k = (field_value(param, field) for field in ("alpha", "beta", "k"))
    near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= size // 2
    weight = number(near.reshape(channels, channels, 1, 1), f"1 for the {size} channels around each")
    band = g.layers.builder.param(weight, f"{g.layers.hint}_band")
    squares = g.layers.binary("mul", g.x, g.x)
    sums = g.layers.one(Conv(), squares, band)
    scale = g.layers.apply("power", g.layers.affine(sums, alpha / size, k), -beta)
    return g.layers.binary("mul", g.x, scale)


# The value of the top, by layer type: for types that ops model in part, or not at all.
TYPES: Mapping[str, Callable[[LayerCall], str]] = {
    "Scale": _scale,
    "Embed": _embed,
    "Exp": _exponential,
    "Log": _exponential,
    "Reduction": _reduction,
    "BatchNorm": _batch_norm,
    "PReLU": _prelu,
    "LRN": _lrn,
    "Flatten": lambda g: g.layers.reshape(g.x, flattened(g.message, g.types[0].shape)),
}


def layer_values(g: LayerCall) -> list[str]:
    """Return the values of the layer's tops. Raises :class:`Refused` for a layer that cannot be expressed."""
    op = read_layer(g.message, g.types, layer_ops())
    if op is None and g.message.propagate_down:  # without meaning in inference
        g.message.ClearField("propagate_down")
        op = read_layer(g.message, g.types, layer_ops())
    if g.message.type in TYPES:
        return [TYPES[g.message.type](g)]
    rule = OPS.get(type(op)) if op is not None else None
    values = None if op is None else rule(g, op) if rule is not None else _core(g, op)
    if values is None:
        why = "its computation, by its type and fields, cannot be expressed"
        raise Refused("type", g.message.type, why, "import the recurrent layers alone, or replace the layer")
    return values if isinstance(values, list) else [values]
