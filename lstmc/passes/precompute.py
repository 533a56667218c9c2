"""Values that depend on parameters alone, computed once, when the weights are written. In nets that are not trained,
convolutions take their factors and terms into their weights, or are matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from lstmc import ops
from lstmc.ir import NEGATE, Builder, Graph, Node, Rebuild, Ref, Scan, computed_from_parameters, is_weight
from lstmc.ops import Leaf, Op
from lstmc.passes import base
from lstmc.passes.base import Pass, PassResult, Refs, Visit, graph_pass, node_pass, result, rewrite
from lstmc.passes.loop_motion import Hoist
from lstmc.passes.lowering import FixedArrays, with_arrays

__all__ = ["ConvProducts", "Precompute", "fold_convs", "spread_kernels"]

LARGEST = 2**16  # the most elements of a value that is larger than all its parameters together


@dataclass(frozen=True)
class Precompute(Pass):
    """Turn values that depend on parameters alone into weights of the net: exp(A), 1 - b, softplus(p) + q.

    1. such a value of a scan's body   => the same value before the scan (``hoist`` of values of parameters)
    2. such a value that other nodes read => precomputed(value), a weight; a scan takes it as a weight
    3. a weight that a scan takes as a value => the scan takes it as a weight

    Values that are much larger than their parameters stay: no net carries a parameter in many copies. It is not for
    nets that are trained: from such a weight the parameter cannot be read back.
    """

    name = "precompute"
    before_peel = True

    def run(self, graph: Graph) -> PassResult:
        hoisted = Hoist(of_parameters=True).run(graph)
        counts = Counter(hoisted.counts)
        marked = _marked(hoisted.graph, counts)
        return result(graph, marked, counts)


def _marked(graph: Graph, counts: Counter[str]) -> Graph:
    """Return the graph with a weight for each value made of parameters alone that an output or another value reads."""
    alone = _computed_from_parameters(graph)
    read = {ref for node in graph if node.name not in alone for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    stored = {ref for ref in read if ref.node in alone and not is_weight(graph, ref)}
    statics: dict[str, set[int]] = {}
    for node in graph:
        if isinstance(node.op, Scan):
            values = [(i, ref) for i, ref in enumerate(graph.args(node.name)) if node.op.role(i) == "static"]
            counts["static_weight"] += sum(is_weight(graph, ref) for _, ref in values)
            statics[node.name] = {i for i, ref in values if ref in stored or is_weight(graph, ref)}
    if not stored and not any(statics.values()):
        return graph
    rebuild = Rebuild(graph)
    weights: dict[Ref, Ref] = {}
    for node in graph:
        args = rebuild.args(node)
        if node.name not in alone:
            args = tuple(weights.get(ref) or rebuild.new[ref] for ref in graph.args(node.name))
        rebuild.put(node, _with_weights(rebuild.builder, node, args, statics.get(node.name, ())))
        for ref in (ref for ref in node.refs if ref in stored):
            counts["precompute"] += 1
            names = (f"{node.names[ref.out]}/precomputed",)
            (weights[ref],) = rebuild.builder.add(ops.Precomputed(), rebuild.new[ref], names=names, loc=node.loc)
    return rebuild.builder.finish([(o.name, weights.get(o.ref) or rebuild.new[o.ref]) for o in graph.outputs])


def _with_weights(b: Builder, node: Node, args: Refs, slots: Collection[int]) -> Refs:
    """Add a node with the operands ``args``. A scan takes the operands at the indices ``slots`` as weights."""
    if not slots:
        return b.copy(node, args)
    assert isinstance(node.op, Scan)
    scan = base.in_bodies(node.op, lambda body: base.with_role(body, slots, "weight"))
    return b.add(scan, *args, names=node.names, loc=node.loc)


def _computed_from_parameters(graph: Graph) -> set[str]:
    """Return the nodes computed from parameters and constants alone, whose values have at most LARGEST elements or no
    more elements than these parameters."""
    made_of: dict[str, Mapping[str, int]] = {}  # node -> its parameters and their sizes
    for node in graph:
        operands = graph.args(node.name)
        size = sum(prod(type_.shape) for type_ in node.types)
        if isinstance(node.op, ops.Param | ops.Precomputed):
            made_of[node.name] = {node.name: size}
        elif not isinstance(node.op, Leaf | Scan) and all(
            ref.node in made_of or isinstance(graph.node(ref.node).op, ops.Full) for ref in operands
        ):
            sources = {name: n for ref in operands for name, n in made_of.get(ref.node, {}).items()}
            if sources and size <= max(LARGEST, sum(sources.values())):
                made_of[node.name] = sources
    return {name for name in made_of if not isinstance(graph.node(name).op, ops.Param)}


@graph_pass(before_peel=True)
def fold_convs(graph: Graph, counts: Counter[str]) -> Graph:
    """Fold a factor and a term of each channel into the convolution before them, as of a batch normalization.

    1. conv(x, W, b) * s             => conv(x, W * s, b * s)
    2. conv(x, W, b) + t, ... - t    => conv(x, W, b + t), conv(x, W, b - t)

    s and t are [C, 1, 1], made of parameters alone, as W and b are, so ``precompute`` stores the results; nothing else
    reads the convolution. It is not for nets that are trained: s and t are trained by themselves.
    """
    graph = base.with_bodies(graph, lambda body: fold_convs.change(body, counts))
    readers = graph.readers()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, ops.Mul | ops.Add | ops.Sub):
            return None
        old = graph.args(node.name)
        for slot in (0,) if isinstance(node.op, ops.Sub) else (0, 1):
            conv, other = b.node(args[slot].node), args[1 - slot]
            alone = readers[old[slot]] == 1 and node.types[0] == b.type(args[slot])
            if alone and isinstance(conv.op, ops.Conv) and _is_of_channels(b, other, conv):
                counts["fold_factor" if isinstance(node.op, ops.Mul) else "fold_term"] += 1
                return _with_folded(b, node, conv, other)
        return None

    return rewrite(graph, visit)


def _is_of_channels(b: Builder, other: Ref, conv: Node) -> bool:
    """Return whether ``other`` is a number for each channel, and it and ``conv``'s weights need only parameters."""
    channels, shape = conv.types[0].shape[-3], b.type(other).shape
    of_channels = shape[-3:] == (channels, 1, 1) and all(size == 1 for size in shape[:-3])
    return of_channels and all(computed_from_parameters(b, ref) for ref in (other, *b.args(conv.name)[1:]))


