"""Whether a scan is what Caffe's own LSTM or RNN layer computes, or where it first differs from that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lstmc.ir import Graph, Node, Ref, Scan, is_weight, print_node
from lstmc.ops import Arg, Constant
from lstmc_caffe import ops as caffe
from lstmc_caffe.recurrent.gate_tail import gate_tails
from lstmc_caffe.recurrent.indicator import indicator, masked_state


class Mismatch(Exception):
    """Where a scan first differs from a layer: what the layer has there, and what the scan has."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")


@dataclass(frozen=True)
class NativeLayer:
    """A matched scan: the sequence that enters, the layer's blobs (in the model's graph), and the order of gates."""

    layer: type[caffe.LSTM | caffe.RNN]
    x: Ref
    projection: Ref  # W x + b
    blobs: tuple[Ref, ...]
    order: str = ""
    replaced: str | None = None  # the node outside whose value the layer gives, where that is not the scan's own
    cont: Ref | None = None  # the indicator of the model that multiplies every state
    carried: Mapping[str, str] = field(default_factory=dict)  # see ScanInModel.carried


@dataclass(frozen=True)
class ScanInModel:
    """A scan where it stands."""

    graph: Graph
    node: Node
    scan: Scan

    def outer(self, arg: Ref) -> Ref:
        """What the model gives for an argument of the body."""
        names = [a.name for a in self.scan.body.body_args()]
        return self.graph.args(self.node.name)[names.index(arg.node)]

    def text(self, ref: Ref, outside: bool = False) -> str:
        graph = self.graph if outside else self.scan.body
        return print_node(graph, graph.node(ref.node))

    def states(self) -> list[Ref]:
        """The state arguments of the body."""
        return [Ref(a.name) for a in self.scan.body.body_args() if isinstance(a.op, Arg) and a.op.role == "state"]

    def carried(self) -> dict[str, str]:
        """The inputs that start a state at zero and take its last value in the next batch: to the output of that."""
        found = {}
        outputs = {output.name: output.ref for output in self.graph.outputs}
        for number, state in enumerate(self.states(), len(self.scan.step_outputs)):
            ref, last = self.outer(state), Ref(self.node.name, number)
            op = self.graph.node(ref.node).op
            if not isinstance(op, caffe.FilledInput) or not op.after or op.fill != Constant(0):
                continue
            if outputs.get(op.after, last) == last and self.graph.readers()[ref] == 1:
                found[ref.node] = op.after
        return found

    def readers(self, result: int) -> list[str]:
        """Who reads a result of the scan: nodes, and outputs of the model as ``return NAME``, but for carried ones."""
        ref = Ref(self.node.name, result)
        nodes = [node.name for node in self.graph if ref in self.graph.args(node.name)]
        outputs = [o.name for o in self.graph.outputs if o.ref == ref and o.name not in self.carried().values()]
        return nodes + [f"return {name}" for name in outputs]


def match_lstm(where: ScanInModel) -> NativeLayer:
    """The scan as Caffe's LSTM layer; raises :class:`Mismatch`."""
    scan, body = where.scan, where.scan.body
    states = _states(where, 2, "two states, h and c")
    tails = list(gate_tails(body))
    if not tails:
        raise _no_tail(where, states)
    tail = tails[0]
    following = {arg: output.ref for arg, output in zip(states, scan.next_states, strict=True)}
    if len(tails) > 1 or sorted(following.values()) != sorted((tail.c, tail.h)):
        raise Mismatch("the next states to be c and h of one gate tail", _returned(scan))
    c, h = (next(arg for arg, ref in following.items() if ref == value) for value in (tail.c, tail.h))
    assert tail.c_prev is not None
    c_prev, factor = _conted(where, tail.c_prev)
    if c_prev != c:
        raise Mismatch(f"sigmoid(f) to multiply the state c, %{c.node}", where.text(c_prev))
    _only_result(where, tail.h, c)
    projected, recurrent, h_factor = _sum_of_products(where, tail.gates, h)
    if factor != h_factor:
        found = [f"%{ref.node} times %{by.node}" if by else f"%{ref.node}" for ref, by in ((h, h_factor), (c, factor))]
        raise Mismatch("h and c to be multiplied by the same cont, or neither", " and ".join(found))
    x, *blobs = _projection(where, projected)
    return NativeLayer(caffe.LSTM, x, projected, (*blobs, recurrent), tail.order, cont=_indicator(where, factor))


