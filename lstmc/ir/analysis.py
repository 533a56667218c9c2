"""What depends on what, through scans and the states that they carry from step to step."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lstmc.ir.graph import Graph
from lstmc.ir.node import Node, Ref
from lstmc.ir.scan import Scan

Found = Callable[[Graph, set[Ref]], None]


def depending(
    graph: Graph, starts: Callable[[Node], bool], found: Found | None = None, given: Collection[str] = ()
) -> set[Ref]:
    """The values that depend on a node which ``starts`` picks, or on one of the leaves called ``given``.

    Inside a scan an argument depends on what its operand does, a state also on the states before it; a last state on
    its first value too. ``found`` is told what it is in each graph, bodies before what they stand in.
    """
    values: set[Ref] = set()
    for node in graph:
        args = graph.args(node.name)
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if isinstance(node.op, Scan):
            values.update(refs[i] for i in _results(node.op, [ref in values for ref in args], starts, found))
        elif starts(node) or node.name in given or not values.isdisjoint(args):
            values.update(refs)
    if found is not None:
        found(graph, values)
    return values


def _results(scan: Scan, operands: list[bool], starts: Callable[[Node], bool], found: Found | None) -> list[int]:
    """Which results of a scan depend so, given which of its operands do."""
    args = [arg.name for arg in scan.body.body_args()]
    given = {name for name, depends in zip(args, operands, strict=True) if depends}
    states = [name for i, name in enumerate(args) if scan.role(i) == "state"]
    while True:
        values = depending(scan.body, starts, found, given)
        more = {s for s, o in zip(states, scan.next_states, strict=True) if o.ref in values} - given
        if not more:
            last = [None] * len(scan.step_outputs) + states
            results = zip(scan.body.outputs, last, strict=True)
            return [i for i, (output, state) in enumerate(results) if output.ref in values or state in given]
        given |= more
