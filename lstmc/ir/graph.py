"""The graph: a networkx multigraph whose nodes are ops and whose edges are operands.
The only file that imports networkx. A node of the networkx graph is a :class:`Node`'s name, with the Node as attribute;
an edge's key is the operand slot, its attribute ``out`` the producer's output. It is a *multi*graph because ``x * x``
has two edges between the same two nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import networkx as nx

from lstmc.errors import ShapeError, VerifyError
from lstmc.ops import Arg, Input, Op, Param, Role, Types
from lstmc.source import SrcLoc
from lstmc.text import Names
from lstmc.types import MOST_ELEMENTS, TensorType, UnknownSize

__all__ = ["Builder", "Graph", "Node", "OpT_co", "Output", "Ref", "Step", "Steps", "topological_order"]


class Ref(NamedTuple):
    """One value: output ``out`` of the node called ``node``."""

    node: str
    out: int = 0


class Step(NamedTuple):
    """The step to which a value of an expanded graph belongs: the scan's name, and the step's place in time."""

    scan: str
    t: int


Steps = tuple[Step | None, ...]


class Output(NamedTuple):
    """A result of a graph: the name by which a caller reads it, and the value.
    Of a scan's body: the user's name of the step's output ('' for a single output), or of the state whose next value it
    is. ``carried_to`` is the input of the model that takes the value in the next batch, if any. ``delay`` is the number
    of steps by which the value is late: at step t it belongs to the inputs of step t - ``delay``."""

    name: str
    ref: Ref
    carried_to: Ref | None = None
    delay: int = 0


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    OpT_co = TypeVarWithDefault("OpT_co", bound=Op, default=Op, covariant=True)
else:
    OpT_co = TypeVar("OpT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Node(Generic[OpT_co]):
    """One op in a graph. ``names`` has a name for each result; the first is the node's name. ``steps`` has the scan's
    step of each result, if unrolling made the node, or is empty."""

    names: tuple[str, ...]
    op: OpT_co
    types: Types
    loc: SrcLoc | None = None
    steps: Steps = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def refs(self) -> list[Ref]:
        return [Ref(self.name, out) for out in range(len(self.names))]

    @property
    def step(self) -> Step | None:
        """The step of all results. None if they have none, or several, as those of a cut sequence do."""
        first = self.steps[0] if self.steps else None
        return first if all(step == first for step in self.steps) else None

    def of_step(self, out: int) -> Step | None:
        """Return the step of the result ``out``, or None."""
        return self.steps[out] if self.steps else None


_Producers = dict[str, dict[str, dict[int, dict[str, int]]]]  # node -> producer -> operand slot -> {"out": its output}
_EDGE: dict[int, dict[str, int]] = {}  # output of the producer -> the attributes of an edge; graphs only read them


@cache
def _is_named(op: type[Op]) -> bool:
    """Return whether nodes of an op are distinguished by their names alone."""
    return issubclass(op, Input | Param | Arg)


class Graph:
    """A frozen graph, made by :class:`Builder`, with its nodes in topological order."""

    def __init__(
        self,
        name: str,
        digraph: nx.MultiDiGraph[str],
        outputs: tuple[Output, ...],
        operands: dict[str, tuple[Ref, ...]],
    ) -> None:
        self.name = name
        self.outputs = outputs
        self._digraph = nx.freeze(digraph)
        self._operands = operands
        # networkx's own dictionaries: at 100 000 nodes its views, one Python call an access, cost more than all else
        self._nodes: dict[str, dict[str, Node]] = digraph._node  # type: ignore[attr-defined]
        self._producers: _Producers = digraph._pred  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Node]:
        for attributes in self._nodes.values():
            yield attributes["node"]

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def node(self, name: str) -> Node:
        return self._nodes[name]["node"]

    def args(self, name: str) -> tuple[Ref, ...]:
        """Return the operands of a node, in slot order."""
        return self._operands[name]

    def type(self, ref: Ref) -> TensorType:
        return self.node(ref.node).types[ref.out]

    def refs(self) -> Iterator[Ref]:
        return (ref for node in self for ref in node.refs)

    def named(self) -> dict[str, Ref]:
        return {name: Ref(node.name, out) for node in self for out, name in enumerate(node.names)}

    def value_name(self, ref: Ref) -> str:
        return self.node(ref.node).names[ref.out]

    def returning(self, names: Sequence[str]) -> Graph:
        outputs = {output.name: output for output in self.outputs}
        return Graph(self.name, self._digraph, tuple(outputs[name] for name in names), self._operands)

    def renamed(self, name: str) -> Graph:
        return Graph(name, self._digraph, self.outputs, self._operands)

    def carrying(self, states: Mapping[str, str]) -> Graph:
        """Return the same graph with ``states`` alone: for each input the output that it takes in the next batch."""
        takes = {output: Ref(state) for state, output in states.items()}
        outputs = tuple(output._replace(carried_to=takes.get(output.name)) for output in self.outputs)
        return Graph(self.name, self._digraph, outputs, self._operands)

    def carried(self) -> dict[str, Output]:
        """Return a dict from each input that takes an output's value in the next batch to this output."""
        return {output.carried_to.node: output for output in self.outputs if output.carried_to is not None}

    def body_args(self) -> tuple[Node, ...]:
        """Return the arguments of a scan body, in operand order."""
        return self._body_args

    def arguments(self, *roles: Role) -> list[str]:
        """Return the names of a scan body's arguments with one of these roles (by default all), in operand order."""
        named = [(node.name, node.op) for node in self._body_args]
        return [name for name, op in named if isinstance(op, Arg) and (not roles or op.role in roles)]

    @cached_property
    def _body_args(self) -> tuple[Node, ...]:
        return tuple(node for node in self if isinstance(node.op, Arg))

    def readers(self) -> dict[Ref, int]:
        """Return how often each read value is read: once for each operand slot and each output of the graph."""
        counts: dict[Ref, int] = Counter(output.ref for output in self.outputs)
        for producers in self._producers.values():
            for producer, edges in producers.items():
                for edge in edges.values():
                    ref = tuple.__new__(Ref, (producer, edge["out"]))  # Ref(...), twice as fast
                    counts[ref] = counts.get(ref, 0) + 1
        return counts

    def needed(self, roots: Iterable[Ref] | None = None) -> set[str]:
        """Return the names of the nodes that ``roots`` (by default the outputs) depend on."""
        seen = {ref.node for ref in ([output.ref for output in self.outputs] if roots is None else roots)}
        stack = list(seen)
        while stack:
            for producer in self._producers[stack.pop()]:
                if producer not in seen:
                    seen.add(producer)
                    stack.append(producer)
        return seen

    def dependents(self, names: set[str]) -> set[str]:
        """Return ``names`` and the names of all nodes that depend on a node of ``names``."""
        reachable = set(names)
        for name in names:
            reachable |= nx.descendants(self._digraph, name)
        return reachable

    def beyond_cut(self, nodes: set[str], required: set[str], elements: Mapping[Ref, int]) -> set[str]:
        """Return the nodes beyond a minimum cut: the ``required`` nodes, and those of ``nodes`` that make it smaller.
        ``required`` is a part of ``nodes``. The cut separates it from the operands that no node of ``nodes`` computes.
        A value that crosses the cut counts once, by its number in ``elements``, or nothing if it is not listed. Among
        equal cuts, the one with the fewest nodes beyond is chosen."""
        before, beyond = 0, 1
        flow: nx.DiGraph[int | str | Ref] = nx.DiGraph()
        flow.add_nodes_from((before, beyond))
        for name in nodes:
            for ref in self.args(name):
                flow.add_edge(ref, beyond if name in required else name)  # without a capacity: never cut
                flow.add_edge(ref.node if ref.node in nodes else before, ref, capacity=elements.get(ref, 0))
        _, (_, after) = nx.minimum_cut(flow, before, beyond)
        return required | (nodes & after)

    def check_structure(self) -> None:
        """Raise :class:`VerifyError` unless edges and order are well formed: slots without gaps, producers first."""
        position = {name: i for i, name in enumerate(self._nodes)}
        for name, producers in self._producers.items():
            slots = []
            for producer, edges in producers.items():
                if position[producer] >= position[name]:
                    raise VerifyError(f"%{name} stands before its operand %{producer}")
                for slot, edge in edges.items():
                    slots.append(slot)
                    if not 0 <= edge["out"] < len(self.node(producer).types):
                        out = edge["out"]
                        raise VerifyError(f"%{name} reads output {out} of %{producer}, which has no such output")
            if sorted(slots) != list(range(len(slots))):
                raise VerifyError(f"%{name} has operand slots {sorted(slots)}, expected 0 to {len(slots) - 1}")

    def _key(self) -> tuple[Any, ...]:
        return self.name, self.outputs, tuple((node, self.args(node.name)) for node in self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Graph) and len(self) == len(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.name, self.outputs, len(self)))

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self)} nodes>"


