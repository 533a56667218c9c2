"""A parameter that is a layer's matrix as it is and another's transposed: one blob, where both layers can have it."""

from __future__ import annotations

from dataclasses import replace

from lstmc.ir import Builder, Graph, Node, Ref, Scan, is_weight
from lstmc.ops import Arg, Linear, Transpose
from lstmc.passes import Refs, in_bodies, rewrite


def with_transposes_in_bodies(graph: Graph) -> Graph:
    """Transposed parameters that a scan's products have as matrices are transposed in its body.

    There the rule for linear finds what they are the transpose of: outside of it they would be blobs of their own.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        slots = [slot for slot, ref in enumerate(args) if node.op.role(slot) == "weight" and _is_transposed(b, ref)]
        tied = {slot for slot in slots if all(_is_matrix_only(body, slot) for body in node.op.bodies)}
        if not tied:
            return None
        scan = in_bodies(node.op, lambda body: _with_transposes(body, tied))
        operands = [b.args(ref.node)[0] if slot in tied else ref for slot, ref in enumerate(args)]
        return b.add(scan, *operands, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _is_transposed(b: Builder, ref: Ref) -> bool:
    return isinstance(b.node(ref.node).op, Transpose) and b.type(ref).rank == 2 and is_weight(b, ref)


def _is_matrix_only(body: Graph, slot: int) -> bool:
    """Whether an argument of a body is the matrix of products, and nothing else."""
    argument = Ref(body.body_args()[slot].name)
    reads = [
        isinstance(node.op, Linear) and at == 1
        for node in body
        for at, ref in enumerate(body.args(node.name))
        if ref == argument
    ]
    return all(reads) and argument not in [output.ref for output in body.outputs]


def _with_transposes(body: Graph, slots: set[int]) -> Graph:
    names = {body.body_args()[slot].name for slot in slots}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name not in names:
            return None
        assert isinstance(node.op, Arg)
        (argument,) = b.add(replace(node.op, shape=node.op.shape[::-1]), names=node.names, loc=node.loc)
        return b.add(Transpose(0), argument, names=(f"{node.name}/transposed",), loc=node.loc)

    return rewrite(body, visit)
