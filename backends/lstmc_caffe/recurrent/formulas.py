"""Caffe's layers in recognition: the formulas of layers that are not core ops, and the order of packed gates.

The gates of a packed value are reordered by reordering the rows of the weights that compute it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lstmc.ir import Builder, Graph, Node, Ref, is_weight, twice_stored, weight_graph
from lstmc.ir.scan import Scan
from lstmc.ops import Arg, Concat, Op, Split
from lstmc.patterns import CORE_FORMULAS, LSTM_ORDERS, Columns, Formula, Place, Polynomial, Reading, multiplied
from lstmc_caffe import ops as caffe


def _eltwise(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    assert isinstance(node.op, caffe.Eltwise)
    if node.op.operation == "MAX":
        return None
    operands = [r.operand(ref, columns) for ref in args]
    if node.op.operation == "SUM":
        weights = node.op.coeff or (1.0,) * len(args)
        return sum((x.times(w) for x, w in zip(operands, weights, strict=True)), Polynomial())
    product: Polynomial | None = operands[0]
    for x in operands[1:]:
        product = None if product is None else multiplied(product, x)
    return product


def _bias(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else r.operand(args[0], columns) + small


def _scale(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else multiplied(r.operand(args[0], columns), small)


def _covering(r: Reading, node: Node, small: Ref, columns: Columns) -> Polynomial | None:
    """The second operand of a Bias or a Scale: over the last axis, or a number for each row of those before it."""
    assert isinstance(node.op, caffe.Bias | caffe.Scale)
    start, stop, rank = node.op.axis, node.op.axis + node.op.num_axes, node.types[0].rank
    place = r.at(small, columns if stop == rank else None)
    if r.place.where == "sequence" and start == 0 and stop:
        place = Place(small, place.columns, "sequence")
    if columns is None:
        return r.equations.at(place) if stop == rank else None
    return r.equations.at(place) if stop in (rank, rank - 1) or stop == start else None


def _power(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    op = node.op
    assert isinstance(op, caffe.PowerLayer)
    if op.power == 1:
        return r.operand(args[0], columns).times(op.scale) + Polynomial.constant(op.shift)
    return r.equations.function(r.place, op, r.at(args[0], columns))


def _dummy_data(r: Reading, node: Node, args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    assert isinstance(node.op, caffe.DummyData)
    return Polynomial.constant(node.op.value)


FORMULAS: Mapping[type[Op], Formula] = {
    **CORE_FORMULAS,
    caffe.Eltwise: _eltwise,
    caffe.Bias: _bias,
    caffe.Scale: _scale,
    caffe.PowerLayer: _power,
    caffe.DummyData: _dummy_data,
}


CAFFE_ORDER = LSTM_ORDERS["caffe"]


@dataclass
class Sources:
    """What the quarters of a value come from, where each is read once: the operand slots of nodes that hold weights,
    and the arguments of the body that are sequences."""

    weights: list[tuple[str, int]] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)


def sources_of(graph: Graph, ref: Ref, found: Sources, readers: int = 1) -> bool:
    """Collect what ``ref`` is a sum of; False if its quarters cannot be re-ordered by weights alone.

    ``readers`` is how many there may be that know of the new order.
    """
    if graph.readers().get(ref) != readers:
        return False
    node = graph.node(ref.node)
    args = graph.args(node.name)
    if isinstance(node.op, Arg):
        found.sequences.append(node.name)
        return node.op.role == "x"
    if isinstance(node.op, caffe.Eltwise) and node.op.operation == "SUM":
        return all(sources_of(graph, arg, found) for arg in args)
    if isinstance(node.op, caffe.InnerProduct):
        found.weights += [(node.name, slot) for slot in range(1, len(args))]
        return True
    covers_last = isinstance(node.op, caffe.Bias) and node.op.learned and node.op.axis == graph.type(ref).rank - 1
    if covers_last:
        found.weights.append((node.name, 1))
        return sources_of(graph, args[0], found)
    return False


def in_order(b: Builder, weight: Ref, moved: tuple[int, ...]) -> Ref:
    """The weight with its quarters in another order: quarter k is the old one's ``moved[k]``."""
    node = b.node(weight.node)
    pieces = b.args(weight.node)
    rows = b.type(weight).shape[0] // 4
    name = f"{node.names[weight.out]}_{''.join(map(str, moved))}"
    if not (isinstance(node.op, Concat) and len(pieces) == 4 and all(b.type(p).shape[0] == rows for p in pieces)):
        names = [f"{node.names[weight.out]}_{k}" for k in range(4)]
        pieces = b.add(Split(0, (rows,) * 4), weight, names=names)
    return b.add(Concat(0), *[pieces[k] for k in moved], names=(name,))[0]


def stored_twice(graph: Graph) -> list[str]:
    """The weights of a legal graph that would be in two blobs."""
    blobs = [ref for ref in _blobs(graph) if is_weight(graph, ref)]
    return twice_stored(weight_graph(graph, blobs))


def _blobs(graph: Graph) -> list[Ref]:
    found = []
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan):
            found += [ref for i, ref in enumerate(args) if node.op.role(i) == "weight"]
        elif isinstance(node.op, caffe.CaffeOp):
            found += [args[slot] for slot in node.op.blobs(len(args))]
    return found
