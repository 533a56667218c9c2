"""Build a graph from another graph: copy, replace or omit nodes in order; reshape values; compute on values; weights.
Weights are part of the graph: blobs that a pass packs, cuts or negates are computed from the user's parameters. Only
ops that move elements, or change every sign, may stand between a parameter and a blob: so training the blob is training
the parameter, which can be read back exactly. In a net that is not trained a blob may be any function of parameters,
marked as :class:`~lstmc.ops.Precomputed`; these parameters are not read back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from lstmc import ops
from lstmc.ir.graph import Builder, Graph, Node, Output, Ref, Steps
from lstmc.ir.scan import Scan
from lstmc.source import SrcLoc
from lstmc.text import Names
from lstmc.types import UnknownSize

__all__ = [
    "NEGATE", "GraphValue", "Rebuild", "broadcast", "computed_from_parameters", "is_weight", "is_weight_op",
    "precomputed_nodes", "rename_values", "renewed", "reshape_source", "reshaped", "twice_stored", "weight_graph",
    "with_sizes",
]  # fmt: skip


class Rebuild:
    """A graph that ``builder`` makes from another graph, and the map ``new`` from old values to new ones."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(graph.name, graph)
        self.new: dict[Ref, Ref] = {}

    def args(self, node: Node) -> tuple[Ref, ...]:
        return tuple([self.new[ref] for ref in self.graph.args(node.name)])

    def copy(self, node: Node, operands: Sequence[Ref] | None = None) -> tuple[Ref, ...]:
        """Copy an old node, on the new values of its operands or on other ``operands``."""
        refs = self.builder.copy(node, self.args(node) if operands is None else operands)
        self.put(node, refs)
        return refs

    def put(self, node: Node, values: Sequence[Ref] | Mapping[int, Ref]) -> None:
        """Map the results of an old node to new values: all in order, or those at the given positions."""
        items = values.items() if isinstance(values, Mapping) else enumerate(values)
        for out, ref in items:
            self.new[Ref(node.name, out)] = ref

    def finish(self, outputs: Iterable[Output] | None = None) -> Graph:
        """Return the new graph, with the old graph's outputs or with ``outputs``, which have old values too."""
        return self.builder.finish(renewed(self.graph.outputs if outputs is None else outputs, self.new))


def renewed(outputs: Iterable[Output], new: Mapping[Ref, Ref]) -> list[Output]:
    """Return outputs with new values for old ones; one that was carried to a removed input is carried no more."""
    return [
        output._replace(ref=new[output.ref], carried_to=new.get(output.carried_to) if output.carried_to else None)
        for output in outputs
    ]


def rename_values(graph: Graph, names: Mapping[Ref, str], others: Mapping[Ref, str] | None = None) -> Graph:
    """Return the graph with values renamed by ``names``, which all differ, and by ``others``, which may repeat. Leaves
    keep their names; a name that is taken gets a number."""
    leaves = {node.name for node in graph if isinstance(node.op, ops.Leaf)}
    exact = {ref: name for ref, name in names.items() if ref.node not in leaves and name not in leaves}
    free = Names(leaves.union(exact.values()))
    called = {**(others or {}), **names}
    rebuild = Rebuild(graph)
    for node in graph:
        shown = node.names
        if node.name not in leaves:
            shown = tuple(
                exact[ref] if ref in exact else free.unique(called.get(ref, name))
                for ref, name in zip(node.refs, node.names, strict=True)
            )
        rebuild.put(node, rebuild.builder.copy(replace(node, names=shown), rebuild.args(node)))
    return rebuild.finish()


def reshaped(
    b: Builder, ref: Ref, op: ops.Reshape, names: Sequence[str] = (), loc: SrcLoc | None = None, steps: Steps = ()
) -> Ref:
    """Return a value of ``op``'s shape: ``ref``, or the value that ``ref`` reshapes, if one has it, else a new value.
    Reshapes of another class than ``op``, such as a view of the host, are not looked through."""
    source = reshape_source(b, ref, type(op))
    for candidate in (ref, source):
        if b.type(candidate).shape == op.shape:
            return candidate
    return b.add(op, source, names=names, loc=loc, steps=steps)[0]


def reshape_source(b: Graph | Builder, ref: Ref, kind: type[ops.Reshape] = ops.Reshape) -> Ref:
    """Return the value from which a chain of reshapes of the class ``kind`` leads to ``ref``."""
    while isinstance(b.node(ref.node).op, kind):
        (ref,) = b.args(ref.node)
    return ref


def broadcast(b: Builder, ref: Ref, shape: tuple[int, ...]) -> Ref:
    """Return the value broadcast to ``shape``, which may have more axes in front: axes of size 1 are tiled."""
    own = b.type(ref).shape
    if len(own) < len(shape):
        own = (1,) * (len(shape) - len(own)) + own
        (ref,) = b.add(ops.Reshape(own), ref)
    for axis, (size, whole) in enumerate(zip(own, shape, strict=True)):
        if size != whole:
            (ref,) = b.add(ops.Tile(axis, whole), ref)
    return ref


