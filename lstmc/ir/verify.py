"""The verifier of graphs: well-formedness, and legality at each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from lstmc.errors import ShapeError, VerifyError
from lstmc.ir.graph import Graph, Node, Ref
from lstmc.ir.rebuild import computed_from_parameters, is_weight, is_weight_op, precomputed_nodes
from lstmc.ir.scan import Scan
from lstmc.ir.text import print_node
from lstmc.ops import Arg, Input, Op, Param, Precomputed, Types

__all__ = ["Stage", "verify"]


class Stage(Enum):
    """The three stages of a model graph."""

    MODEL = "model"  # scans, and ops of any dialect that belong to no backend
    LEGAL = "legal"  # scans, parameters, and the ops of a backend alone
    EXPANDED = "expanded"  # every step's nodes, which share the nodes of parameters; scans only of backends with loops


def verify(graph: Graph, stage: Stage = Stage.MODEL, legal: Sequence[type[Op]] | None = None) -> None:
    """Raise :class:`VerifyError` unless ``graph`` is well formed and legal at ``stage``.
    ``legal`` are the ops allowed besides parameters and scans, with Scan itself if scans stay in an expanded graph; one
    op of a backend allows all ops of this backend. Without ``legal``, all named ops of no backend are allowed."""
    _verify_graph(graph, Legality(stage, None if legal is None else tuple(legal)), stage)
    names = [output.name for output in graph.outputs]
    if len(set(names)) != len(names):
        raise VerifyError(f"graph {graph.name} has two outputs of one name: {', '.join(names)}")
    if "" in names:
        raise VerifyError(f"graph {graph.name} has an output without a name")


@dataclass(frozen=True)
class Legality:
    """The ops that a graph may have: of a model, or (``inside``) of a scan's body."""

    stage: Stage
    ops: tuple[type[Op], ...] | None  # besides parameters and scans; None for all ops of no backend
    inside: bool = False

    def holds(self, op: type[Op]) -> bool:
        """Return whether the graph may have ops of this class."""
        if issubclass(op, Scan):
            return self.stage is not Stage.EXPANDED or op in (self.ops or ())
        if op is Arg or op is Param:
            return (op is Arg) == self.inside
        if self.inside and issubclass(op, Input):
            return False
        if self.ops is None:
            return not op.backend and "name" in vars(op)  # a class without a name of its own is no op
        return op in self.ops or (op.backend != "" and any(op.backend == other.backend for other in self.ops))


def _verify_graph(graph: Graph, legal: Legality, stage: Stage) -> None:
    """Raise VerifyError unless nodes are legal and well typed, names differ, and outputs are values of the graph."""
    graph.check_structure()
    seen: set[str] = set()
    # steps of one scan share their ops and types as objects, so one inference holds for all steps
    inferred: dict[tuple[int, ...], Types] = {}
    holds = cache(legal.holds)
    precomputed = precomputed_nodes(graph)
    for node in graph:
        makes_weight = node.name in precomputed or (is_weight_op(node.op) and is_weight(graph, Ref(node.name)))
        if not holds(type(node.op)) and not makes_weight:
            raise _at(graph, node, f"op {node.op.name} is not legal at stage {stage.value}")
        if seen.intersection(node.names) or len(set(node.names)) != len(node.names):
            raise _at(graph, node, "a value's name is taken twice")
        seen.update(node.names)
        if isinstance(node.op, Scan):  # its types come from its body
            _verify_scan(node.op, legal, stage)
        _verify_types(graph, node, inferred)
        args = graph.args(node.name)
        if stage is not Stage.MODEL and node.name not in precomputed:
            for ref in args:
                if ref.node in precomputed and not is_weight(graph, ref):
                    raise _at(graph, node, f"%{graph.value_name(ref)} is a part of a weight, which no layer computes")
        # with constants: a parameter times zero leaves only the zero
        if isinstance(node.op, Precomputed) and not computed_from_parameters(graph, *args, constants=True):
            raise _at(graph, node, "a precomputed value must depend on parameters and constants alone")
        if isinstance(node.op, Scan):
            for slot, ref in enumerate(args):
                if node.op.role(slot) == "weight" and not is_weight(graph, ref):
                    raise _at(graph, node, f"argument {slot} is a weight, but %{graph.value_name(ref)} is computed")
    for output in graph.outputs:
        if stage is not Stage.MODEL and output.ref.node in precomputed and not is_weight(graph, output.ref):
            problem = "is a part of a weight, which no layer computes"
            raise VerifyError(f"output {output.name} of graph {graph.name} {problem}")
        if output.ref.node not in graph or not 0 <= output.ref.out < len(graph.node(output.ref.node).types):
            what = f"output {output.name}" if output.name else "the output"
            raise VerifyError(f"{what} of graph {graph.name} is no value of it")
    _verify_carried(graph)


