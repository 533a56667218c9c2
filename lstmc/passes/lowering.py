"""Lowering: replace ops that a target lacks by ops that it has. A formula of other ops is the simplest way to bring an
op of a package to every target. For targets that cannot split, each piece of a split value is a separate matrix
product. For targets that cannot cut at all, products with fixed matrices sum, repeat, pick or exchange elements."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from lstmc import ops
from lstmc.ir import Builder, Graph, GraphValue, Node, Ref, Scan, is_weight, places_of
from lstmc.ops import Array, Binary, Op, Pointwise, Values
from lstmc.passes.base import NodePass, Refs, Visit, graph_pass, rewrite, with_bodies
from lstmc.passes.loop_motion import Hoist

__all__ = ["Decompose", "FixedArrays", "fixed_products", "split_products"]


@dataclass(frozen=True)
class Decompose(NodePass):
    """Base of passes that replace an op of the class ``op`` by a formula of other ops.

    The formula gets the op, for its attributes, and the op's operands. Like a ``vjp`` it uses ``+ - * /``, ``.shape``
    and :func:`lstmc.ops.applied`, and returns the op's result, or a tuple of all results.
    """

    op: ClassVar[type[Op]]

    # Overrides name the op and its operands, as those of Op.eval do; hence Any here.
    @abstractmethod
    def formula(self, *args: Any, **kwargs: Any) -> Any:
        """Return the results of the op (the first argument) from its operands, in the shapes of the op's results."""

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        if type(node.op) is not self.op:
            return None
        counts["decompose"] += 1
        formula = self.formula(node.op, *(GraphValue(b, ref, node.name, node.loc) for ref in args))
        results = formula if isinstance(formula, tuple) else (formula,)
        refs = tuple(value.ref for value in results)
        assert tuple(map(b.type, refs)) == node.types, f"the formula of {self.name} gives other shapes"
        return refs


@dataclass
class FixedArrays:
    """The fixed arrays of a graph being rebuilt, each once: untrained parameters, or arguments if ``of_body``."""

    of_body: bool = False
    refs: dict[Values, Ref] = field(default_factory=dict)

    def add(self, b: Builder, array: Array, name: str) -> Ref:
        """Return the parameter, or in a body the argument, that has this array. A new one is called ``name``."""
        fill = Values.of(array)
        if fill not in self.refs:
            op = ops.Arg(fill.shape, "weight") if self.of_body else ops.Param(fill.shape, fill, 0.0, 0.0)
            (self.refs[fill],) = b.add(op, names=(name,))
        return self.refs[fill]


def with_arrays(
    graph: Graph, visit_of: Callable[[Graph, FixedArrays], Visit], of_body: bool = False
) -> tuple[Graph, FixedArrays]:
    """Return the graph rewritten by ``visit_of(graph, arrays)``, with each scan's body rewritten by a visit of its own,
    and the fixed arrays that the graph reads."""
    arrays = FixedArrays(of_body)
    visit_here = visit_of(graph, arrays)

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        """Rewrite the body of a scan, and pass it the fixed arrays that it reads as weights. Visit any other node."""
        if not isinstance(node.op, Scan):
            return visit_here(b, node, args)
        body, read = with_arrays(node.op.body, visit_of, True)
        outer = dict(zip(node.op.body.arguments(), args, strict=True))
        for fill, ref in read.refs.items():
            array = fill.draw(np.random.default_rng(0), fill.shape)
            outer[ref.node] = arrays.add(b, array, f"{node.name}/{ref.node}")
        return b.copy(node, [outer[arg.name] for arg in body.body_args()], replace(node.op, body=body))

    return rewrite(graph, visit), arrays


Cut = tuple[Ref, int, tuple[int, ...]]  # a value, the axis along which it is cut, and the sizes


