"""Rewrite the end of an LSTM's step as one LSTMUnit layer; the formulas of Caffe's layers for recognition. LSTMUnit
expects the four gates packed in one value, and ``cont``: a sequence of 0 and 1 that multiplies the states, 0 where a
sequence begins. To reorder packed gates, the rows of the weights that compute them are reordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lstmc import patterns
from lstmc.ir import Builder, Graph, Node, Rebuild, Ref, Scan, is_weight, twice_stored, weight_graph
from lstmc.ops import Arg, Concat, Input, IntegerRange, Op, Sigmoid, Split, Tanh
from lstmc.passes import graph_pass
from lstmc.passes.simplify import pruned
from lstmc.patterns import Columns, Place, Polynomial, Reading, moved, multiplied
from lstmc_caffe import ops as caffe


def _eltwise(r: Reading, node: Node[caffe.Eltwise], args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    """Return the polynomial that an Eltwise computes; None for MAX, and for a product that is no polynomial."""
    if node.op.operation == "MAX":
        return None
    operands = [r.operand(ref, columns) for ref in args]
    if node.op.operation == "SUM":
        weights = node.op.coeff or (1.0,) * len(args)
        return sum((x.scaled(w) for x, w in zip(operands, weights, strict=True)), Polynomial())
    product: Polynomial | None = operands[0]
    for x in operands[1:]:
        product = None if product is None else multiplied(product, x)
    return product


def _bias(r: Reading, node: Node[caffe.Bias], args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else r.operand(args[0], columns) + small


def _scale(r: Reading, node: Node[caffe.Scale], args: tuple[Ref, ...], columns: Columns) -> Polynomial | None:
    small = _covering(r, node, args[1], columns)
    return None if small is None else multiplied(r.operand(args[0], columns), small)


def _covering(r: Reading, node: Node[caffe.Bias | caffe.Scale], small: Ref, columns: Columns) -> Polynomial | None:
    """Return the polynomial of the second operand of a Bias or Scale; None if it covers neither columns nor rows."""
    start, stop, rank = node.op.axis, node.op.axis + node.op.num_axes, node.types[0].rank
    place = r.at(small, columns if stop == rank else None)
    if r.place.where == "sequence" and start == 0 and stop:  # it covers the axis T, so it is a sequence too
        place = Place(small, place.columns, "sequence")
    if columns is None:
        return r.equations.at(place) if stop == rank else None
    return r.equations.at(place) if stop in (rank, rank - 1) or stop == start else None


def _power(r: Reading, node: Node[caffe.PowerLayer], args: tuple[Ref, ...], columns: Columns) -> Polynomial:
    """Return the polynomial of a Power: scale x + shift, or a function of x if it raises x to a power."""
    op = node.op
    if op.power == 1:
        return r.operand(args[0], columns).scaled(op.scale) + Polynomial.constant(op.shift)
    return r.equations.function(r.place, op, r.at(args[0], columns))


FORMULAS: Mapping[type[Op], patterns.Formula] = {
    **patterns.CORE_FORMULAS,
    caffe.Eltwise: _eltwise,
    caffe.Bias: _bias,
    caffe.Scale: _scale,
    caffe.PowerLayer: _power,
    caffe.DummyData: lambda r, node, args, columns: Polynomial.constant(node.op.value),
}

CAFFE_ORDER = patterns.LSTM_ORDERS["caffe"]


@dataclass
class Sources:
    """The operands of a value of four quarters: slots of weights, and sequence arguments of the body."""

    weights: list[tuple[str, int]] = field(default_factory=list)  # node, number of the operand
    sequences: list[str] = field(default_factory=list)  # names of arguments


def collect_sources(graph: Graph, ref: Ref, sources: Sources, readers: int = 1) -> bool:
    """Add the operands of the sum ``ref`` to ``sources``. Return False if the sum's quarters cannot be reordered by
    reordering weights, for example because the number of its readers is not ``readers``."""
    if graph.readers().get(ref) != readers:
        return False
    node = graph.node(ref.node)
    args = graph.args(node.name)
    if isinstance(node.op, Arg):
        sources.sequences.append(node.name)
        return node.op.role == "x"
    if isinstance(node.op, caffe.Eltwise) and node.op.operation == "SUM":
        return all(collect_sources(graph, arg, sources) for arg in args)
    if isinstance(node.op, caffe.InnerProduct):
        sources.weights += [(node.name, slot) for slot in range(1, len(args))]
        return True
    if isinstance(node.op, caffe.Bias) and node.op.learned and node.op.axis == graph.type(ref).rank - 1:
        sources.weights.append((node.name, 1))
        return collect_sources(graph, args[0], sources)
    return False


def in_order(b: Builder, weight: Ref, moved: tuple[int, ...]) -> Ref:
    """Return the weight with its quarters permuted: quarter k is the old quarter ``moved[k]``."""
    node = b.node(weight.node)
    pieces = b.args(weight.node)
    rows = b.type(weight).shape[0] // 4
    name = f"{node.names[weight.out]}_{''.join(map(str, moved))}"
    if not (isinstance(node.op, Concat) and len(pieces) == 4 and all(b.type(p).shape[0] == rows for p in pieces)):
        names = [f"{node.names[weight.out]}_{k}" for k in range(4)]
        pieces = b.add(Split(0, (rows,) * 4), weight, names=names)
    return b.add(Concat(0), *[pieces[k] for k in moved], names=(name,))[0]


def stored_twice(graph: Graph) -> list[str]:
    """Return the weights of a legal graph that would be stored in two blobs."""
    blobs = list[Ref]()
    for node in graph:
        args = graph.args(node.name)
        if isinstance(node.op, Scan):
            blobs += [ref for i, ref in enumerate(args) if node.op.role(i) == "weight"]
        elif isinstance(node.op, caffe.CaffeOp):
            blobs += [args[slot] for slot in node.op.blobs(len(args))]
    return twice_stored(weight_graph(graph, [ref for ref in blobs if is_weight(graph, ref)]))


@dataclass(frozen=True)
class GateTail:
    """c = sigmoid(f) c_prev + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c): its values, and the value whose quarters are
    the gates, in ``order``. See :class:`~lstmc.patterns.LSTMTail` for ``state`` and ``reset``; ``cont`` is the sequence
    outside of the scan that LSTMUnit gets in place of ``reset``."""

    c: Ref
    h: Ref
    c_prev: Ref | None
    gates: Ref
    order: str
    state: Ref | None = None
    reset: Place | None = None
    cont: Ref | None = None


def gate_tails(body: Graph, around: tuple[Graph, str] | None = None) -> Iterator[GateTail]:
    """Yield each :class:`GateTail` of a scan's body. ``around`` is the enclosing graph and the scan's name in it."""
    for tail in patterns.lstm_tails(patterns.Equations(body, FORMULAS, around)):
        quarters = patterns.packed(body, {name: place for name, (_, place) in tail.gates.items()}, 4)
        standard = all(op == (Tanh() if name == "g" else Sigmoid()) for name, (op, _) in tail.gates.items())
        if quarters is None or not standard or tail.activation != Tanh():
            continue
        source, numbers = quarters
        order = ["f"] * 4  # a first step from zero has no f: the quarter left over is its place
        for name, number in numbers.items():
            order[number] = name
        yield GateTail(tail.c, tail.h, tail.c_prev, source, "".join(order), tail.state, tail.reset)


def indicator(graph: Graph, reset: Place, scan: Scan) -> Ref | None:
    """Return the input [T, N] of 0 and 1 that multiplies the states of a scan, or None for another value, which may
    need a gradient: LSTMUnit, LSTM and RNN give none to their ``cont`` (``lstm_unit_layer.cpp`` and
    ``recurrent_layer.cpp``, Backward_cpu: "Cannot backpropagate to sequence indicators")."""
    if reset.where != "sequence":
        return None
    op = graph.node(reset.ref.node).op
    if not isinstance(op, Input) or not isinstance(op.values, IntegerRange):
        return None
    zero_or_one = {op.values.low, op.values.high, op.values.also} <= {0, 1, None}
    return reset.ref if zero_or_one and len(op.shape) == 2 and op.shape[0] == scan.length else None


def has_lstm_unit(scan: Scan) -> bool:
    return any(_of_rows(scan, tail) for tail in gate_tails(scan.body))


@graph_pass()
def find_lstm_unit(graph: Graph, counts: Counter[str]) -> Graph:
    """Use LSTMUnit where a scan keeps its time axis.

    1. c = sigmoid(f) c_prev + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), where i, f, o, g are the quarters of z
       => c, h = LSTMUnit(c_prev, z, cont) with a cont of ones
    2. c = sigmoid(i) tanh(g), ... in a first step from a zero state  => the same layer, on this zero state
    3. quarters of z in another order => the rows of the weights from whose products z is summed, re-ordered
    4. c_prev = c cont_t, where cont is an input [T, N] of 0 and 1 => c, h = LSTMUnit(c, z, cont_t)

    Matched on the graph: any order of operands, quarters cut in one or several steps, a sigmoid over several of them.
    Rule 3 holds only if the products and sums of z have no other readers; otherwise the gates keep their order.

    LSTMUnit is one layer instead of seven or more, and in a Caffe from lstmc's installer it is faster at every size
    (docs/performance.md). For other builds ``--tune`` measures it.
    """
    refused: set[str] = set()  # the scans whose rows cannot be re-ordered
    while True:
        attempt = _UnitRewrite(graph, refused)
        refused |= attempt.refused
        if attempt.refused:
            continue
        after = attempt.graph()
        if not attempt.orders or not stored_twice(after):  # else a weight is in two blobs: keep the order
            counts.update(attempt.counts)
            return after
        refused.update(attempt.orders)


class _UnitRewrite:
    """The rewrite of every gate tail of a model as an LSTMUnit. ``orders`` has the permutation of each scan that needs
    one, ``moved`` of each weight operand (a node, a slot). If scans are ``refused``, repeat it without these."""

    def __init__(self, graph: Graph, refused: set[str]) -> None:
        self.before = graph
        self.counts: Counter[str] = Counter()
        self.orders: dict[str, tuple[int, ...]] = {}
        self.moved: dict[tuple[str, int], tuple[int, ...]] = {}
        self.refused: set[str] = set()  # scans that cannot be permuted, besides the argument's
        self.sequences: dict[Ref, list[str]] = {}  # sequence -> the reordered scans whose gates read it
        self.scans: dict[str, Scan] = {}  # the rewritten scans
        self.cont: dict[str, list[Ref | int]] = {}  # for each scan: an indicator, or the size of a cont of ones
        for node in graph:
            if isinstance(node.op, Scan) and node.op.kept:
                self._replace(node, node.op, node.name not in refused)
        self._move_sequences()

    def graph(self) -> Graph:
        """Return the graph with LSTMUnits in the bodies of scans, reordered weights, and a ``cont`` for each scan."""
        weights: dict[tuple[Ref, tuple[int, ...]], Ref] = {}
        rebuild = Rebuild(self.before)
        b = rebuild.builder
        for node in self.before:
            operands = list(rebuild.args(node))
            for slot, ref in enumerate(operands):
                moved = self.moved.get((node.name, slot))
                if moved is not None:
                    if (ref, moved) not in weights:
                        weights[ref, moved] = in_order(b, ref, moved)
                    operands[slot] = weights[ref, moved]
            if node.name in self.scans:
                operands[:0] = [
                    rebuild.new[cont]
                    if isinstance(cont, Ref)
                    else b.add(caffe.DummyData((1, cont), 1.0), names=(f"{node.name}/cont",))[0]
                    for cont in self.cont[node.name]
                ]
            rebuild.put(node, b.copy(node, operands, self.scans.get(node.name)))
        return rebuild.finish()

    def _replace(self, node: Node, scan: Scan, reorder: bool) -> None:
        """Rewrite a scan's gate tails as LSTMUnits, unless its weights need another order and cannot take it."""
        operands = zip(scan.body.body_args(), self.before.args(node.name), strict=True)
        first = [(arg, self.before.node(ref.node).op) for arg, ref in operands]
        zeros = {Ref(arg.name) for arg, op in first if isinstance(op, caffe.DummyData) and op.value == 0.0}
        tails = [self._tails(node, scan, body) for body in (scan.body, *scan.bodies[1:])]  # of the body, the first step
        tails += [[]] * (2 - len(tails))
        tails[1] = [on for tail in tails[1] if (on := _on_zero(tail, tails[0], zeros)) is not None]
        if not tails[0]:
            return
        conts = list(dict.fromkeys(tail.cont for group in tails for tail in group))
        names = _free_names("cont", len(conts), scan)
        size = scan.body.type(tails[0][0].c).shape[1]
        arguments = dict(zip(conts, names, strict=True))
        pairs = zip(scan.bodies, tails, strict=False)
        bodies = [_body_with_units(body, group, arguments, size) for body, group in pairs]
        if {tail.order for group in tails for tail in group} != {CAFFE_ORDER}:
            if not reorder or not self._reorder(node, scan, bodies, tails):
                return
            self.counts["reorder_rows"] += 1
        self.scans[node.name] = replace(scan, body=bodies[0], first=bodies[1] if scan.first is not None else None)
        self.cont[node.name] = [cont or size for cont in conts]
        self.counts["find_unit"] += len(tails[0])
        self.counts["find_unit_in_first_step"] += len(tails[1])
        self.counts["cont_of_unit"] += sum(tail.cont is not None for tail in tails[0])

    def _tails(self, node: Node, scan: Scan, body: Graph) -> list[GateTail]:
        """Return a body's gate tails that can be LSTMUnits; in a first step also those without old c, which is zero."""
        tails = []
        for tail in gate_tails(body, (self.before, node.name)):
            cont = None if tail.reset is None else indicator(self.before, tail.reset, scan)
            tails.append(tail if cont is None else replace(tail, c_prev=tail.state, cont=cont))
        first = body is not scan.body  # the peeled first step, whose states are zero
        return [t for t in tails if _of_rows(scan, t) and (t.c_prev is not None or (first and t.state is None))]

    def _reorder(self, node: Node, scan: Scan, bodies: Sequence[Graph], tails: Sequence[list[GateTail]]) -> bool:
        """Record the permutation of a scan's weights that puts the gates into Caffe's order; False if there is none."""
        orders = {tail.order for group in tails for tail in group}
        whole_first = scan.first is None or len(tails[1]) == len(tails[0])
        if len(orders) > 1 or len(tails[0]) > 1 or not whole_first:
            return False
        order = orders.pop()
        slots: set[int] = set()
        sequences: set[int] = set()
        arguments = {arg.name: i for i, arg in enumerate(scan.body.body_args())}
        for body in bodies:
            unit = next(n for n in body if isinstance(n.op, caffe.LSTMUnit))
            sources = Sources()
            if not collect_sources(body, body.args(unit.name)[1], sources):
                return False
            weights = [body.args(name)[slot] for name, slot in sources.weights]
            if any(ref.node not in arguments or body.readers()[ref] != weights.count(ref) for ref in weights):
                return False
            slots |= {arguments[ref.node] for ref in weights}
            sequences |= {arguments[name] for name in sources.sequences}
        self.orders[node.name] = moved(order, CAFFE_ORDER)
        self.moved |= {(node.name, slot): self.orders[node.name] for slot in slots}
        for slot in sequences:
            self.sequences.setdefault(self.before.args(node.name)[slot], []).append(node.name)
        return True

    def _move_sequences(self) -> None:
        """Permute a sequence that is computed before scans if these need one order; otherwise refuse the scans."""
        for ref, scans in self.sequences.items():
            sources = Sources()
            orders = {self.orders[name] for name in scans}
            if len(orders) == 1 and collect_sources(self.before, ref, sources, len(scans)) and not sources.sequences:
                self.moved |= dict.fromkeys(sources.weights, orders.pop())
            else:
                self.refused.update(scans)


