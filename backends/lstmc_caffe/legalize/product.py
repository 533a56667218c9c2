"""Products and sums of two operands: by matrix, by element, and broadcast along axes."""

from __future__ import annotations

from math import prod

from lstmc.ir import NEGATE, Builder, Node, Ref, is_weight, reshaped
from lstmc.ops import Add, Concat, Linear, Maximum, Mul, Op, Reshape, Sub, Transpose
from lstmc.ops.pointwise import covered_axes
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.blobs import LegalizeRule, as_value, layer_of


def linear_to_inner_product(b: Builder, node: Node[Linear], args: Refs) -> Refs:
    return _product(b, node, args, tied=True)


def linear_to_inner_product_untrained(b: Builder, node: Node[Linear], args: Refs) -> Refs:
    """Write InnerProduct for a net that is not trained: a transposed parameter is a separate blob."""
    return _product(b, node, args, tied=False)


def _product(b: Builder, node: Node[Linear], args: Refs, tied: bool) -> Refs:
    """Write an InnerProduct. With ``tied``, the layer of a transposed parameter uses the parameter's own blob."""
    x, w, *bias = args
    out = node.types[0].shape[-1]
    if not is_weight(b, w):
        return _product_of_elements(b, node, args)
    layer: type[caffe.InnerProduct | caffe.TransposedInnerProduct] = caffe.InnerProduct
    if tied and isinstance(b.node(w.node).op, Transpose):
        (w,), layer = b.args(w.node), caffe.TransposedInnerProduct
    if bias and not is_weight(b, bias[0]):
        product = b.add(layer(node.op.axis, out, False), as_value(b, x), w, loc=node.loc)
        return layer_of(b, node, caffe.Bias(axis=node.op.axis), *product, bias[0])
    return layer_of(b, node, layer(node.op.axis, out, bool(bias)), x, learned=(w, *bias))


def _product_of_elements(b: Builder, node: Node[Linear], args: Refs) -> Refs:
    """Write the product with a computed matrix: a copy of x for each row of the matrix, times the row, summed."""
    x, w, *bias = args
    out, width = b.type(w).shape
    *lead, _ = node.types[0].shape
    copies = caffe.ReshapeLayer((prod(lead), 1, width)), caffe.TileLayer(1, out)
    x = as_value(b, x)
    for op in copies:
        (x,) = b.add(op, x, loc=node.loc)
    scaled = b.add(caffe.Scale(axis=1, num_axes=2), x, as_value(b, w), loc=node.loc)
    sums = b.add(caffe.Reduction(2), *scaled, loc=node.loc)
    shape = caffe.ReshapeLayer((*lead, out))
    if not bias:
        return layer_of(b, node, shape, *sums)
    product = b.add(shape, *sums, loc=node.loc)
    return layer_of(b, node, caffe.Bias(axis=len(lead)), *product, bias[0])


