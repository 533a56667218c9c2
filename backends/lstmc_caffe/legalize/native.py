"""Rewrite recognised scans as Caffe's own LSTM and RNN layers, or report the first difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from lstmc import patterns
from lstmc.errors import BackendError
from lstmc.ir import Builder, Graph, Node, Output, Rebuild, Ref, Scan, is_weight, print_node
from lstmc.ops import Constant, Op, Sigmoid, Tanh
from lstmc.passes import Pass, PassResult, Refs, result
from lstmc.passes.simplify import without_dead
from lstmc.patterns import LSTM, RNN, Activation, Difference, Gate, Matrix, Mismatch, Place
from lstmc_caffe import ops as caffe
from lstmc_caffe.legalize.lstm_unit import CAFFE_ORDER, FORMULAS, in_order, indicator


@dataclass(frozen=True)
class NativeLayer:
    """A scan as Caffe's LSTM or RNN layer: its input sequence, the blobs in the model, and the order of gates."""

    layer: type[caffe.LSTM | caffe.RNN]
    x: Ref
    blobs: tuple[Ref, ...]
    order: str = ""
    replaced: str | None = None  # the node after the scan that the layer replaces too, if any
    cont: Ref | None = None  # the indicator of the model that multiplies every state
    carried: Mapping[str, Output] = field(default_factory=dict)  # see ScanInModel.carried


@dataclass(frozen=True)
class ScanInModel:
    """A scan in its model."""

    graph: Graph
    node: Node
    scan: Scan

    def text(self, ref: Ref) -> str:
        return print_node(self.graph, self.graph.node(ref.node))

    def at(self, place: Place) -> str:
        graph = self.scan.body if place.where == "step" else self.graph
        return print_node(graph, graph.node(place.ref.node))

    def name(self, at: Place | Matrix) -> str:
        return "%" + (self.scan.body if at.where == "step" else self.graph).value_name(at.ref)

    def states(self) -> list[Ref]:
        return [*map(Ref, self.scan.body.arguments("state"))]

    def carried(self) -> dict[str, Output]:
        """Return the inputs that carry a state between batches, each with the output that gives its last value."""
        carried, outputs = {}, self.graph.carried()
        first = dict(zip(self.scan.body.arguments(), self.graph.args(self.node.name), strict=True))
        for number, state in enumerate(self.states(), len(self.scan.step_outputs)):
            ref, last = first[state.node], Ref(self.node.name, number)
            op = self.graph.node(ref.node).op
            if not isinstance(op, caffe.FilledInput) or ref.node not in outputs or op.fill != Constant(0):
                continue
            if outputs[ref.node].ref == last and self.graph.readers()[ref] == 1:
                carried[ref.node] = outputs[ref.node]
        return carried

    def readers(self, result: int) -> list[str]:
        """Return the readers of a result, ``return NAME`` for outputs; outputs that carry states are left out."""
        ref = Ref(self.node.name, result)
        nodes = [node.name for node in self.graph if ref in self.graph.args(node.name)]
        outputs = [o.name for o in self.graph.outputs if o.ref == ref and o not in self.carried().values()]
        return nodes + [f"return {name}" for name in outputs]

    def mismatch(self, expected: str, actual: str) -> Mismatch:
        return Mismatch(Difference(expected, actual, self.node.loc))


def native_lstm(where: ScanInModel) -> NativeLayer:
    """Return the scan as Caffe's LSTM layer; raises :class:`~lstmc.patterns.Mismatch`."""
    lstm = patterns.match_lstm(where.graph, where.node.name, FORMULAS)
    _check_steps(where, lstm)
    if lstm.i is None or lstm.f is None:
        one, other = ("input", "forget") if lstm.i is None else ("forget", "input")
        raise where.mismatch("gates i and f of their own", f"an {one} gate that is 1 minus the {other} gate")
    for name, gate in lstm.gates().items():
        _check_activation(where, name, gate.activation, Tanh() if name == "g" else Sigmoid())
        if gate.peephole is not None:
            cell = "c'" if name == "o" else "c"
            raise where.mismatch(f"the gate {name} not to see {cell}", f"{where.name(gate.peephole)} times {cell}")
    _check_activation(where, "c", lstm.activation, Tanh())
    _only_h(where, lstm)
    x, blobs, order = _packed_gates(where, lstm.gates())
    return NativeLayer(caffe.LSTM, x, blobs, order, cont=_cont_input(where, lstm))


