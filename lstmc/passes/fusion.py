"""Fuse equal ops: matrix products of one operand into one product, elementwise ops on adjacent pieces into one op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import Add, Arg, Binary, Concat, Linear, Op, Param, Pointwise, Split
from lstmc.passes.base import NodePass, Refs, graph_pass, joined_name, rewrite, with_bodies
from lstmc.passes.loop_motion import Hoist

__all__ = ["BiasApart", "fuse_horizontal", "fuse_linears"]


@graph_pass()
def fuse_horizontal(graph: Graph, counts: Counter[str]) -> Graph:
    """Merge equal ops on neighbouring pieces into one op, in the model and in every scan body.

    1. f(split(z)[i]), ..., f(split(z)[j])                           => split(f(z[i..j]))
    2. split(y)[k] + split(z)[i], ..., split(y)[l] + split(z)[j]     => split(y[k..l] + z[i..j]); also for - and *

    Only where each piece has no other reader: so an LSTM written gate by gate adds its four gates at once, and has
    one sigmoid over i, f and o.
    """
    graph = with_bodies(graph, lambda body: fuse_horizontal.change(body, counts))
    while (run := _find_run(graph)) is not None:
        counts["widen_function" if len(run.pieces) == 1 else "widen_binary"] += 1
        graph = _replace_run(graph, run)
    return graph


@dataclass(frozen=True)
class _Run:
    """Neighbouring pieces of a split whose readers are equal ops; readers of binary ops read pieces of two splits."""

    op: Op
    pieces: tuple[tuple[str, int], ...]  # operand slot -> the split, and the first piece of the run
    readers: tuple[str, ...]  # the nodes that read the pieces, in their order


def _find_run(graph: Graph) -> _Run | None:
    """Return the first run of two or more neighbouring pieces that can be computed as one, or None."""
    readers = graph.readers()
    reading = {ref: node.name for node in graph for ref in graph.args(node.name)}
    for node in graph:
        if not isinstance(node.op, Split):
            continue
        kinds = [_kind(graph, ref, reading) if readers.get(ref) == 1 else None for ref in node.refs]
        for kind, neighbours in groupby(range(len(kinds)), key=kinds.__getitem__):
            run = list(neighbours)
            if kind is not None and len(run) > 1 and (match := _run_of(graph, readers, reading, node.name, run)):
                return match
    return None


def _kind(graph: Graph, piece: Ref, reading: dict[Ref, str]) -> object:
    """Return a key that is equal for pieces whose readers can be merged: the op, and for a binary op the place of the
    other operand. Return None if the reader is neither elementwise nor a binary op on pieces of splits."""
    if piece not in reading:
        return None
    reader, args = graph.node(reading[piece]), graph.args(reading[piece])
    if isinstance(reader.op, Pointwise):
        return reader.op
    if isinstance(reader.op, Binary) and args[0] != args[1]:
        slot = args.index(piece)
        other = args[1 - slot]
        if isinstance(graph.node(other.node).op, Split) and graph.type(other) == graph.type(piece):
            # the distance of the two pieces stays the same along a run
            return reader.op, slot, other.node, other.out - piece.out
    return None


def _run_of(
    graph: Graph, readers: dict[Ref, int], reading: dict[Ref, str], split: str, run: Sequence[int]
) -> _Run | None:
    """Return the pieces ``run`` of a split and their readers to merge. Return None if a piece has two readers, or if
    the operands of a reader are pieces of splits along different axes, or of one split."""
    nodes = tuple(reading[Ref(split, i)] for i in run)
    first = graph.node(nodes[0])
    pieces = []
    for slot in range(len(graph.args(first.name))):
        refs = [graph.args(name)[slot] for name in nodes]  # of one split, in order, as the readers are of one kind
        if any(readers[ref] != 1 for ref in refs):
            return None
        pieces.append((refs[0].node, refs[0].out))
    splits = {name: graph.node(name).op for name, _ in pieces}
    axes = {op.axis for op in splits.values() if isinstance(op, Split)}
    return _Run(first.op, tuple(pieces), nodes) if len(axes) == 1 and len(splits) == len(pieces) else None


def _replace_run(graph: Graph, run: _Run) -> Graph:
    """Return the graph in which one op reads the whole run, and a split of its result replaces the run's readers."""
    count = len(run.readers)
    starts = dict(run.pieces)
    wide: dict[str, Ref] = {}  # split -> the piece that covers the run
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
    """Add a split with one piece for the whole run. Return a value for each old piece, and the run's piece."""
    op = node.op
    assert isinstance(op, Split)
    stop = start + count
    sizes = (*op.sizes[:start], sum(op.sizes[start:stop]), *op.sizes[stop:])
    if len(sizes) == 1:
        return (x,) * len(op.sizes), x
    joined = joined_name(node.names[start:stop])
    names = (*node.names[:start], joined, *node.names[stop:])
    pieces = b.add(Split(op.axis, sizes), x, names=names, loc=node.loc)
    return (*pieces[:start], *(pieces[start],) * count, *pieces[start + 1 :]), pieces[start]


