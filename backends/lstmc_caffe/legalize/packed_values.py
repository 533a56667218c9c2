"""Parameters packed before a scan whose step computes with the result, and has it as a blob of no layer."""

from __future__ import annotations

from lstmc.ir import Builder, Graph, Node, Ref, Scan, is_weight, is_weight_op
from lstmc.ops import Conv, Embed, Linear
from lstmc.passes import Refs, in_bodies, rewrite, with_role
from lstmc_caffe.legalize.blobs import alone_in_a_blob


def with_packed_values(graph: Graph) -> Graph:
    """Packed parameters that no step has as a blob enter their scan as values.

    As weights they would be blobs of their own, and the same parameters could not be used elsewhere in training. A bias
    is a value too where as a blob it would be refused.
    """
    readers = graph.readers()

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        values = set()
        for slot, ref in enumerate(graph.args(node.name)):
            if node.op.role(slot) == "weight" and is_weight_op(graph.node(ref.node).op):
                biases = alone_in_a_blob(graph, ref, readers)
                if not any(_has_as_blob(body, slot, biases) for body in node.op.bodies):
                    values.add(slot)
        if not values:
            return None
        scan = in_bodies(node.op, lambda body: with_role(body, values, "static"))
        return b.add(scan, *args, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _has_as_blob(body: Graph, slot: int, biases: bool) -> bool:
    """Whether an argument of a body, or what is packed from it, may be a blob of a layer; ``biases`` are some too."""
    argument = Ref(body.body_args()[slot].name)
    return any(
        ref == argument and (_is_blob(node, at, biases) or (is_weight_op(node.op) and is_weight(body, Ref(node.name))))
        for node in body
        for at, ref in enumerate(body.args(node.name))
    )


def _is_blob(node: Node, slot: int, biases: bool) -> bool:
    if isinstance(node.op, Scan):
        return node.op.role(slot) == "weight"
    return isinstance(node.op, Linear | Conv | Embed) and (slot == 1 or (slot == 2 and biases))
