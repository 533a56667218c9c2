"""Values that parameters go into: Caffe goes backward to them, and aborts where a layer has no gradient for one."""

from __future__ import annotations

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Ref, Scan, has_gradient
from lstmc.ops import Param

REASON = "Caffe has no gradient there, and aborts where one is asked for"


def check_gradients_end(graph: Graph) -> None:
    """Raise for indices, labels or targets that depend on a parameter. ``graph`` is a model's, with its scans."""
    _trained(graph, set())


def _trained(graph: Graph, given: set[str]) -> set[Ref]:
    """The values that parameters go into; ``given`` are the names of a body's arguments that are such."""
    found: set[Ref] = set()
    for node in graph:
        args = graph.args(node.name)
        results = [Ref(node.name, out) for out in range(len(node.types))]
        if isinstance(node.op, Scan):
            found.update(results[i] for i in _of_scan(node.op, [ref in found for ref in args]))
        elif isinstance(node.op, Param) or node.name in given or not found.isdisjoint(args):
            if has_gradient(node, len(args)):
                _check(graph, node, args, found)
            found.update(results)
    return found


def _of_scan(scan: Scan, given: list[bool]) -> list[int]:
    """Which results of a scan parameters go into, where they go into the operands that are ``given``."""
    given = [known or scan.role(i) == "weight" for i, known in enumerate(given)]
    states = [i for i in range(len(given)) if scan.role(i) == "state"]
    names = [arg.name for arg in scan.body.body_args()]
    while True:
        inside = _trained(scan.body, {name for name, known in zip(names, given, strict=True) if known})
        following = [output.ref in inside for output in scan.next_states]
        new = [i for i, trained in zip(states, following, strict=True) if trained and not given[i]]
        if not new:
            return [i for i, output in enumerate(scan.body.outputs) if output.ref in inside or _kept(scan, i, given)]
        for i in new:
            given[i] = True


def _kept(scan: Scan, result: int, given: list[bool]) -> bool:
    """Whether a result is a last state that parameters went into from the start."""
    position = result - len(scan.step_outputs)
    states = [i for i in range(len(given)) if scan.role(i) == "state"]
    return position >= 0 and given[states[position]]


def _check(graph: Graph, node: Node, args: tuple[Ref, ...], trained: set[Ref]) -> None:
    for slot in node.op.undifferentiated:
        if args[slot] in trained:
            raise BackendError(
                f"{node.op.name}: {node.op.operands[slot]} must not depend on a Param: {REASON}",
                loc=node.loc,
                notes=(f"found {graph.value_name(args[slot])}: {graph.type(args[slot])}",),
            )
