"""Elements summed, repeated, picked or turned by products with fixed matrices, for targets that cannot cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.ops import Arg, Array, Binary, Linear, Max, Maximum, Param, Reshape, Split, Sum, Tile, Transpose, Values
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, result, rewrite

LARGEST = 2**20  # elements of a matrix: what needs a larger one stays as it is


@dataclass(frozen=True)
class FixedProducts(Pass):
    """Write what moves or adds elements within the rows of a value as a product with a fixed matrix of zeros and ones.

    A row is all that belongs to one index of the first axis, which is the batch in a scan's body.

    1. sum, split, transpose of x along later axes; tile of more than two axes => reshape(linear(x, M))
    2. x + y; also -, *, maximum; of more than two axes, where y covers the first one but not all others
                                                                              => x + reshape(linear(y, M))
    3. the largest of x along a later axis => the largest of its pieces, two at a time; each piece as of rule 1

    M is what the op makes of the rows of the identity: a parameter that is not trained.
    """

    name = "fixed_products"

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        matrices: dict[Values, Ref] = {}

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if isinstance(node.op, Scan):
                return _in_scan(b, node, node.op, args, matrices, counts)
            return _Products(b, matrices, counts).of_node(node, args)

        return result(graph, rewrite(graph, visit), counts)


@dataclass
class _Products:
    """Makes products in one graph that is being rebuilt; ``matrices`` are those that it has."""

    b: Builder
    matrices: dict[Values, Ref]
    counts: Counter[str]

    def of_node(self, node: Node, args: Refs) -> Refs | None:
        """Return the replacement of a node, or None to keep it."""
        shapes = [self.b.type(ref).shape for ref in args]
        match node.op:
            case Sum(axis) | Split(axis) | Transpose(axis) if axis > 0:
                pass
            case Tile(axis) if axis > 0 and len(shapes[0]) > 2:
                pass
            case Max(axis) if axis > 0:
                return self._largest(node, args[0], axis)
            case Binary() if len(node.types[0].shape) > 2:
                return self._spread(node, args, shapes)
            case _:
                return None
        (x,) = args
        if is_weight(self.b, x):
            return None
        rows = node.op.eval(_identity(shapes[0]))
        return self._products(x, rows, node, "moved")

    def _largest(self, node: Node, x: Ref, axis: int) -> Refs | None:
        """Of two that are equal, Maximum gives the gradient to the second: the first of them is the last operand."""
        size, shape = self.b.type(x).shape[axis], node.types[0].shape
        if size == 1 or is_weight(self.b, x):
            return None
        whole = _identity(self.b.type(x).shape)
        cut = [whole.take(i, axis=axis).reshape(len(whole), *shape[1:]) for i in range(size)]
        names = tuple(f"{node.name}/{i}" for i in range(size))
        pieces = self._products(x, cut, replace(node, names=names), "largest")
        if pieces is None:
            return None
        largest = pieces[-1]
        for i, piece in reversed(list(enumerate(pieces[:-1]))):
            called = node.names if i == 0 else (f"{node.name}/from_{i}",)
            (largest,) = self.b.add(Maximum(), largest, piece, names=called, loc=node.loc)
        return (largest,)

    def _spread(self, node: Node, args: Refs, shapes: list[tuple[int, ...]]) -> Refs | None:
        """A binary op whose smaller operand is made as large as the other."""
        large = node.types[0].shape
        operands = list(args)
        for slot, (ref, shape) in enumerate(zip(args, shapes, strict=True)):
            if shape == large or is_weight(self.b, ref):
                continue
            if len(shape) < len(large) or shape[0] != large[0]:
                return None  # every row has the same
            rows = np.broadcast_to(_identity(shape), (prod(shape[1:]), *large[1:]))
            product = self._products(ref, [rows], replace(node, names=(f"{node.name}/spread",)), "spread")
            if product is None:
                return None
            (operands[slot],) = product
        return self.b.copy(node, operands) if operands != list(args) else None

    def _products(self, x: Ref, arrays: list[Array] | tuple[Array, ...], node: Node, rule: str) -> Refs | None:
        """Write a linear map as products: each of ``arrays`` is its result for the rows of the identity; x is its
        operand.
        """
        if any(array.size > LARGEST for array in arrays):
            return None
        count = self.b.type(x).shape[0]
        results: list[Ref] = []
        for name, array in zip(node.names, arrays, strict=True):
            matrix = self.matrix(array.reshape(len(array), -1).T, f"{name}/ones")
            row = (f"{name}/rows",)
            (rows,) = self.b.add(Linear(1), x, matrix, names=row, loc=node.loc)
            results += self.b.add(Reshape((count, *array.shape[1:])), rows, names=(name,), loc=node.loc)
        self.counts[rule] += 1
        return tuple(results)

    def matrix(self, numbers: Array, name: str) -> Ref:
        """A fixed matrix, one for all places with the same numbers."""
        fill = Values.of(numbers)
        if fill not in self.matrices:
            self.matrices[fill] = self._new(fill, name)
        return self.matrices[fill]

    def _new(self, fill: Values, name: str) -> Ref:
        return self.b.add(Param(fill.shape, fill, 0.0, 0.0), names=(name,))[0]


class _ProductsInBody(_Products):
    """The same in a scan's body, where a matrix is an argument."""

    def _new(self, fill: Values, name: str) -> Ref:
        return self.b.add(Arg(fill.shape, "weight"), names=(name,))[0]


def _identity(shape: tuple[int, ...]) -> Array:
    """The identity matrix, each row of it in the shape of a row of a value."""
    size = prod(shape[1:])
    return np.eye(size).reshape(size, *shape[1:])


def _in_scan(b: Builder, node: Node, scan: Scan, args: Refs, matrices: dict[Values, Ref], counts: Counter[str]) -> Refs:
    inner = Rebuild(scan.body)
    products = _ProductsInBody(inner.builder, {}, counts)
    for old in scan.body:
        operands = inner.args(old)
        inner.put(old, products.of_node(old, operands) or inner.builder.copy(old, operands))
    body = inner.finish()
    outer = dict(zip([a.name for a in scan.body.body_args()], args, strict=True))
    outside = _Products(b, matrices, counts)
    for fill, ref in products.matrices.items():
        drawn = fill.draw(np.random.default_rng(0), fill.shape)
        outer[ref.node] = outside.matrix(drawn, f"{node.name}/{ref.node}")
    operands_outside = [outer[arg.name] for arg in body.body_args()]
    return b.add(replace(scan, body=body), *operands_outside, names=node.names, loc=node.loc)