def add_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Write x + y: as a Bias if one operand is a parameter or is broadcast, otherwise as an Eltwise SUM."""
    if b.type(args[0]) != b.type(args[1]):
        return _broadcast(b, node, caffe.Bias, args)
    for value, weight in (args, args[::-1]):
        if is_weight(b, weight) and not is_weight(b, value):
            bias = caffe.Bias(axis=0, num_axes=len(node.types[0].shape), learned=True)
            return layer_of(b, node, bias, value, learned=(weight,))
    return layer_of(b, node, caffe.Eltwise("SUM"), *args)


def sub_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    """Write x - y as an Eltwise SUM with coeff, or as a Bias of -y if y is broadcast."""
    if b.type(args[0]) == b.type(args[1]):
        return layer_of(b, node, caffe.Eltwise("SUM", (1.0, -1.0)), *args)
    negated = b.add(caffe.PowerLayer(scale=-1.0), as_value(b, args[1]), loc=node.loc)
    return _broadcast(b, node, caffe.Bias, (args[0], *negated))


def mul_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    if b.type(args[0]) != b.type(args[1]):
        return _broadcast(b, node, caffe.Scale, args)
    return layer_of(b, node, caffe.Eltwise("PROD"), *args)


def maximum_to_layers(b: Builder, node: Node, args: Refs) -> Refs:
    shape = node.types[0].shape
    whole = [ref if b.type(ref).shape == shape else _repeated(b, node, ref, shape) for ref in args]
    return layer_of(b, node, caffe.Eltwise("MAX"), *whole)


def _repeated(b: Builder, node: Node, small: Ref, shape: tuple[int, ...]) -> Ref:
    """Return ``small`` broadcast to ``shape``: zeros plus ``small``, by a Bias."""
    (zeros,) = b.add(caffe.DummyData(shape), names=(f"{node.name}/zeros",), loc=node.loc)
    op, operands = _covering(b, node, caffe.Bias, zeros, small)
    return b.add(op, *operands, names=(f"{node.name}/repeated",), loc=node.loc)[0]


def sub_to_layers_untrained(b: Builder, node: Node, args: Refs) -> Refs:
    """Write x - p as x + (-p), with the negated parameter as blob, so that other layers may have p as a blob."""
    x, p = args
    if is_weight(b, x) or not is_weight(b, p):
        return sub_to_layers(b, node, args)
    return add_to_layers_untrained(b, node, (x, *b.add(NEGATE, p, names=(f"{b.node(p.node).names[p.out]}/negated",))))


def add_to_layers_untrained(b: Builder, node: Node, args: Refs) -> Refs:
    if b.type(args[0]) != b.type(args[1]):
        return _broadcast(b, node, caffe.Bias, args, trained=False)
    return add_to_layers(b, node, args)


def mul_to_layers_untrained(b: Builder, node: Node, args: Refs) -> Refs:
    """Write x * y as a Scale if one operand is a parameter or is broadcast, otherwise as an Eltwise PROD."""
    if b.type(args[0]) != b.type(args[1]):
        return _broadcast(b, node, caffe.Scale, args, trained=False)
    for value, weight in (args, args[::-1]):
        if is_weight(b, weight) and not is_weight(b, value) and b.type(value).rank:
            return layer_of(b, node, caffe.Scale(0, b.type(value).rank, True), value, learned=(weight,))
    return mul_to_layers(b, node, args)


def _broadcast(b: Builder, node: Node, layer: type[caffe.Bias | caffe.Scale], args: Refs, trained: bool = True) -> Refs:
    """Combine x and y by a Bias or Scale, which broadcasts the smaller operand to the shape of the larger operand."""
    x, y = args
    large, small = (x, y) if b.type(x) == node.types[0] else (y, x)
    op, (large, small) = _covering(b, node, layer, large, small, trained)
    return b.add(op, as_value(b, large), small, names=node.names, loc=node.loc)


def _covering(
    b: Builder, node: Node, layer: type[caffe.Bias | caffe.Scale], large: Ref, small: Ref, trained: bool = True
) -> tuple[caffe.Bias | caffe.Scale, Refs]:
    """Return a Bias or Scale of two operands, and the operands in the shapes that the layer needs. ``small``, if it is
    a parameter, becomes the layer's learned blob where its shape and its gradient allow that."""
    covered = covered_axes(b.type(small).shape, b.type(large).shape)
    assert covered is not None
    start, stop = covered
    of_parameters = is_weight(b, small)
    if start == stop and of_parameters and not trained and b.type(large).rank:  # one number: a blob for the last axis
        start, stop = b.type(large).rank - 1, b.type(large).rank
        small = _row_of_equal(b, small, b.type(large).shape[-1])
    elif start == stop:  # one element: let it cover an axis of its own length, or be a bottom without axes
        start, stop = (0, 1) if b.type(large).shape[:1] == (1,) else (0, 0)
    shape = b.type(large).shape[start:stop]
    if of_parameters and not trained and shape != ():
        small = _reshaped_blob(b, small, shape)
    # A Scale whose blob covers x from its first axis on, or after axes of size 1 alone, overwrites the blob's gradient
    # where it should add to it (scale_layer.cpp, Backward_cpu: is_eltwise, outer_dim_ == 1): what other layers
    # and other steps gave would be lost.
    summed = layer is caffe.Bias or not trained or prod(b.type(large).shape[:start]) > 1
    learned = of_parameters and b.type(small).shape == shape != () and summed
    if not learned:
        small = reshaped(b, as_value(b, small), caffe.ReshapeLayer(shape), loc=node.loc)
    return layer(axis=start, num_axes=stop - start, learned=learned), (large, small)


def _row_of_equal(b: Builder, number: Ref, count: int) -> Ref:
    one = _reshaped_blob(b, number, (1,))
    if count == 1:
        return one
    return b.add(Concat(0), *(one,) * count, names=(f"{b.node(number.node).names[number.out]}/row",))[0]


def _reshaped_blob(b: Builder, blob: Ref, shape: tuple[int, ...]) -> Ref:
    if b.type(blob).shape == shape:
        return blob
    return b.add(Reshape(shape), blob, names=(f"{b.node(blob.node).names[blob.out]}/flat",))[0]


RULES: dict[type[Op], LegalizeRule] = {
    Linear: linear_to_inner_product,
    Add: add_to_layers,
    Sub: sub_to_layers,
    Mul: mul_to_layers,
    Maximum: maximum_to_layers,
}
# Where no gradient is asked for.
UNTRAINED_RULES: dict[type[Op], LegalizeRule] = {
    Linear: linear_to_inner_product_untrained,
    Add: add_to_layers_untrained,
    Sub: sub_to_layers_untrained,
    Mul: mul_to_layers_untrained,
}
