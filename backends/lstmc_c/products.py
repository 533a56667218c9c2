"""Products that a plan has in place of sums: of a product and a value, and of products with constants."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lstmc import ops
from lstmc.errors import ShapeError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref
from lstmc.loops import loop_code
from lstmc.loops.index import Shape, counter
from lstmc.loops.loop_code import Values
from lstmc.numerics.sequences import constants
from lstmc.ops import Linear
from lstmc.ops.base import Types
from lstmc.passes.base import Refs, rewrite
from lstmc.types import TensorType
from lstmc_c.turns import Written

MOVES = (*loop_code.MOVES, ops.Concat, ops.Dropout, ops.Precomputed, ops.Stack, ops.StopGradient, ops.Unstack)


@dataclass(frozen=True)
class Accumulated(Linear):
    """A product that is added to a value of its result's shape."""

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        return super().infer(x, w)


def accumulated(graph: Graph) -> Graph:
    """linear(x, W) + y => one product, for a constant W, if nothing else reads linear(x, W)."""
    fixed, values, readers = constants(graph), Values(graph, {}, MOVES), graph.readers()

    def read_once(ref: Ref) -> bool:
        while readers[ref] == 1 and values.moves(graph.node(ref.node)):
            (ref,) = graph.args(ref.node)
        return readers[ref] == 1

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, ops.Add):
            return None
        whole = counter(node.types[0].size)
        refs = graph.args(node.name)
        for ref, other, added in zip(refs, refs[::-1], args[::-1], strict=True):
            base, index = values.origin(ref)
            product = graph.node(base.node)
            operands = graph.args(product.name)
            same = graph.type(ref) == graph.type(other) == node.types[0]
            same = same and index == whole and graph.type(base).size == node.types[0].size
            constant = product.name in fixed or len(operands) != 2 or operands[1].node not in fixed
            if not same or constant or type(product.op) is not Linear:
                continue
            if other.node in fixed or values.origin(other)[0] == base or not read_once(ref):
                continue  # a bias is rounded like weights
            op = Accumulated(product.op.axis)
            if product.types == node.types:
                return b.add(op, *b.args(product.name), added, names=node.names, loc=product.loc)
            (added,) = b.add(ops.Reshape(product.types[0].shape), added)
            sums = b.add(op, *b.args(product.name), added, names=(f"{product.name}/sum",), loc=product.loc)
            return b.add(ops.Reshape(node.types[0].shape), *sums, names=node.names, loc=node.loc)
        return None

    return rewrite(graph, visit)


@dataclass(frozen=True)
class GroupedProduct(Written):
    """A product of each group with a matrix of its own: y[n, g, o] = sum of w[g, o, i] x[n, g, i]."""

    name = "grouped_linear"
    operands = ("x", "w")

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if (x.rank, w.rank) != (3, 3) or (x.shape[1], x.shape[2]) != (w.shape[0], w.shape[2]):
            raise ShapeError(f"{self.name}: x is {x}, w is {w}")
        return (TensorType((*x.shape[:2], w.shape[1]), x.dtype),)


@dataclass(frozen=True)
class _Groups:
    """The sizes of a product of groups; ``turned``: its matrices are [ins, outs]."""

    rows: int
    groups: int
    ins: int
    outs: int
    turned: bool

    @classmethod
    def of(cls, shape: Shape, axis: int, x: Shape, w: Shape) -> _Groups | None:
        """Return the sizes of a sum of x * w along an axis, from the stride of each operand along each axis of
        ``shape``; None for another sum, and for one of vectors, which gains nothing."""
        axes = [at for at, size in enumerate(shape) if size > 1 and at != axis]
        kinds = [(bool(x[at]), bool(w[at])) for at in axes]
        order = ((True, False), (True, True), (False, True))
        if not {*kinds} <= {*order} or sorted(kinds, key=order.index) != kinds:
            return None
        parts = [[at for at, kind in zip(axes, kinds, strict=True) if kind == each] for each in order]
        rows, groups, outs = (prod(shape[at] for at in part) for part in parts)
        ins = shape[axis]
        of_x = [*parts[0], *parts[1], axis]
        of_w = [[*parts[1], *last] for last in ([*parts[2], axis], [axis, *parts[2]])]
        dense = [at for at, one in enumerate(of_w) if _dense(shape, one, w)]
        if outs == 1 or not dense or not _dense(shape, of_x, x):
            return None
        return cls(rows, groups, ins, outs, dense[0] == 1)


def _dense(shape: Shape, axes: list[int], strides: Shape) -> bool:
    """Return whether the elements along these axes, the last one innermost, are contiguous."""
    return all(strides[at] == prod(shape[inner] for inner in axes[place + 1 :]) for place, at in enumerate(axes))


def grouped(graph: Graph) -> Graph:
    """sum(x * W) => a product of each group, for a constant W. It is a linear layer of groups, written as an einsum
    such as "ngi,gio->ngo", as products of a batch of matrices, or as it is here."""
    fixed, readers = constants(graph), graph.readers()
    values = Values(graph, {}, (ops.Reshape, ops.Tile, ops.StopGradient))
    rebuild = Rebuild(graph)

    def product_of(node: Node) -> Refs | None:
        """Return the product in place of a sum."""
        if not isinstance(node.op, ops.Sum) or node.name in fixed:
            return None
        (ref,) = graph.args(node.name)
        both = graph.node(ref.node)
        if not isinstance(both.op, ops.Mul) or readers[ref] > 1:
            return None
        (w, of_w), (x, of_x) = sorted(values.reads(both), key=lambda read: read[0].node not in fixed)
        shape = both.types[0].shape
        at_x, at_w = of_x.strides(shape), of_w.strides(shape)
        if x.node in fixed or w.node not in fixed or at_x is None or at_w is None:
            return None
        g = _Groups.of(shape, node.op.axis, at_x, at_w)
        if g is None or graph.type(x).size * g.outs != graph.type(w).size * g.rows or of_x.offset or of_w.offset:
            return None
        b = rebuild.builder
        (rows,) = b.add(ops.Reshape((g.rows, g.groups, g.ins)), rebuild.new[x])
        matrices = (g.groups, g.ins, g.outs) if g.turned else (g.groups, g.outs, g.ins)
        (matrix,) = b.add(ops.Reshape(matrices), rebuild.new[w], names=(f"{node.name}/matrices",))
        if g.turned:
            (matrix,) = b.add(ops.Transpose(1), matrix, names=(f"{node.name}/turned",))
        (sums,) = b.add(GroupedProduct(), rows, matrix, names=(f"{node.name}/groups",), loc=node.loc)
        return b.add(ops.Reshape(node.types[0].shape), sums, names=node.names, loc=node.loc)

    for node in graph:
        found = product_of(node)
        if found is None:
            rebuild.copy(node)
        else:
            rebuild.put(node, found)
    return rebuild.finish()
