"""Ops that move elements to Slice, Concat, Reshape and Tile."""

from __future__ import annotations

from lstmc.ir import Builder, Node
from lstmc.ops import Concat, Op, Reshape, Split, Stack, Tile, Transpose, Unstack
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, as_value, layer_of
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


def tile_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Tile)
    return layer_of(b, node, caffe.TileLayer(node.op.axis, node.op.tiles), *args)


def transpose_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Slice along the shorter of the two axes, and its pieces joined along the other one."""
    assert isinstance(node.op, Transpose)
    x, axis = as_value(b, args[0]), node.op.axis
    before, (one, other, *after) = b.type(x).shape[:axis], b.type(x).shape[axis:]
    if 1 in (one, other):
        return layer_of(b, node, caffe.ReshapeLayer(node.types[0].shape), x)
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
    Split: split_to_slice,
    Concat: concat_to_layer,
    Reshape: reshape_to_layer,
    Tile: tile_to_layer,
    Transpose: transpose_to_layers,
    Unstack: unstack_to_slice,
    Stack: stack_to_concat,
}
