"""Which values have an axis of time."""

from __future__ import annotations

from collections.abc import Iterator

from lstmc.ir.graph import Graph
from lstmc.ir.node import Node, Ref
from lstmc.ir.scan import Scan
from lstmc.ops import Conv, Embed, Linear, Op, Param, Sum


def values_over_time(graph: Graph) -> set[Ref]:
    """The values that have an axis of time, first: found from what scans read and give, both ways along ops."""
    found: set[Ref] = set()
    for node in graph:
        if isinstance(node.op, Scan):
            found |= {ref for i, ref in enumerate(graph.args(node.name)) if node.op.role(i) == "x"}
            found |= {Ref(node.name, i) for i in range(len(node.op.step_outputs))}
    while True:
        before = len(found)
        for node in graph:
            if isinstance(node.op, Scan) or _ends_time(node.op):
                continue
            results = {Ref(node.name, i) for i in range(len(node.types))}
            carried = set(_carriers(graph, node))
            if found & (results | carried):
                found |= results | carried
        if len(found) == before:
            return found


def _ends_time(op: Op) -> bool:
    """Whether an op has one result of all steps together."""
    return op.for_training or (isinstance(op, Sum) and op.axis == 0)


def _carriers(graph: Graph, node: Node) -> Iterator[Ref]:
    """The operands that would carry time into a node's result: those of its rank, not weights."""
    for slot, ref in enumerate(graph.args(node.name)):
        type_ = graph.type(ref)
        alike = slot == 0 if isinstance(node.op, Linear | Conv | Embed) else type_.rank >= node.types[0].rank
        # one of 1 is repeated along time, unless there is but one step
        long = type_.shape[:1] != (1,) or node.types[0].shape[:1] == (1,)
        if alike and long and type_.rank and not isinstance(graph.node(ref.node).op, Param):
            yield ref
