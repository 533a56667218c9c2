"""Parameters in Caffe are blobs of layers; where one is read as a value, a layer must give it as a top."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight, is_weight_op, precomputed_nodes, reshaped
from lstmc.ops import Arg, Conv, Embed, Linear, Op, Param, Reshape
from lstmc.passes import Refs
from lstmc_caffe import ops as caffe

LegalizeRule = Callable[[Builder, Node, Refs], Refs]


def packing_nodes(graph: Graph) -> set[str]:
    """The weight ops whose results are blobs: a layer with weights or a scan reads them as such, or nothing reads them.

    Other ops on parameters alone are layers on their values: the same parameter may be in several of those. A bias
    is a value too where as a blob it would be refused.
    """
    found: set[str] = set()
    readers = graph.readers()
    for node in reversed(list(graph)):
        unread = not any(Ref(node.name, out) in readers for out in range(len(node.names)))
        if unread and is_weight_op(node.op) and is_weight(graph, Ref(node.name)):
            found.add(node.name)  # a layer took what it is the transpose of
        for slot, ref in enumerate(graph.args(node.name)):
            as_weight = node.name in found
            if isinstance(node.op, Embed):
                as_weight = slot == 1
            if isinstance(node.op, Linear | Conv):
                as_weight = slot == 1 or (slot == 2 and alone_in_a_blob(graph, ref, readers))
            if isinstance(node.op, Scan):
                as_weight = node.op.role(slot) == "weight"
            if as_weight and is_weight_op(graph.node(ref.node).op) and is_weight(graph, ref):
                found.add(ref.node)
    return found


def weight_nodes(graph: Graph) -> set[str]:
    """All weight ops on parameters, and what is precomputed: untrained, a parameter may be in several blobs."""
    packed = {node.name for node in graph if is_weight_op(node.op) and is_weight(graph, Ref(node.name))}
    return packed | precomputed_nodes(graph)


def alone_in_a_blob(graph: Graph, blob: Ref, readers: Mapping[Ref, int]) -> bool:
    """Whether a blob's parameters are used for nothing else, and are trained alike."""
    multipliers = set()
    stack = [blob]
    while stack:
        node = graph.node(stack.pop().node)
        if isinstance(node.op, Param):
            multipliers.add((node.op.lr_mult, node.op.decay_mult))
        elif isinstance(node.op, Arg):
            return False  # of a scan's body: the model may use it elsewhere
        operands = graph.args(node.name)
        if any(readers[ref] > 1 for ref in operands):
            return False
        stack += operands
    return len(multipliers) == 1


def as_value(b: Builder, ref: Ref, name: str | None = None) -> Ref:
    """A value that layers can have as a bottom: a parameter is added to zeros, others are as they are.

    Not Caffe's Parameter layer: it lends its diff out, so a parameter with another reader loses gradient.
    """
    if not is_weight(b, ref):
        return ref
    node = b.node(ref.node)
    shape = b.type(ref).shape
    if not shape:  # one number made of parameters: of an axis, to be a blob
        (one,) = b.add(Reshape((1,)), ref, names=(f"{node.name}/one",), loc=node.loc)
        return reshaped(b, as_value(b, one, name), caffe.ReshapeLayer(()), loc=node.loc)
    (zeros,) = b.add(caffe.DummyData(shape), names=(f"{node.name}/zeros",), loc=node.loc)
    bias = caffe.Bias(axis=0, num_axes=len(shape), learned=True)
    return b.add(bias, zeros, ref, names=(name or f"{node.name}/value",), loc=node.loc)[0]


def layer_of(b: Builder, node: Node, op: Op, *args: Ref, learned: Sequence[Ref] = ()) -> Refs:
    """A layer that stands for a node: on values, and with ``learned`` as blobs of its own."""
    return b.add(op, *[as_value(b, ref) for ref in args], *learned, names=node.names, loc=node.loc)


def check_blob(b: Builder, node: Node, w: Ref, layer: str, name: str = "W") -> None:
    """Raise unless ``w`` can be a blob of the layer."""
    if not is_weight(b, w):
        raise BackendError(
            f"{node.op.name}: {name} must be a Param: Caffe's {layer} has its weights as a blob of its own",
            loc=node.loc,
            notes=(f"found {b.node(w.node).names[w.out]}: {b.type(w)}, computed by {b.node(w.node).op.name}",),
        )


def shaped(b: Builder, ref: Ref, shape: tuple[int, ...]) -> Ref:
    """The value in another shape, by a Reshape where it has not that shape already."""
    return reshaped(b, as_value(b, ref), caffe.ReshapeLayer(shape))


def outputs_as_values(graph: Graph, counts: Counter[str]) -> Graph:
    """A model or a step that returns a parameter itself returns a value; called like the output."""
    leaked = {o.ref: o.name or "y" for o in graph.outputs if is_weight(graph, o.ref)}
    if not leaked:
        return graph
    counts["output_to_value"] += len(leaked)
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    for ref, name in leaked.items():
        rebuild.new[ref] = as_value(rebuild.builder, rebuild.new[ref], name)
    return rebuild.finish()