def _of_rows(scan: Scan, tail: GateTail) -> bool:
    return scan.body.type(tail.c).rank == 2 + scan.kept


def _on_zero(tail: GateTail, body_tails: Sequence[GateTail], zeros: set[Ref]) -> GateTail | None:
    """Return a first step's tail with its own c_prev, or with the body tail's if that starts from zero; else None."""
    if tail.c_prev is not None:
        return tail
    same = [t for t in body_tails if t.h.node == tail.h.node] or body_tails  # the first step's nodes keep their names
    starts_from_zero = len(same) == 1 and same[0].c_prev in zeros
    return replace(tail, c_prev=same[0].c_prev, cont=same[0].cont) if starts_from_zero else None


def _free_names(name: str, count: int, scan: Scan) -> list[str]:
    """Return ``count`` names that no body of the scan has: ``name`` and the same with underscores."""
    names: list[str] = []
    while len(names) < count:
        if not any(name in body for body in scan.bodies):
            names.append(name)
        name += "_"
    return names


def _body_with_units(body: Graph, tails: Sequence[GateTail], conts: Mapping[Ref | None, str], size: int) -> Graph:
    """Return the body with LSTMUnits for its gate tails. ``conts``: indicator (None: ones) -> name of a new
    argument."""
    by_c = {tail.c: tail for tail in tails}
    rebuild = Rebuild(body)
    b, new = rebuild.builder, rebuild.new
    arguments = {}
    for cont, name in conts.items():
        (arguments[cont],) = b.add(Arg((1, size), "static" if cont is None else "x"), names=(name,))
    for node in body:
        ref = Ref(node.name)
        if ref in by_c:
            tail = by_c[ref]
            assert tail.c_prev is not None
            operands = (new[tail.c_prev], new[tail.gates], arguments[tail.cont])
            unit = b.add(caffe.LSTMUnit(), *operands, names=(node.name, tail.h.node), loc=node.loc)
            new[tail.c], new[tail.h] = unit
        elif ref not in new:
            rebuild.copy(node)
    whole = rebuild.finish()
    return pruned(whole, whole.outputs, {arg.name for arg in whole.body_args()})
