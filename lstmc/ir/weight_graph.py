"""Weights are graph too: blobs that a pass packs, cuts or negates are computed from the user's parameters.

Only ops that move elements, or change every sign, may stand between a parameter and a blob: so training the blob is
training the parameter, and the parameter can be read back from the trained blob exactly.
"""

from __future__ import annotations

from collections.abc import Iterable

from lstmc.ir.graph import Builder, Graph
from lstmc.ir.node import Output, Ref
from lstmc.ir.rebuild import Rebuild
from lstmc.ops import Affine, Arg, Concat, Op, Param, Reshape, Split, Transpose

NEGATE = Affine(-1.0, 0.0)


def is_weight_op(op: Op) -> bool:
    """Whether an op on weights gives a weight."""
    return type(op) in (Concat, Split, Reshape, Transpose) or op == NEGATE


def is_weight(graph: Graph | Builder, ref: Ref) -> bool:
    """Whether a value is a parameter, a body's argument that stands for one, or made of such by weight ops alone."""
    op = graph.node(ref.node).op
    if isinstance(op, Arg):
        return op.role == "weight"
    return isinstance(op, Param) or (is_weight_op(op) and all(is_weight(graph, arg) for arg in graph.args(ref.node)))


def weight_graph(graph: Graph, blobs: Iterable[Ref]) -> Graph:
    """The sub-graph of a model that computes ``blobs`` from its parameters; outputs are named as the values are."""
    roots = list(dict.fromkeys(blobs))
    needed = graph.needed(roots)
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name in needed:
            rebuild.copy(node)
    return rebuild.finish(Output(graph.value_name(ref), ref) for ref in roots)


def twice_stored(weights: Graph) -> list[str]:
    """The values of a weight graph that are in two blobs: trained, they would come apart. Not so what is fixed."""
    return [
        weights.value_name(ref)
        for ref, readers in weights.readers().items()
        if readers > 1 and not _fixed(weights, ref)
    ]


def _fixed(weights: Graph, ref: Ref) -> bool:
    op = weights.node(ref.node).op
    return op.fixed if isinstance(op, Param) else all(_fixed(weights, arg) for arg in weights.args(ref.node))
