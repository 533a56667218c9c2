"""A model for a target that trains nothing: no gradient is stopped there, as none is asked for."""

from __future__ import annotations

from lstmc.ir import Builder, Graph, Node, Scan
from lstmc.ops import StopGradient
from lstmc.passes.base import Refs, in_bodies, rewrite


def without_stops(graph: Graph) -> Graph:
    """The model without stop_gradient: the same values, and gradients that pass where they were stopped.

    It is made before the passes, so that what is compared with a written net backward is what the net computes.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan):
            return b.add(in_bodies(node.op, without_stops), *args, names=node.names, loc=node.loc)
        return args if isinstance(node.op, StopGradient) else None

    return rewrite(graph, visit)
