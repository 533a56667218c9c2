"""A model without the ops of one kind that give back what they read, as far as its user is concerned."""

from __future__ import annotations

from lstmc.ir import Builder, Graph, Node, Scan
from lstmc.ops import Op
from lstmc.passes.base import Refs, in_bodies, rewrite


def without(graph: Graph, kind: type[Op]) -> Graph:
    """The graph, and the bodies of its scans, where each op of that kind is replaced by its operand."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan):
            changed = in_bodies(node.op, lambda body: without(body, kind))
            return b.add(changed, *args, names=node.names, loc=node.loc)
        return args if isinstance(node.op, kind) else None

    return rewrite(graph, visit)
