"""Core ops to Caffe layers on matrices, for targets whose blobs have two axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Ref, Scan, Stage, is_weight, is_weight_op
from lstmc.ops import (
    Accuracy,
    Add,
    Affine,
    AvePool,
    Concat,
    Conv,
    Dropout,
    Elu,
    Embed,
    EuclideanLoss,
    Full,
    Input,
    Linear,
    MaxPool,
    Mul,
    Op,
    Power,
    Reshape,
    SigmoidCrossEntropyLoss,
    Softmax,
    SoftmaxLoss,
    Split,
    Stack,
    Sub,
    Sum,
    Unstack,
)
from lstmc.passes import Pass, PassResult, Refs, in_bodies, rewrite
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import packing_nodes
from lstmc_caffe.legalize.legalize import KEPT
from lstmc_caffe.legalize.pointwise import FUNCTION_LAYERS, LARGEST_PRODUCT
from lstmc_caffe.rows.layout import as_matrix, matrix_at, viewed
from lstmc_caffe.rows.row_binary import binary_to_eltwise
from lstmc_caffe.rows.row_layers import RowLayers
from lstmc_caffe.rows.time_axis import RowsTimeAxis
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class LegalizeRows(Pass):
    """Write every core op as layers on matrices, as the target's rules have it.

    1. input                            => an array of the host; blobs are fed from it
    2. linear on parameters             => InnerProduct with axis 1, of the matrix whose columns are the flattened axes
    3. x + y, x * y of one shape        => Eltwise of two bottoms; x - y => x + Power(y) with scale -1
    4. x * p, p a parameter of x's last axis => Scale of its own blob
    5. x + p, likewise                  => Eltwise SUM of x and a Scale of ones
    6. a parameter read as a value      => Scale of ones
       x + y, x * y broadcast, computed => Concat of the smaller one with itself, then rule 3
    7. split, concat on axis k          => Slice, Concat on axis 1 of the matrix whose columns begin at k; on axis 0
    8. affine; power                    => Power (a whole power from 3 to 8: Eltwise PROD, two bottoms at a time)
    9. sigmoid tanh relu elu abs exp log softmax => the layer of that name
    10. full                            => a constant, for ``constants`` to find an expression for
    11. reshape; unstack; stack         => a view; rows of the matrix
    12. dropout(x)                      => x

    Refused: a linear whose matrix or bias is computed, a broadcast along inner axes or of more than 1000 times, and
    what the target has no layer for: embed, conv, pooling, sums, losses and accuracy.
    """

    name = "legalize_rows"
    after = Stage.LEGAL
    target: Target

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return PassResult(_Legalizer(RowLayers(self.target), counts).legalized(graph), True, dict(counts))


@dataclass(frozen=True)
class _Legalizer:
    layers: RowLayers
    counts: Counter[str]

    def legalized(self, graph: Graph) -> Graph:
        packing = packing_nodes(graph)

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if isinstance(node.op, Scan):
                scan = in_bodies(node.op, self.legalized)
                values = [ref if scan.role(i) == "weight" else self.layers.value(b, ref) for i, ref in enumerate(args)]
                return b.add(scan, *values, names=node.names, loc=node.loc)
            if type(node.op) in KEPT or isinstance(node.op, caffe.CaffeOp) or node.name in packing:
                return None
            if not self.layers.target.allows("Slice") and is_weight_op(node.op) and all(is_weight(b, a) for a in args):
                return None  # a piece of a parameter is a blob: there is no layer to cut its value
            rule = RULES.get(type(node.op))
            if rule is None:
                raise BackendError(f"Caffe has no layer for {node.op.name}", loc=node.loc)
            self.counts[rule.__name__] += 1
            return rule(self.layers, b, node, args)

        rebuilt = rewrite(graph, visit)
        b = Builder(rebuilt.name, rebuilt)
        new: dict[Ref, Ref] = {}
        for node in rebuilt:
            made = b.copy(node, [new[ref] for ref in rebuilt.args(node.name)])
            new.update((Ref(node.name, i), ref) for i, ref in enumerate(made))
        return b.finish([(o.name, self.layers.value(b, new[o.ref])) for o in rebuilt.outputs])


Rule = Callable[[RowLayers, Builder, Node, Refs], Refs]


def input_of_host(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Input)
    return b.add(caffe.HostInput(node.op.shape, node.op.fill), names=node.names, loc=node.loc)


def full_to_constant(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Full)
    shape = node.op.shape
    made = b.add(caffe.DummyData(matrix_at(shape, len(shape) - 1), node.op.value), names=node.names, loc=node.loc)
    return (viewed(b, made[0], shape, node.names),)


def linear_to_inner_product(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Linear)
    x, *params = args
    for ref, what in zip(params, ("matrix", "bias"), strict=False):
        if not is_weight(b, ref):
            raise BackendError(
                f"linear: for target {to.target.name} the {what} must be a Param",
                loc=node.loc,
                notes=(
                    f"found {b.node(ref.node).names[ref.out]}: {b.type(ref)}, computed by {b.node(ref.node).op.name}",
                ),
            )
    out = node.types[0].shape
    rows = as_matrix(b, to.value(b, x), matrix_at(b.type(x).shape, node.op.axis))
    product = to.layer(b, node, caffe.InnerProduct(1, out[-1], len(params) == 2), rows, *params)
    return (viewed(b, product, out, node.names),)


def on_elements(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    match node.op:
        case Affine(scale, shift):
            layer: Op = caffe.PowerLayer(1.0, scale, shift)
        case Power(exponent):
            layer = caffe.PowerLayer(exponent)
        case Elu(alpha):
            layer = caffe.ELULayer(alpha)
        case op:
            layer = FUNCTION_LAYERS[type(op)]
    rows = as_matrix(b, to.value(b, args[0]))
    if isinstance(node.op, Power) and node.op.exponent in range(3, LARGEST_PRODUCT + 1):
        power = rows
        for _ in range(int(node.op.exponent) - 1):
            power = to.layer(b, node, caffe.Eltwise("PROD"), power, rows)
        return (viewed(b, power, node.types[0].shape, node.names),)
    return (viewed(b, to.layer(b, node, layer, rows), node.types[0].shape, node.names),)


def softmax_to_layer(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Softmax)
    shape = node.types[0].shape
    if node.op.axis != len(shape) - 1:
        raise BackendError(
            f"softmax: for target {to.target.name} it must be along the last axis, found axis {node.op.axis} of"
            f" {node.types[0]}",
            loc=node.loc,
        )
    rows = as_matrix(b, to.value(b, args[0]), matrix_at(shape, len(shape) - 1))
    return (viewed(b, to.layer(b, node, caffe.SoftmaxLayer(1), rows), shape, node.names),)


def split_to_slice(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Split)
    to.check_type("Slice", node)
    axis, shape = node.op.axis, b.type(args[0]).shape
    inner = prod(shape[axis + 1 :]) if axis else 1
    rows = as_matrix(b, to.value(b, args[0]), matrix_at(shape, axis or 1))
    sizes = tuple(size * inner for size in node.op.sizes)
    pieces = b.add(caffe.SliceLayer(min(axis, 1), sizes), rows, names=node.names, loc=node.loc)
    return tuple(viewed(b, p, t.shape, (f"{n}/view",)) for p, t, n in zip(pieces, node.types, node.names, strict=True))


def concat_to_layer(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Concat)
    axis = node.op.axis
    to.check_concat(node, min(axis, 1))
    rows = [as_matrix(b, to.value(b, ref), matrix_at(b.type(ref).shape, axis or 1)) for ref in args]
    return (viewed(b, to.layer(b, node, caffe.ConcatLayer(min(axis, 1)), *rows), node.types[0].shape, node.names),)


def reshape_to_view(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    assert isinstance(node.op, Reshape)
    return (viewed(b, to.value(b, args[0]), node.op.shape, node.names),)


def unstack_to_rows(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    return RowsTimeAxis(to.target).unstack(b, to.value(b, args[0]), node.names)


def stack_to_rows(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    return (RowsTimeAxis(to.target).stack(b, [to.value(b, ref) for ref in args], node.name),)


def dropout_to_nothing(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    value = to.value(b, args[0])
    return (viewed(b, value, node.types[0].shape, node.names),)


# The layers that an op would need, which no target of rows has.
WITHOUT_LAYERS: dict[type[Op], str] = {
    Embed: "Embed",
    Conv: "Convolution",
    MaxPool: "Pooling",
    AvePool: "Pooling",
    Sum: "Reduction",
    SoftmaxLoss: "SoftmaxWithLoss",
    SigmoidCrossEntropyLoss: "SigmoidCrossEntropyLoss",
    EuclideanLoss: "EuclideanLoss",
    Accuracy: "Accuracy",
}


def refused(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    to.check_type(WITHOUT_LAYERS[type(node.op)], node)
    raise AssertionError(f"target {to.target.name} has {WITHOUT_LAYERS[type(node.op)]}, and no rule for it")


RULES: dict[type[Op], Rule] = {
    Input: input_of_host,
    Full: full_to_constant,
    Linear: linear_to_inner_product,
    **dict.fromkeys((Add, Sub, Mul), binary_to_eltwise),
    **dict.fromkeys((Affine, Power, Elu, *FUNCTION_LAYERS), on_elements),
    Softmax: softmax_to_layer,
    Split: split_to_slice,
    Concat: concat_to_layer,
    Reshape: reshape_to_view,
    Unstack: unstack_to_rows,
    Stack: stack_to_rows,
    Dropout: dropout_to_nothing,
    **dict.fromkeys(WITHOUT_LAYERS, refused),
}
