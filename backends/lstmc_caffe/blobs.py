"""Parameters in Caffe are blobs of layers; where one is read as a value, a layer must give it as a top."""

from __future__ import annotations

from collections import Counter

from lstmc.ir import Builder, Graph, Ref, Scan, is_weight, is_weight_op
from lstmc.ops import Linear
from lstmc_caffe import ops as caffe


def packing_nodes(graph: Graph) -> set[str]:
    """The weight ops whose results must be blobs: a matrix product or a scan reads them as weights.

    Other ops on parameters alone are layers on their values: the same parameter may be in several of those.
    """
    found: set[str] = set()
    for node in reversed(list(graph)):
        for slot, ref in enumerate(graph.args(node.name)):
            as_weight = (isinstance(node.op, Linear) and slot > 0) or node.name in found
            if isinstance(node.op, Scan):
                as_weight = node.op.role(slot) == "weight"
            if as_weight and is_weight_op(graph.node(ref.node).op) and is_weight(graph, ref):
                found.add(ref.node)
    return found


def as_value(b: Builder, ref: Ref, name: str | None = None) -> Ref:
    """A value that layers can have as a bottom: a parameter is added to zeros (rule 5), others are as they are.

    Not Caffe's Parameter layer: it lends its diff out, so a parameter with another reader loses gradient.
    """
    if not is_weight(b, ref):
        return ref
    node = b.node(ref.node)
    shape = b.type(ref).shape
    (zeros,) = b.add(caffe.DummyData(shape), names=(f"{node.name}/zeros",), loc=node.loc)
    bias = caffe.Bias(axis=0, num_axes=len(shape), learned=True)
    return b.add(bias, zeros, ref, names=(name or f"{node.name}/value",), loc=node.loc)[0]


def outputs_as_values(graph: Graph, counts: Counter[str]) -> Graph:
    """A model or a step that returns a parameter itself returns a value; a model's is called like the output."""
    leaked = {o.ref: o.name.partition(".")[2] or o.name for o in graph.outputs if is_weight(graph, o.ref)}
    if not leaked:
        return graph
    counts["output_to_value"] += len(leaked)
    b = Builder(graph.name, graph)
    new: dict[Ref, Ref] = {}
    for node in graph:
        made = b.copy(node, [new[ref] for ref in graph.args(node.name)])
        new.update((Ref(node.name, i), ref) for i, ref in enumerate(made))
    values = {ref: as_value(b, new[ref], name) for ref, name in leaked.items()}
    return b.finish([(o.name, values[o.ref] if o.ref in values else new[o.ref]) for o in graph.outputs])
