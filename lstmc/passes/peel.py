"""The first step, peeled: known zero states make it simpler."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lstmc.ir import Builder, Graph, Node, Rebuild, Scan
from lstmc.ops import Full
from lstmc.passes.base import Pass, PassResult, Refs, result, rewrite
from lstmc.passes.cse import without_repeats
from lstmc.passes.dead import pruned
from lstmc.passes.simplify import simplified


@dataclass(frozen=True)
class Peel(Pass):
    """Give each scan that starts from a constant its own first step.

    1. scan(body) from full initial states => scan(body, first), where first is the body with those states put in
       and simplified: a product with a zero state is gone, and so is the matrix that it was multiplied by
    """

    name = "peel"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if not isinstance(node.op, Scan) or node.op.first is not None:
                return None
            first = _first_step(node.op, b, args)
            if first is None:
                return None
            counts["peel_first_step"] += 1
            return b.add(replace(node.op, first=first), *args, names=node.names, loc=node.loc)

        return result(graph, rewrite(graph, visit), counts)


def _first_step(scan: Scan, b: Builder, operands: Refs) -> Graph | None:
    constants = {
        arg.name: op
        for i, (arg, ref) in enumerate(zip(scan.body.body_args(), operands, strict=True))
        if scan.role(i) == "state" and isinstance(op := b.node(ref.node).op, Full)
    }
    if not constants:
        return None
    rebuild = Rebuild(scan.body)
    for node in scan.body:
        rebuild.copy(node)
        if node.name in constants:
            rebuild.put(node, rebuild.builder.add(constants[node.name], loc=node.loc))
    counts: Counter[str] = Counter()
    first = without_repeats(simplified(rebuild.finish(), counts), counts)
    return pruned(first, first.outputs, {arg.name for arg in first.body_args()})
