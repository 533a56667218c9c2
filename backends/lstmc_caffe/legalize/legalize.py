"""Core ops to Caffe layers, by named rules. The result is still a graph, and still means the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Ref, Scan, Stage, is_weight
from lstmc.ops import (
    Abs,
    Add,
    Affine,
    Arg,
    Concat,
    Elu,
    Exp,
    Full,
    Input,
    Linear,
    Log,
    Mul,
    Op,
    Param,
    Power,
    Relu,
    Reshape,
    Sigmoid,
    Softmax,
    Split,
    Stack,
    Sub,
    Tanh,
    Unstack,
)
from lstmc.ops.binary import covered_axes
from lstmc.passes import Pass, PassResult, Refs, in_bodies, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import Rule, as_value, layer_of, outputs_as_values, packing_nodes
from lstmc_caffe.legalize.checks import check_gradients_end
from lstmc_caffe.legalize.legalize_layers import LAYER_RULES
from lstmc_caffe.unroll.time_axis import CaffeTimeAxis

# Up to here a whole power becomes a product: Power's backward divides by x, which is NaN at x = 0.
LARGEST_PRODUCT = 8


@dataclass(frozen=True)
class Legalize(Pass):
    """Write every core op as layers of stock BVLC Caffe.

    1. input; input with a fill; full   => Input; DummyData; DummyData
    2. linear on parameters             => InnerProduct, with its bias where that is a parameter too
    3. x + y, x - y, x * y of one shape => Eltwise SUM, SUM with coeff 1 and -1, PROD
    4. x + y, x * y broadcast           => Bias, Scale: of the layer's own blob where y is a parameter (unless Scale
                                           would lose its gradient)
    5. a parameter read as a value      => DummyData of zeros, then Bias of its own blob
    6. affine; power                    => Power (a whole power from 3 to 8: Eltwise PROD)
    7. sigmoid tanh relu elu abs exp log softmax split concat reshape => the layer of that name
    8. unstack; stack                   => Reshape and Slice; Concat and Reshape
    9. embed conv max_pool ave_pool dropout, losses, accuracy => the layer of that name; images of more axes or fewer
                                           than 4 are reshaped
    10. sum over the last axes; others  => Reduction; Pooling AVE of images of one column, and Power

    Refused: a linear, embed or conv whose matrix is computed (Caffe has no product of two computed matrices); indices,
    labels and targets that depend on a parameter.
    """

    name = "legalize"
    after = Stage.LEGAL

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        check_gradients_end(graph)
        legal = legalized(graph, counts)
        return PassResult(legal if counts else graph, bool(counts), dict(counts))


def legalized(graph: Graph, counts: Counter[str]) -> Graph:
    """The graph in Caffe ops; ``counts`` gains a rule's name each time it is used."""
    packing = packing_nodes(graph)

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan):
            scan = in_bodies(node.op, lambda body: legalized(body, counts))
            values = [_operand(b, scan, i, ref) for i, ref in enumerate(args)]
            return b.add(scan, *values, names=node.names, loc=node.loc)
        if type(node.op) in KEPT or isinstance(node.op, caffe.CaffeOp):
            return None
        if node.name in packing:
            return None  # it makes a blob, not a layer
        rule = RULES.get(type(node.op))
        if rule is None:
            raise BackendError(f"Caffe has no layer for {node.op.name}", loc=node.loc)
        counts[rule.__name__] += 1
        return rule(b, node, args)

    return outputs_as_values(rewrite(graph, visit), counts)


def _operand(b: Builder, scan: Scan, slot: int, ref: Ref) -> Ref:
    return ref if scan.role(slot) == "weight" else as_value(b, ref)


def input_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Input)
    layer = caffe.InputLayer if node.op.fill is None else caffe.FilledInput
    return layer_of(b, node, layer(node.op.shape, node.op.fill, node.op.values, node.op.after))


def full_to_dummy_data(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Full)
    return layer_of(b, node, caffe.DummyData(node.op.shape, node.op.value))


def linear_to_inner_product(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Linear)
    x, w, *bias = args
    if not is_weight(b, w):
        raise BackendError(
            "linear: the matrix must be a Param: Caffe has no layer for the product of two computed matrices",
            loc=node.loc,
            notes=(f"found {b.node(w.node).names[w.out]}: {b.type(w)}, computed by {b.node(w.node).op.name}",),
        )
    out = node.types[0].shape[-1]
    if bias and not is_weight(b, bias[0]):
        product = b.add(caffe.InnerProduct(node.op.axis, out, False), as_value(b, x), w, loc=node.loc)
        return layer_of(b, node, caffe.Bias(axis=node.op.axis), *product, bias[0])
    return layer_of(b, node, caffe.InnerProduct(node.op.axis, out, bool(bias)), x, learned=(w, *bias))


