"""The net of a compiled graph: the tensors of its values, and the operators of its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.backend import Compiled
from lstmc.errors import LstmcError
from lstmc.interp import forward
from lstmc.ir import Graph, Node, Ref, weight_graph
from lstmc.numerics.sequences import constants
from lstmc.ops import Array, Input, Param, Unstack
from lstmc_tflite.lowerings import lowering_of
from lstmc_tflite.net import Call, Net, Tensor


@dataclass
class Written:
    """A net with the tensors of its graph's values, and the graph of its weights."""

    net: Net
    weights: Graph
    tensors: dict[Ref, Tensor] = field(default_factory=dict)


def write_net(compiled: Compiled, params: Mapping[str, Array]) -> Written:
    """Return the net of a graph with these parameters. Tensors are called as values are; states are inputs and outputs.

    Raises :class:`BackendError`, at its line, for what cannot be written.
    """
    graph = compiled.expanded
    fixed = constants(graph)
    read = {ref for node in graph if node.name not in fixed for ref in graph.args(node.name)}
    read |= {output.ref for output in graph.outputs}
    stored = [ref for ref in graph.refs() if ref.node in fixed and ref in read]
    written = Written(Net(compiled.name), weight_graph(graph, (ref for ref in stored if _of_parameters(graph, ref))))
    values = forward(weight_graph(graph, stored), params=params, dtype=np.float32).outputs
    for ref in stored:
        written.tensors[ref] = written.net.constant(graph.value_name(ref), values[graph.value_name(ref)])
    for node in graph:
        if node.name not in fixed:
            _write(written, graph, node)
    for output in graph.outputs:
        written.net.outputs[output.name] = _output(written, graph, output.ref, output.name)
    written.net.keep_live()
    written.net.copy_before_views()
    return written


def _write(written: Written, graph: Graph, node: Node) -> None:
    net = written.net
    net.node = node.name
    if isinstance(node.op, Input):
        tensor = net.tensor(node.name, _input_shape(graph, node))
        net.inputs[node.name] = written.tensors[Ref(node.name)] = tensor
        return
    call = Call(node.op, [written.tensors[ref] for ref in graph.args(node.name)], node.types, node.names)
    try:
        results = lowering_of(node.op)(net, call)
    except LstmcError as error:
        raise error.located(node.loc) from None
    written.tensors |= {Ref(node.name, out): tensor for out, tensor in enumerate(results)}


def _input_shape(graph: Graph, node: Node) -> tuple[int, ...]:
    """Return the shape of an input in the net: of a sequence of one step that step's."""
    readers = [each for each in graph if Ref(node.name) in graph.args(each.name)]
    shape = node.types[0].shape
    given = any(output.ref == Ref(node.name) for output in graph.outputs)
    is_sequence = bool(readers) and not given and shape[:1] == (1,) and all(isinstance(r.op, Unstack) for r in readers)
    return shape[1:] if is_sequence else shape


def _output(written: Written, graph: Graph, ref: Ref, name: str) -> Tensor:
    """Return the tensor of an output: computed, in any shape; of an input or a constant a copy."""
    net, tensor = written.net, written.tensors[ref]
    while tensor.view is not None:
        tensor = tensor.view
    if tensor.data is None and tensor not in net.inputs.values():
        return tensor
    flat = (prod(tensor.shape),) if tensor.rank != 1 else (1, prod(tensor.shape))
    return net.add("RESHAPE", [tensor, net.index(np.array(flat, np.int32))], flat, name, newShape=list(flat))


def _of_parameters(graph: Graph, ref: Ref) -> bool:
    return any(isinstance(graph.node(name).op, Param) for name in graph.needed([ref]))
