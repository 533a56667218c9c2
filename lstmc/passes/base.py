"""The interface of passes: preconditions, the transformation, and postconditions.

A pass is a frozen dataclass. It never changes its input: it returns a new graph, or the same one and
``modified=False``. Its docstring lists its rules, numbered, as ``before => after``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from lstmc.errors import LstmcError, PassError
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, Stage, print_node
from lstmc.ops import Arg, Role

MAX_JOINED = 24  # characters
Refs = tuple[Ref, ...]
Visit = Callable[[Builder, Node, Refs], Refs | None]


@dataclass(frozen=True)
class PassResult:
    """A pass's graph, whether it differs from the input, and how often each rule was used."""

    graph: Graph
    modified: bool
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass(ABC):
    """One transformation of a graph. ``after`` is the stage it brings a graph to, None if it keeps the stage."""

    name: ClassVar[str]
    after: ClassVar[Stage | None] = None

    def requires(self, graph: Graph) -> None:  # noqa: B027 (no requirement is a requirement too)
        """Raise :class:`~lstmc.errors.LstmcError` unless ``graph`` meets the precondition of this pass."""

    @abstractmethod
    def run(self, graph: Graph) -> PassResult: ...

    def ensures(self, graph: Graph) -> None:  # noqa: B027
        """Raise :class:`~lstmc.errors.LstmcError` unless the result meets the postcondition of this pass."""


def check_unpeeled(step: Pass, graph: Graph) -> None:
    """Raise :class:`PassError` for a scan with a peeled first step: the pass ``step`` changes one body only."""
    for node in graph:
        if isinstance(node.op, Scan) and node.op.first is not None:
            raise PassError(
                f"{step.name} comes before peel: expected scans of one body, found %{node.name} with a first step",
                loc=node.loc,
            )


def rewrite(graph: Graph, visit: Visit) -> Graph:
    """Rebuild a graph node by node: ``visit`` gives a node's new values, or None to keep the node."""
    rebuild = Rebuild(graph)
    for node in graph:
        operands = rebuild.args(node)
        try:
            values = visit(rebuild.builder, node, operands) or rebuild.builder.copy(node, operands)
        except Exception as error:
            note_node(error, graph, node)
            raise
        rebuild.put(node, values)
    return rebuild.finish()


def note_node(error: Exception, graph: Graph, node: Node) -> None:
    """Add to an error the node at which a pass was, and its location to an error of ours that has none."""
    if isinstance(error, LstmcError):
        error.located(node.loc)
    error.add_note(f"at {print_node(graph, node)} of {graph.name}{f', {node.loc}' if node.loc else ''}")


def in_bodies(scan: Scan, change: Callable[[Graph], Graph]) -> Scan:
    """The scan with ``change`` done to its bodies."""
    first = None if scan.first is None else change(scan.first)
    return replace(scan, body=change(scan.body), first=first)


def with_role(body: Graph, slots: Collection[int], role: Role) -> Graph:
    """A scan's body in which the arguments of these slots have another role."""
    names = {body.body_args()[slot].name for slot in slots}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name not in names:
            return None
        assert isinstance(node.op, Arg)
        return b.add(replace(node.op, role=role), names=node.names, loc=node.loc)

    return rewrite(body, visit) if names else body


def joined_name(names: Sequence[str]) -> str:
    """A name for one value that stands for several neighbours, their common first words written once.

    ``i_f_o`` for i, f and o; ``W_i_f`` for W_i and W_f; ``first_to_last`` where that is long.
    """
    words = [name.split("_") for name in names]
    common = 0  # how many first words all have, before the last one of each
    while all(len(name) > common + 1 and name[common] == words[0][common] for name in words):
        common += 1
    together = "_".join([*words[0][:common], *("_".join(name[common:]) for name in words)])
    return together if len(together) <= MAX_JOINED else f"{names[0]}_to_{names[-1]}"


def result(before: Graph, after: Graph, counts: Counter[str]) -> PassResult:
    """The outcome of rule-counting passes: modified if any rule was used."""
    used = {rule: count for rule, count in counts.items() if count}
    return PassResult(after if used else before, bool(used), used)


def compared(before: Graph, after: Graph, counts: Counter[str]) -> PassResult:
    """Return the result of a pass whose rules can produce the same graph again: modified if the graphs differ."""
    return PassResult(before, False) if after == before else PassResult(after, True, dict(counts))
