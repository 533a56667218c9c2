"""The C++ of a net's generated layers."""

from __future__ import annotations

from lstmc.ir import Graph
from lstmc_caffe.fused.code import layer_code, source
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.fused.plan import plan_of
from lstmc_caffe.fused.plan_text import memory_text, plan_text
from lstmc_caffe.fused.rows import batch_of

SUFFIX = ".layers.cpp"


def layers_source(graph: Graph) -> str | None:
    """The source of all generated layers of a net's graph; None where it has none."""
    layers = [layer_code(plan_of(node.op, node.op.initial)) for node in graph if isinstance(node.op, FusedScan)]
    return source(graph.name, layers) if layers else None


def layers_text(graph: Graph) -> str:
    """What each generated layer of a net's graph does, for people; empty where it has none."""
    texts = []
    for node in graph:
        if isinstance(node.op, FusedScan):
            plan = plan_of(node.op, node.op.initial)
            texts.append(plan_text(plan) + memory_text(plan, node.op.length, batch_of(node.op)))
    return "\n".join(texts)
