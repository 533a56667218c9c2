"""Blobs in the shapes that layers read them in, where a target has no Reshape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Ref
from lstmc.ops import Op, Pointwise
from lstmc.passes import Pass, PassResult, Refs, result, rewrite
from lstmc.types import TensorType
from lstmc_caffe import ops as caffe
from lstmc_caffe.rows.layout import viewed

Shape = tuple[int, ...]
RULES = {caffe.Feed: "fit_step", caffe.HostInput: "fit_input"}  # else fit_layer


@dataclass(frozen=True)
class FitReaders(Pass):
    """Give elementwise layers and constants the one shape in which their readers read them.

    1. a layer that works element by element, or a constant, that layers read as one other matrix => that matrix; so its
       operands, if they can
    2. a step of an input that layers read as one other matrix => fed so
    3. an input of two axes that layers read as one other matrix => a blob fed so

    A step [N] is one row, until a broadcast along the other axes wants it as a column: so indicators and masks.
    """

    name = "fit_readers"

    def run(self, graph: Graph) -> PassResult:
        shapes = _shapes(graph)
        counts = Counter(RULES.get(type(graph.node(name).op), "fit_layer") for name in shapes)
        feeds: dict[Ref, Ref] = {}  # what layers read of an input, which itself stays what is carried to it

        def visit(b: Builder, node: Node, args: Refs) -> Refs:
            args = tuple(feeds.get(ref, ref) for ref in args)
            if isinstance(node.op, caffe.View):
                return (viewed(b, args[0], node.op.shape, node.names, node.steps),)
            shape = shapes.get(node.name)
            if shape is not None and isinstance(node.op, caffe.HostInput):
                (fed,) = b.copy(node, args)
                (feeds[fed],) = b.add(caffe.Feed(shape), fed, names=(f"{node.name}/rows",), loc=node.loc)
                return (fed,)
            if shape is not None and not isinstance(node.op, caffe.Feed):
                args = tuple(viewed(b, ref, shape) for ref in args)
            elif not isinstance(node.op, caffe.Feed):
                before = [graph.type(ref) for ref in graph.args(node.name)]
                args = tuple(_as_before(b, ref, type_) for ref, type_ in zip(args, before, strict=True))
            return b.copy(node, args, _in_shape(node.op, shape))

        if not shapes:
            return PassResult(graph, False)
        return result(graph, rewrite(graph, visit), counts)


def _as_before(b: Builder, ref: Ref, before: TensorType) -> Ref:
    """Return the value in its old shape."""
    return ref if b.type(ref) == before else viewed(b, ref, before.shape)


def _in_shape(op: Op, shape: Shape | None) -> Op:
    """The op in another shape; one that works element by element has that of its operands."""
    return replace(op, shape=shape) if shape is not None and isinstance(op, caffe.Feed | caffe.DummyData) else op


def _shapes(graph: Graph) -> dict[str, Shape]:
    """Return the new shapes of the nodes that change theirs."""
    by_ref: dict[Ref, set[Shape]] = {}
    for output in graph.outputs:
        by_ref.setdefault(output.ref, set()).update(_host_shapes(graph, output.ref))
    shape_of: dict[str, Shape] = {}
    stepwise = {graph.args(node.name)[0].node for node in graph if isinstance(node.op, caffe.Feed)}
    for node in reversed(list(graph)):
        shapes = by_ref.get(Ref(node.name), set())
        if _fits(node) and node.name not in stepwise and len(shapes) == 1 and shapes != {node.types[0].shape}:
            (shape_of[node.name],) = shapes
        for slot, arg in enumerate(graph.args(node.name)):
            by_ref.setdefault(arg, set()).update(_read_shapes(graph, node, slot, arg, by_ref, shape_of))
    return shape_of


def _fits(node: Node) -> bool:
    """Return whether a node's value could be a matrix of another shape."""
    if isinstance(node.op, caffe.HostInput):
        return len(node.op.shape) == 2
    return isinstance(node.op, Pointwise | caffe.Eltwise | caffe.Feed | caffe.DummyData)


def _read_shapes(
    graph: Graph, node: Node, slot: int, arg: Ref, by_ref: dict[Ref, set[Shape]], shape_of: dict[str, Shape]
) -> Iterator[Shape]:
    """Yield the shapes in which a node reads an operand."""
    if isinstance(node.op, caffe.View):
        yield from by_ref.get(Ref(node.name), ())
    elif isinstance(node.op, caffe.HostStack):
        yield from _host_shapes(graph, arg)
    elif isinstance(node.op, caffe.Feed) or not isinstance(node.op, caffe.CaffeOp):
        return  # the caller's arrays, and weights
    elif slot not in node.op.blobs(len(graph.args(node.name))):
        yield shape_of.get(node.name, graph.type(arg).shape)


def _host_shapes(graph: Graph, ref: Ref) -> Iterator[Shape]:
    """Yield the shape that the host needs of a value: its own, or none for a view, which the
    host reads in any shape.
    """
    if not isinstance(graph.node(ref.node).op, caffe.View):
        yield graph.type(ref).shape