MOST_NODES_OPEN = 2**12  # of a graph with open sizes


class Builder:
    """Builds a graph, node by node; types are inferred, and so checked, as each node is added.
    The names of inputs, parameters and arguments of ``like``, a graph that is being rebuilt, are kept for them."""

    def __init__(self, name: str, like: Graph | None = None) -> None:
        self.name = name
        self._digraph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        self._nodes: dict[str, dict[str, Node]] = self._digraph._node  # type: ignore[attr-defined]
        self._producers: _Producers = self._digraph._pred  # type: ignore[attr-defined]
        self._readers: _Producers = self._digraph._succ  # type: ignore[attr-defined]
        self._operands: dict[str, tuple[Ref, ...]] = {}
        self._finished = False
        self._reserved = {node.name for node in like or () if _is_named(type(node.op))}  # of leaves not added yet
        self._names = Names(forbidden=self._reserved.__contains__)

    def add(
        self, op: Op, *operands: Ref, names: Sequence[str] = (), loc: SrcLoc | None = None,
        types: Types | None = None, steps: Steps = (),
    ) -> tuple[Ref, ...]:  # fmt: skip
        """Add a node and return its values. A name that is taken gets a number. Given ``types`` are not checked.
        ``steps`` has a step for each value, or is empty."""
        if types is None:
            types = op.infer(*[self.type(ref) for ref in operands])
            for type_ in types:
                if type_.size <= MOST_ELEMENTS:
                    continue
                if not isinstance(type_.size, UnknownSize):
                    actual = f"{type_} has {type_.size} elements"
                    raise ShapeError(f"{op.name}: {actual}: expected at most {MOST_ELEMENTS}", loc=loc)
                if len(self._nodes) > MOST_NODES_OPEN:  # a loop over range(T) never ends
                    raise ShapeError(f"{self.name} has more than {MOST_NODES_OPEN} nodes, with open sizes", loc=loc)
        bases = names or (op.name.rpartition(".")[2].lower(),)
        if _is_named(type(op)):
            self._reserved.difference_update(bases)
        unique = tuple(self._names.unique(bases[i] if i < len(bases) else bases[0]) for i in range(len(types)))
        if steps and len(steps) != len(types):
            raise VerifyError(f"%{unique[0]} has {len(types)} results, and steps for {len(steps)}", loc=loc)
        if None in steps and not any(steps):
            steps = ()
        self._connect(Node(unique, op, types, loc, steps), operands)
        return tuple([Ref(unique[0], out) for out in range(len(types))])

    def _connect(self, node: Node, operands: Sequence[Ref]) -> None:
        """Add a node and its edges, as networkx's ``add_node`` and ``add_edge`` do, but five times as fast."""
        name = node.name
        if self._finished or not all(ref.node in self._nodes for ref in operands):  # networkx raises, or adds operands
            self._digraph.add_node(name, node=node)
            for slot, ref in enumerate(operands):
                self._digraph.add_edge(ref.node, name, key=slot, out=ref.out)
            self._operands[name] = tuple(operands)
            return
        self._operands[name] = tuple(operands)
        self._nodes[name] = {"node": node}
        self._readers.setdefault(name, {})
        producers = self._producers.setdefault(name, {})
        for slot, (producer, out) in enumerate(operands):
            edges = producers.get(producer)
            if edges is None:
                edges = producers[producer] = self._readers[producer][name] = {}
            edges[slot] = _EDGE.setdefault(out, {"out": out})

    def copy(self, node: Node, operands: Sequence[Ref], op: Op | None = None) -> tuple[Ref, ...]:
        """Add a node with the names and attributes of ``node`` on these operands, with another ``op`` if given."""
        return self.add(op or node.op, *operands, names=node.names, loc=node.loc, steps=node.steps)

    def of_step(self, ref: Ref) -> Step | None:
        return self.node(ref.node).of_step(ref.out)

    def node(self, name: str) -> Node:
        return self._nodes[name]["node"]

    def amend(self, name: str, op: Op) -> None:
        """Replace a leaf's op by an op of the same type, before the graph is finished."""
        node = self.node(name)
        if self._finished or op.infer() != node.types:
            raise VerifyError(f"%{name} cannot become {op}")
        self._nodes[name]["node"] = replace(node, op=op)

    def type(self, ref: Ref) -> TensorType:
        return self.node(ref.node).types[ref.out]

    def args(self, name: str) -> tuple[Ref, ...]:
        return self._operands[name]

    def finish(self, outputs: Iterable[tuple[str, Ref] | Output]) -> Graph:
        self._finished = True
        return Graph(self.name, self._digraph, tuple(Output(*output) for output in outputs), self._operands)


def topological_order(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names so that each follows all names that ``before`` has for it, and otherwise in the given order."""
    position = {name: at for at, name in enumerate(before)}
    order: nx.DiGraph[str] = nx.DiGraph()
    order.add_nodes_from(before)
    order.add_edges_from((earlier, name) for name, others in before.items() for earlier in others)
    return [*nx.lexicographical_topological_sort(order, position.__getitem__)]
