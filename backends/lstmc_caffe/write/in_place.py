"""Layers that may overwrite their bottom: one blob less, where nothing else looks at it."""

from __future__ import annotations

from collections.abc import Collection

from lstmc.ir import Graph, Node, Ref
from lstmc_caffe import ops as caffe

# Their backward reads their top, or their bottom's sign, which is the top's too (sigmoid_layer.cpp, tanh_layer.cpp,
# relu_layer.cpp, elu_layer.cpp); AbsVal, Log and Power read their bottom's value.
OVERWRITING = (caffe.SigmoidLayer, caffe.TanHLayer, caffe.ReLULayer, caffe.ELULayer)
# Layers whose backward does not read their top, and whose top is memory of its own. Not so an activation (it reads its
# top), Reshape and Split (their top is their bottom's memory), nor a Slice or Concat of one.
OVERWRITTEN = (
    *(caffe.InnerProduct, caffe.Eltwise, caffe.Bias, caffe.Scale, caffe.SliceLayer, caffe.ConcatLayer),
    *(caffe.EmbedLayer, caffe.Convolution, caffe.MaxPooling, caffe.AvePooling),
)


def overwritten(graph: Graph, kept: Collection[str] = ()) -> dict[Ref, str]:
    """The values whose blob an activation may work in, and the name of that blob afterwards: the activation's.

    A value qualifies if the activation is its one reader, it is no output, its name is not in ``kept``, and the
    layer that makes it can do without it in the backward pass.
    """
    readers = graph.readers()
    found = {}
    for node in graph:
        if type(node.op) in OVERWRITING:
            (bottom,) = graph.args(node.name)
            if readers[bottom] == 1 and graph.value_name(bottom) not in kept and _own_memory(graph, bottom):
                found[bottom] = node.name
    return found


def _own_memory(graph: Graph, value: Ref) -> bool:
    node: Node = graph.node(value.node)
    if isinstance(node.op, caffe.SliceLayer):
        return len(node.types) > 1
    if isinstance(node.op, caffe.ConcatLayer):
        return len(graph.args(node.name)) > 1
    return type(node.op) in OVERWRITTEN
