"""x + y, x - y and x * y on matrices."""

from __future__ import annotations

from lstmc.errors import BackendError
from lstmc.ir import Builder, Node, Ref, is_weight
from lstmc.ops import Mul, Sub
from lstmc.ops.binary import covered_axes
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import as_matrix, matrix_at, viewed
from lstmc_caffe.rows.row_layers import RowLayers


def binary_to_eltwise(to: RowLayers, b: Builder, node: Node, args: Refs) -> Refs:
    shape = node.types[0].shape
    for value, other in (args, args[::-1]):
        fits = b.type(value).shape == shape and b.type(other).shape == shape[-1:]
        if fits and is_weight(b, other) and not is_weight(b, value):
            return _with_parameter(to, b, node, value, other, other == args[1])
    x, y = (to.value(b, ref) for ref in args)
    if b.type(x) != b.type(y):
        x, y = _spread(to, b, node, x, y)
    x = as_matrix(b, x)
    rows, columns = b.type(x).shape
    y = as_matrix(b, y, (rows, columns))
    if isinstance(node.op, Sub):
        (y,) = b.add(caffe.PowerLayer(scale=-1.0), y, names=(f"{node.name}/negated",), loc=node.loc)
    op = caffe.Eltwise("PROD" if isinstance(node.op, Mul) else "SUM")
    return (viewed(b, to.layer(b, node, op, x, y), shape, node.names),)


def _with_parameter(to: RowLayers, b: Builder, node: Node, x: Ref, p: Ref, second: bool) -> Refs:
    """x * p, x + p, x - p or p - x, where p is a parameter of x's last axis."""
    shape = node.types[0].shape
    rows = as_matrix(b, x, matrix_at(shape, len(shape) - 1))
    if isinstance(node.op, Mul):
        return (viewed(b, to.layer(b, node, caffe.Scale(1, 1, True), rows, p), shape, node.names),)
    matrix = matrix_at(shape, len(shape) - 1)
    term = to.ones_times(b, matrix, p, f"{node.name}/{b.node(p.node).name.rpartition('/')[2]}")
    if isinstance(node.op, Sub):
        negated = term if second else rows
        (negative,) = b.add(caffe.PowerLayer(scale=-1.0), negated, names=(f"{node.name}/negated",), loc=node.loc)
        term, rows = (negative, rows) if second else (term, negative)
    if b.node(rows.node).op == caffe.DummyData(matrix, 0.0):
        return (viewed(b, term, shape, node.names),)
    return (viewed(b, to.layer(b, node, caffe.Eltwise("SUM"), rows, term), shape, node.names),)


def _spread(to: RowLayers, b: Builder, node: Node, x: Ref, y: Ref) -> tuple[Ref, Ref]:
    """x and y as matrices of one shape: the smaller one is repeated by a Concat of itself."""
    shape = node.types[0].shape
    small, large = (y, x) if b.type(x).shape == shape else (x, y)
    start, stop = covered_axes(b.type(small).shape, shape) or (0, 0)
    if start == stop:  # one element
        matrix = matrix_at(shape, len(shape) - 1)
        axes, source = ([1] if matrix[0] == 1 else [1, 0]), (1, 1)
    elif start == 0:
        matrix = matrix_at(shape, stop)
        axes, source = [1], (matrix[0], 1)
    else:
        matrix = matrix_at(shape, start)
        axes, source = [0], (1, matrix[1])
    limits = [rule.bottoms_at_most for rule in to.target.rules_for("Concat") if rule.bottoms_at_most]
    limit = min(limits, default=max(matrix))
    if (start and stop < len(shape)) or any(matrix[axis] > limit for axis in axes):
        raise BackendError(
            f"{node.op.name}: target {to.target.name} cannot broadcast %{b.node(small.node).name} {b.type(small)} to"
            f" {node.types[0]}",
            loc=node.loc,
            notes=(f"expected a value of its first or of its last axes, repeated at most {limit} times",),
        )
    spread = as_matrix(b, small, source)
    name = f"{b.node(small.node).names[small.out]}/spread"
    for axis in axes:
        to.check_concat(node, axis)
        (spread,) = b.add(caffe.ConcatLayer(axis), *[spread] * matrix[axis], names=(name,), loc=node.loc)
    whole = as_matrix(b, large, matrix)
    return (whole, spread) if large == x else (spread, whole)
