"""Weights are graph too: blobs that a pass packs, cuts or negates are computed from the user's parameters.

Only ops that move elements, or change every sign, may stand between a parameter and a blob: so training the blob is
training the parameter, and the parameter can be read back from the trained blob exactly. In a net that is not trained
a blob may be any function of parameters, marked as :class:`~lstmc.ops.Precomputed`; they are not read back from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lstmc.ir.graph import Builder, Graph, Output, Ref
from lstmc.ir.rebuild import Rebuild
from lstmc.ir.scan import Scan
from lstmc.ops import Affine, Arg, Concat, Full, Leaf, Op, Param, Precomputed, Reshape, Split, Transpose

NEGATE = Affine(-1.0, 0.0)


def is_weight_op(op: Op) -> bool:
    """Return whether an op on weights gives a weight."""
    return type(op) in (Concat, Split, Reshape, Transpose) or op == NEGATE


def is_weight(graph: Graph | Builder, ref: Ref) -> bool:
    """Return whether a value is a parameter, a precomputed value, a body's weight argument, or a weight op of such
    values.
    """
    op = graph.node(ref.node).op
    if isinstance(op, Arg):
        return op.role == "weight"
    if isinstance(op, Param | Precomputed):
        return True
    return is_weight_op(op) and all(is_weight(graph, arg) for arg in graph.args(ref.node))


def made_of_parameters(graph: Graph | Builder, *refs: Ref, known: Collection[Ref] = ()) -> bool:
    """Return whether values are computed from parameters (or what stands for one), and from nothing else but constants.

    It walks to the leaves, or to values that are ``known`` to be so.
    """
    seen, stack, parameters = set(refs), list(refs), False
    while stack:
        ref = stack.pop()
        op = graph.node(ref.node).op
        if ref in known or (isinstance(op, Arg | Param | Precomputed) and is_weight(graph, ref)):
            parameters = True
            continue
        if isinstance(op, Scan) or (isinstance(op, Leaf) and not isinstance(op, Full)):
            return False
        operands = set(graph.args(ref.node)) - seen
        seen |= operands
        stack += operands
    return parameters


def precomputed_nodes(graph: Graph) -> set[str]:
    """The nodes that compute weights from parameters, once; those that mark them among them."""
    marked = [Ref(node.name) for node in graph if isinstance(node.op, Precomputed)]
    return {name for name in graph.needed(marked) if not isinstance(graph.node(name).op, Param)}


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
    """Return the trained values of a weight graph that are stored in two blobs, which training would make different."""
    return [
        weights.value_name(ref)
        for ref, readers in weights.readers().items()
        if readers > 1 and not _fixed(weights, ref)
    ]


def _fixed(weights: Graph, ref: Ref) -> bool:
    op = weights.node(ref.node).op
    return op.fixed if isinstance(op, Param) else all(_fixed(weights, arg) for arg in weights.args(ref.node))
