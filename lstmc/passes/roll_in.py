"""Into a loop: what is computed on whole sequences is computed step by step, for targets that cannot cut time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lstmc.ir import (
    Builder,
    Graph,
    Node,
    Ref,
    Scan,
    is_weight,
    of_step,
    op_of_step,
    precomputed_nodes,
    values_over_time,
)
from lstmc.ops import Arg, Full, Input, Param, Role
from lstmc.passes.base import Pass, PassResult, Refs, result, rewrite


@dataclass(frozen=True)
class RollIn(Pass):
    """The reverse of ``hoist`` and ``sink``.

    1. op on sequences [T, ...] => scan of T steps without a state, whose body is the op on one step; a parameter of
       that many steps is a sequence where the op has no such form else

    What is precomputed stays: it is a weight of the net, and no layer computes it.
    """

    name = "roll_in"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        lengths = {node.op.length for node in graph if isinstance(node.op, Scan)}
        weights = precomputed_nodes(graph)
        over_time = {
            ref for ref in values_over_time(graph) if graph.type(ref).rank > 1 and graph.type(ref).shape[0] in lengths
        }
        kept = Scan | Input | Full

        def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
            if Ref(node.name) not in over_time or node.name in weights or isinstance(node.op, kept):
                return None
            steps = node.types[0].shape[0]
            operands = graph.args(node.name)
            mapped = [ref in over_time and graph.type(ref).shape[0] == steps for ref in operands]
            of_steps = [
                is_mapped or (isinstance(graph.node(ref.node).op, Param) and graph.type(ref).shape[:1] == (steps,))
                for ref, is_mapped in zip(operands, mapped, strict=True)
            ]
            scan = _scan_of(b, node, args, mapped) or _scan_of(b, node, args, of_steps)
            if scan is None:
                return None
            counts["op_to_scan"] += 1
            return b.add(scan, *args, names=node.names, loc=node.loc)

        return result(graph, rewrite(graph, visit), counts)


def _scan_of(b: Builder, node: Node, args: Refs, mapped: list[bool]) -> Scan | None:
    op = op_of_step(node.op, [b.type(ref) for ref in args], mapped)
    if op is None:
        return None
    body = Builder(node.name)
    operands: list[Ref] = []
    for i, (ref, m) in enumerate(zip(args, mapped, strict=True)):
        type_ = of_step(b.type(ref)) if m else b.type(ref)
        role: Role = "x" if m else "weight" if is_weight(b, ref) else "static"
        operands += body.add(Arg(type_.shape, role), names=(f"x{i}",))
    made = body.add(op, *operands, names=node.names, loc=node.loc)
    return Scan(body.finish(list(zip(node.names, made, strict=True))), node.types[0].shape[0])
