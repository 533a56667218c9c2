"""A product and the addition of a vector: one product with a bias, as the language and Caffe's layers have it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lstmc.importers.describe.net import Net, Step
from lstmc.importers.describe.ops import Binary, Linear
from lstmc.importers.describe.rolled import Rolled

ADD = Binary("add")


def with_biases(net: Net) -> Net:
    """The net whose products have their biases: where nothing else reads a product, and the vector is a parameter."""
    readers = Counter(name for step in net.steps for name in step.inputs)
    readers.update(net.outputs.values())
    alone = {
        step.outputs[0]: step
        for step in net.steps
        if step.op == Linear() and len(step.inputs) == 2 and readers[step.outputs[0]] == 1
    }
    joined = {step.outputs[0]: found for step in net.steps if (found := _joined(net, step, alone)) is not None}
    taken = {product.outputs[0] for product, _ in joined.values()}
    steps: list[Step] = []
    for step in net.steps:
        if step.outputs[0] in taken:
            continue
        if step.outputs[0] in joined:
            product, bias = joined[step.outputs[0]]
            step = replace(step, op=Linear(), inputs=(*product.inputs, bias))
        elif isinstance(step.op, Rolled):
            step = replace(step, op=replace(step.op, body=with_biases(step.op.body)))
        steps.append(step)
    return replace(net, steps=tuple(steps))


def _joined(net: Net, step: Step, alone: dict[str, Step]) -> tuple[Step, str] | None:
    """The product and the vector that a step adds, if it does that and nothing else."""
    if step.op != ADD:
        return None
    for x, b in (step.inputs, step.inputs[::-1]):
        if x in alone and b in net.params and net.shapes[b] == net.shapes[x][-1:]:
            return alone[x], b
    return None
