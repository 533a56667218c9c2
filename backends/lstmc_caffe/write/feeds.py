"""What whoever runs a net has to do: fill its blobs from the model's inputs, and read the model's outputs from it."""

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
    """An input of the model and the blobs it fills: one, or one for each step, None where nothing reads that step.

    ``filled``: the net fills it itself.
    """

    node: Node
    blobs: tuple[tuple[str, TensorType] | None, ...]

    @property
    def filled(self) -> bool:
        return isinstance(self.node.op, FilledInput)


def fed_inputs(graph: Graph) -> list[Fed]:
    """Every input of an expanded graph."""
    feeds: dict[str, list[Node]] = {}
    for node in graph:
        if isinstance(node.op, Feed):
            feeds.setdefault(graph.args(node.name)[0].node, []).append(node)
    found = []
    for node in graph:
        if isinstance(node.op, HostInput):
            found.append(Fed(node, _by_step(feeds.get(node.name, []), node.types[0].shape[0])))
        elif isinstance(node.op, Input):
            found.append(Fed(node, ((node.name, node.types[0]),)))
    return found


def _by_step(feeds: list[Node], steps: int) -> tuple[tuple[str, TensorType] | None, ...]:
    """One blob of the whole input, or those of its steps at their places."""
    blobs = {feed.op.step: (feed.name, feed.types[0]) for feed in feeds if isinstance(feed.op, Feed)}
    return tuple(map(blobs.get, range(steps))) if blobs.keys() - {None} else tuple(blobs.values())


def read_blobs(graph: Graph, output: Ref) -> tuple[Ref, ...]:
    """The blobs that an output is read from: one, or one for each step."""
    node = graph.node(output.node)
    if not isinstance(node.op, View | HostStack):
        return (output,)
    return tuple(blob for ref in graph.args(node.name) for blob in read_blobs(graph, ref))


def given_arrays(model: Graph, graph: Graph, inputs: Mapping[str, Array], seed: int = 0) -> dict[str, Array]:
    """An array for each input that the net does not fill itself; one that has a fill and is not given is drawn."""
    found: dict[str, Array] = {}
    for fed in fed_inputs(graph):
        if fed.filled:
            continue
        name = fed.node.name
        given, op = inputs.get(name), model.node(name).op
        if given is None and isinstance(op, Input) and op.fill is not None:
            given = op.fill.draw(named_rng(seed, name), op.shape)
        assert given is not None, name
        found[name] = np.asarray(given, np.float32)
    return found


def feed_blobs(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The blobs to feed, from the arrays of the model's inputs."""
    found = {}
    for node in graph:
        if isinstance(node.op, Feed):
            (found[node.name],) = node.op.eval(arrays[graph.args(node.name)[0].node])
        elif isinstance(node.op, Input) and not isinstance(node.op, HostInput) and node.name in arrays:
            found[node.name] = arrays[node.name]
    return found


def host_values(graph: Graph, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """What the host reads from blobs: sequences and other shapes, by the names of their values."""
    known = dict(blobs)
    found = {}
    for node in graph:
        if isinstance(node.op, View | HostStack):
            (value,) = node.op.eval(*[known[graph.value_name(ref)] for ref in graph.args(node.name)])
            known[node.name] = found[node.name] = value
    return found


def blob_gradients(graph: Graph, cotangents: Mapping[str, Array]) -> dict[str, Array]:
    """Gradients of the model's outputs as gradients of the blobs they are read from; two of one blob add up."""
    found: dict[str, Array] = {}

    def give(ref: Ref, gradient: Array) -> None:
        node = graph.node(ref.node)
        if isinstance(node.op, View | HostStack):
            operands = graph.args(node.name)
            shapes = [np.empty(graph.type(arg).shape, gradient.dtype) for arg in operands]
            for arg, part in zip(operands, node.op.vjp((gradient,), (gradient,), *shapes), strict=True):
                assert part is not None
                give(arg, part)
            return
        blob = graph.value_name(ref)
        found[blob] = found[blob] + gradient if blob in found else gradient

    for output in graph.outputs:
        if output.name in cotangents:
            give(output.ref, np.asarray(cotangents[output.name]))
    return found


def input_gradients(graph: Graph, gradients: Mapping[str, Array]) -> dict[str, Array]:
    """Gradients of fed blobs, where there are some, as gradients of the model's inputs."""
    found: dict[str, Array] = {}
    for node in graph:
        if node.name not in gradients:
            continue
        if isinstance(node.op, Feed):
            source = graph.args(node.name)[0]
            (part,) = node.op.vjp((gradients[node.name],), (), np.empty(graph.type(source).shape, np.float32))
            assert part is not None
            found[source.node] = found[source.node] + part if source.node in found else part
        elif isinstance(node.op, Input) and not isinstance(node.op, HostInput):
            found[node.name] = gradients[node.name]
    return found
