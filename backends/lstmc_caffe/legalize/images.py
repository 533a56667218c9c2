"""Convolution and pooling."""

from __future__ import annotations

from math import prod

from lstmc.ir import Builder, Node, Ref
from lstmc.ops import AvePool, Conv, MaxPool, Op
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, check_blob, layer_of, shaped


def _on_images(b: Builder, node: Node, op: Op, x: Ref, *learned: Ref) -> Refs:
    """A layer on images [N, C, H, W], where x is [..., C, H, W]."""
    shape = b.type(x).shape
    images = shaped(b, x, (prod(shape[:-3]), *shape[-3:]))
    if len(shape) == 4:
        return layer_of(b, node, op, images, learned=learned)
    made = b.add(op, images, *learned, loc=node.loc)
    return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), *made)


def conv_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op, (x, w, *bias) = node.op, args
    assert isinstance(op, Conv)
    check_blob(b, node, w, "Convolution")
    if bias:
        check_blob(b, node, bias[0], "Convolution", "b")
    out, _, height, width = b.type(w).shape
    # along an axis where the kernel has one element a dilation changes nothing
    used = {d for d, size in zip(op.dilation, (height, width), strict=True) if size > 1} or {1}
    dilation = op.dilation if len(used) > 1 else (max(used), max(used))
    layer = caffe.Convolution(op.stride, op.pad, dilation, op.group, out, (height, width), bool(bias))
    return _on_images(b, node, layer, x, w, *bias)


def pool_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    op = node.op
    assert isinstance(op, MaxPool | AvePool)
    layer = caffe.MaxPooling if isinstance(op, MaxPool) else caffe.AvePooling
    return _on_images(b, node, layer(op.size, op.stride, op.pad), args[0])


RULES: dict[type[Op], LegalizeRule] = {
    Conv: conv_to_layer,
    MaxPool: pool_to_layer,
    AvePool: pool_to_layer,
}
