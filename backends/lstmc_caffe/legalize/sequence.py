"""What stands before and after recurrent cells: embed, dropout, sums and the largest along an axis."""

from __future__ import annotations

from math import prod

from lstmc.ir import Builder, Node, Ref
from lstmc.ops import Dropout, Embed, Max, Op, Sum
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, check_blob, layer_of, shaped


def embed_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    x, w = args
    check_blob(b, node, w, "Embed")
    return layer_of(b, node, caffe.EmbedLayer(*b.type(w).shape), x, learned=(w,))


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
    means = b.add(caffe.AvePooling((shape[axis], 1)), _columns(b, x, axis), loc=node.loc)
    sums = b.add(caffe.PowerLayer(scale=float(shape[axis])), *means, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *sums)


def max_to_pooling(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Max)
    (x,), axis = args, node.op.axis
    largest = b.add(caffe.MaxPooling((b.type(x).shape[axis], 1)), _columns(b, x, axis), loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *largest)


def _columns(b: Builder, x: Ref, axis: int) -> Ref:
    """x as images of one channel, whose columns are along ``axis``."""
    shape = b.type(x).shape
    return shaped(b, x, (prod(shape[:axis]), 1, shape[axis], prod(shape[axis + 1 :])))


RULES: dict[type[Op], LegalizeRule] = {
    Embed: embed_to_layer,
    Dropout: dropout_to_layer,
    Max: max_to_pooling,
    Sum: sum_to_layers,
}
