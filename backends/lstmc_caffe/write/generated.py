"""The C++ of a net's generated layers."""

from __future__ import annotations

from lstmc.ir import Graph
from lstmc_caffe.fused.code import layer_code, source
from lstmc_caffe.fused.op import FusedScan
from lstmc_caffe.fused.plan import plan_of

SUFFIX = ".layers.cpp"


def layers_source(graph: Graph) -> str | None:
    """The source of all generated layers of a net's graph; None where it has none."""
    layers = [layer_code(plan_of(node.op, node.op.initial)) for node in graph if isinstance(node.op, FusedScan)]
    return source(graph.name, layers) if layers else None