def _verify_carried(graph: Graph) -> None:
    """Raise VerifyError unless each carried output goes to an input of its type, to which no other output goes."""
    targets: set[Ref] = set()
    for name, ref, carried_to, _ in graph.outputs:
        if carried_to is None:
            continue
        what = f"graph {graph.name}: output {name} is carried to %{carried_to.node}, "
        if carried_to.node not in graph or not isinstance(graph.node(carried_to.node).op, Input):
            raise VerifyError(f"{what}which is no input")
        if graph.type(carried_to) != graph.type(ref):
            raise VerifyError(f"{what}which is {graph.type(carried_to)}, from {graph.type(ref)}")
        if carried_to in targets:
            raise VerifyError(f"{what}as another output is")
        targets.add(carried_to)


def _verify_types(graph: Graph, node: Node, inferred_by_key: dict[tuple[int, ...], Types]) -> None:
    """Raise VerifyError unless a node has the types that its op infers, kept in ``inferred_by_key`` for equal steps."""
    operands = [graph.type(ref) for ref in graph.args(node.name)]
    key = (id(node.op), *map(id, operands))
    if key not in inferred_by_key:
        try:
            inferred_by_key[key] = node.op.infer(*operands)
        except (ShapeError, TypeError) as error:
            raise _at(graph, node, f"is not well typed: {getattr(error, 'message', error)}") from None
    inferred = inferred_by_key[key]
    if inferred is not node.types and inferred != node.types:
        raise _at(graph, node, f"has the wrong type: expected {', '.join(map(str, inferred))}")
    if len(node.names) != len(node.types):
        raise _at(graph, node, f"has {len(node.names)} names for {len(node.types)} values")


def _verify_scan(scan: Scan, legal: Legality, stage: Stage) -> None:
    """Raise VerifyError unless the bodies are well formed and agree, and each next state has its state's type."""
    if scan.length < 1:
        raise VerifyError(f"scan of {scan.body.name}: length must be at least 1, found {scan.length}")
    inside = Legality(Stage.MODEL, None) if scan.backend else legal  # a backend's scan has a model's step as body
    for body in scan.bodies:
        _verify_graph(body, replace(inside, inside=True), stage)
    if len(scan.body.outputs) < scan.states:
        problem = f"has {scan.states} states, its body returns {len(scan.body.outputs)} results"
        raise VerifyError(f"scan of {scan.body.name}: {problem}")
    for body in scan.bodies:
        if [(a.name, a.op) for a in body.body_args()] != [(a.name, a.op) for a in scan.body.body_args()]:
            raise VerifyError(f"scan of {body.name}: the first step's arguments differ from the body's")
        if [(o.name, body.type(o.ref)) for o in body.outputs] != [
            (o.name, scan.body.type(o.ref)) for o in scan.body.outputs
        ]:
            raise VerifyError(f"scan of {body.name}: the first step's results differ from the body's")
    for kind, results in (("step outputs", scan.step_outputs), ("next states", scan.next_states)):
        names = [output.name for output in results]
        if len(set(names)) != len(names) or (kind == "next states" and "" in names):
            raise VerifyError(f"scan of {scan.body.name}: its {kind} need names of their own, found {names}")
    states = [arg for i, arg in enumerate(scan.body.body_args()) if scan.role(i) == "state"]
    for arg, following in zip(states, scan.next_states, strict=True):
        if scan.body.type(following.ref) != arg.types[0]:
            problem = f"state {arg.name} is {arg.types[0]}, its next value is {scan.body.type(following.ref)}"
            raise VerifyError(f"scan of {scan.body.name}: {problem}")


def _at(graph: Graph, node: Node, problem: str) -> VerifyError:
    return VerifyError(f"graph {graph.name}: {problem}", loc=node.loc, notes=(print_node(graph, node),))
