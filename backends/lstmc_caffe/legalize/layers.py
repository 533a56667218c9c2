"""Rules from core ops to layers: inputs, elementwise functions, shapes, sequences, images and losses."""

from __future__ import annotations

import math
from functools import partial
from math import prod

from lstmc import ops
from lstmc.ir import Builder, Node, Ref, reshaped
from lstmc.ops import Op
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, as_value, check_blob, layer_of, shaped
from lstmc_caffe.legalize.rules import core_op, layer_rules
from lstmc_caffe.legalize.unroll import CaffeTimeAxis
from lstmc_caffe.ops import pointwise


def input_to_layer(b: Builder, node: Node[ops.Input], args: Refs) -> Refs:
    layer = caffe.InputLayer if node.op.fill is None else caffe.FilledInput
    return layer_of(b, node, layer(node.op.shape, node.op.fill, node.op.values))


def full_to_dummy_data(b: Builder, node: Node[ops.Full], args: Refs) -> Refs:
    return layer_of(b, node, caffe.DummyData(node.op.shape, node.op.value))


def _on_images(b: Builder, node: Node, op: Op, x: Ref, *learned: Ref) -> Refs:
    """Add a layer on images [N, C, H, W] for x [..., C, H, W]."""
    shape = b.type(x).shape
    images = shaped(b, x, (prod(shape[:-3]), *shape[-3:]))
    if len(shape) == 4:
        return layer_of(b, node, op, images, learned=learned)
    outs = b.add(op, images, *learned, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *outs)


def conv_to_layer(b: Builder, node: Node[ops.Conv], args: Refs) -> Refs:
    """Write a Convolution on images. Raise BackendError if its kernel or bias is computed."""
    op, (x, w, *bias) = node.op, args
    check_blob(b, node, w, "Convolution")
    if bias:
        check_blob(b, node, bias[0], "Convolution", "b")
    out, _, height, width = b.type(w).shape
    # along an axis where the kernel has one element a dilation changes nothing
    used = {d for d, size in zip(op.dilation, (height, width), strict=True) if size > 1} or {1}
    dilation = op.dilation if len(used) > 1 else (max(used), max(used))
    layer = caffe.Convolution(op.stride, op.pad, dilation, op.group, out, (height, width), bool(bias))
    return _on_images(b, node, layer, x, w, *bias)


def pool_to_layer(b: Builder, node: Node[ops.MaxPool | ops.AvePool], args: Refs) -> Refs:
    op = node.op
    layer = caffe.MaxPooling if isinstance(op, ops.MaxPool) else caffe.AvePooling
    return _on_images(b, node, layer(op.size, op.stride, op.pad), args[0])


def softmax_loss_to_layer(b: Builder, node: Node[ops.SoftmaxLoss], args: Refs) -> Refs:
    """Write SoftmaxWithLoss. For classes on axis 0, x and label get an axis before it: the first axes must be equal."""
    op, (x, label) = node.op, args
    shape, axis = b.type(x).shape, op.axis
    if axis == 0:
        x, label, axis = shaped(b, x, (1, *shape)), shaped(b, label, (1, *shape[1:])), 1
    return layer_of(b, node, caffe.SoftmaxWithLoss(axis, op.ignore_label, op.normalization), x, label)


def _at_most_four_axes(b: Builder, refs: Refs) -> Refs:
    shape = b.type(refs[0]).shape
    return refs if len(shape) <= 4 else tuple(shaped(b, ref, (shape[0], prod(shape[1:]))) for ref in refs)


def sigmoid_loss_to_layers(b: Builder, node: Node[ops.SigmoidCrossEntropyLoss], args: Refs) -> Refs:
    """Write SigmoidCrossEntropyLoss, which divides by the size of the first axis; a Power corrects other divisors."""
    op = node.op
    shape = b.type(args[0]).shape
    layer, operands = caffe.SigmoidCrossEntropyLossLayer(), _at_most_four_axes(b, args)
    if op.number(shape) == shape[0]:
        return layer_of(b, node, layer, *operands)
    loss = b.add(layer, *[as_value(b, ref) for ref in operands], loc=node.loc)
    return layer_of(b, node, caffe.PowerLayer(scale=shape[0] / op.number(shape)), *loss)


def euclidean_loss_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    return layer_of(b, node, caffe.EuclideanLossLayer(), *_at_most_four_axes(b, args))


# Up to here a whole power becomes a product: Power's backward divides by x, which is NaN at x = 0.
LARGEST_PRODUCT = 8

