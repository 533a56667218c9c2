"""Analyses of a graph: dependences through scans, paths of gradients, and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from math import prod

from lstmc.ir.graph import Graph, Node, Ref
from lstmc.ir.scan import Scan
from lstmc.ops import Concat, Conv, Input, Leaf, Linear, Reshape, Split, Stack, Sum, Tile, Transpose, Unstack


def has_gradient(node: Node) -> bool:
    """Return whether an op has a gradient at all: Accuracy has none."""
    return not node.op.operands or len(node.op.undifferentiated) < len(node.op.operands)


def differentiable_outputs(graph: Graph) -> tuple[str, ...]:
    """Return the outputs of a graph that have a gradient."""
    without = depending(graph, lambda node: not has_gradient(node))
    return tuple(output.name for output in graph.outputs if output.ref not in without)


def differentiable_inputs(graph: Graph, outputs: Iterable[str]) -> tuple[str, ...]:
    """Return the inputs of a graph that have a gradient of ``outputs``.

    Not so one that an op on the way does not differentiate by, such as indices and labels: Caffe would abort.
    """
    names = set(outputs)
    stopped = _stopped(graph, [output.ref for output in graph.outputs if output.name in names])
    return tuple(node.name for node in graph if isinstance(node.op, Input) and node.name not in stopped)


def _stopped(graph: Graph, roots: Sequence[Ref]) -> set[str]:
    """The nodes that an operand depends on by which an op on the way to ``roots`` does not differentiate."""
    needed, stops = graph.needed(roots), list[Ref]()
    read = {*roots, *(ref for name in needed for ref in graph.args(name))}
    for node in graph:
        if node.name in needed:
            args, slots = graph.args(node.name), node.op.undifferentiated
            if isinstance(node.op, Scan):
                slots = _stopped_operands(
                    node.op, {out for out in range(len(node.types)) if Ref(node.name, out) in read}
                )
            stops += [args[slot] for slot in slots]
    return graph.needed(stops) if stops else set()


def _stopped_operands(scan: Scan, read: set[int]) -> tuple[int, ...]:
    """The operands of a scan, of which these results are ``read``, by which an op in its body does not differentiate:
    in the step that has them, or in a later one."""
    states = [slot for slot in range(len(scan.body.body_args())) if scan.role(slot) == "state"]
    results = list(enumerate(states, len(scan.step_outputs)))

    def reached(outs: set[int], of: Callable[[Graph, list[Ref]], set[str]]) -> set[int]:
        """The arguments that ``of`` these results has in a body."""
        reached_by = [(body, of(body, [body.outputs[out].ref for out in outs])) for body in scan.bodies]
        return {slot for body, names in reached_by for slot, arg in enumerate(body.body_args()) if arg.name in names}

    while more := {out for out, slot in results if slot in reached(read, Graph.needed)} - read:
        read |= more
    reachable, stopped = reached(read, _stopped), set[int]()
    while stopped != reachable:
        stopped = reachable
        reachable = stopped | reached({out for out, slot in results if slot in stopped}, Graph.needed)
    return tuple(reachable)


def flops(graph: Graph) -> int:
    """Return the floating-point operations of one forward pass of a graph, over all steps of its scans."""
    return sum(node_flops(graph, node) for node in graph)


def node_flops(graph: Graph, node: Node) -> int:
    """Return the floating-point operations of one forward pass of a node."""
    whole = node.op.cost(tuple(graph.type(ref) for ref in graph.args(node.name)))
    if whole is not None:
        return whole
    results = sum(type_.size for type_ in node.types)
    operands = [graph.type(ref).shape for ref in graph.args(node.name)]
    match node.op:
        case Scan(body=body, first=first, length=length):
            return (length - 1) * flops(body) + flops(body if first is None else first)
        case Linear() | Conv():
            return results * 2 * prod(operands[1][1:])  # a bias takes the place of the first sum
        case Leaf() | Split() | Concat() | Reshape() | Tile() | Transpose() | Stack() | Unstack():
            return 0
        case Sum():
            return prod(operands[0])
    return results


Found = Callable[[Graph, set[Ref]], None]


def depending(
    graph: Graph, starts: Callable[[Node], bool], found: Found | None = None, given: Collection[str] = ()
) -> set[Ref]:
    """Return the values that depend on a node for which ``starts`` is true, or on one of the leaves called ``given``.

    Inside a scan an argument depends on what its operand does, a state also on the states before it; a last state on
    its first value too. ``found`` is told what it is in each graph, bodies before what they stand in.
    """
    values: set[Ref] = set()
    for node in graph:
        args = graph.args(node.name)
        refs = [Ref(node.name, out) for out in range(len(node.types))]
        if isinstance(node.op, Scan):
            values.update(refs[i] for i in _results(node.op, [ref in values for ref in args], starts, found))
        elif starts(node) or node.name in given or not values.isdisjoint(args):
            values.update(refs)
    if found is not None:
        found(graph, values)
    return values


def _results(scan: Scan, operands: list[bool], starts: Callable[[Node], bool], found: Found | None) -> list[int]:
    """Return the dependent results of a scan, given which of its operands are dependent."""
    args = [arg.name for arg in scan.body.body_args()]
    dependent = {name for name, depends in zip(args, operands, strict=True) if depends}
    states = [name for i, name in enumerate(args) if scan.role(i) == "state"]
    while True:
        values = depending(scan.body, starts, found, dependent)
        more = {s for s, o in zip(states, scan.next_states, strict=True) if o.ref in values} - dependent
        if not more:
            last = [None] * len(scan.step_outputs) + states
            results = zip(scan.body.outputs, last, strict=True)
            return [i for i, (output, state) in enumerate(results) if output.ref in values or state in dependent]
        dependent |= more