def native_rnn(where: ScanInModel) -> NativeLayer:
    """Return the scan and the readout of its states as Caffe's RNN layer; raises :class:`~lstmc.patterns.Mismatch`."""
    rnn = patterns.match_rnn(where.graph, where.node.name, FORMULAS)
    _check_steps(where, rnn)
    _check_activation(where, "h", rnn.h.activation, Tanh())
    x, blobs, _ = _packed_gates(where, rnn.gates())
    readers = [name for result in range(len(where.scan.body.outputs)) for name in where.readers(result)]
    readout = where.graph.node(readers[0]) if readers and readers[0] in where.graph else None
    if len(readers) != 1 or readout is None or not isinstance(readout.op, caffe.InnerProduct):
        raise where.mismatch("h to be read by one product alone, W_ho h + b_o", ", ".join(readers) or "no reader")
    model = where.graph
    readout_readers = [node for node in model if Ref(readout.name) in model.args(node.name)]
    square = readout.op.axis == 2 and readout.op.bias and readout.types[0] == where.node.types[0]
    if not square or len(readout_readers) != 1 or model.readers()[Ref(readout.name)] != 1:
        raise where.mismatch("W_ho h + b_o of as many units as h, read by one tanh", where.text(Ref(readout.name)))
    if not isinstance(readout_readers[0].op, caffe.TanHLayer):
        raise where.mismatch("tanh(W_ho h + b_o)", where.text(Ref(readout_readers[0].name)))
    weights = (*blobs, *model.args(readout.name)[1:])
    return NativeLayer(caffe.RNN, x, weights, replaced=readout_readers[0].name, cont=_cont_input(where, rnn))


def _check_steps(where: ScanInModel, match: LSTM | RNN) -> None:
    """Raise Mismatch unless all states begin at zero or all are carried, and no step is masked."""
    if match.valid is not None:
        raise where.mismatch("every step to be there", f"a mask of steps, {where.name(match.valid.mask)}")
    if len(where.carried()) == len(match.states):
        return
    for state in match.states:
        first = where.graph.node(state.initial.node)
        if not isinstance(first.op, caffe.DummyData) or first.op.value != 0:
            zero = "to start from zero (through a given first state Caffe's layer passes no gradient)"
            raise where.mismatch(f"%{state.arg.node} {zero}", where.text(state.initial))


def _check_activation(where: ScanInModel, name: str, actual: Activation | None, expected: Op) -> None:
    if actual != expected:
        found = "no function" if actual is None else actual.name
        raise where.mismatch(f"{expected.name}({name})", f"{found} of {name}")


def _only_h(where: ScanInModel, lstm: LSTM) -> None:
    """Check that nothing reads a value of the scan other than h, at every step or at the last step."""
    last = [f"last {state.name}" for state in sorted(lstm.states, key=lambda s: where.states().index(s.arg))]
    for number, name in enumerate([each.of for each in lstm.results] + last):
        readers = where.readers(number)
        if readers and not name.endswith("h"):
            alone = "h to be all that is read of the scan (Caffe's layer shows its states only without gradient)"
            raise where.mismatch(alone, f"the {name} read by {', '.join(readers)}")


def _cont_input(where: ScanInModel, match: LSTM | RNN) -> Ref | None:
    """Return the model's input of 0 and 1 that multiplies the states, or None; raise Mismatch if another value does."""
    if match.reset is None:
        return None
    cont = indicator(where.graph, match.reset, where.scan)
    if cont is None:
        marker = "an input [T, N] of 0 and 1 (Caffe's layer passes no gradient to cont)"
        raise where.mismatch(f"what multiplies the states to be {marker}", where.at(match.reset))
    return cont


