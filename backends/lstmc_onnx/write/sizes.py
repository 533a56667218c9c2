"""Sizes that a written net leaves open: found by comparing the graph of a model with those of other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lstmc.backend import LARGER
from lstmc.ir import Graph, Node, Ref, Scan
from lstmc.ops import Arg, AvePool, Full, Input, MaxPool, Op, Param, Reshape
from lstmc.passes.expand import named_results
from lstmc_onnx.writer import Shape

PRODUCT = ""  # a size that is no dimension itself, but changes with one


@dataclass(frozen=True)
class Sizes:
    """The sizes of a graph's values. ``others`` are graphs of the same model with one dimension ``LARGER``."""

    graph: Graph
    others: Mapping[str, Graph]

    @classmethod
    def of(cls, graph: Graph, others: Mapping[str, Graph]) -> Sizes:
        """Without the dimensions that the net would be another one for."""
        kept = {dim: other for dim, other in others.items() if differ_in_sizes(graph, other)}
        return cls(graph, {dim: other for dim, other in kept.items() if _is_an_input_s(graph, other)})

    def shape(self, ref: Ref) -> Shape:
        """The sizes of a value: numbers, names of dimensions, or ``PRODUCT``."""
        found: list[int | str] = list(self.graph.type(ref).shape)
        for dim, other in self.others.items():
            for axis, (one, two) in enumerate(zip(self.graph.type(ref).shape, other.type(ref).shape, strict=True)):
                if one != two:
                    found[axis] = dim if two == one + LARGER and found[axis] == one else PRODUCT
        return tuple(found)

    def inside(self, scan: Node) -> Sizes:
        """The sizes in the body of a scan."""
        bodies = {dim: other.node(scan.name).op for dim, other in self.others.items()}
        assert isinstance(scan.op, Scan)
        return Sizes(
            named_results(scan.op, scan.op.body),
            {dim: named_results(op, op.body) for dim, op in bodies.items() if isinstance(op, Scan)},
        )


def differ_in_sizes(one: Graph, other: Graph) -> bool:
    """Whether two graphs are the same but for sizes that a net finds out as it runs: no number of an op differs."""
    if [o.name for o in one.outputs] != [o.name for o in other.outputs] or len(one) != len(other):
        return False
    if [o.ref for o in one.outputs] != [o.ref for o in other.outputs]:
        return False
    return all(
        (a.names, one.args(a.name)) == (b.names, other.args(b.name)) and _same(a.op, b.op) and _fits(one, other, a)
        for a, b in zip(one, other, strict=True)
    )


def _is_an_input_s(one: Graph, other: Graph) -> bool:
    """Whether an axis of an input has the size itself, for the net to read it there."""
    inputs = [(node.types[0].shape, other.type(Ref(node.name)).shape) for node in one if isinstance(node.op, Input)]
    return any(b == a + LARGER for before, after in inputs for a, b in zip(before, after, strict=True))


def _same(one: Op, other: Op) -> bool:
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
        return lengths and one.reverse == other.reverse and differ_in_sizes(one.body, other.body)
    if isinstance(one, Arg) and isinstance(other, Arg):
        return one.role == other.role
    return one == other


def _fits(one: Graph, other: Graph, node: Node) -> bool:
    """Whether all ranks agree, and images of pools, whose padding is written as numbers."""
    pairs = [(one.type(ref), other.type(ref)) for ref in one.args(node.name)]
    pairs += list(zip(node.types, other.node(node.name).types, strict=True))
    images = isinstance(node.op, MaxPool | AvePool)
    return all(a.rank == b.rank and (not images or a.shape[-2:] == b.shape[-2:]) for a, b in pairs)
