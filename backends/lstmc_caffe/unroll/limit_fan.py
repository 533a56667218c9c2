"""No layer with very many tops or bottoms: Caffe's time to load grows with their square."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lstmc.errors import PassError
from lstmc.ir import Builder, Graph, Node, Ref, is_weight
from lstmc.passes import Pass, PassResult, Refs, result, rewrite
from lstmc_caffe.ops import ConcatLayer, SliceLayer
from lstmc_caffe.unroll.fan import FAN, concat_tree, slice_tree, split_tree


@dataclass(frozen=True)
class LimitFan(Pass):
    """Make trees of what is cut, joined or read more than ``most`` times.

    1. a Slice with more tops      => Slices of Slices
    2. a Concat with more bottoms  => a Concat of Concats
    3. a value with more readers   => Splits of Splits, each reader having its own top (Caffe would insert one Split)

    Sequences are cut and joined by trees to begin with (``CaffeTimeAxis``); here is what else a model has.
    """

    name = "limit_fan"
    most: int = FAN

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        wide = {ref for ref, n in _layers_reading(graph).items() if n > self.most and not is_weight(graph, ref)}
        wide_nodes = any(self._is_wide(graph, node) for node in graph)
        if not wide and not wide_nodes:
            return result(graph, graph, counts)
        return result(graph, _Trees(graph, self, wide, counts).run(), counts)

    def ensures(self, graph: Graph) -> None:
        for node in graph:
            if self._is_wide(graph, node):
                raise PassError(f"limit_fan left %{node.name} with more than {self.most} tops or bottoms")

    def _is_wide(self, graph: Graph, node: Node) -> bool:
        if len(node.types) > self.most:
            return type(node.op) is SliceLayer
        return type(node.op) is ConcatLayer and len(graph.args(node.name)) > self.most


def _layers_reading(graph: Graph) -> Counter[Ref]:
    """How many bottoms read each value (or blobs of layers: weights are shared by name, and have no tops)."""
    readers = Counter(graph.readers())
    readers.subtract(output.ref for output in graph.outputs)
    return readers


class _Trees:
    def __init__(self, graph: Graph, bound: LimitFan, wide: set[Ref], counts: Counter[str]) -> None:
        self.graph, self.most, self.counts = graph, bound.most, counts
        self.readers = {ref: count for ref, count in _layers_reading(graph).items() if ref in wide}
        self.copies: dict[Ref, Iterator[Ref]] = {}

    def run(self) -> Graph:
        return rewrite(self.graph, self._visit)

    def _visit(self, b: Builder, node: Node, args: Refs) -> Refs | None:
        old = self.graph.args(node.name)
        args = tuple(next(self.copies[was]) if was in self.copies else ref for was, ref in zip(old, args, strict=True))
        made = self._narrow(b, node, args)
        for out, ref in enumerate(made):
            if (count := self.readers.get(Ref(node.name, out), 0)) > 0:
                self.counts["split_readers"] += 1
                names = [f"{node.names[out]}_copy{i}" for i in range(count)]
                steps = (node.of_step(out),) * count
                self.copies[Ref(node.name, out)] = iter(split_tree(b, ref, names, steps, self.most))
        return made

    def _narrow(self, b: Builder, node: Node, args: Refs) -> Refs:
        op = node.op
        if isinstance(op, SliceLayer) and len(op.sizes) > self.most:
            self.counts["slice_of_slices"] += 1
            return slice_tree(b, args[0], op.axis, op.sizes, node.names, node.steps, self.most)
        if isinstance(op, ConcatLayer) and len(args) > self.most:
            self.counts["concat_of_concats"] += 1
            return (concat_tree(b, args, op.axis, node.name, node.step, self.most),)
        return b.copy(node, args)
