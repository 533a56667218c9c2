"""Blobs without capital letters, for readers that lose them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from lstmc.ir import Graph, Node, Output, Rebuild, Ref
from lstmc.passes import Pass, PassResult, result
from lstmc_caffe import ops as caffe
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class LowerCase(Pass):
    """Call every blob in small letters, where the target asks for that; the model's names stay in the manifest.

    1. a layer => one of that name in small letters, with a number where another has it
    2. an Input => an input of the host, and the blob that is fed from it so
    """

    name = "lower_case"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        if self.target.names != "lower" or not any(_capital(node) for node in graph):
            return PassResult(graph, False)
        counts: Counter[str] = Counter()
        rebuild = Rebuild(graph)
        taken = {name for node in graph for name in node.names}
        sources: dict[Ref, Ref] = {}
        for node in graph:
            if not _capital(node):
                rebuild.copy(node)
                continue
            names = tuple(_free(name.lower(), taken) if name.lower() != name else name for name in node.names)
            if isinstance(node.op, caffe.InputLayer):
                counts["feed"] += 1
                source = rebuild.builder.copy(node, (), caffe.HostInput(node.op.shape, node.op.fill, node.op.values))
                feed = rebuild.builder.add(caffe.Feed(node.op.shape), *source, names=names, loc=node.loc)
                rebuild.put(node, feed)
                sources[Ref(node.name)] = source[0]
            else:
                counts["rename"] += 1
                rebuild.put(node, rebuild.builder.copy(replace(node, names=names), rebuild.args(node)))
        renewed = {**rebuild.new, **sources}  # what is carried to an input is carried to the host's
        outputs = [
            Output(o.name, rebuild.new[o.ref], o.carried_to and renewed.get(o.carried_to)) for o in graph.outputs
        ]
        return result(graph, rebuild.builder.finish(outputs), counts)


def _capital(node: Node) -> bool:
    if not isinstance(node.op, caffe.CaffeOp) or isinstance(node.op, caffe.HostInput | caffe.HostStack | caffe.View):
        return False
    return any(name != name.lower() for name in node.names)


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
