"""Rewrite scans as ONNX's LSTM, GRU and RNN, and record the form of each scan with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lstmc.errors import BackendError
from lstmc.ir import Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import Add, Affine, Concat, Full, Mul, Relu, Reshape, Split, Tile
from lstmc.passes import Pass, PassResult, Snapshot, result
from lstmc.passes.dead import without_dead
from lstmc.patterns import Difference, Gate, Matrix, Mismatch, Place
from lstmc_onnx import ops
from lstmc_onnx.layers.direction import Lane, Pieces, lane_of


@dataclass(frozen=True)
class FindLayers(Pass):
    """Use ONNX's LSTM, GRU and RNN for the scans that are what those compute.

    1. a scan that ``lstmc.patterns`` recognises, in any order of gates => the layer, its weights in ONNX's order
    2. two such scans of the same sequence, one of them backward        => one layer of both directions

    With ``all`` other scans are refused, with the first thing that a layer does not have.
    """

    name = "find_layers"
    all: bool = False

    def run(self, graph: Graph) -> PassResult:
        lanes, differences = layers_in(graph)
        counts: Counter[str] = Counter()
        made = without_dead(_Finder(graph, lanes).run(counts), Counter()) if lanes else graph
        for node in made if self.all else ():
            if isinstance(node.op, Scan):
                raise BackendError(
                    f"the scan {node.op.body.name} is not an LSTM, GRU or RNN of ONNX",
                    loc=node.loc,
                    notes=(str(differences[node.name]),),
                )
        return result(graph, made, counts)


def layers_in(graph: Graph) -> tuple[dict[str, Lane], dict[str, Difference]]:
    """The scans that are a direction of a layer, by name; and of the others what a layer does not have."""
    lanes: dict[str, Lane] = {}
    differences: dict[str, Difference] = {}
    for node in graph:
        if isinstance(node.op, Scan):
            try:
                lanes[node.name] = lane_of(graph, node.name)
            except Mismatch as mismatch:
                differences[node.name] = mismatch.difference
    return lanes, differences


def pairs(graph: Graph, lanes: dict[str, Lane]) -> dict[str, tuple[str, ...]]:
    """The layers: by the scan that stands first, all that are in it, the forward one before the backward one."""
    found: dict[str, tuple[str, ...]] = {}
    left = list(lanes)
    while left:
        name = left.pop(0)
        after = graph.dependents({name})
        other = next((o for o in left if _paired(lanes[name], lanes[o]) and o not in after), None)
        if other is None:
            found[name] = (name,)
        else:
            left.remove(other)
            found[name] = (other, name) if lanes[name].found.reverse else (name, other)
    return found


def _paired(one: Lane, other: Lane) -> bool:
    return one.pair == other.pair and one.found.reverse != other.found.reverse


class _Finder:
    """A graph with layers in place of scans; nodes are copied when they are first needed, as a pair may be apart."""

    def __init__(self, graph: Graph, lanes: dict[str, Lane]) -> None:
        self.graph, self.lanes = graph, lanes
        self.rebuild = Rebuild(graph)
        self.b = self.rebuild.builder
        self.pairs = pairs(graph, lanes)
        self.layer_of = {name: names for names in self.pairs.values() for name in names}
        self.pieces = Pieces(graph, self.b, self.need, (at for lane in lanes.values() for at in lane.weights()))

    def run(self, counts: Counter[str]) -> Graph:
        for names in self.pairs.values():
            kind = self.lanes[names[0]].kind.__name__.lower()
            counts[f"find_{kind}" if len(names) == 1 else f"find_bidirectional_{kind}"] += 1
        for node in self.graph:
            self.put(node)
        return self.rebuild.finish()

    def need(self, ref: Ref) -> Ref:
        """What stands for a value of the old graph."""
        if ref not in self.rebuild.new:
            self.put(self.graph.node(ref.node))
        return self.rebuild.new[ref]

    def put(self, node: Node) -> None:
        if Ref(node.name) in self.rebuild.new:
            return
        if node.name in self.layer_of:
            self._layer(self.layer_of[node.name])
        else:
            self.rebuild.copy(node, [self.need(ref) for ref in self.graph.args(node.name)])

    def _layer(self, names: tuple[str, ...]) -> None:
        lanes = [self.lanes[name] for name in names]
        first = lanes[0]
        scan = self.graph.node(names[0])
        assert isinstance(scan.op, Scan)
        title = scan.op.body.name
        operands = [self._x(first)]
        for role, make in (("W", self._w), ("R", self._r), *([("B", self._b)] if first.bias else [])):
            operands.append(self._stacked([make(lane) for lane in lanes], f"{title}/{role}"))
        if first.lengths is not None:
            operands.append(self.need(first.lengths))
        if first.initial:
            for state in range(len(first.found.states)):
                starts = [self.need(lane.found.states[state].initial) for lane in lanes]
                operands.append(self._stacked(starts, f"{title}/{first.found.states[state].name}_0"))
        if first.peephole:
            operands.append(self._stacked([self._p(lane) for lane in lanes], f"{title}/P"))
        made = self.b.add(_op(lanes), *operands, names=[f"{title}/{r}" for r in ("Y", "Y_h", "Y_c")], loc=scan.loc)
        count = len(lanes)
        cut = []
        for axis, ref in zip((1, 0, 0), made, strict=False):
            parts = [f"{self.b.node(ref.node).names[ref.out]}_{way}" for way in ("forward", "backward")]
            cut.append(self.b.add(Split(axis, (1,) * count), ref, names=parts) if count > 1 else (ref,))
        for number, name in enumerate(names):
            self._results(self.graph.node(name), self.lanes[name], [parts[number] for parts in cut])

    def _results(self, node: Node, lane: Lane, made: Sequence[Ref]) -> None:
        """A direction's results for those of its scan; of what nothing reads zeros stand in."""
        assert isinstance(node.op, Scan)
        scan, found = node.op, lane.found
        order = [arg.name for i, arg in enumerate(scan.body.body_args()) if scan.role(i) == "state"]
        last = {len(found.results) + order.index(s.arg.node): at for at, s in enumerate(found.states)}
        for out, type_ in enumerate(node.types):
            unread = out < len(found.results) and not found.results[out].read
            part = None if unread else made[0 if out < len(found.results) else 1 + last[out]]
            op = Full(type_.shape) if part is None else Reshape(type_.shape)
            names = (node.names[out],)
            (made_here,) = self.b.add(op, *(() if part is None else (part,)), names=names, loc=node.loc)
            state = found.states[last[out]] if out in last else None
            if state is not None and state.read and lane.initial and lane.lengths is not None:
                made_here = self._begun(made_here, self.need(state.initial), self.need(lane.lengths), names)
            self.rebuild.new[Ref(node.name, out)] = made_here

    def _begun(self, last: Ref, first: Ref, lengths: Ref, names: tuple[str, ...]) -> Ref:
        """A last state, but for empty sequences the first one: what the layer gives for them is not said by ONNX."""
        (below,) = self.b.add(Affine(-1.0, 1.0), lengths)
        (empty,) = self.b.add(Relu(), below, names=("empty",))
        (rows,) = self.b.add(Reshape((*self.b.type(empty).shape, 1)), empty)
        (there,) = self.b.add(Affine(-1.0, 1.0), rows, names=("there",))
        terms = self.b.add(Mul(), last, there)[0], self.b.add(Mul(), first, rows)[0]
        return self.b.add(Add(), *terms, names=names)[0]

    def _stacked(self, parts: Sequence[Ref], name: str) -> Ref:
        """The parts of the directions as one operand."""
        rows = [self.b.add(Reshape((1, *self.b.type(part).shape)), part, names=(name,))[0] for part in parts]
        return rows[0] if len(rows) == 1 else self.b.add(Concat(0), *rows, names=(f"{name}_both",))[0]

    def _x(self, lane: Lane) -> Ref:
        parts = []
        for at in lane.sequences:
            x = self.need(at.ref)
            if at.where != "sequence":
                (row,) = self.b.add(Reshape((1, *self.b.type(x).shape)), x)
                (x,) = self.b.add(Tile(0, lane.found.steps), row)
            assert at.columns is not None
            parts.append(self._columns(x, *at.columns))
        return self.pieces.join(parts, 2)

    def _columns(self, x: Ref, start: int, end: int) -> Ref:
        size = self.b.type(x).shape[-1]
        sizes = [n for n in (start, end - start, size - end) if n]
        return x if len(sizes) == 1 else self.b.add(Split(2, tuple(sizes)), x)[1 if start else 0]

    def _w(self, lane: Lane) -> Ref:
        units, rows = lane.found.units, []
        for gate, negated in zip(lane.gates, lane.negated, strict=True):
            row = []
            for at in lane.sequences:
                assert at.columns is not None
                own = [e.matrix for e in gate.entering if e.x == at] if gate is not None else []
                row.append(self._sum(own, negated, (units, at.columns[1] - at.columns[0])))
            rows.append(self.pieces.join(row, 1))
        return self.pieces.join(rows, 0)

    def _r(self, lane: Lane) -> Ref:
        units = lane.found.units
        return self.pieces.join(
            [
                self._sum(() if gate is None else gate.recurrent, negated, (units, units))
                for gate, negated in zip(lane.gates, lane.negated, strict=True)
            ],
            0,
        )

    def _b(self, lane: Lane) -> Ref:
        """Biases of W, then those of R: the first that a gate has is of the one, the second of the other."""
        of_w, of_r = [], []
        for gate, negated, inner in zip(lane.gates, lane.negated, lane.inner, strict=True):
            w, r = self._halves(lane, gate, inner)
            of_w.append(self._bias(lane, w, negated, gate.constant if gate is not None else 0.0))
            of_r.append(self._bias(lane, r, negated, 0.0))
        return self.pieces.join([*of_w, *of_r], 0)

    def _halves(
        self, lane: Lane, gate: Gate | None, inner: tuple[Place, ...]
    ) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
        if gate is None:
            return (), ()
        after = lane.reset_after and gate is lane.gates[-1]  # there r multiplies what is R's
        return (gate.biases, inner) if after else (gate.biases[:1], gate.biases[1:])

    def _bias(self, lane: Lane, parts: Sequence[Place], negated: bool, constant: float) -> Ref:
        if not parts and constant:
            return self.b.add(Full((lane.found.units,), -constant if negated else constant))[0]
        found = self._sum(parts, negated, (lane.found.units,))
        return self.b.add(Affine(1.0, -constant if negated else constant), found)[0] if constant else found

    def _sum(self, parts: Sequence[Matrix | Place], negated: bool, shape: tuple[int, ...]) -> Ref:
        """Parts of weights, added where there are several, or zeros."""
        if not parts:
            return self.pieces.zeros(*shape)
        found = [self.pieces.part(at, negated) for at in parts]
        total = found[0]
        for more in found[1:]:
            (total,) = self.b.add(Add(), total, more)
        return total

    def _p(self, lane: Lane) -> Ref:
        """Peepholes in the order i, o, f."""
        found = []
        for gate, negated in zip(lane.gates[:3], lane.negated, strict=False):
            at = None if gate is None else gate.peephole
            found.append(self._sum(() if at is None else (at,), negated, (lane.found.units,)))
        return self.pieces.join(found, 0)


