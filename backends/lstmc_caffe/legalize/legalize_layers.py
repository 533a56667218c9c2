"""Core ops to Caffe layers: what stands before, between and after recurrent cells, and the losses."""

from __future__ import annotations

from math import prod

from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref, is_weight
from lstmc.ops import (
    Accuracy,
    AvePool,
    Conv,
    Dropout,
    Embed,
    EuclideanLoss,
    MaxPool,
    Op,
    SigmoidCrossEntropyLoss,
    SoftmaxLoss,
    Sum,
)
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import Rule, as_value, layer_of


def _check_blob(b: Builder, node: Node, w: Ref, layer: str, name: str = "W") -> None:
    if not is_weight(b, w):
        raise BackendError(
            f"{node.op.name}: {name} must be a Param: Caffe's {layer} has its weights as a blob of its own",
            loc=node.loc,
            notes=(f"found {b.node(w.node).names[w.out]}: {b.type(w)}, computed by {b.node(w.node).op.name}",),
        )


def _shaped(b: Builder, ref: Ref, shape: tuple[int, ...]) -> Ref:
    """The value in another shape, by a Reshape where it has not that shape already."""
    value = as_value(b, ref)
    return value if b.type(value).shape == shape else b.add(caffe.ReshapeLayer(shape), value)[0]


def embed_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    x, w = args
    _check_blob(b, node, w, "Embed")
    return layer_of(b, node, caffe.EmbedLayer(*b.type(w).shape), x, learned=(w,))


def _on_images(b: Builder, node: Node, op: Op, x: Ref, *learned: Ref) -> Refs:
    """A layer on images [N, C, H, W], where x is [..., C, H, W]."""
    shape = b.type(x).shape
    images = _shaped(b, x, (prod(shape[:-3]), *shape[-3:]))
    if len(shape) == 4:
        return layer_of(b, node, op, images, learned=learned)
    made = b.add(op, images, *learned, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *made)


def conv_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op, (x, w, *bias) = node.op, args
    assert isinstance(op, Conv)
    _check_blob(b, node, w, "Convolution")
    if bias:
        _check_blob(b, node, bias[0], "Convolution", "b")
    out, _, height, width = b.type(w).shape
    layer = caffe.Convolution(op.stride, op.pad, op.dilation, op.group, out, (height, width), bool(bias))
    return _on_images(b, node, layer, x, w, *bias)


def pool_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op = node.op
    assert isinstance(op, MaxPool | AvePool)
    layer = caffe.MaxPooling if isinstance(op, MaxPool) else caffe.AvePooling
    return _on_images(b, node, layer(op.size, op.stride, op.pad), args[0])


def dropout_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Dropout)
    return layer_of(b, node, caffe.DropoutLayer(node.op.ratio, node.op.draw), *args)


def sum_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Reduction sums all axes from one on; a sum over other ones is a mean of images of one column."""
    assert isinstance(node.op, Sum)
    axis, (x,) = node.op.axis, args
    shape = b.type(x).shape
    if axis == len(shape) - 1:
        below = b.node(x.node)
        if isinstance(below.op, caffe.Reduction):  # this axis and those that it sums
            (x,) = b.args(below.name)
        return layer_of(b, node, caffe.Reduction(axis), x)
    lead, length, rest = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    images = _shaped(b, x, (lead, 1, length, rest))
    means = b.add(caffe.AvePooling((length, 1)), images, loc=node.loc)
    sums = b.add(caffe.PowerLayer(scale=float(length)), *means, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *sums)


def softmax_loss_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op, (x, label) = node.op, args
    assert isinstance(op, SoftmaxLoss)
    shape, axis = b.type(x).shape, op.axis
    if axis == 0:  # the layer wants first axes that agree
        x, label, axis = _shaped(b, x, (1, *shape)), _shaped(b, label, (1, *shape[1:])), 1
    return layer_of(b, node, caffe.SoftmaxWithLoss(axis, op.ignore_label, op.normalization), x, label)


def accuracy_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op = node.op
    assert isinstance(op, Accuracy)
    return layer_of(b, node, caffe.AccuracyLayer(op.axis, op.top_k, op.ignore_label), *args)


def _at_most_four_axes(b: Builder, refs: Refs) -> Refs:
    shape = b.type(refs[0]).shape
    return refs if len(shape) <= 4 else tuple(_shaped(b, ref, (shape[0], prod(shape[1:]))) for ref in refs)


def sigmoid_loss_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """The layer divides by the size of the first axis; a Power makes another number of it."""
    op = node.op
    assert isinstance(op, SigmoidCrossEntropyLoss)
    shape = b.type(args[0]).shape
    layer, operands = caffe.SigmoidCrossEntropyLossLayer(), _at_most_four_axes(b, args)
    if op.number(shape) == shape[0]:
        return layer_of(b, node, layer, *operands)
    loss = b.add(layer, *[as_value(b, ref) for ref in operands], loc=node.loc)
    return layer_of(b, node, caffe.PowerLayer(scale=shape[0] / op.number(shape)), *loss)


def euclidean_loss_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    return layer_of(b, node, caffe.EuclideanLossLayer(), *_at_most_four_axes(b, args))


LAYER_RULES: dict[type[Op], Rule] = {
    Embed: embed_to_layer,
    Conv: conv_to_layer,
    MaxPool: pool_to_layer,
    AvePool: pool_to_layer,
    Dropout: dropout_to_layer,
    Sum: sum_to_layers,
    SoftmaxLoss: softmax_loss_to_layer,
    SigmoidCrossEntropyLoss: sigmoid_loss_to_layers,
    EuclideanLoss: euclidean_loss_to_layer,
    Accuracy: accuracy_to_layer,
}