def _wide_op(b: Builder, graph: Graph, run: _Run, wide: dict[str, Ref]) -> dict[str, Ref]:
    """Add the op on the whole run and a split of its result. Return the pieces by the names of the replaced readers."""
    split = graph.node(run.pieces[0][0]).op
    assert isinstance(split, Split)
    start = run.pieces[0][1]
    nodes = [graph.node(name) for name in run.readers]
    names = (joined_name([node.name for node in nodes]),)
    (value,) = b.add(run.op, *[wide[name] for name, _ in run.pieces], names=names, loc=nodes[0].loc)
    sizes = split.sizes[start : start + len(nodes)]
    pieces = b.add(Split(split.axis, sizes), value, names=[node.name for node in nodes], loc=nodes[0].loc)
    return dict(zip(run.readers, pieces, strict=True))


@graph_pass(before_peel=True)
def fuse_linears(graph: Graph, counts: Counter[str]) -> Graph:
    """Merge several matrix products into one, in the model and in every scan body.

    1. linear(x, W1), linear(x, W2), ... => split(linear(x, concat(W1, W2, ...))), biases likewise
    2. y + linear(h, W, b), where y depends on no state and h does => (y + b) + linear(h, W)

    Rule 1 packs parameters with equal lr_mult and decay_mult that nothing else uses, so training does not change; the
    packed blob is a sub-graph of weights. After rule 2 ``hoist`` adds the bias for all steps at once. Two biases are
    not made one blob: each would learn only half as fast.
    """
    moved = with_bodies(graph, lambda body: _move_biases(body, counts))
    groups = _groups(moved)
    counts["fuse_linears"] += len(groups)
    if not groups:
        return moved

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if not isinstance(node.op, Scan):
            return None
        own = [group for group in groups if group.scan == node.name]
        return b.copy(node, args, replace(node.op, body=_fused(node.op.body, own)))

    fused = _fused(rewrite(moved, visit), [group for group in groups if group.scan is None])
    return Hoist(of_parameters=True).run(fused).graph


@dataclass(frozen=True)
class BiasApart(NodePass):
    """Separate the bias from products, where a backend writes a product with a bias in another form or place.

    1. linear(x, W, b) => linear(x, W) + b, if ``apart(product, bias)`` is true
    """

    name = "bias_apart"
    apart: Callable[[Builder, Linear, Ref], bool]

    def visit(self, b: Builder, node: Node, args: Refs, counts: Counter[str]) -> Refs | None:
        if type(node.op) is not Linear or len(args) == 2 or not self.apart(b, node.op, args[2]):
            return None
        counts["bias_apart"] += 1
        (product,) = b.add(node.op, *args[:2], names=(f"{node.name}/product",), loc=node.loc)
        return b.add(Add(), product, args[2], names=node.names, loc=node.loc)


def _move_biases(body: Graph, counts: Counter[str]) -> Graph:
    """Return the body with the bias of each product of a state moved to the other operand of the sum that reads the
    product, if that operand depends on no state."""
    on_state = body.dependents(set(body.arguments("state")))
    readers = body.readers()
    moved = {}  # product that loses its bias -> the sum whose other operand gets the bias
    for node in body:
        if not isinstance(node.op, Add):
            continue
        for y, z in (body.args(node.name), body.args(node.name)[::-1]):
            product = body.node(z.node)
            takes_bias = isinstance(product.op, Linear) and len(body.args(z.node)) == 3 and readers[z] == 1
            if takes_bias and z.node in on_state and y.node not in on_state and body.type(y) == node.types[0]:
                moved[z.node] = node.name
    counts["move_bias"] += len(moved)

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if node.name in moved:
            return b.add(node.op, *args[:2], names=node.names, loc=node.loc)
        for slot, ref in enumerate(body.args(node.name)):
            if moved.get(ref.node) == node.name:
                bias = body.args(ref.node)[2]
                (shifted,) = b.add(Add(), args[1 - slot], bias, names=(f"{node.name}_bias",), loc=node.loc)
                return b.add(Add(), shifted, args[slot], names=node.names, loc=node.loc)
        return None

    return rewrite(body, visit) if moved else body


