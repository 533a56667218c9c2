"""Ops that move elements to Slice, Concat and Reshape."""

from __future__ import annotations

from lstmc.ir import Builder, Node
from lstmc.ops import Concat, Op, Reshape, Split, Stack, Unstack
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import Rule, as_value, layer_of
from lstmc_caffe.unroll.time_axis import CaffeTimeAxis


def split_to_slice(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Split)
    return layer_of(b, node, caffe.SliceLayer(node.op.axis, node.op.sizes), *args)


def concat_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Concat)
    return layer_of(b, node, caffe.ConcatLayer(node.op.axis), *args)


def reshape_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Reshape)
    return layer_of(b, node, caffe.ReshapeLayer(node.op.shape), *args)


def unstack_to_slice(b: Builder, node: Node, args: Refs) -> Refs:
    return CaffeTimeAxis().unstack(b, as_value(b, args[0]), node.names)


def stack_to_concat(b: Builder, node: Node, args: Refs) -> Refs:
    return (CaffeTimeAxis().stack(b, [as_value(b, ref) for ref in args], node.name),)


RULES: dict[type[Op], Rule] = {
    Split: split_to_slice,
    Concat: concat_to_layer,
    Reshape: reshape_to_layer,
    Unstack: unstack_to_slice,
    Stack: stack_to_concat,
}
