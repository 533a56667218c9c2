"""Common-subexpression elimination."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from lstmc.ir import Builder, Graph, Node, Scan
from lstmc.ops import Arg, Input, Param
from lstmc.passes.base import Pass, PassResult, Refs, in_bodies, result, rewrite


@dataclass(frozen=True)
class Cse(Pass):
    """Merge equal computations.

    1. two nodes with the same op on the same operands => one node

    Inputs, parameters and arguments are who they are: two of them are never the same.
    """

    name = "cse"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, without_repeats(graph, counts), counts)


def without_repeats(graph: Graph, counts: Counter[str]) -> Graph:
    """The graph with every repeated node merged into the first; ``counts`` gains ``merge_repeat``."""
    seen: dict[Any, Refs] = {}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if isinstance(node.op, Input | Param | Arg):
            return None
        op = node.op
        if isinstance(op, Scan):
            op = in_bodies(op, lambda body: without_repeats(body, counts))
        if (op, args) in seen:
            counts["merge_repeat"] += 1
        else:
            seen[op, args] = b.add(op, *args, names=node.names, loc=node.loc)
        return seen[op, args]

    return rewrite(graph, visit)