# The layers that compute a core op of the same name: elementwise functions and softmax.
LAYERS = tuple(layer for layer in caffe.CAFFE_OPS if layer.__module__ == pointwise.__name__ and core_op(layer))


def affine_to_power(b: Builder, node: Node[ops.Affine], args: Refs) -> Refs:
    return layer_of(b, node, caffe.PowerLayer(1.0, node.op.scale, node.op.shift), *args)


def power_to_layers(b: Builder, node: Node[ops.Power], args: Refs) -> Refs:
    """Write a Power layer, or a product for a whole power of 3 to LARGEST_PRODUCT."""
    exponent = node.op.exponent
    if exponent in range(3, LARGEST_PRODUCT + 1):
        value = as_value(b, args[0])
        return layer_of(b, node, caffe.Eltwise("PROD"), *(value,) * int(exponent))
    return layer_of(b, node, caffe.PowerLayer(exponent), *args)


def round_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    return layer_of(b, node, caffe.Eltwise("SUM"), *_rounded(b, node, as_value(b, args[0]), node.name))


def _rounded(b: Builder, node: Node, x: Ref, name: str) -> Refs:
    """Return the two terms whose sum is the rounded x: x plus a large shift, and minus the shift. They are not two
    Power layers, which OpenCV would merge."""
    rounded = b.add(caffe.RoundingPower(), x, names=(f"{name}/rounded",), loc=node.loc)
    back = caffe.DummyData(node.types[0].shape, -caffe.RoundingPower.shift)
    return (*rounded, *b.add(back, names=(f"{name}/shift",), loc=node.loc))


# pi in two parts: the first one's products with whole numbers up to 2**16 are exact in float32
PI_HIGH, PI_LOW = 3.140625, math.pi - 3.140625
SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]  # of r * r: sin(r) / r to 2e-16, |r| up to pi / 2


def sin_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Write sin(x) as (-1)**k sin(r), where x = k pi + r. The sign (-1)**k is 1 - 2 (k - 2 round(k / 2))**2."""
    layer = partial(_layer, b, node)
    multiple, rest = _multiple_and_rest(b, node, as_value(b, args[0]))
    half = layer(caffe.PowerLayer(scale=0.5), multiple)
    even = layer(caffe.Eltwise("SUM"), *_rounded(b, node, half, f"{node.name}/half"))
    odd = layer(caffe.Eltwise("SUM", (1.0, -2.0)), multiple, even, name="odd")
    sign = layer(caffe.PowerLayer(scale=-2.0, shift=1.0), layer(caffe.Eltwise("PROD"), odd, odd), name="sign")
    return layer_of(b, node, caffe.Eltwise("PROD"), sign, _sine(b, node, rest))


def cos_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Write cos(x) as 1 - 2 sin(r)**2, where x / 2 = k pi + r."""
    half = _layer(b, node, caffe.PowerLayer(scale=0.5), as_value(b, args[0]))
    sine = _sine(b, node, _multiple_and_rest(b, node, half)[1])
    square = _layer(b, node, caffe.Eltwise("PROD"), sine, sine)
    return layer_of(b, node, caffe.PowerLayer(scale=-2.0, shift=1.0), square)


def _layer(b: Builder, node: Node, op: Op, *operands: Ref, name: str = "") -> Ref:
    return b.add(op, *operands, names=(f"{node.name}/{name}",) if name else (), loc=node.loc)[0]


def _multiple_and_rest(b: Builder, node: Node, x: Ref) -> tuple[Ref, Ref]:
    """Return k and r, where x = k pi + r and |r| is at most pi / 2."""
    turns = _layer(b, node, caffe.PowerLayer(scale=1 / math.pi), x)
    multiple = _layer(b, node, caffe.Eltwise("SUM"), *_rounded(b, node, turns, f"{node.name}/multiple"))
    rest = _layer(b, node, caffe.Eltwise("SUM", (1.0, -PI_HIGH)), x, multiple)
    return multiple, _layer(b, node, caffe.Eltwise("SUM", (1.0, -PI_LOW)), rest, multiple, name="rest")