def _packed_gates(where: ScanInModel, gates: Mapping[str, Gate]) -> tuple[Ref, tuple[Ref, ...], str]:
    """Return the input sequence, the blobs W_x, b, W_h, and their order of gates; raise Mismatch for other terms."""
    for name, gate in gates.items():
        extra = [*map(where.name, gate.added), *([f"{gate.constant:g}"] if gate.constant else [])]
        if extra:
            raise where.mismatch(f"the gate {name} to be of W_x x + b + W_h h alone", f"{', '.join(extra)} added to it")
        for kind, terms in (("product of x", gate.entering), ("bias", gate.biases), ("product of h", gate.recurrent)):
            if len(terms) != 1:
                at = [where.name(term if isinstance(term, Place | Matrix) else term.matrix) for term in terms]
                raise where.mismatch(f"one {kind} in the gate {name}, W_x x + b + W_h h", ", ".join(at) or "none")
    sequences = {gate.entering[0].x for gate in gates.values()}
    (x,) = sequences if len(sequences) == 1 else (None,)
    if x is None or x.where != "sequence":
        names = ", ".join(sorted(where.name(at) for at in sequences))
        raise where.mismatch("one sequence that enters all gates", names)
    w_x, order_x = _packed(where, {name: gate.entering[0].matrix for name, gate in gates.items()})
    b, order_b = _packed(where, {name: gate.biases[0] for name, gate in gates.items()})
    w_h, order_h = _packed(where, {name: gate.recurrent[0] for name, gate in gates.items()})
    if not order_x == order_b == order_h:
        raise where.mismatch("one order of gates in W_x, b and W_h", f"{order_x}, {order_b}, {order_h}")
    return x.ref, (w_x, b, w_h), order_x


def _packed(where: ScanInModel, parts: Mapping[str, Place | Matrix]) -> tuple[Ref, str]:
    """Return the weight of which each gate has an equal part, and the order of gates in it; raise Mismatch if none."""
    names: dict[int, str] = {}
    for name, at in parts.items():
        graph, whole = where.graph, next(iter(parts.values())).ref
        rows = at.rows if isinstance(at, Matrix) else at.columns
        if at.where != "step" and at.ref == whole and rows is not None:
            size = graph.type(whole).shape[0] // len(parts)
            every = not isinstance(at, Matrix) or at.columns == (0, graph.type(whole).shape[1])
            if every and rows == (rows[0], rows[0] + size):
                names[rows[0]] = name
    if len(names) != len(parts):
        expected = "i, f, o and g to have the quarters of one weight" if len(parts) > 1 else "a weight for h alone"
        raise where.mismatch(expected, ", ".join(dict.fromkeys(map(where.name, parts.values()))))
    return whole, "".join(names[start] for start in sorted(names))


@dataclass(frozen=True)
class FindNativeLayers(Pass):
    """Rewrite scans as Caffe's LSTM and RNN layers where they compute the same.

    1. scan of z = W_x x + b + W_h h, c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c), from zero
       => LSTM(x, cont, W_x, b, W_h), with rows in the order i, f, o, g
    2. tanh(W_ho h + b_o) of the h of a scan of h = tanh(W_xh x + b_h + W_hh h), from zero
       => RNN(x, cont, W_xh, b_h, W_hh, W_ho, b_o)
    3. the last h => the last step of the layer's top
    4. in 1 and 2, every state multiplied by an input [T, N] of 0 and 1 => the layer's cont is that input, but 0 at the
       first step
    5. in 1 and 2, first states that are carried from the previous batch => the layer keeps them itself: the inputs and
       outputs that carry them are removed; its cont is 1, or the input of rule 4

    Matched on the graph, not on names. Without 4 and 5 ``cont`` is 0 at the first step and 1 after it, so that no
    forward pass continues from the states of the previous one. Refused, with the first difference: every other scan,
    and a layer whose blobs another layer uses. The steps inside a recurrent layer share blobs, and in phase TRAIN Caffe
    ties only the first step to the other layer (in TEST, ``recurrent_layer.cpp`` shares them again at each forward
    pass).
    """

    name = "find_native_layers"

    def run(self, graph: Graph) -> PassResult:
        counts: Counter[str] = Counter()
        matched = {node.name: _matched(graph, node, node.op) for node in graph if isinstance(node.op, Scan)}
        if not matched:
            return PassResult(graph, False)
        scan_of = {layer.replaced or name: name for name, layer in matched.items()}
        rebuild = Rebuild(graph)
        b, new = rebuild.builder, rebuild.new
        for node in graph:
            if node.name in scan_of:
                scan = graph.node(scan_of[node.name])
                native = matched[scan.name]
                counts[f"find_{native.layer.layer_type.lower()}"] += 1
                counts["keep_cont"] += native.cont is not None
                counts["carry_states"] += bool(native.carried)
                layer = _layer(b, node, native.layer(scan.types[0].shape[-1]), new, native)
                rebuild.put(node, _results(b, scan, layer) if node is scan else (layer,))
            elif node.name in matched:  # its RNN layer comes at a later node; then nothing needs these zeros
                rebuild.put(node, [b.add(caffe.DummyData(type_.shape))[0] for type_ in node.types])
            else:
                rebuild.copy(node)
        carried = {name for layer in matched.values() for name in layer.carried}
        after = without_dead(_without_carried(rebuild.finish(), carried), Counter())
        return result(graph, after, counts)

    def ensures(self, graph: Graph) -> None:
        readers = graph.readers()
        for node in graph:
            if isinstance(node.op, caffe.LSTM | caffe.RNN):
                shared = [r for r in graph.args(node.name) if is_weight(graph, r) and readers[r] > 1]
                if shared:
                    names = ", ".join(graph.value_name(ref) for ref in shared)
                    raise BackendError(
                        f"{names} would be in two layers, one of them the {node.op.layer_type} layer {node.name}:"
                        " its steps share their blobs inside, and in training only the first step would be"
                        " tied to the other",
                        loc=node.loc,
                    )