@graph_pass(before_peel=True)
def split_products(graph: Graph, counts: Counter[str]) -> Graph:
    """Move splits up to the weights, in the model and in every scan body.

    1. split(f(x))                => f(split(x)[0]), f(split(x)[1]), ...
    2. split(x + y)               => split(x)[0] + split(y)[0], ...; also for - and *, and for a parameter of the
                                     axis that is cut
    3. split(linear(x, W, b))     => linear(x, split(W)[0], split(b)[0]), ...
    4. split of a weight          => a weight: the blobs are pieces of the user's parameter

    The reverse of ``fuse_linears``, which is then left out.
    """

    def split(part: Graph) -> Graph:
        return rewrite(part, _Pieces(counts).of_node)

    return Hoist(of_parameters=True).run(split(with_bodies(graph, split))).graph


class _Pieces:
    """Cuts values of a graph under construction by cutting the operands that compute them. Each cut is made once."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.pieces: dict[Cut, Refs] = {}

    def of_node(self, b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the replacement of a split, or None to keep it."""
        self.b = b
        if not isinstance(node.op, ops.Split) or len(node.types) == 1 or is_weight(self.b, args[0]):
            return None
        return self._pieces(args[0], node.op.axis, node.op.sizes, node.names)

    def _pieces(self, ref: Ref, axis: int, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs | None:
        """Return the pieces of a value, from an earlier equal cut if there is one; None if its op cannot be cut."""
        cut = (ref, axis, sizes)
        if cut not in self.pieces:
            if (pieces := self._cut(ref, axis, sizes, names)) is None:
                return None
            self.pieces[cut] = pieces
        return self.pieces[cut]

    def _cut(self, ref: Ref, axis: int, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs | None:
        """Return the pieces of a value, each computed from pieces of the operands. Return None if the op is neither a
        product nor elementwise, or if an operand cannot be cut."""
        node, args = self.b.node(ref.node), self.b.args(ref.node)
        if not isinstance(node.op, ops.Linear | Pointwise | Binary):
            return None
        types = [self.b.type(arg) for arg in args]
        places = zip(args, types, places_of(node.op, axis, types), strict=True)
        cut = [(arg, None if place is None or type_.shape[place] == 1 else place) for arg, type_, place in places]
        if not all(self._can_be_cut(node, arg, place) for arg, place in cut):
            return None
        parts = [self._operand(arg, place, sizes, names) for arg, place in cut]
        self.counts["linear_per_piece" if isinstance(node.op, ops.Linear) else "function_per_piece"] += 1
        named = zip(names, *parts, strict=True)
        return tuple(self.b.add(node.op, *operands, names=(name,), loc=node.loc)[0] for name, *operands in named)

    def _can_be_cut(self, node: Node, arg: Ref, place: int | None) -> bool:
        """Return whether an operand can be cut along its axis ``place``. With ``place`` None all pieces read the whole
        operand; a weight is cut along axis 0 only."""
        if place is None or is_weight(self.b, arg):
            return not place
        return not isinstance(node.op, ops.Linear) and self.b.type(arg) == node.types[0]

    def _operand(self, arg: Ref, place: int | None, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs:
        """Return what each piece of the result reads: a piece of ``arg``, or ``arg`` itself if ``place`` is None."""
        if place is None:
            return (arg,) * len(sizes)
        if is_weight(self.b, arg):
            return self._weight(arg, place, sizes)
        operand = self.b.node(arg.node)
        pieces = self._pieces(arg, place, sizes, tuple(f"{name}/{operand.name}" for name in names))
        return pieces or self.b.add(ops.Split(place, sizes), arg, names=(f"{operand.names[arg.out]}/piece",))

    def _weight(self, ref: Ref, axis: int, sizes: tuple[int, ...]) -> Refs:
        """Return the pieces of a weight, which a Split of the weight computes once."""
        cut = (ref, axis, sizes)
        if cut not in self.pieces:
            name = self.b.node(ref.node).names[ref.out]
            names = [f"{name}/{i}" for i in range(len(sizes))]
            self.pieces[cut] = self.b.add(ops.Split(axis, sizes), ref, names=names)
        return self.pieces[cut]


LARGEST = 2**20  # elements of a matrix: an op that needs a larger matrix stays


@graph_pass(before_peel=True)
def fixed_products(graph: Graph, counts: Counter[str]) -> Graph:
    """Write ops that move or add elements within the rows of a value as products with fixed matrices of zeros and ones.

    A row has all elements of one index of the first axis, which is the batch in a scan's body.

    1. sum, split, transpose of x along later axes; tile of more than two axes => reshape(linear(x, M))
    2. x + y; also -, *, maximum; of more than two axes, where y covers the first one but not all others
                                                                              => x + reshape(linear(y, M))
    3. the largest of x along a later axis => the largest of its pieces, two at a time; each piece by rule 1
    4. linear(x, W, b) of several vectors in each row => reshape(linear(x, M, b for each of them)), where M has W on its
       diagonal, and zeros elsewhere
    5. concat of several vectors in each row => reshape(linear(concat(x, y, ...), M))

    M is the op's result for the rows of the identity: a parameter that is not trained, or the pieces of W. Rules 4 and
    5 hold in a step, which is a scan's body or a graph without a scan, unless it has a softmax of several vectors in
    each row, whose layer reads them as rows.
    """
    return with_arrays(graph, lambda part, fixed: _Products(fixed, counts, _has_whole_rows(part)).of_node)[0]


def _has_whole_rows(step: Graph) -> bool:
    return not any(isinstance(n.op, Scan) or (isinstance(n.op, ops.Softmax) and n.types[0].rank > 2) for n in step)


@dataclass
class _Products:
    """Replaces ops of a graph that is being rebuilt by products with fixed matrices."""

    fixed: FixedArrays
    counts: Counter[str]
    whole_rows: bool  # whether every value may have a row for each index of its first axis

    def of_node(self, b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the replacement of a node, or None to keep it. An op that only moves or adds elements becomes a
        product with a matrix: the op's results for the rows of the identity."""
        self.b = b
        shapes = [self.b.type(ref).shape for ref in args]
        match node.op:
            case ops.Sum(axis) | ops.Split(axis) | ops.Transpose(axis) if axis > 0:
                pass
            case ops.Tile(axis) if axis > 0 and len(shapes[0]) > 2:
                pass
            case ops.Max(axis) if axis > 0:
                return self._largest(node, args[0], axis)
            case ops.Linear(axis) if axis > 1 and self.whole_rows:
                return self._of_each(node, args, prod(shapes[0][1:axis]))
            case ops.Concat(axis) if axis > 1 and self.whole_rows:
                return self._joined(node, args, shapes, prod(node.types[0].shape[1:axis]))
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
        """Return the largest value along an axis, as a chain of Maximum of the pieces, or None to keep the node. Of two
        equal values, Maximum gives the gradient to its second operand. The chain begins with the last piece, so the
        first of several equal values gets the gradient, as Max gives it."""
        size, shape = self.b.type(x).shape[axis], node.types[0].shape
        if size == 1 or is_weight(self.b, x):
            return None
        whole = _identity(self.b.type(x).shape)
        cut = [whole.take(i, axis=axis).reshape(len(whole), *shape[1:]) for i in range(size)]
        names = tuple(f"{node.name}/{i}" for i in range(size))
        if (pieces := self._products(x, cut, replace(node, names=names), "largest")) is None:
            return None
        largest = pieces[-1]
        for i, piece in reversed(list(enumerate(pieces[:-1]))):
            called = node.names if i == 0 else (f"{node.name}/from_{i}",)
            (largest,) = self.b.add(ops.Maximum(), largest, piece, names=called, loc=node.loc)
        return (largest,)

    def _of_each(self, node: Node, args: Refs, count: int) -> Refs | None:
        """Return the product of each of the ``count`` vectors in a row with one matrix, computed as one product of the
        whole row with a block-diagonal matrix of ``count`` copies. Return None to keep the node."""
        x, w, *bias = args
        if count == 1 or is_weight(self.b, x) or not all(is_weight(self.b, ref) for ref in (w, *bias)):
            return None
        if count**2 * self.b.type(w).size > LARGEST:
            return None
        zeros = self.fixed.add(self.b, np.zeros(self.b.type(w).shape), f"{node.name}/zeros")
        names = (f"{node.name}/diagonal",)
        lines: list[Ref] = []
        for i in range(count):
            lines += self.b.add(ops.Concat(1), *(zeros,) * i, w, *(zeros,) * (count - 1 - i), names=names)
        blobs = [*self.b.add(ops.Concat(0), *lines, names=names)]
        if bias:
            blobs += self.b.add(ops.Concat(0), *bias * count, names=(f"{node.name}/biases",))
        self.counts["diagonal"] += 1
        (rows,) = self.b.add(ops.Linear(1), x, *blobs, names=(f"{node.name}/rows",), loc=node.loc)
        return self.b.add(ops.Reshape(node.types[0].shape), rows, names=node.names, loc=node.loc)

    def _joined(self, node: Node, args: Refs, shapes: list[tuple[int, ...]], count: int) -> Refs | None:
        """Return a Concat along an axis after the first as a product, or None to keep the node. Concat joins the
        operands' rows vector by vector, ``count`` in each row. Here the rows are put side by side, and the product
        moves each element to its place."""
        sizes = [prod(shape[1:]) for shape in shapes]
        if count == 1 or sum(sizes) ** 2 > LARGEST or any(is_weight(self.b, x) for x in args):
            return None
        flat: list[Ref] = []
        for x, size in zip(args, sizes, strict=True):
            names = (f"{self.b.node(x.node).names[x.out]}/row",)
            flat += self.b.add(ops.Reshape((shapes[0][0], size)), x, names=names)
        (rows,) = self.b.add(ops.Concat(1), *flat, names=(f"{node.name}/side_by_side",), loc=node.loc)
        pieces = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        whole = node.op.eval(*(piece.reshape(-1, *shape[1:]) for piece, shape in zip(pieces, shapes, strict=True)))
        return self._products(rows, whole, node, "joined")

    def _spread(self, node: Node, args: Refs, shapes: list[tuple[int, ...]]) -> Refs | None:
        """Return a binary op whose smaller operand is broadcast by a product with ones. Return None to keep the node:
        if no operand is broadcast, if an operand is the same in every row, or if the matrix would be too large."""
        large = node.types[0].shape
        operands = list(args)
        for slot, (ref, shape) in enumerate(zip(args, shapes, strict=True)):
            if shape == large or is_weight(self.b, ref):
                continue
            if len(shape) < len(large) or shape[0] != large[0]:
                return None  # every row has the same values
            rows = np.broadcast_to(_identity(shape), (prod(shape[1:]), *large[1:]))
            product = self._products(ref, [rows], replace(node, names=(f"{node.name}/spread",)), "spread")
            if product is None:
                return None
            (operands[slot],) = product
        return self.b.copy(node, operands) if operands != list(args) else None

    def _products(self, x: Ref, arrays: list[Array] | tuple[Array, ...], node: Node, rule: str) -> Refs | None:
        """Return the results of a linear map of x, each as a product with a matrix, or None if a matrix is too large.
        ``arrays`` are the map's results for the rows of the identity."""
        if any(array.size > LARGEST for array in arrays):
            return None
        count = self.b.type(x).shape[0]
        results: list[Ref] = []
        for name, array in zip(node.names, arrays, strict=True):
            matrix = self.fixed.add(self.b, array.reshape(len(array), -1).T, f"{name}/ones")
            row = (f"{name}/rows",)
            (rows,) = self.b.add(ops.Linear(1), x, matrix, names=row, loc=node.loc)
            results += self.b.add(ops.Reshape((count, *array.shape[1:])), rows, names=(name,), loc=node.loc)
        self.counts[rule] += 1
        return tuple(results)


def _identity(shape: tuple[int, ...]) -> Array:
    """Return the identity matrix, each row of it in the shape of a row of a value."""
    size = prod(shape[1:])
    return np.eye(size).reshape(size, *shape[1:])
