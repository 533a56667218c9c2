"""Functions of each element, and softmax, to the layers of those names."""

from __future__ import annotations

from dataclasses import fields

from lstmc.ir import Builder, Node
from lstmc.ops import Affine, Op, Power, Round
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, as_value, layer_of
from lstmc_caffe.legalize.rules import core_op, layer_rules
from lstmc_caffe.ops import pointwise

# Up to here a whole power becomes a product: Power's backward divides by x, which is NaN at x = 0.
LARGEST_PRODUCT = 8

# The functions that are a layer's by the same name: of each element, and softmax.
LAYERS = tuple(layer for layer in caffe.CAFFE_OPS if layer.__module__ == pointwise.__name__ and core_op(layer))
FUNCTION_LAYERS: dict[type[Op], Op] = {
    core: layer() for layer in LAYERS if (core := core_op(layer)) is not None and not fields(layer)
}


def affine_to_power(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Affine)
    return layer_of(b, node, caffe.PowerLayer(1.0, node.op.scale, node.op.shift), *args)


def power_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Power)
    exponent = node.op.exponent
    if exponent in range(3, LARGEST_PRODUCT + 1):
        value = as_value(b, args[0])
        return layer_of(b, node, caffe.Eltwise("PROD"), *(value,) * int(exponent))
    return layer_of(b, node, caffe.PowerLayer(exponent), *args)


def round_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """A shift that rounds, and back by a sum: of another Power OpenCV would make one with it, or with a next one."""
    rounded = b.add(caffe.RoundingPower(), as_value(b, args[0]), names=(f"{node.name}/rounded",), loc=node.loc)
    back = caffe.DummyData(node.types[0].shape, -caffe.RoundingPower.shift)
    shift = b.add(back, names=(f"{node.name}/shift",), loc=node.loc)
    return layer_of(b, node, caffe.Eltwise("SUM"), *rounded, *shift)


RULES: dict[type[Op], LegalizeRule] = {
    Affine: affine_to_power,
    Power: power_to_layers,
    Round: round_to_layers,
    **layer_rules(*LAYERS),
}