def _matched(graph: Graph, node: Node, scan: Scan) -> NativeLayer:
    """Return the layer that equals the scan; raise BackendError with the first difference to each layer."""
    where = ScanInModel(graph, node, scan)
    differences = []
    for name, match in (("LSTM", native_lstm), ("RNN", native_rnn)):
        try:
            if scan.reverse:
                expected = "steps that run forward (Caffe has no layer that reverses a sequence)"
                raise where.mismatch(expected, "reverse=True")
            return replace(match(where), carried=where.carried())
        except Mismatch as difference:
            differences.append(f"{name}: {difference}")
    why = f"the scan {scan.body.name} is neither Caffe's LSTM layer nor its RNN layer"
    raise BackendError(why, loc=node.loc, notes=differences)


def _layer(b: Builder, node: Node, op: caffe.LSTM | caffe.RNN, new: dict[Ref, Ref], native: NativeLayer) -> Ref:
    """Add the LSTM or RNN layer of a matched scan; an LSTM's blobs are put into Caffe's order of gates."""
    blobs = [new[ref] for ref in native.blobs]
    if isinstance(op, caffe.LSTM) and native.order != CAFFE_ORDER:
        blobs = [in_order(b, ref, patterns.moved(native.order, CAFFE_ORDER)) for ref in blobs]
    steps, batch = b.type(new[native.x]).shape[:2]
    cont = _cont(b, node.name, (steps, batch), new[native.cont] if native.cont else None, bool(native.carried))
    return b.add(op, new[native.x], cont, *blobs, names=(node.names[0],), loc=node.loc)[0]


def _cont(b: Builder, name: str, shape: tuple[int, int], indicator: Ref | None, carried: bool) -> Ref:
    """Return the layer's ``cont``: ``indicator`` or ones, but 0 at the first step unless states are ``carried``."""
    steps, batch = shape
    if carried:
        return indicator or b.add(caffe.DummyData(shape, 1.0), names=(f"{name}/cont",))[0]
    (first,) = b.add(caffe.DummyData((1, batch), 0.0), names=(f"{name}/cont_first",))
    if steps == 1:
        return first
    (others,) = b.add(caffe.DummyData((steps - 1, batch), 1.0), names=(f"{name}/cont_others",))
    if indicator is None:
        return b.add(caffe.ConcatLayer(0), first, others, names=(f"{name}/cont",))[0]
    (mask,) = b.add(caffe.ConcatLayer(0), first, others, names=(f"{name}/cont_mask",))
    return b.add(caffe.Eltwise("PROD"), indicator, mask, names=(f"{name}/cont",))[0]


def _without_carried(graph: Graph, carried: Collection[str]) -> Graph:
    """Return the graph without the inputs ``carried``, which no node reads, and without the outputs that feed them."""
    removed = [output for name, output in graph.carried().items() if name in carried]
    rebuild = Rebuild(graph)
    for node in graph:
        if node.name not in carried:
            rebuild.copy(node)
    return rebuild.finish(output for output in graph.outputs if output not in removed)


def _results(b: Builder, node: Node, h: Ref) -> Refs:
    """Return the scan's results from h, the layer's top. It stands for the last c as well, which nothing reads."""
    scan = node.op
    assert isinstance(scan, Scan)
    outputs = len(scan.step_outputs)
    last = h
    if scan.length > 1:
        names = (f"{node.name}/before_last", f"{node.name}/last")
        _, last = b.add(caffe.SliceLayer(0, (scan.length - 1, 1)), h, names=names)
    ends = zip(node.types[outputs:], node.names[outputs:], strict=True)
    states = [b.add(caffe.ReshapeLayer(type_.shape), last, names=(name,))[0] for type_, name in ends]
    return (*(h,) * outputs, *states)
