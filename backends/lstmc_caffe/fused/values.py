"""Where elements of values come from: of a graph of one row, some of whose values are in memory already."""

from __future__ import annotations

import re

from lstmc.ir import Graph, Node, Ref
from lstmc.ops import Binary, Full
from lstmc.ops.binary import covered_axes
from lstmc_caffe.fused.arithmetic import MOVES, covering, moved
from lstmc_caffe.fused.memory import Place

J = "j"  # the index of a loop over elements
# an index that moves no element but by a fixed number of places
HERE = re.compile(r"j(?: \+ (\d+))?")


class Values:
    """The values of a graph, of which ``sources`` are known before it runs."""

    def __init__(self, graph: Graph, sources: dict[Ref, Place]) -> None:
        self.graph, self.sources = graph, sources

    def origin(self, ref: Ref, index: str = J) -> tuple[Ref, str]:
        """The value that a value only moves elements of, and where its element ``index`` is there."""
        node = self.graph.node(ref.node)
        if ref in self.sources or not isinstance(node.op, MOVES):
            return ref, index
        (operand,) = self.graph.args(node.name)
        return self.origin(operand, moved(node.op, ref.out, self.graph.type(operand).shape, index))

    def constant(self, ref: Ref) -> float | None:
        """The number that every element of a value is; None where that is not known."""
        op = self.graph.node(ref.node).op
        return op.value if isinstance(op, Full) else None

    def element_reads(self, node: Node) -> list[tuple[Ref, str]]:
        """For each operand of an op on elements: the value it comes from, and which of its elements goes with j."""
        large = node.types[0].shape
        found = []
        for ref in self.graph.args(node.name):
            small = self.graph.type(ref).shape
            index = J
            if isinstance(node.op, Binary) and small != large:
                axes = covered_axes(small, large)
                assert axes is not None
                index = covering(small, large, axes, J)
            found.append(self.origin(ref, index))
        return found

    def computed(self, ref: Ref) -> bool:
        """Whether a node of the graph has to run for it."""
        return ref not in self.sources and self.constant(ref) is None
