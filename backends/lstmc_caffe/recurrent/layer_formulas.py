"""How the core's recognition reads Caffe's own layers, those that are no core ops: as sums, products and numbers."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.ir import Node, Ref
from lstmc.ops import Op
from lstmc.patterns import CORE_FORMULAS, Columns, Formula, Place, Polynomial, Reading, multiplied
from lstmc_caffe import ops as caffe


def _eltwise(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    assert isinstance(node.op, caffe.Eltwise)
    if node.op.operation == "MAX":
        return None
    operands = [r.operand(ref, columns) for ref in args]
    if node.op.operation == "SUM":
        weights = node.op.coeff or (1.0,) * len(args)
        return sum((x.times(w) for x, w in zip(operands, weights, strict=True)), Polynomial())
    product: Polynomial | None = operands[0]
    for x in operands[1:]:
        product = None if product is None else multiplied(product, x)
    return product


def _bias(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else r.operand(args[0], columns) + small


def _scale(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else multiplied(r.operand(args[0], columns), small)


def _covering(r: Reading, node: Node, small: Ref, columns: Columns) -> Polynomial | None:
    """The second operand of a Bias or a Scale: over the last axis, or a number for each row of those before it."""
    assert isinstance(node.op, caffe.Bias | caffe.Scale)
    start, stop, rank = node.op.axis, node.op.axis + node.op.num_axes, node.types[0].rank
    place = r.at(small, columns if stop == rank else None)
    if r.place.where == "sequence" and start == 0 and stop:
        place = Place(small, place.columns, "sequence")
    if columns is None:
        return r.equations.at(place) if stop == rank else None
    return r.equations.at(place) if stop in (rank, rank - 1) or stop == start else None


def _power(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    op = node.op
    assert isinstance(op, caffe.PowerLayer)
    if op.power == 1:
        return r.operand(args[0], columns).times(op.scale) + Polynomial.constant(op.shift)
    return r.equations.function(r.place, op, r.at(args[0], columns))


def _dummy_data(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    assert isinstance(node.op, caffe.DummyData)
    return Polynomial.constant(node.op.value)


FORMULAS: Mapping[type[Op], Formula] = {
    **CORE_FORMULAS,
    caffe.Eltwise: _eltwise,
    caffe.Bias: _bias,
    caffe.Scale: _scale,
    caffe.PowerLayer: _power,
    caffe.DummyData: _dummy_data,
}
