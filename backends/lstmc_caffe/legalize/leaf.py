"""Inputs and constants to layers without bottoms."""

from __future__ import annotations

from lstmc.ir import Builder, Node
from lstmc.ops import Full, Input, Op
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, layer_of


def input_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Input)
    layer = caffe.InputLayer if node.op.fill is None else caffe.FilledInput
    return layer_of(b, node, layer(node.op.shape, node.op.fill, node.op.values))


def full_to_dummy_data(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Full)
    return layer_of(b, node, caffe.DummyData(node.op.shape, node.op.value))


RULES: dict[type[Op], LegalizeRule] = {
    Input: input_to_layer,
    Full: full_to_dummy_data,
}
