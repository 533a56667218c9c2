"""Re-ordering the quarters of a value by re-ordering the rows of the weights that it is computed from."""

from __future__ import annotations

from dataclasses import dataclass, field

from lstmc.ir import Builder, Graph, Ref, is_weight, twice_stored, weight_graph
from lstmc.ir.scan import Scan
from lstmc.ops import Arg, Concat, Split
from lstmc.patterns import LSTM_ORDERS
from lstmc_caffe import ops as caffe

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
