"""Element-wise ops on neighbouring pieces of a value become one op on the value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lstmc.ir import Builder, Graph, Node, Ref, Scan
from lstmc.ops import Binary, Op, Pointwise, Split
from lstmc.passes.base import Pass, PassResult, Refs, in_bodies, joined_name, result, rewrite


@dataclass(frozen=True)
class FuseHorizontal(Pass):
    """Do once what is done alike to neighbouring pieces, in the model and in every scan body.

    1. f(split(z)[i]), ..., f(split(z)[j])                           => split(f(z[i..j]))
    2. split(y)[k] + split(z)[i], ..., split(y)[l] + split(z)[j]     => split(y[k..l] + z[i..j]); also for - and *

    Only where each piece has no other reader: so an LSTM written gate by gate adds its four gates at once, and has
    one sigmoid over i, f and o.
    """

    name = "fuse_horizontal"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        return result(graph, fused_horizontally(graph, counts), counts)


def fused_horizontally(graph: Graph, counts: Counter[str]) -> Graph:
    """The fixed point of the rules; ``counts`` gains a rule's name each time it is used."""

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        return b.add(
            in_bodies(node.op, lambda body: fused_horizontally(body, counts)), *args, names=node.names, loc=node.loc
        )

    graph = rewrite(graph, visit)
    while (run := _find_run(graph)) is not None:
        counts["widen_function" if len(run.pieces) == 1 else "widen_binary"] += 1
        graph = _replace_run(graph, run)
    return graph


@dataclass(frozen=True)
class _Run:
    """Neighbouring pieces with one kind of reader: for each operand the split node, its first piece, how many."""

    op: Op
    pieces: tuple[tuple[str, int], ...]  # per operand slot: the split, and the first piece of the run
    readers: tuple[str, ...]  # the nodes that read them, in the order of the pieces


def _find_run(graph: Graph) -> _Run | None:
    readers = graph.readers()
    reading: dict[Ref, str] = {}
    for node in graph:
        for ref in graph.args(node.name):
            reading[ref] = node.name
    for node in graph:
        if not isinstance(node.op, Split) or len(node.types) < 2:
            continue
        kinds = [
            _kind(graph, Ref(node.name, i), reading) if readers.get(Ref(node.name, i)) == 1 else None
            for i in range(len(node.types))
        ]
        for run in _runs(kinds):
            found = _run_of(graph, readers, reading, node.name, run)
            if found is not None:
                return found
    return None


def _kind(graph: Graph, piece: Ref, reading: dict[Ref, str]) -> object:
    """What a piece's reader does with it, if it is an op that could be widened; None otherwise."""
    reader = graph.node(reading[piece]) if piece in reading else None
    if reader is None:
        return None
    args = graph.args(reader.name)
    if isinstance(reader.op, Pointwise):
        return reader.op
    if isinstance(reader.op, Binary) and args[0] != args[1]:
        slot = args.index(piece)
        other = args[1 - slot]
        if isinstance(graph.node(other.node).op, Split) and graph.type(other) == graph.type(piece):
            # the distance of the two pieces stays the same along a run
            return reader.op, slot, other.node, other.out - piece.out
    return None


def _runs(kinds: Sequence[object]) -> list[range]:
    """Neighbouring indices of one kind, two or more."""
    found = []
    for kind, group in groupby(range(len(kinds)), key=lambda i: kinds[i]):
        indices = list(group)
        if kind is not None and len(indices) > 1:
            found.append(range(indices[0], indices[-1] + 1))
    return found


def _run_of(graph: Graph, readers: dict[Ref, int], reading: dict[Ref, str], split: str, run: range) -> _Run | None:
    nodes = tuple(reading[Ref(split, i)] for i in run)
    first = graph.node(nodes[0])
    pieces = []
    for slot in range(len(graph.args(first.name))):
        refs = [graph.args(name)[slot] for name in nodes]
        source = graph.node(refs[0].node)
        in_order = [ref.out for ref in refs] == list(range(refs[0].out, refs[0].out + len(refs)))
        if not in_order or any(ref.node != source.name or readers[ref] != 1 for ref in refs):
            return None
        pieces.append((source.name, refs[0].out))
    splits = [graph.node(name).op for name, _ in pieces]
    if len({op.axis for op in splits if isinstance(op, Split)}) != 1 or len({name for name, _ in pieces}) != len(
        pieces
    ):
        return None
    return _Run(first.op, tuple(pieces), nodes)


def _replace_run(graph: Graph, run: _Run) -> Graph:
    count = len(run.readers)
    starts = dict(run.pieces)
    wide: dict[str, Ref] = {}  # of each split of the run: the piece that covers it
    results: dict[str, Ref] = {}

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name in starts:
            pieces, wide[node.name] = _coarser(b, node, args[0], starts[node.name], count)
            return pieces
        if node.name in run.readers:
            if not results:
                results.update(_wide_op(b, graph, run, wide))
            return (results[node.name],)
        return None

    return rewrite(graph, visit)


def _coarser(b: Builder, node: Node, x: Ref, start: int, count: int) -> tuple[Refs, Ref]:
    """The split with one piece for the run; the old pieces (the run's all standing for it) and the run's piece."""
    op = node.op
    assert isinstance(op, Split)
    stop = start + count
    sizes = (*op.sizes[:start], sum(op.sizes[start:stop]), *op.sizes[stop:])
    if len(sizes) == 1:
        return (x,) * len(op.sizes), x
    joined = joined_name(node.names[start:stop])
    names = (*node.names[:start], joined, *node.names[stop:])
    made = b.add(Split(op.axis, sizes), x, names=names, loc=node.loc)
    return (*made[:start], *(made[start],) * count, *made[start + 1 :]), made[start]


def _wide_op(b: Builder, graph: Graph, run: _Run, wide: dict[str, Ref]) -> dict[str, Ref]:
    split = graph.node(run.pieces[0][0]).op
    assert isinstance(split, Split)
    start = run.pieces[0][1]
    nodes = [graph.node(name) for name in run.readers]
    names = (joined_name([node.name for node in nodes]),)
    (value,) = b.add(run.op, *[wide[name] for name, _ in run.pieces], names=names, loc=nodes[0].loc)
    sizes = split.sizes[start : start + len(nodes)]
    pieces = b.add(Split(split.axis, sizes), value, names=[node.name for node in nodes], loc=nodes[0].loc)
    return dict(zip(run.readers, pieces, strict=True))
