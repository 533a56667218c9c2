"""Making a graph like another one: nodes are copied, replaced or left out, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lstmc.ir.graph import Builder, Graph
from lstmc.ir.node import Node, Output, Ref
from lstmc.ops import Leaf


class Rebuild:
    """A graph that is being made from another one, node by node, and what stands in it for the old one's values.

    ``builder`` takes the new nodes; ``new`` has the new value for each old one that has one.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(graph.name, graph)
        self.new: dict[Ref, Ref] = {}

    def args(self, node: Node) -> tuple[Ref, ...]:
        """What stands for the operands of a node of the old graph."""
        return tuple([self.new[ref] for ref in self.graph.args(node.name)])

    def copy(self, node: Node, operands: Sequence[Ref] | None = None) -> tuple[Ref, ...]:
        """Add a node like an old one, to stand for it: on what stands for its operands, or on other ``operands``."""
        made = self.builder.copy(node, self.args(node) if operands is None else operands)
        self.put(node, made)
        return made

    def put(self, node: Node, values: Sequence[Ref] | Mapping[int, Ref]) -> None:
        """Let new values stand for an old node's: for all in order, or for those at the given positions."""
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for out, ref in items:
            self.new[Ref(node.name, out)] = ref

    def finish(self, outputs: Iterable[Output] | None = None) -> Graph:
        """The new graph, with the old one's outputs or with these of the old one's values."""
        return self.builder.finish(renewed(self.graph.outputs if outputs is None else outputs, self.new))


def renewed(outputs: Iterable[Output], new: Mapping[Ref, Ref]) -> list[Output]:
    """Outputs of the values that stand for the old ones. Where an input is gone, nothing is carried to it."""
    return [
        Output(output.name, new[output.ref], new.get(output.carried_to) if output.carried_to else None)
        for output in outputs
    ]


def rename_values(graph: Graph, names: Mapping[Ref, str]) -> Graph:
    """The same graph with some values called otherwise; leaves keep their names, others make way."""
    wanted = {ref: name for ref, name in names.items() if not isinstance(graph.node(ref.node).op, Leaf)}
    reserved = set(wanted.values())
    rebuild = Rebuild(graph)
    for node in graph:
        keep = isinstance(node.op, Leaf)
        shown = tuple(
            wanted.get(Ref(node.name, out), f"{name}_2" if name in reserved and not keep else name)
            for out, name in enumerate(node.names)
        )
        rebuild.put(node, rebuild.builder.copy(replace(node, names=shown), rebuild.args(node)))
    return rebuild.finish()