def add_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    if b.type(args[0]) == b.type(args[1]):
        return _same_shape_sum(b, node, args)
    return _broadcast(b, node, caffe.Bias, *args)


def _same_shape_sum(b: Builder, node: Node, args: Refs) -> Refs:
    for value, weight in (args, args[::-1]):
        if is_weight(b, weight) and not is_weight(b, value):
            bias = caffe.Bias(axis=0, num_axes=len(node.types[0].shape), learned=True)
            return layer_of(b, node, bias, value, learned=(weight,))
    return layer_of(b, node, caffe.Eltwise("SUM"), *args)


def sub_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    if b.type(args[0]) == b.type(args[1]):
        return layer_of(b, node, caffe.Eltwise("SUM", (1.0, -1.0)), *args)
    negated = b.add(caffe.PowerLayer(scale=-1.0), as_value(b, args[1]), loc=node.loc)
    return _broadcast(b, node, caffe.Bias, args[0], *negated)


def mul_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    if b.type(args[0]) != b.type(args[1]):
        return _broadcast(b, node, caffe.Scale, *args)
    return layer_of(b, node, caffe.Eltwise("PROD"), *args)


def _broadcast(b: Builder, node: Node, layer: type[caffe.Bias | caffe.Scale], x: Ref, y: Ref) -> Refs:
    """x and y by a layer that repeats the smaller one along the other axes of the larger one."""
    large, small = (x, y) if b.type(x) == node.types[0] else (y, x)
    covered = covered_axes(b.type(small).shape, b.type(large).shape)
    assert covered is not None
    start, stop = covered
    if start == stop:  # one element: let it cover an axis of its own length, or be a blob without axes
        start, stop = (0, 1) if b.type(large).shape[:1] == (1,) else (0, 0)
    shape = b.type(large).shape[start:stop]
    # A Scale whose blob covers x from its first axis on, or from one of size 1 on, overwrites the blob's gradient
    # where it should add to it (scale_layer.cpp, Backward_cpu: is_eltwise, outer_dim_ == 1): what other layers
    # and other steps gave would be lost.
    summed = layer is caffe.Bias or prod(b.type(large).shape[:start]) > 1
    learned = is_weight(b, small) and b.type(small).shape == shape and summed
    if not learned:
        small = as_value(b, small)
        if b.type(small).shape != shape:
            (small,) = b.add(caffe.ReshapeLayer(shape), small, loc=node.loc)
    op = layer(axis=start, num_axes=stop - start, learned=learned)
    if learned:
        return layer_of(b, node, op, large, learned=(small,))
    return layer_of(b, node, op, large, small)


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


FUNCTION_LAYERS: dict[type[Op], Op] = {
    Sigmoid: caffe.SigmoidLayer(),
    Tanh: caffe.TanHLayer(),
    Relu: caffe.ReLULayer(),
    Abs: caffe.AbsValLayer(),
    Exp: caffe.ExpLayer(),
    Log: caffe.LogLayer(),
}


def function_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    return layer_of(b, node, FUNCTION_LAYERS[type(node.op)], *args)


def elu_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Elu)
    return layer_of(b, node, caffe.ELULayer(node.op.alpha), *args)


def softmax_to_layer(b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Softmax)
    return layer_of(b, node, caffe.SoftmaxLayer(node.op.axis), *args)


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


# Every core op is here or in KEPT; a test holds it.
RULES: dict[type[Op], Rule] = {
    Input: input_to_layer,
    Full: full_to_dummy_data,
    Linear: linear_to_inner_product,
    Add: add_to_layers,
    Sub: sub_to_layers,
    Mul: mul_to_layers,
    Affine: affine_to_power,
    Power: power_to_layers,
    **dict.fromkeys(FUNCTION_LAYERS, function_to_layer),
    Elu: elu_to_layer,
    Softmax: softmax_to_layer,
    Split: split_to_slice,
    Concat: concat_to_layer,
    Reshape: reshape_to_layer,
    Unstack: unstack_to_slice,
    Stack: stack_to_concat,
    **LAYER_RULES,
}
KEPT: frozenset[type[Op]] = frozenset((Param, Arg))