def _sine(b: Builder, node: Node, r: Ref) -> Ref:
    """Return sin(r) for |r| up to pi / 2, as a polynomial in Horner's form."""
    square = _layer(b, node, caffe.Eltwise("PROD"), r, r, name="square")
    value = _layer(b, node, caffe.PowerLayer(scale=SINE[-1], shift=SINE[-2]), square)
    for coefficient in reversed(SINE[:-2]):
        product = _layer(b, node, caffe.Eltwise("PROD"), value, square)
        value = _layer(b, node, caffe.PowerLayer(shift=coefficient), product)
    return _layer(b, node, caffe.Eltwise("PROD"), value, r, name="sine")


def embed_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    x, w = args
    check_blob(b, node, w, "Embed")
    return layer_of(b, node, caffe.EmbedLayer(*b.type(w).shape), x, learned=(w,))


def sum_to_layers(b: Builder, node: Node[ops.Sum], args: Refs) -> Refs:
    """Write a sum over the last axes as a Reduction, over another axis as a Pooling AVE times the axis's length."""
    axis, (x,) = node.op.axis, args
    shape = b.type(x).shape
    if shape[axis] == 1:
        return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), x)
    if axis == len(shape) - 1:
        below = b.node(x.node)
        if isinstance(below.op, caffe.Reduction):  # one Reduction sums this axis and the axes after it
            (x,) = b.args(below.name)
        return layer_of(b, node, caffe.Reduction(axis), x)
    means = b.add(caffe.AvePooling((shape[axis], 1)), _columns(b, x, axis), loc=node.loc)
    sums = b.add(caffe.PowerLayer(scale=float(shape[axis])), *means, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *sums)


def max_to_pooling(b: Builder, node: Node[ops.Max], args: Refs) -> Refs:
    (x,), axis = args, node.op.axis
    largest = b.add(caffe.MaxPooling((b.type(x).shape[axis], 1)), _columns(b, x, axis), loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *largest)


def _columns(b: Builder, x: Ref, axis: int) -> Ref:
    """Return x as images of one channel, whose columns are along ``axis``."""
    shape = b.type(x).shape
    return shaped(b, x, (prod(shape[:axis]), 1, shape[axis], prod(shape[axis + 1 :])))


def transpose_to_layers(b: Builder, node: Node[ops.Transpose], args: Refs) -> Refs:
    """Write the exchange of two axes: a Slice cuts the shorter one, a Concat joins turned pieces along the other."""
    x, axis = as_value(b, args[0]), node.op.axis
    before, (one, other, *after) = b.type(x).shape[:axis], b.type(x).shape[axis:]
    if 1 in (one, other):
        return (reshaped(b, x, caffe.ReshapeLayer(node.types[0].shape), node.names, node.loc),)
    cut, joined = (axis, axis + 1) if one < other else (axis + 1, axis)
    pieces = b.add(caffe.SliceLayer(cut, (1,) * min(one, other)), x, loc=node.loc)
    turned = (other, 1) if one < other else (1, one)
    columns = [b.add(caffe.ReshapeLayer((*before, *turned, *after)), piece, loc=node.loc)[0] for piece in pieces]
    return layer_of(b, node, caffe.ConcatLayer(joined), *columns)


def unstack_to_slice(b: Builder, node: Node, args: Refs) -> Refs:
    return CaffeTimeAxis().unstack(b, as_value(b, args[0]), node.names)


def stack_to_concat(b: Builder, node: Node, args: Refs) -> Refs:
    return (CaffeTimeAxis().stack(b, [as_value(b, ref) for ref in args], node.name),)


RULES: dict[type[Op], LegalizeRule] = {
    ops.Input: input_to_layer,
    ops.Full: full_to_dummy_data,
    ops.Conv: conv_to_layer,
    ops.MaxPool: pool_to_layer,
    ops.AvePool: pool_to_layer,
    ops.SoftmaxLoss: softmax_loss_to_layer,
    ops.SigmoidCrossEntropyLoss: sigmoid_loss_to_layers,
    ops.EuclideanLoss: euclidean_loss_to_layer,
    ops.Affine: affine_to_power,
    ops.Power: power_to_layers,
    ops.Round: round_to_layers,
    ops.Sin: sin_to_layers,
    ops.Cos: cos_to_layers,
    **layer_rules(
        *LAYERS, caffe.AccuracyLayer, caffe.SliceLayer, caffe.ConcatLayer, caffe.ReshapeLayer, caffe.TileLayer
    ),
    ops.Embed: embed_to_layer,
    ops.Max: max_to_pooling,
    ops.Sum: sum_to_layers,
    ops.Transpose: transpose_to_layers,
    ops.Unstack: unstack_to_slice,
    ops.Stack: stack_to_concat,
}
