"""Dropout as training has it, with the draws given: so that one iteration can be computed twice."""

from __future__ import annotations

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Scan
from lstmc.ops import Dropout, Input, Mul
from lstmc.passes.base import Refs, rewrite


def mask_name(dropout: str) -> str:
    """What the mask of a dropout's node is called as an input."""
    return f"{dropout}/mask"


def fixed_masks(graph: Graph) -> Graph:
    """An expanded graph whose dropouts multiply by arrays that are fed.

    1. dropout(x), called NAME => x * mask, mask an input called :func:`mask_name` of x's shape: 0, or 1 / (1 - ratio)

    Refused: a scan with a dropout in its body, whose steps each have a mask of their own.
    """

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Scan) and any(_drops(body) for body in node.op.bodies):
            raise PassError(
                f"fixed masks of {graph.name}: expected an expanded graph, found a scan with a dropout", loc=node.loc
            )
        if not isinstance(node.op, Dropout):
            return None
        mask = b.add(Input(node.types[0].shape), names=(mask_name(node.name),), loc=node.loc)
        return b.add(Mul(), *args, *mask, names=node.names, loc=node.loc)

    return rewrite(graph, visit)


def _drops(body: Graph) -> bool:
    return any(isinstance(node.op, Dropout) for node in body)