def _op(lanes: Sequence[Lane]) -> ops.Recurrent:
    first, functions = lanes[0], [function for lane in lanes for function in lane.activations]
    numbers = [values for _, values in functions]
    flags = {}
    if first.kind is ops.LSTM:
        flags = {"coupled": first.coupled, "peephole": first.peephole}
    elif first.kind is ops.GRU:
        flags = {"reset_after": first.reset_after}
    return first.kind(
        tuple(name for name, _ in functions),
        tuple(values[0] for values in numbers if values),
        tuple(values[1] for values in numbers if len(values) > 1),
        "bidirectional" if len(lanes) > 1 else "reverse" if first.found.reverse else "forward",
        first.clip,
        bias=first.bias,
        lengths=first.lengths is not None,
        initial=first.initial,
        **flags,
    )


def reasons(history: Sequence[Snapshot]) -> Iterator[str]:
    """A line for each layer and for each other scan, where the target chose: of a form there is no choice."""
    names = [snapshot.pass_name for snapshot in history]
    if FindLayers.name not in names:
        return
    place = names.index(FindLayers.name)
    before, after = history[place - 1].graph, history[place].graph
    lanes, differences = layers_in(before)
    for first, both in pairs(before, lanes).items():
        kind, titles = lanes[first].kind.__name__, [_title(before, name) for name in both]
        yield f"{' and '.join(titles)}: {kind}{' of both directions' if len(both) > 1 else ''}"
    loops = {node.op.body.name for node in history[-1].graph if isinstance(node.op, Scan)}
    for node in after:
        if isinstance(node.op, Scan):
            what = "Scan" if node.op.body.name in loops else "unrolled, as it has one step"
            yield f"{node.op.body.name}: {what}; it is no LSTM, GRU or RNN: {differences[node.name]}"
    if loops:
        yield (
            "Scan: few runtimes besides ONNX Runtime have this operator; a net has none with form unrolled, or, of a"
            " Caffe net with cont, with the constant cont=1"
        )


def _title(graph: Graph, name: str) -> str:
    scan = graph.node(name).op
    assert isinstance(scan, Scan)
    return scan.body.name
