"""One matrix product for each piece of a split value, for targets that cannot split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.ops import Arg, Linear, Pointwise, Split
from lstmc.ops.pointwise import Binary, covered_axes
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, result, rewrite

Cut = tuple[Ref, int, tuple[int, ...]]  # a value, the axis it is cut along, and the sizes


@dataclass(frozen=True)
class SplitProducts(Pass):
    """Move splits up to the weights, in the model and in every scan body.

    1. split(f(x))                => f(split(x)[0]), f(split(x)[1]), ...
    2. split(x + y)               => split(x)[0] + split(y)[0], ...; also for - and *, and for a parameter of the
                                     axis that is cut
    3. split(linear(x, W, b))     => linear(x, split(W)[0], split(b)[0]), ...
    4. split of a weight          => a weight: the blobs are pieces of the user's parameter

    The reverse of ``fuse_linears``, which is then left out.
    """

    name = "split_products"

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if isinstance(node.op, Scan):
                return _in_scan(b, node, node.op, args, counts)
            return _Pieces(b, counts).of_node(node, args)

        return result(graph, rewrite(graph, visit), counts)


class _Pieces:
    """Cuts values of one graph that is being rebuilt."""

    def __init__(self, b: Builder, counts: Counter[str]) -> None:
        self.b, self.counts = b, counts
        self.pieces: dict[Cut, Refs] = {}

    def of_node(self, node: Node, args: Refs) -> Refs | None:
        """Return the replacement of a split, or None to keep it."""
        if not isinstance(node.op, Split) or len(node.types) == 1 or is_weight(self.b, args[0]):
            return None
        return self._pieces(args[0], node.op.axis, node.op.sizes, node.names)

    def _pieces(self, ref: Ref, axis: int, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs | None:
        cut = (ref, axis, sizes)
        if cut not in self.pieces:
            pieces = self._cut(ref, axis, sizes, names)
            if pieces is None:
                return None
            self.pieces[cut] = pieces
        return self.pieces[cut]

    def _cut(self, ref: Ref, axis: int, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs | None:
        node, args = self.b.node(ref.node), self.b.args(ref.node)
        last = self.b.type(ref).rank - 1
        if isinstance(node.op, Linear) and axis == last and all(is_weight(self.b, arg) for arg in args[1:]):
            parts = [(args[0],) * len(sizes), *(self.weight(arg, 0, sizes) for arg in args[1:])]
            self.counts["linear_per_piece"] += 1
        elif isinstance(node.op, Pointwise | Binary) and all(self._goes_apart(arg, ref, axis) for arg in args):
            parts = [self._operand(arg, ref, axis, sizes, names) for arg in args]
            self.counts["function_per_piece"] += 1
        else:
            return None
        pieces = [
            self.b.add(node.op, *operands, names=(name,), loc=node.loc)[0]
            for name, *operands in zip(names, *parts, strict=True)
        ]
        return tuple(pieces)

    def _goes_apart(self, arg: Ref, whole: Ref, axis: int) -> bool:
        """Whether an operand of an element-wise op whose result is cut is cut too, or is the same for all pieces."""
        shape, arg_shape = self.b.type(whole).shape, self.b.type(arg).shape
        if is_weight(self.b, arg) and arg_shape == shape[axis:] and len(arg_shape) == 1:
            return True
        return (arg_shape == shape and not is_weight(self.b, arg)) or self._is_same(arg, whole, axis)

    def _is_same(self, arg: Ref, whole: Ref, axis: int) -> bool:
        covered = covered_axes(self.b.type(arg).shape, self.b.type(whole).shape)
        return covered is not None and not covered[0] <= axis < covered[1]

    def _operand(self, arg: Ref, whole: Ref, axis: int, sizes: tuple[int, ...], names: tuple[str, ...]) -> Refs:
        """An operand that goes apart, for each piece of the result."""
        if self._is_same(arg, whole, axis):
            return (arg,) * len(sizes)
        if is_weight(self.b, arg):
            return self.weight(arg, 0, sizes)
        operand = self.b.node(arg.node)
        pieces = self._pieces(arg, axis, sizes, tuple(f"{name}/{operand.name}" for name in names))
        return pieces or self._split(arg, axis, sizes)

    def _split(self, ref: Ref, axis: int, sizes: tuple[int, ...]) -> Refs:
        return self.b.add(Split(axis, sizes), ref, names=(f"{self.b.node(ref.node).names[ref.out]}/piece",))

    def weight(self, ref: Ref, axis: int, sizes: tuple[int, ...]) -> Refs:
        """The pieces of a weight."""
        cut = (ref, axis, sizes)
        if cut not in self.pieces:
            name = self.b.node(ref.node).names[ref.out]
            names = [f"{name}/{i}" for i in range(len(sizes))]
            self.pieces[cut] = self.b.add(Split(axis, sizes), ref, names=names)
        return self.pieces[cut]


class _PiecesInBody(_Pieces):
    """The same in a scan's body, where a piece of a weight is an argument of its own."""

    def __init__(self, b: Builder, counts: Counter[str]) -> None:
        super().__init__(b, counts)
        self.arguments: dict[str, tuple[str, int, int, tuple[int, ...]]] = {}  # to the argument, and which piece of it

    def weight(self, ref: Ref, axis: int, sizes: tuple[int, ...]) -> Refs:
        if not isinstance(self.b.node(ref.node).op, Arg):
            return super().weight(ref, axis, sizes)  # made in the body, of weights
        cut = (ref, axis, sizes)
        if cut not in self.pieces:
            shape = self.b.type(ref).shape
            slices: list[Ref] = []
            for i, size in enumerate(sizes):
                arg = Arg((*shape[:axis], size, *shape[axis + 1 :]), "weight")
                slices += self.b.add(arg, names=(f"{ref.node}/{i}",))
                self.arguments[slices[-1].node] = (ref.node, i, axis, sizes)
            self.pieces[cut] = tuple(slices)
        return self.pieces[cut]


def _in_scan(b: Builder, node: Node, scan: Scan, args: Refs, counts: Counter[str]) -> Refs:
    inner = Rebuild(scan.body)
    pieces = _PiecesInBody(inner.builder, counts)
    for old in scan.body:
        operands = inner.args(old)
        inner.put(old, pieces.of_node(old, operands) or inner.builder.copy(old, operands))
    body = inner.finish()
    outer = dict(zip([a.name for a in scan.body.body_args()], args, strict=True))
    whole = _Pieces(b, counts)
    for arg in body.body_args():  # a piece may be cut again: what it is a piece of stands before it
        if arg.name in pieces.arguments:
            source, i, axis, sizes = pieces.arguments[arg.name]
            outer[arg.name] = whole.weight(outer[source], axis, sizes)[i]
    operands_outside = [outer[arg.name] for arg in body.body_args()]
    return b.add(replace(scan, body=body), *operands_outside, names=node.names, loc=node.loc)
