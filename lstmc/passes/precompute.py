"""Values that depend on parameters alone, computed once, when the weights are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight
from lstmc.ops import Full, Leaf, Param, Precomputed
from lstmc.passes.base import Pass, PassResult, Refs, check_unpeeled, in_bodies, result, with_role
from lstmc.passes.loop_motion import Hoist

LARGEST = 2**16  # elements of a value that is larger than all parameters that it is made of


@dataclass(frozen=True)
class Precompute(Pass):
    """Turn values that depend on parameters alone into weights of the net: exp(A), 1 - b, softplus(p) + q.

    1. such a value of a scan's body   => the same before the scan (``hoist`` of what is made of parameters)
    2. such a value, where others read it => precomputed(it), which is a weight; a scan has it as one

    Values that are much larger than their parameters stay: no net carries a parameter in many copies. Nets that are
    trained keep all (``trained``): from such a weight the parameter cannot be read back.
    """

    name = "precompute"
    trained: bool = False

    def requires(self, graph: Graph) -> None:
        check_unpeeled(self, graph)

    def run(self, graph: Graph) -> PassResult:
        if self.trained:
            return PassResult(graph, False)
        hoisted = Hoist(of_parameters=True).run(graph)
        counts = Counter(hoisted.counts)
        marked = _marked(hoisted.graph, counts)
        return result(graph, marked, counts)


def _marked(graph: Graph, counts: Counter[str]) -> Graph:
    alone = _made_of_parameters(graph)
    read = {ref for node in graph if node.name not in alone for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    stored = {ref for ref in read if ref.node in alone and not is_weight(graph, ref)}
    if not stored:
        return graph
    rebuild = Rebuild(graph)
    weights: dict[Ref, Ref] = {}
    for node in graph:
        args = [weights.get(ref) or rebuild.new[ref] for ref in graph.args(node.name)]
        if node.name in alone:
            args = [rebuild.new[ref] for ref in graph.args(node.name)]
        rebuild.put(node, _with_weights(rebuild.builder, node, tuple(args), graph, stored))
        for out, name in enumerate(node.names):
            ref = Ref(node.name, out)
            if ref in stored:
                counts["precompute"] += 1
                names = (f"{name}/precomputed",)
                (weights[ref],) = rebuild.builder.add(Precomputed(), rebuild.new[ref], names=names, loc=node.loc)
    return rebuild.builder.finish([(o.name, weights.get(o.ref) or rebuild.new[o.ref]) for o in graph.outputs])


def _with_weights(b: Builder, node: Node, args: Refs, graph: Graph, stored: set[Ref]) -> Refs:
    if not isinstance(node.op, Scan):
        return b.copy(node, args)
    slots = {i for i, ref in enumerate(graph.args(node.name)) if ref in stored and node.op.role(i) == "static"}
    scan = in_bodies(node.op, lambda body: with_role(body, slots, "weight"))
    return b.add(scan, *args, names=node.names, loc=node.loc)


def _made_of_parameters(graph: Graph) -> set[str]:
    """The nodes that compute something of parameters, and of nothing but parameters and constants."""
    made_of: dict[str, Mapping[str, int]] = {}  # of a node, the parameters and their sizes
    for node in graph:
        operands = graph.args(node.name)
        size = sum(prod(type_.shape) for type_ in node.types)
        if isinstance(node.op, Param | Precomputed):
            made_of[node.name] = {node.name: size}
        elif not isinstance(node.op, Leaf | Scan) and all(
            ref.node in made_of or _is_fill(graph, ref) for ref in operands
        ):
            sources = {name: n for ref in operands for name, n in made_of.get(ref.node, {}).items()}
            if sources and size <= max(LARGEST, sum(sources.values())):
                made_of[node.name] = sources
    return {name for name in made_of if not isinstance(graph.node(name).op, Param)}


def _is_fill(graph: Graph, ref: Ref) -> bool:
    return isinstance(graph.node(ref.node).op, Full)
