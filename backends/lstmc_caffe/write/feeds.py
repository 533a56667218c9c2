"""The host's part of running a net: fill its blobs from the model's inputs, and read the model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lstmc.interp import named_rng
from lstmc.ir import Graph, Node, Ref
from lstmc.ops import Array, Input
from lstmc.types import TensorType
from lstmc_caffe.ops import Feed, FilledInput, HostInput, HostStack, View


@dataclass(frozen=True)
class Fed:
    """An input of the model and its blobs: one, or one for each step, None for a step that nothing reads.

    ``filled``: the net fills it by itself.
    """

    node: Node
    blobs: tuple[tuple[str, TensorType] | None, ...]

    @property
    def filled(self) -> bool:
        return isinstance(self.node.op, FilledInput)


def fed_inputs(graph: Graph) -> list[Fed]:
    """Return every input of an expanded graph."""
    feeds: dict[str, list[Node]] = {}
    for node in graph:
        if isinstance(node.op, Feed):
            feeds.setdefault(graph.args(node.name)[0].node, []).append(node)
    inputs = []
    for node in graph:
        if isinstance(node.op, HostInput):
            inputs.append(Fed(node, _by_step(feeds.get(node.name, []), node.types[0].shape[0])))
        elif isinstance(node.op, Input):
            inputs.append(Fed(node, ((node.name, node.types[0]),)))
    return inputs


def _by_step(feeds: list[Node], steps: int) -> tuple[tuple[str, TensorType] | None, ...]:
    """Return the blob of the whole input, or those of its steps by index."""
    blobs = {feed.op.step: (feed.name, feed.types[0]) for feed in feeds if isinstance(feed.op, Feed)}
    return tuple(map(blobs.get, range(steps))) if blobs.keys() - {None} else tuple(blobs.values())


def read_blobs(graph: Graph, output: Ref) -> tuple[Ref, ...]:
    """Return the blobs of an output: one, or one for each step."""
    node = graph.node(output.node)
    if not isinstance(node.op, View | HostStack):
        return (output,)
    return tuple(blob for ref in graph.args(node.name) for blob in read_blobs(graph, ref))


def input_arrays(model: Graph, graph: Graph, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """Return an array for each input that the net does not fill itself; a missing one with a fill is drawn."""
    arrays: dict[str, Array] = {}
    for fed in fed_inputs(graph):
        if fed.filled:
            continue
        name = fed.node.name
        array, op = inputs.get(name), model.node(name).op
        if array is None and isinstance(op, Input) and op.fill is not None:
            array = op.fill.draw(named_rng(seed, name), op.shape)
        assert array is not None, name
        arrays[name] = np.asarray(array, np.float32)
    return arrays


def feed_blobs(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the blobs to feed, from the arrays of the model's inputs."""
    blobs = {}
    for node in graph:
        if isinstance(node.op, Feed):
            (blobs[node.name],) = node.op.eval(arrays[graph.args(node.name)[0].node])
        elif isinstance(node.op, Input) and not isinstance(node.op, HostInput) and node.name in arrays:
            blobs[node.name] = arrays[node.name]
    return blobs


def host_values(graph: Graph, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the values that the host computes from blobs, such as sequences, by name."""
    available = dict(blobs)
    values = {}
    for node in graph:
        if isinstance(node.op, View | HostStack):
            (value,) = node.op.eval(*[available[graph.value_name(ref)] for ref in graph.args(node.name)])
            available[node.name] = values[node.name] = value
    return values


def blob_gradients(graph: Graph, cotangents: Mapping[str, Array]) -> dict[str, Array]:
    """Return gradients of the model's outputs as gradients of their blobs; two of one blob add up."""
    gradients: dict[str, Array] = {}

    def add(ref: Ref, gradient: Array) -> None:
        node = graph.node(ref.node)
        if isinstance(node.op, View | HostStack):
            operands = graph.args(node.name)
            shapes = [np.empty(graph.type(arg).shape, gradient.dtype) for arg in operands]
            for arg, part in zip(operands, node.op.vjp((gradient,), (gradient,), *shapes), strict=True):
                assert part is not None
                add(arg, part)
            return
        blob = graph.value_name(ref)
        gradients[blob] = gradients[blob] + gradient if blob in gradients else gradient

    for output in graph.outputs:
        if output.name in cotangents:
            add(output.ref, np.asarray(cotangents[output.name]))
    return gradients


def input_gradients(graph: Graph, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Return gradients of fed blobs as gradients of the model's inputs."""
    totals: dict[str, Array] = {}
    for node in graph:
        if node.name not in gradients:
            continue
        if isinstance(node.op, Feed):
            source = graph.args(node.name)[0]
            (part,) = node.op.vjp((gradients[node.name],), (), np.empty(graph.type(source).shape, np.float32))
            assert part is not None
            totals[source.node] = totals[source.node] + part if source.node in totals else part
        elif isinstance(node.op, Input) and not isinstance(node.op, HostInput):
            totals[node.name] = gradients[node.name]
    return totals
