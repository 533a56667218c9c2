"""Values that parameters go into: Caffe goes backward to them, and aborts where a layer has no gradient for one."""

from __future__ import annotations

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref, depending, has_gradient
from lstmc.ops import Arg, Param

REASON = "Caffe has no gradient there, and aborts where one is asked for"


def check_gradients_end(graph: Graph) -> None:
    """Raise for indices, labels or targets that depend on a parameter. ``graph`` is a model's, with its scans."""
    depending(graph, _is_weight_leaf, _check)


def _is_weight_leaf(node: Node) -> bool:
    return isinstance(node.op, Param) or (isinstance(node.op, Arg) and node.op.role == "weight")


def _check(graph: Graph, trained: set[Ref]) -> None:
    for node in graph:
        args = graph.args(node.name)
        for slot in node.op.undifferentiated if has_gradient(node) else ():
            if args[slot] in trained:
                raise BackendError(
                    f"{node.op.name}: {node.op.operands[slot]} must not depend on a Param: {REASON}",
                    loc=node.loc,
                    notes=(f"found {graph.value_name(args[slot])}: {graph.type(args[slot])}",),
                )