@dataclass(frozen=True)
class GraphValue(ops.Symbolic):
    """One value of ``builder``. Operations on it add nodes there, called ``name`` and located at ``loc``."""

    builder: Builder
    ref: Ref
    name: str
    loc: SrcLoc | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.builder.type(self.ref).shape

    def apply(self, op: ops.Op, *operands: GraphValue) -> tuple[GraphValue, ...]:
        refs = self.builder.add(op, *[value.ref for value in operands], names=(self.name,), loc=self.loc)
        return tuple(GraphValue(self.builder, ref, self.name, self.loc) for ref in refs)

    def _with(self, op: ops.Op, *others: GraphValue) -> GraphValue:
        return self.apply(op, self, *others)[0]

    def _affine(self, scale: Any, shift: Any) -> GraphValue:
        return self._with(ops.Affine(float(scale), float(shift)))

    def __add__(self, other: Any) -> GraphValue:
        return self._with(ops.Add(), other) if isinstance(other, GraphValue) else self._affine(1, other)

    def __sub__(self, other: Any) -> GraphValue:
        return self._with(ops.Sub(), other) if isinstance(other, GraphValue) else self._affine(1, -float(other))

    def __mul__(self, other: Any) -> GraphValue:
        return self._with(ops.Mul(), other) if isinstance(other, GraphValue) else self._affine(other, 0)

    def __truediv__(self, other: Any) -> GraphValue:
        reciprocal: GraphValue | float = 1 / other
        return self * reciprocal

    def __neg__(self) -> GraphValue:
        return self._affine(-1, 0)

    def __rsub__(self, other: float) -> GraphValue:
        return self._affine(-1, other)

    __radd__, __rmul__ = __add__, __mul__

    def __rtruediv__(self, other: float) -> GraphValue:
        reciprocal = self._with(ops.Power(-1.0))
        return reciprocal if other == 1 else reciprocal * other


NEGATE = ops.Affine(-1.0, 0.0)


def is_weight_op(op: ops.Op) -> bool:
    """Return whether an op computes a weight if all its operands are weights."""
    return type(op) in (ops.Concat, ops.Split, ops.Reshape, ops.Transpose) or op == NEGATE


def is_weight(graph: Graph | Builder, ref: Ref) -> bool:
    """Return whether a value is a parameter, a precomputed value, a weight argument, or made of them by weight ops."""
    op = graph.node(ref.node).op
    if isinstance(op, ops.Arg):
        return op.role == "weight"
    if isinstance(op, ops.Param | ops.Precomputed):
        return True
    return is_weight_op(op) and all(is_weight(graph, arg) for arg in graph.args(ref.node))


def computed_from_parameters(
    graph: Graph | Builder, *refs: Ref, known: Collection[Ref] = (), constants: bool = False
) -> bool:
    """Return whether values are computed without scans from weights, such as parameters, and constants alone.
    At least one weight is required, unless ``constants``. ``known`` values count as weights."""
    seen, stack, parameters = set(refs), list(refs), constants
    while stack:
        ref = stack.pop()
        op = graph.node(ref.node).op
        if ref in known or (isinstance(op, ops.Arg | ops.Param | ops.Precomputed) and is_weight(graph, ref)):
            parameters = True
            continue
        if isinstance(op, Scan) or (isinstance(op, ops.Leaf) and not isinstance(op, ops.Full)):
            return False
        operands = set(graph.args(ref.node)) - seen
        seen |= operands
        stack += operands
    return parameters


def precomputed_nodes(graph: Graph) -> set[str]:
    """Return the names of the Precomputed nodes and of the nodes that compute them from parameters."""
    marked = [Ref(node.name) for node in graph if isinstance(node.op, ops.Precomputed)]
    return {name for name in graph.needed(marked) if not isinstance(graph.node(name).op, ops.Param)}


def weight_graph(graph: Graph, blobs: Iterable[Ref]) -> Graph:
    """Return the sub-graph of a model that computes ``blobs`` from its parameters; outputs have the values' names."""
    roots = list(dict.fromkeys(blobs))
    needed = graph.needed(roots)
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name in needed:
            rebuild.copy(node)
    return rebuild.finish(Output(graph.value_name(ref), ref) for ref in roots)


def twice_stored(weights: Graph) -> list[str]:
    """Return the names of a weight graph's trained values that two blobs contain: training would make these differ."""
    return [
        weights.value_name(ref)
        for ref, readers in weights.readers().items()
        if readers > 1 and not _fixed(weights, ref)
    ]


def _fixed(weights: Graph, ref: Ref) -> bool:
    op = weights.node(ref.node).op
    return op.fixed if isinstance(op, ops.Param) else all(_fixed(weights, arg) for arg in weights.args(ref.node))


def with_sizes(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """Return the graph, with the bodies of its scans, at these numbers for open sizes."""
    rebuild = Rebuild(graph)
    for node in graph:
        op, types, operands = _sized(node.op, sizes), _sized(node.types, sizes), rebuild.args(node)
        added = rebuild.builder.add(op, *operands, names=node.names, loc=node.loc, types=types, steps=node.steps)
        rebuild.put(node, added)
    return rebuild.finish()


def _sized(thing: Any, sizes: Mapping[str, int]) -> Any:
    """Return an op, type, graph, size or tuple with numbers for its open sizes; the same object if it has none."""
    if isinstance(thing, UnknownSize):
        return thing.at(sizes)
    if isinstance(thing, Graph):
        return with_sizes(thing, sizes)
    if type(thing) is tuple:
        new = tuple([_sized(each, sizes) for each in thing])
        return thing if all(a is b for a, b in zip(thing, new, strict=True)) else new
    if is_dataclass(thing) and not isinstance(thing, type):
        values = {field.name: getattr(thing, field.name) for field in fields(thing)}
        changed = {name: new for name, old in values.items() if (new := _sized(old, sizes)) is not old}
        return replace(thing, **changed) if changed else thing
    return thing