def match_rnn(where: ScanInModel) -> NativeLayer:
    """The scan and the readout of its states as Caffe's RNN layer; raises :class:`Mismatch`."""
    scan, body = where.scan, where.scan.body
    (h,) = _states(where, 1, "one state, h")
    following = scan.next_states[0].ref
    if not isinstance(body.node(following.node).op, caffe.TanHLayer):
        raise Mismatch("h to be a tanh", where.text(following))
    _only_result(where, following, None)
    projected, recurrent, factor = _sum_of_products(where, body.args(following.node)[0], h)
    x, *blobs = _projection(where, projected)
    readers = [name for result in range(len(scan.body.outputs)) for name in where.readers(result)]
    readout = where.graph.node(readers[0]) if readers and readers[0] in where.graph else None
    if len(readers) != 1 or readout is None or not isinstance(readout.op, caffe.InnerProduct):
        raise Mismatch("h to be read by one product alone, W_ho h + b_o", ", ".join(readers) or "no reader")
    outside = where.graph
    after = [node for node in outside if Ref(readout.name) in outside.args(node.name)]
    square = readout.op.axis == 2 and readout.op.bias and readout.types[0] == where.node.types[0]
    if not square or len(after) != 1 or outside.readers()[Ref(readout.name)] != 1:
        raise Mismatch("W_ho h + b_o of as many units as h, read by one tanh", where.text(Ref(readout.name), True))
    if not isinstance(after[0].op, caffe.TanHLayer):
        raise Mismatch("tanh(W_ho h + b_o)", where.text(Ref(after[0].name), True))
    weights = (*blobs, recurrent, *outside.args(readout.name)[1:])
    return NativeLayer(caffe.RNN, x, projected, weights, replaced=after[0].name, cont=_indicator(where, factor))


def _states(where: ScanInModel, count: int, names: str) -> list[Ref]:
    """The state arguments, if there are ``count``, the scan runs forward, and all begin at zero or all are carried."""
    scan = where.scan
    if scan.reverse:
        raise Mismatch("steps that run forward (Caffe has no layer that reverses a sequence)", "reverse=True")
    states = where.states()
    if len(states) != count:
        raise Mismatch(names, ", ".join(f"%{ref.node}" for ref in states))
    if len(where.carried()) == count:
        return states
    for state in states:
        first = where.graph.node(where.outer(state).node)
        if not isinstance(first.op, caffe.DummyData) or first.op.value != 0:
            raise Mismatch(
                f"%{state.node} to start from zero (through a given first state Caffe's layer passes no gradient)",
                where.text(where.outer(state), True),
            )
    return states


def _returned(scan: Scan) -> str:
    return ", ".join(f"next {o.name}=%{scan.body.value_name(o.ref)}" for o in scan.next_states)


def _no_tail(where: ScanInModel, states: list[Ref]) -> Mismatch:
    """The first thing that keeps a body with two states from having a gate tail."""
    body = where.scan.body
    following = [output.ref for output in where.scan.next_states]
    products = [ref for ref in following if _is_product(body, ref)]
    found = [
        r for r in products if any(body.args(o.node)[0] in following for o in _functions(body, r, caffe.TanHLayer))
    ]
    if not found:
        nodes = "; ".join(where.text(ref) for ref in following)
        return Mismatch("h = sigmoid(o) * tanh(c)", nodes)
    h = found[0]
    c = next(ref for ref in following if ref != h)
    if not any(True for _ in _functions(body, h, caffe.SigmoidLayer)):
        return Mismatch("h = sigmoid(o) * tanh(c)", where.text(h))
    node = body.node(c.node)
    terms = body.args(c.node) if isinstance(node.op, caffe.Eltwise) and node.op.operation == "SUM" else ()
    if len(terms) != 2 or not all(_is_product(body, term) for term in terms):
        return Mismatch("c = sigmoid(f) * c + sigmoid(i) * tanh(g)", where.text(c))
    # the products are there, so some gate is not a piece of the value that the others are pieces of
    for owner in (*terms, h):
        for gate in (*_functions(body, owner, caffe.SigmoidLayer), *_functions(body, owner, caffe.TanHLayer)):
            (inside,) = body.args(gate.node)
            if not isinstance(body.node(inside.node).op, caffe.SliceLayer) and inside not in following:
                return Mismatch("i, f, o and g to be the quarters of W_x x + b + W_h h", where.text(inside))
    return Mismatch("i, f, o and g to be the quarters of one value", where.text(h))


