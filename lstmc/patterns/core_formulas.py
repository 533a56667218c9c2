"""Formulas of the core ops: some columns of a node, from the formulas of its operands."""

from __future__ import annotations

from collections.abc import Mapping

from lstmc.ir import Graph, Node, Ref
from lstmc.ops import Add, Affine, Concat, Full, Linear, Mul, Op, Pointwise, Reshape, Split, Sub
from lstmc.patterns.equations import Formula, Reading, part_of, piece_of
from lstmc.patterns.polynomial import MOST_TERMS, Columns, Place, Polynomial


def _add(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    return r.aligned(args[0], node, columns) + r.aligned(args[1], node, columns)


def _sub(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    return r.aligned(args[0], node, columns) - r.aligned(args[1], node, columns)


def _mul(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    return multiplied(r.aligned(args[0], node, columns), r.aligned(args[1], node, columns))


def multiplied(x: Polynomial, y: Polynomial) -> Polynomial | None:
    """The product; None where it would be too long to be a formula of a cell."""
    return x * y if len(x) * len(y) <= MOST_TERMS else None


def _affine(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    assert isinstance(node.op, Affine)
    return r.operand(args[0], columns).scaled(node.op.scale) + Polynomial.constant(node.op.shift)


def _full(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    assert isinstance(node.op, Full)
    return Polynomial.constant(node.op.value)


def _function(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    return r.equations.function(r.place, node.op, r.at(args[0], columns))


def _split(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    if columns is None:
        return None
    part = part_of(r.graph, r.place.ref, columns, node.types[0].rank - 1)
    return None if part is None else r.operand(*part)


def _concat(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    if columns is None or not isinstance(node.op, Concat) or node.op.axis != node.types[0].rank - 1:
        return None
    piece = piece_of(r.graph, node, columns, node.op.axis)
    return None if piece is None else r.operand(*piece)


def _reshape(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Read through a reshape that only adds or removes axes of 1: leading ones, or the last one of a number for each
    row.
    """
    before, after = r.graph.type(args[0]).shape, node.types[0].shape
    for one, other in ((before, after), (_without_ones(before), _without_ones(after))):
        if columns is not None and other == (*one, 1):
            return r.equations.at(Place(args[0], None, r.place.where))
        if columns is None and one == (*other, 1):
            return r.equations.at(Place(args[0], (0, 1), r.place.where))
    same = _without_ones(before) == _without_ones(after)
    return r.equations.at(Place(args[0], columns, r.place.where)) if same else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without its first axes of 1; the last axis stays."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _linear(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Return the sum of the products of each piece of a concatenated operand."""
    assert isinstance(node.op, Linear)
    if columns is None:
        return None
    x, w, *bias = args
    total = Polynomial.constant(0)
    width = r.graph.type(w).shape[1]
    last = node.op.axis == r.graph.type(x).rank - 1
    for piece, span in _joined(r.graph, x) if last else [(x, (0, width))]:
        matrix = r.equations.matrix(w, r.place.where, columns, span)
        if matrix is None:
            return None
        of = r.at(piece, (0, span[1] - span[0]) if last else None)
        total += Polynomial.atom(r.equations.product(r.place, matrix, of))
    for b in bias:
        total += r.operand(b, columns)
    return total


def _joined(graph: Graph, x: Ref) -> list[tuple[Ref, tuple[int, int]]]:
    """The pieces that a value is joined of along its last axis, and which columns each is."""
    node = graph.node(x.node)
    pieces = graph.args(x.node) if isinstance(node.op, Concat) and node.op.axis == graph.type(x).rank - 1 else (x,)
    bounds, start = [], 0
    for piece in pieces:
        stop = start + graph.type(piece).shape[-1]
        bounds.append((piece, (start, stop)))
        start = stop
    return bounds


CORE_FORMULAS: Mapping[type[Op], Formula] = {
    Add: _add,
    Sub: _sub,
    Mul: _mul,
    Affine: _affine,
    Full: _full,
    Pointwise: _function,
    Split: _split,
    Concat: _concat,
    Reshape: _reshape,
    Linear: _linear,
}
