"""Blobs whose names are words, for readers that write programs and call variables so."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from keyword import kwlist

from lstmc.ir import Graph, Node, Output, Rebuild, Ref
from lstmc.passes import Pass, PassResult, result
from lstmc_caffe import ops as caffe
from lstmc_caffe.targets.target import Target


@dataclass(frozen=True)
class WordNames(Pass):
    """Call every blob by small letters, digits and ``_`` alone, where the target asks for that; the model's names stay
    in the manifest.

    1. a layer => one whose name is such a word, with a number where another one has it, or Python takes it for its own
    2. an Input => an input of the host, and the blob that is fed from it so

    ``a/b_2`` and ``a_b/2`` are two names, and a reader that writes ``_`` for ``/`` would take them for one.
    """

    name = "word_names"
    target: Target

    def run(self, graph: Graph) -> PassResult:
        if self.target.names != "words" or not any(_to_rename(node) for node in graph):
            return PassResult(graph, False)
        counts: Counter[str] = Counter()
        rebuild = Rebuild(graph)
        taken = {name for node in graph for name in node.names} | set(kwlist)
        sources: dict[Ref, Ref] = {}
        for node in graph:
            if not _to_rename(node):
                rebuild.copy(node)
                continue
            names = tuple(name if _is_word(name) else _free(_word(name), taken) for name in node.names)
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


def _to_rename(node: Node) -> bool:
    if not isinstance(node.op, caffe.CaffeOp) or isinstance(node.op, caffe.HostInput | caffe.HostStack | caffe.View):
        return False
    return not all(map(_is_word, node.names))


def _is_word(name: str) -> bool:
    return _word(name) == name and name not in kwlist


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name.lower(), flags=re.ASCII)


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
