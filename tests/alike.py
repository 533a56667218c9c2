"""Whether two graphs are the same but for names, for how their weights are stored, and for the order of a sum."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from lstmc.ir import Graph, Node, Ref, Scan, computed_from_parameters
from lstmc.ops import Add, Input, Maximum, Mul

Told = tuple[Hashable, ...]


def structure(graph: Graph, operands: Mapping[str, Hashable] | None = None) -> list[Hashable]:
    """Of each output what it is computed by, down to inputs by name and to weights by their shape.

    ``operands``: what the arguments of a body stand for.
    """
    known: dict[Ref, Hashable] = {Ref(name): told for name, told in (operands or {}).items()}
    for node in graph:
        for out, type_ in enumerate(node.types):
            ref = Ref(node.name, out)
            if ref in known:
                continue
            if operands is None and not isinstance(node.op, Scan) and computed_from_parameters(graph, ref):
                known[ref] = ("weight", type_.shape)
            else:
                known[ref] = hash(_told(node, out, [known[arg] for arg in graph.args(node.name)]))
    return [known[output.ref] for output in graph.outputs]


def _told(node: Node, out: int, args: Sequence[Hashable]) -> Told:
    op = node.op
    if isinstance(op, Input):
        return "input", node.name
    if isinstance(op, Scan):
        given = {arg.name: (op.role(i), args[i]) for i, arg in enumerate(op.body.body_args())}
        return "scan", op.length, op.reverse, out < len(op.step_outputs), structure(op.body, given)[out]
    if isinstance(op, Add | Mul | Maximum):
        args = sorted(args, key=hash)
    return _in_float32(repr(op)), out, *args


def _in_float32(text: str) -> str:
    """The numbers of an op as a file in single precision has them."""
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(np.float32(number.group())):.6g}", text)