@dataclass
class _Group:
    """The linears of a scan's body (of the model if ``scan`` is None) that read one value, with their parameters."""

    scan: str | None
    nodes: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    biases: list[str] = field(default_factory=list)


def _groups(graph: Graph) -> list[_Group]:
    """Return the groups of two or more linears that read one value along one axis, whose parameters have equal
    multipliers and are read by nothing outside the groups."""
    by_operand: dict[object, _Group] = {}
    for scan, node, x, params in _linears(graph):
        assert isinstance(node.op, Linear)
        parameters = (graph.node(name).op for name in params)
        kinds = tuple((p.lr_mult, p.decay_mult) for p in parameters if isinstance(p, Param))
        group = by_operand.setdefault((scan, x, node.op.axis, kinds), _Group(scan))
        group.nodes.append(node.name)
        group.weights.append(params[0])
        group.biases += params[1:]
    groups = [group for group in by_operand.values() if len(group.nodes) > 1]
    uses = _parameter_uses(graph)
    packed = Counter(tuple(params) for group in groups for params in (group.weights, group.biases) if params)

    def alone(params: list[str]) -> bool:
        return all(uses[name] == packed[tuple(params)] for name in params)

    return [group for group in groups if alone(group.weights) and alone(group.biases)]


def _linears(graph: Graph) -> Iterator[tuple[str | None, Node, Ref, list[str]]]:
    """Yield the scan (or None), node, input, and parameters of every linear whose weights are parameters."""
    parts: list[tuple[str | None, Graph, Mapping[Ref, Ref]]] = [(None, graph, {ref: ref for ref in graph.refs()})]
    for node in graph:
        if isinstance(node.op, Scan):
            arguments = map(Ref, node.op.body.arguments())
            parts.append((node.name, node.op.body, dict(zip(arguments, graph.args(node.name), strict=True))))
    for scan, part, outside in parts:
        for node in part:
            if isinstance(node.op, Linear):
                x, *weights = part.args(node.name)
                params = [outside[ref].node for ref in weights if ref in outside]
                if len(params) == len(weights) and all(isinstance(graph.node(name).op, Param) for name in params):
                    yield scan, node, x, params


def _parameter_uses(graph: Graph) -> Counter[str]:
    """Return how many nodes and outputs read each value of the model; a scan counts as the readers in its body."""
    uses = Counter(output.ref.node for output in graph.outputs)
    for node in graph:
        args = graph.args(node.name)
        if not isinstance(node.op, Scan):
            uses.update(ref.node for ref in args)
            continue
        readers = node.op.body.readers()
        for arg, ref in zip(node.op.body.body_args(), args, strict=True):
            uses[ref.node] += readers.get(Ref(arg.name), 0)
    return uses


def _fused(part: Graph, groups: Sequence[_Group]) -> Graph:
    """Return the model, or a scan's body, with each group fused: one product with joined weights, then a Split."""
    part = _parameters_first(part, groups)
    firsts = {group.nodes[0]: group.nodes for group in groups}
    packed: dict[Refs, Ref] = {}
    pieces: dict[str, Ref] = {}

    def pack(b: Builder, params: Refs) -> Ref:
        if params not in packed:
            folder = params[0].node.rpartition("/")[0]
            short = joined_name([ref.node.rpartition("/")[2] for ref in params])
            (packed[params],) = b.add(Concat(0), *params, names=(f"{folder}/{short}" if folder else short,))
        return packed[params]

    def visit(b: Builder, node: Node, args: Refs) -> Refs | None:
        if (names := firsts.get(node.name)) is not None:
            nodes = [part.node(name) for name in names]
            weights = [pack(b, params) for params in zip(*(part.args(name)[1:] for name in names), strict=True)]
            (product,) = b.add(node.op, args[0], *weights, names=(joined_name(names),), loc=node.loc)
            split = Split(b.type(product).rank - 1, tuple(each.types[0].shape[-1] for each in nodes))
            pieces.update(zip(names, b.add(split, product, names=names, loc=node.loc), strict=True))
        return (pieces[node.name],) if node.name in pieces else None

    return rewrite(part, visit)


def _parameters_first(part: Graph, groups: Sequence[_Group]) -> Graph:
    """Return the graph with parameters before other nodes, if a group's first linear precedes one of its parameters."""
    place = {node.name: i for i, node in enumerate(part)}
    read = [(group.nodes[0], ref.node) for group in groups for name in group.nodes for ref in part.args(name)[1:]]
    if all(place[param] < place[first] for first, param in read):
        return part
    rebuild = Rebuild(part)
    for node in sorted(part, key=lambda node: not isinstance(node.op, Param | Arg)):
        rebuild.copy(node)
    return rebuild.finish()