def _is_product(body: Graph, ref: Ref) -> bool:
    op = body.node(ref.node).op
    return isinstance(op, caffe.Eltwise) and op.operation == "PROD" and len(body.args(ref.node)) == 2


def _functions(body: Graph, product: Ref, function: type) -> Iterator[Ref]:
    """The operands of a product that are this function of something, through slices."""
    for ref in body.args(product.node):
        while isinstance(body.node(ref.node).op, caffe.SliceLayer):
            (ref,) = body.args(ref.node)
        if isinstance(body.node(ref.node).op, function):
            yield ref


def _only_result(where: ScanInModel, h: Ref, c: Ref | None) -> None:
    """Only h may be read, at every step or at the last one."""
    scan = where.scan
    for number, output in enumerate(scan.body.outputs):
        readers = where.readers(number)
        if readers and output.ref != h:
            what = "the last c" if number >= len(scan.step_outputs) and c else f"%{scan.body.value_name(output.ref)}"
            raise Mismatch(
                "h to be all that is read of the scan (Caffe's layer shows its states only without gradient)",
                f"{what} read by {', '.join(readers)}",
            )


def _conted(where: ScanInModel, ref: Ref) -> tuple[Ref, Ref | None]:
    """A state, and the argument that it is multiplied by, if there is one."""
    found = masked_state(where.scan.body, ref)
    return (ref, None) if found is None else (found.state, found.factor)


def _indicator(where: ScanInModel, factor: Ref | None) -> Ref | None:
    """The model's input that the states are multiplied by."""
    if factor is None:
        return None
    found = indicator(where.graph, where.outer(factor), where.scan)
    if found is None:
        raise Mismatch(
            "what multiplies the states to be an input [T, N] of 0 and 1 (Caffe's layer passes no gradient to cont)",
            where.text(where.outer(factor), True),
        )
    return found


def _sum_of_products(where: ScanInModel, ref: Ref, h: Ref) -> tuple[Ref, Ref, Ref | None]:
    """The sequence and the matrix (both of the model) in x_t + W h, and what argument h is multiplied by, if any."""
    body = where.scan.body
    node = body.node(ref.node)
    terms = body.args(node.name) if isinstance(node.op, caffe.Eltwise) and node.op.operation == "SUM" else ()
    sequences = [t for t in terms if isinstance(op := body.node(t.node).op, Arg) and op.role == "x"]
    products = [t for t in terms if isinstance(body.node(t.node).op, caffe.InnerProduct)]
    plain = isinstance(node.op, caffe.Eltwise) and set(node.op.coeff) <= {1.0}
    if not plain or len(terms) != 2 or len(sequences) != 1 or len(products) != 1:
        raise Mismatch("the sum of a product of x and one of h, W_x x + b + W_h h", where.text(ref))
    operands = body.args(products[0].node)
    state, factor = _conted(where, operands[0])
    if state != h or len(operands) != 2:
        raise Mismatch(f"a product of the state %{h.node} without a bias", where.text(products[0]))
    return where.outer(sequences[0]), where.outer(operands[1]), factor


def _projection(where: ScanInModel, ref: Ref) -> tuple[Ref, Ref, Ref]:
    """X, W and b where ``ref`` is W X + b over all steps."""
    graph = where.graph
    node = graph.node(ref.node)
    args = graph.args(node.name)
    bias: tuple[Ref, ...] = ()
    if isinstance(node.op, caffe.Bias) and node.op.learned and node.op.axis == 2 and graph.type(ref).rank == 3:
        bias = (args[1],)
        node = graph.node(args[0].node)
        args = graph.args(node.name)
    product = isinstance(node.op, caffe.InnerProduct) and node.op.axis == 2
    if not product or len(args) - 2 + len(bias) != 1:
        raise Mismatch("a product of x with one bias, W_x x + b", where.text(Ref(node.name), True))
    x, w, b = (*args, *bias)
    assert is_weight(graph, w)
    return x, w, b