def _with_folded(b: Builder, node: Node, conv: Node, other: Ref) -> Refs:
    """Return the convolution with ``other``, the node's factor or term of each channel, in its weights and bias."""
    x, w, *bias = b.args(conv.name)
    channels = conv.types[0].shape[-3]

    def add(op: Op, name: str, *operands: Ref) -> Ref:
        return b.add(op, *operands, names=(f"{node.name}/{name}",), loc=node.loc)[0]

    if isinstance(node.op, ops.Mul):
        w = add(ops.Mul(), "w", w, add(ops.Reshape((channels, 1, 1, 1)), "factor", other))
        bias = [add(ops.Mul(), "b", bias[0], add(ops.Reshape((channels,)), "row", other))] if bias else []
    else:
        term = add(ops.Reshape((channels,)), "term", other)
        is_sum = isinstance(node.op, ops.Add)
        bias = [add(node.op, "b", bias[0], term) if bias else term if is_sum else add(NEGATE, "b", term)]
    return b.add(conv.op, x, w, *bias, names=node.names, loc=node.loc)


@node_pass(before_peel=True)
def spread_kernels(b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
    """Write a convolution whose dilation is not the same along both axes with a kernel that has zeros between its
    elements.

    1. conv(x, W, b, dilation=(p, q)) => conv(x, W with p - 1 rows and q - 1 columns of zeros between the elements, b)

    W is made of parameters alone, so ``precompute`` stores the result. Along an axis where the kernel has one element
    a dilation changes nothing, and the convolution stays.
    """
    if not isinstance(node.op, ops.Conv) or len(set(node.op.dilation)) == 1:
        return None
    w = args[1]
    if 1 in b.type(w).shape[2:] or not computed_from_parameters(b, w):
        return None
    counts["spread"] += 1
    for axis, dilation in zip((2, 3), node.op.dilation, strict=True):
        w = _with_zeros(b, node, w, axis, dilation) if dilation > 1 else w
    return b.copy(node, (args[0], w, *args[2:]), replace(node.op, dilation=(1, 1)))


def _with_zeros(b: Builder, node: Node, w: Ref, axis: int, dilation: int) -> Ref:
    """Return a kernel with ``dilation`` - 1 zeros between its elements along an axis, by Concat and Reshape."""
    shape = b.type(w).shape
    before, after = shape[: axis + 1], shape[axis + 1 :]

    def add(op: Op, name: str, *operands: Ref) -> Refs:
        names = tuple(f"{node.name}/{name}{axis}" + "/rest" * i for i in range(2 if isinstance(op, ops.Split) else 1))
        return b.add(op, *operands, names=names, loc=node.loc)

    (apart,) = add(ops.Reshape((*before, 1, *after)), "apart", w)
    (zeros,) = add(ops.Full((*before, dilation - 1, *after), 0.0), "zeros")
    (joined,) = add(ops.Concat(axis + 1), "joined", apart, zeros)
    (long,) = add(ops.Reshape((*shape[:axis], shape[axis] * dilation, *after)), "long", joined)
    return add(ops.Split(axis, ((shape[axis] - 1) * dilation + 1, dilation - 1)), "spread", long)[0]


@dataclass(frozen=True)
class ConvProducts(Pass):
    """Write a convolution over small images as a product of all their elements with one matrix.

    1. conv(x, W, b) => reshape(linear(reshape(x), M, b at every place)), where the rows of M are conv's results for
                                 images with a single one: M depends on parameters alone, so ``precompute`` stores it
    2. split(conv(x, W, b), channels)  => reshape(split(linear(...))): channels are columns that lie together

    M has at most as many elements as ``precompute`` allows; a larger convolution stays. In nets that are trained only
    loops are rewritten (``loops``), because M is no parameter; ``hoist`` then computes M once before the loop.
    """

    name = "conv_products"
    before_peel = True
    loops: bool = False

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit_of(part: Graph, fixed: FixedArrays) -> Visit:
            return (lambda *_: None) if self.loops and not fixed.of_body else _Products(fixed, counts).of_node

        return result(graph, with_arrays(graph, visit_of)[0], counts)


def matrix_elements(images: Sequence[int], out: Sequence[int]) -> int:
    """Return the number of elements of a convolution's matrix, by the shapes of its operand and of its result."""
    return prod(images[-3:]) * prod(out[-3:])


@dataclass
class _Products:
    """Writes convolutions as products in one graph that is being rebuilt."""

    fixed: FixedArrays
    counts: Counter[str]
    flat: dict[Ref, Ref] = field(default_factory=dict)  # product of a convolution, by its value in the shape of images

    def of_node(self, b: Builder, node: Node, args: Refs) -> Refs | None:
        """Return the replacement of a node, or None to keep it."""
        if isinstance(node.op, ops.Conv):
            return self._product(b, node, node.op, args)
        if isinstance(node.op, ops.Split) and args[0] in self.flat:
            return self._pieces(b, node, node.op, args[0])
        return None

    def _product(self, b: Builder, node: Node, op: ops.Conv, args: Refs) -> Refs | None:
        """Return a convolution as a matrix product. Return None to keep it: if its weights need more than parameters,
        if its input needs parameters alone, or if the matrix would be too large."""
        x, *weights = args
        shape, out = b.type(x).shape, node.types[0].shape
        image, places, columns = shape[-3:], prod(out[-2:]), prod(out[-3:])
        foreseen = all(computed_from_parameters(b, ref) for ref in weights) and not computed_from_parameters(b, x)
        if not foreseen or matrix_elements(shape, out) > LARGEST:
            return None

        def add(op: Op, name: str, *operands: Ref) -> Ref:
            return b.add(op, *operands, names=(f"{node.name}/{name}",), loc=node.loc)[0]

        # all images that have a one at one place, [C * H * W, C, H, W]
        images = self.fixed.add(b, np.eye(prod(image)).reshape(-1, *image), f"{node.name}/images")
        responses = add(op, "responses", images, weights[0])
        matrix = add(ops.Transpose(0), "matrix", add(ops.Reshape((prod(image), columns)), "rows", responses))
        operands = [add(ops.Reshape((prod(shape[:-3]), prod(image))), "elements", x), matrix]
        if len(weights) == 2:
            column = add(ops.Reshape((out[-3], 1)), "column", weights[1])
            everywhere = add(ops.Add(), "everywhere", column, add(ops.Full((out[-3], places), 0.0), "zeros"))
            operands.append(add(ops.Reshape((columns,)), "bias", everywhere))
        product = add(ops.Linear(1), "product", *operands)
        self.counts["conv"] += 1
        results = b.add(ops.Reshape(out), product, names=node.names, loc=node.loc)
        self.flat[results[0]] = product
        return results

    def _pieces(self, b: Builder, node: Node, op: ops.Split, images: Ref) -> Refs | None:
        """Return a split of channels as a split of the product's columns; None for a split of another axis."""
        shape = b.type(images).shape
        if op.axis != len(shape) - 3:
            return None
        sizes = tuple(size * prod(shape[-2:]) for size in op.sizes)
        names = tuple(f"{name}/elements" for name in node.names)
        pieces = b.add(ops.Split(1, sizes), self.flat[images], names=names, loc=node.loc)
        self.counts["split"] += 1
        named = zip(pieces, node.names, node.types, strict=True)
        return tuple(b.add(ops.Reshape(t.shape), piece, names=(name,), loc=node.loc)[0] for piece, name, t in named)
