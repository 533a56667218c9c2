"""Functions of each element, and softmax, to the layers of those names."""

from __future__ import annotations

from lstmc.ir import Builder, Node
from lstmc.ops import Abs, Affine, Elu, Exp, Log, Op, Power, Relu, Sigmoid, Softmax, Tanh
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import Rule, as_value, layer_of

# Up to here a whole power becomes a product: Power's backward divides by x, which is NaN at x = 0.
LARGEST_PRODUCT = 8

FUNCTION_LAYERS: dict[type[Op], Op] = {
    Sigmoid: caffe.SigmoidLayer(),
    Tanh: caffe.TanHLayer(),
    Relu: caffe.ReLULayer(),
    Abs: caffe.AbsValLayer(),
    Exp: caffe.ExpLayer(),
    Log: caffe.LogLayer(),
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


def function_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    return layer_of(b, node, FUNCTION_LAYERS[type(node.op)], *args)


def elu_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Elu)
    return layer_of(b, node, caffe.ELULayer(node.op.alpha), *args)


def softmax_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Softmax)
    return layer_of(b, node, caffe.SoftmaxLayer(node.op.axis), *args)


RULES: dict[type[Op], Rule] = {
    Affine: affine_to_power,
    Power: power_to_layers,
    **dict.fromkeys(FUNCTION_LAYERS, function_to_layer),
    Elu: elu_to_layer,
    Softmax: softmax_to_layer,
}
