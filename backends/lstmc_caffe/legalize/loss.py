"""Losses and scores."""

from __future__ import annotations

from math import prod

from lstmc.ir import Builder, Node
from lstmc.ops import Accuracy, EuclideanLoss, Op, SigmoidCrossEntropyLoss, SoftmaxLoss
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, as_value, layer_of, shaped


def softmax_loss_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op, (x, label) = node.op, args
    assert isinstance(op, SoftmaxLoss)
    shape, axis = b.type(x).shape, op.axis
    if axis == 0:  # the layer wants first axes that agree
        x, label, axis = shaped(b, x, (1, *shape)), shaped(b, label, (1, *shape[1:])), 1
    return layer_of(b, node, caffe.SoftmaxWithLoss(axis, op.ignore_label, op.normalization), x, label)


def accuracy_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op = node.op
    assert isinstance(op, Accuracy)
    return layer_of(b, node, caffe.AccuracyLayer(op.axis, op.top_k, op.ignore_label), *args)


def _at_most_four_axes(b: Builder, refs: Refs) -> Refs:
    shape = b.type(refs[0]).shape
    return refs if len(shape) <= 4 else tuple(shaped(b, ref, (shape[0], prod(shape[1:]))) for ref in refs)


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


RULES: dict[type[Op], LegalizeRule] = {
    SoftmaxLoss: softmax_loss_to_layer,
    SigmoidCrossEntropyLoss: sigmoid_loss_to_layers,
    EuclideanLoss: euclidean_loss_to_layer,
    Accuracy: accuracy_to_layer,
}
