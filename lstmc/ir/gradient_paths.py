"""Where gradients can be asked for: some ops, and so whoever runs them, have none of some operands."""

from __future__ import annotations

from collections.abc import Iterable

from lstmc.ir.graph import Graph
from lstmc.ir.node import Node, Ref
from lstmc.ops import Input


def has_gradient(node: Node, operands: int) -> bool:
    """Whether an op passes a gradient on at all: Accuracy does not."""
    return not operands or len(node.op.undifferentiated) < operands


def differentiable_outputs(graph: Graph) -> tuple[str, ...]:
    """The outputs of an expanded graph that a gradient can be sent back from."""
    blunt = {node.name for node in graph if not has_gradient(node, len(graph.args(node.name)))}
    behind = graph.dependents(blunt)
    return tuple(output.name for output in graph.outputs if output.ref.node not in behind)


def differentiable_inputs(graph: Graph, outputs: Iterable[str]) -> tuple[str, ...]:
    """The inputs of an expanded graph that a gradient of ``outputs`` can be asked of.

    Not so one that an op on the way does not differentiate by, such as indices and labels: Caffe would abort.
    """
    wanted = set(outputs)
    needed = graph.needed([output.ref for output in graph.outputs if output.name in wanted])
    stops: list[Ref] = []
    for node in graph:
        if node.name in needed:
            args = graph.args(node.name)
            stops += [args[slot] for slot in node.op.undifferentiated]
    stopped = graph.needed(stops) if stops else set()
    return tuple(node.name for node in graph if isinstance(node.op, Input) and node.name not in stopped)
