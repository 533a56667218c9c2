"""Sizes that a written net leaves open: found by comparing the graph of a model with those of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lstmc.backend.compiled import LARGER
from lstmc.ir import Graph, Node, Ref, Scan
from lstmc.ops import Arg, Full, Input, Op, Param, Reshape
from lstmc.passes import named_results
from lstmc.types import TensorType

PRODUCT = ""  # a size that is no dimension itself, but changes with one
OpenShape = tuple[int | str, ...]  # a name is an open dimension
Written = Callable[[Op, TensorType, TensorType], bool]


@dataclass(frozen=True)
class OpenSizes:
    """The sizes of a graph's values, by its graphs with one dimension ``LARGER`` each (``others``)."""

    graph: Graph
    others: Mapping[str, Graph]

    @classmethod
    def of(cls, graph: Graph, others: Mapping[str, Graph], written: Written = lambda op, one, other: True) -> OpenSizes:
        """Without the dimensions that the net would be another one for.

        ``written``: whether an op is written alike on operands, or with results, of these two types.
        """
        found = cls(graph, {dim: other for dim, other in others.items() if differ_in_sizes(graph, other, written)})
        inputs = found.inputs()
        return cls(graph, {dim: other for dim, other in found.others.items() if dim in inputs})

    def inputs(self) -> dict[str, tuple[str, int]]:
        """For each open dimension an input that has its size, for the net to read it, and which of its axes it is."""
        found: dict[str, tuple[str, int]] = {}
        for node in self.graph:
            for axis, size in enumerate(self.shape(Ref(node.name)) if isinstance(node.op, Input) else ()):
                if isinstance(size, str) and size:
                    found.setdefault(size, (node.name, axis))
        return found

    def open(self, ref: Ref) -> tuple[str | None, ...]:
        """What the manifest says of a value (:class:`~lstmc.manifest.Place`); nothing where all sizes are fixed."""
        dims = tuple(size if isinstance(size, str) else None for size in self.shape(ref))
        return dims if any(dim is not None for dim in dims) else ()

    def shape(self, ref: Ref) -> OpenShape:
        """The sizes of a value: numbers, names of dimensions, or ``PRODUCT``."""
        found: list[int | str] = list(self.graph.type(ref).shape)
        for dim, other in self.others.items():
            for axis, (one, two) in enumerate(zip(self.graph.type(ref).shape, other.type(ref).shape, strict=True)):
                if one != two:
                    found[axis] = dim if two == one + LARGER and found[axis] == one else PRODUCT
        return tuple(found)

    def inside(self, scan: Node) -> OpenSizes:
        """The sizes in the body of a scan."""
        bodies = {dim: other.node(scan.name).op for dim, other in self.others.items()}
        assert isinstance(scan.op, Scan)
        return OpenSizes(
            named_results(scan.op, scan.op.body),
            {dim: named_results(op, op.body) for dim, op in bodies.items() if isinstance(op, Scan)},
        )


def differ_in_sizes(one: Graph, other: Graph, written: Written) -> bool:
    """Whether two graphs are the same but for sizes that a net finds out as it runs: no number of an op differs."""
    if [o.name for o in one.outputs] != [o.name for o in other.outputs] or len(one) != len(other):
        return False
    if [o.ref for o in one.outputs] != [o.ref for o in other.outputs]:
        return False
    return all(
        (a.names, one.args(a.name)) == (b.names, other.args(b.name))
        and _same(a.op, b.op, written)
        and _fits(one, other, a, written)
        for a, b in zip(one, other, strict=True)
    )


def _same(one: Op, other: Op, written: Written) -> bool:
    if type(one) is not type(other) or isinstance(one, Param):
        return one == other
    if isinstance(one, Input) and isinstance(other, Input):
        return replace(other, shape=one.shape, values=one.values) == one and (one.values is None) == (
            other.values is None
        )
    if isinstance(one, Full | Reshape) and isinstance(other, Full | Reshape):
        return replace(other, shape=one.shape) == one
    if isinstance(one, Scan) and isinstance(other, Scan):
        sequences = any(one.role(i) == "x" for i in range(len(one.body.body_args())))
        lengths = one.length == other.length or sequences
        return lengths and one.reverse == other.reverse and differ_in_sizes(one.body, other.body, written)
    if isinstance(one, Arg) and isinstance(other, Arg):
        return one.role == other.role
    return one == other


def _fits(one: Graph, other: Graph, node: Node, written: Written) -> bool:
    """Whether all ranks agree, and how the node is written."""
    pairs = [(one.type(ref), other.type(ref)) for ref in one.args(node.name)]
    pairs += list(zip(node.types, other.node(node.name).types, strict=True))
    return all(a.rank == b.rank and written(node.op, a, b) for a, b in pairs)
