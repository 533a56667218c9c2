"""Rewrite scans as ONNX's LSTM, GRU and RNN, and record the form of each scan with its reason. A scan is matched with
one direction of a layer, or the first difference is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from itertools import pairwise
from typing import Any, NamedTuple

from lstmc import patterns
from lstmc.errors import BackendError
from lstmc.ir import NEGATE, Builder, Graph, Node, Rebuild, Ref, Scan
from lstmc.ops import CORE, Add, Affine, Concat, Full, Input, Mul, Relu, Reshape, Split, Tile
from lstmc.ops.frameworks import functions_of
from lstmc.passes import Pass, PassResult, Snapshot, result
from lstmc.passes.simplify import without_dead
from lstmc.patterns import GRU, LSTM, RNN, Clipped, Difference, Gate, Matrix, Mismatch, Place
from lstmc_onnx import ops

Range = tuple[int, int]


class Pieces:
    """Cuts and joins weights of ``graph`` in a new graph, in which ``need`` returns the new value for an old one."""

    def __init__(self, graph: Graph, b: Builder, need: Callable[[Ref], Ref], parts: Iterable[Matrix | Place]) -> None:
        self.graph, self.b, self.need = graph, b, need
        # cuts and pieces of a weight: under (weight, None) along its first axis, under (weight, rows) along the columns
        self._cuts: dict[tuple[Ref, Range | None], set[int]] = {}
        self._pieces: dict[tuple[Ref, Range | None], dict[Range, Ref]] = {}
        for at in parts:
            rows = self._rows(at)
            self._cuts.setdefault((at.ref, None), set()).update(rows)
            if isinstance(at, Matrix):
                self._cuts.setdefault((at.ref, rows), set()).update(at.columns)

    def part(self, at: Matrix | Place, negated: bool = False) -> Ref:
        """Return rows and columns of a matrix, or a part of a vector [H]. With ``negated``, the part is negated."""
        rows = self._rows(at)
        axis = 0 if isinstance(at, Matrix) else self._rank(at) - 1
        piece = self._cut(self.need(at.ref), at.ref, None, rows, axis)
        if isinstance(at, Matrix):
            piece = self._cut(piece, at.ref, rows, at.columns, 1)
        elif self._rank(at) > 1:
            (piece,) = self.b.add(Reshape((rows[1] - rows[0],)), piece)
        return self.b.add(NEGATE, piece)[0] if negated else piece

    def join(self, parts: list[Ref], axis: int) -> Ref:
        return parts[0] if len(parts) == 1 else self.b.add(Concat(axis), *parts)[0]

    def _rank(self, at: Matrix | Place) -> int:
        return self.graph.type(at.ref).rank

    def _rows(self, at: Matrix | Place) -> Range:
        rows = at.rows if isinstance(at, Matrix) else at.columns
        assert rows is not None
        return rows

    def _cut(self, x: Ref, ref: Ref, rows: Range | None, span: Range, axis: int) -> Ref:
        """Return x from ``span[0]`` to ``span[1]`` along an axis. x, the new value of ``ref`` or of its ``rows``, is
        split once, at all bounds that are needed, and the pieces in between are joined."""
        key = ref, rows
        if key not in self._pieces:
            size = self.b.type(x).shape[axis]
            bounds = sorted({0, size, *self._cuts[key]})
            ranges = list(pairwise(bounds))
            pieces = (x,) if len(ranges) == 1 else self.b.add(Split(axis, tuple(e - s for s, e in ranges)), x)
            self._pieces[key] = dict(zip(ranges, pieces, strict=True))
        inside = [piece for (start, end), piece in self._pieces[key].items() if span[0] <= start and end <= span[1]]
        return self.join(inside, axis)


_KINDS: Mapping[str, Any] = {**{op.name: op for op in CORE}, patterns.HardSigmoid.name: patterns.HardSigmoid}
FUNCTIONS: Mapping[Any, tuple[str, tuple[str, ...]]] = {
    _KINDS[row.function]: (foreign.name, tuple(field.name for field in fields(_KINDS[row.function])))
    for foreign, row in functions_of("onnx")
    if row.cell and row.operator and row.function in _KINDS
}
Function = tuple[str, tuple[float, ...]]  # ONNX's name of a function, and its parameters
IDENTITY: Function = ("Affine", (1.0, 0.0))


class Part(NamedTuple):
    """A gate's weights in a layer, perhaps negated, and its biases of R h alone. A coupled ``gate`` is None."""

    gate: Gate | None
    negated: bool = False
    inner: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Direction:
    """A scan as one direction of a layer. ``parts`` are the gates, in ONNX's order."""

    kind: type[ops.Recurrent]
    match: LSTM | GRU | RNN
    parts: tuple[Part, ...]
    activations: tuple[Function, ...]
    coupled: bool = False
    reset_after: bool = False
    initial: bool = False

    @property
    def sequences(self) -> tuple[Place, ...]:
        """The inputs in order: sequences, and values that are equal at every step."""
        return tuple(dict.fromkeys(e.x for gate in self.gates for e in gate.entering))

    @property
    def gates(self) -> list[Gate]:
        """The gates that are not coupled."""
        return [part.gate for part in self.parts if part.gate is not None]

    @property
    def peephole(self) -> bool:
        return any(gate.peephole is not None for gate in self.gates)

    @property
    def bias(self) -> bool:
        return any(gate.biases or gate.constant for gate in self.gates) or any(part.inner for part in self.parts)

    @property
    def lengths(self) -> Ref | None:
        return None if self.match.valid is None else self.match.valid.lengths

    def weights(self) -> Iterator[Matrix | Place]:
        """Yield every part of a weight that the direction reads."""
        for gate, _, inner in self.parts:
            if gate is not None:
                yield from (entering.matrix for entering in gate.entering)
                yield from gate.recurrent
                yield from (*gate.biases, *inner)
                yield from () if gate.peephole is None else (gate.peephole,)

    @property
    def clip(self) -> float:
        """The bound c if gate inputs are clipped to [-c, c]; 0 if they are not."""
        first = next(iter(self.match.gates().values())).activation
        return first.high if isinstance(first, Clipped) else 0.0

    @property
    def pair(self) -> tuple[object, ...]:
        """The key that is equal for two scans that can be the two directions of one layer."""
        return (
            self.kind, self.match.units, self.sequences, self.lengths, self.coupled, self.reset_after, self.peephole,
            self.initial, self.bias, self.clip,
        )  # fmt: skip


def match_direction(graph: Graph, name: str) -> Direction:
    """Return a scan as a direction of a layer. Raises :class:`Mismatch` with the first difference if it is none."""
    match = patterns.recognise(graph, name)
    if isinstance(match, patterns.Unrecognised):
        nearest = {2: "LSTM", 1: "GRU"}.get(_scan(graph, name).states, "RNN")
        raise Mismatch(match.differences[nearest])
    return _Matcher(graph, match).direction()


def _scan(graph: Graph, name: str) -> Scan:
    scan = graph.node(name).op
    assert isinstance(scan, Scan)
    return scan


class _Matcher:
    """Compares a recognised cell with ONNX's layers; each difference is raised as a mismatch."""

    def __init__(self, graph: Graph, match: LSTM | GRU | RNN) -> None:
        self.graph, self.match, self.loc = graph, match, graph.node(match.scan).loc

    def mismatch(self, expected: str, actual: str) -> Mismatch:
        return Mismatch(Difference(expected, actual, self.loc))

    def direction(self) -> Direction:
        """Return the scan as one direction of a layer. Raise a mismatch if ONNX's layer cannot compute it."""
        self._check_steps()
        direction = self._match()
        self._check_clip()
        for name, gate in self.match.gates().items():
            self._check_gate(name, gate)
        if not direction.sequences:
            raise self.mismatch("a sequence that enters", "none")
        return direction

    def _match(self) -> Direction:
        """Return the direction of an LSTM, GRU or RNN. Raise a mismatch for functions that the layer does not have."""
        match, initial = self.match, not all(map(self._zero, (state.initial for state in self.match.states)))
        if isinstance(match, LSTM):
            return self._lstm(match, initial)
        if isinstance(match, GRU):
            f, g = self._one([match.z, match.r]), self._function(match.n.activation)
            if match.update_new and not _mirrored(f):
                raise self.mismatch("an update gate whose rest is a gate too, a sigmoid", f[0])
            by_name = {
                "z": Part(match.z, match.update_new), "r": Part(match.r), "n": Part(match.n, inner=match.inner_biases)
            }  # fmt: skip
            parts = tuple(by_name[name] for name in patterns.GRU_ORDERS["onnx"])
            return Direction(ops.GRU, match, parts, (f, g), reset_after=match.reset_after, initial=initial)
        function = self._function(match.h.activation)
        return Direction(ops.RNN, match, (Part(match.h),), (function,), initial=initial)

    def _lstm(self, lstm: LSTM, initial: bool) -> Direction:
        """Return a direction of an LSTM. ONNX's coupled gates are i and 1 - i; gates f and 1 - f become these, where i
        is the sigmoid of f's negated input. Raises :class:`Mismatch` if the function of f is then no sigmoid."""
        f = self._one([gate for gate in (lstm.i, lstm.f, lstm.o) if gate is not None])
        if lstm.i is None and not _mirrored(f):
            raise self.mismatch("a forget gate whose rest is a gate too, a sigmoid", f[0])
        coupled = lstm.i is None or lstm.f is None
        by_name = {"i": lstm.i or lstm.f, "f": None if coupled else lstm.f, "o": lstm.o, "g": lstm.g}
        h = IDENTITY if lstm.activation is None else self._function(lstm.activation)
        parts = tuple(Part(by_name[name], lstm.i is None and name == "i") for name in patterns.LSTM_ORDERS["onnx"])
        functions = f, self._function(lstm.g.activation), h
        return Direction(ops.LSTM, lstm, parts, functions, coupled=coupled, initial=initial)

    def _one(self, gates: list[Gate]) -> Function:
        """Return the function that all gates have. Raise a mismatch if they have different functions."""
        functions = list(dict.fromkeys(self._function(gate.activation) for gate in gates))
        if len(functions) > 1:
            raise self.mismatch("one function for all gates", ", ".join(name for name, _ in functions))
        return functions[0]

    def _function(self, op: patterns.Activation) -> Function:
        """Return ONNX's function for an activation, clipped or not. Raise a mismatch if ONNX has none."""
        op = op.function if isinstance(op, Clipped) else op
        if type(op) not in FUNCTIONS:
            raise self.mismatch(f"one of the functions {', '.join(name for name, _ in FUNCTIONS.values())}", op.name)
        name, fields = FUNCTIONS[type(op)]
        return name, tuple(float(getattr(op, field)) for field in fields)

    def _zero(self, ref: Ref) -> bool:
        op = self.graph.node(ref.node).op
        return isinstance(op, Full) and op.value == 0

    def _check_steps(self) -> None:
        """Raise a mismatch if states are reset, a mask is not by lengths, or a step's output is not h."""
        match = self.match
        if match.reset is not None:
            raise self.mismatch("states that go on from step to step", "an indicator that they are multiplied by")
        if match.valid is not None:
            if match.valid.lengths is None:
                raise self.mismatch("sequences that end at their lengths", "a mask of steps")
            lengths = self.graph.node(match.valid.lengths.node).op
            if match.steps == 1 and not (isinstance(lengths, Input) and lengths.values):
                raise self.mismatch("lengths of 0 or 1, as it has one step", "any number of steps left")
        for each in match.results:
            if each.read and each.of != "h":
                raise self.mismatch("h to be all that is read of each step", f"each {each.of}'")
            if each.read and each.masked != (match.valid is not None):
                raise self.mismatch("zeros past the end of a sequence", "the states at these steps")

    def _check_clip(self) -> None:
        """Raise a mismatch unless no gate is clipped, or all gates are clipped to one range [-c, c]."""
        gates = self.match.gates()
        bounds = {name: (a.low, a.high) for name, gate in gates.items() if isinstance(a := gate.activation, Clipped)}
        if bounds and (len(bounds) < len(gates) or len(set(bounds.values())) > 1 or any(map(sum, bounds.values()))):
            ranges = ", ".join(f"{name} between {low:g} and {high:g}" for name, (low, high) in bounds.items())
            raise self.mismatch("every gate to be clipped between -c and c, or none", ranges)

    def _check_gate(self, name: str, gate: Gate) -> None:
        """Raise a mismatch unless a gate is a function of W x + R h + b, x a sequence, the weights the same always."""
        for place in gate.added:
            raise self.mismatch(f"the gate {name} to be of W x + R h + b alone", f"%{place.ref.node} added to it")
        if len(gate.recurrent) > 1:
            raise self.mismatch(f"one product of h in the gate {name}", f"{len(gate.recurrent)} of them")
        for entering in gate.entering:
            x = entering.x
            if x.where == "step":
                raise self.mismatch("what enters to be a sequence", f"%{x.ref.node}, which is computed at each step")
            if self.graph.type(x.ref).rank != (3 if x.where == "sequence" else 2):
                raise self.mismatch("x [T, N, D]", f"%{x.ref.node}: {self.graph.type(x.ref)}")
        parts: list[Matrix | Place] = [*(e.matrix for e in gate.entering), *gate.recurrent, *gate.biases]
        parts += [] if gate.peephole is None else [gate.peephole]
        if inside := [part.ref.node for part in parts if part.where == "step"]:
            raise self.mismatch("weights that are the same at every step", f"%{inside[0]}, which is made at each step")


def _mirrored(function: Function) -> bool:
    """Return whether 1 - f(x) is f(-x)."""
    name, numbers = function
    return name == "Sigmoid" or (name == "HardSigmoid" and numbers[1] == 0.5)


@dataclass(frozen=True)
class FindLayers(Pass):
    """Rewrite scans as ONNX's LSTM, GRU and RNN if they compute the same.

    1. a scan that ``lstmc.patterns`` recognises, in any order of gates => the layer, its weights in ONNX's order
    2. two such scans of the same sequence, one of them backward        => one layer of both directions

    With ``all`` other scans are refused, with the first difference from a layer.
    """

    name = "find_layers"
    all: bool = False

    def run(self, graph: Graph) -> PassResult:
        """Rewrite the scans that are layers. With ``all``, raises :class:`BackendError` for a scan that is no layer."""
        directions, differences = directions_in(graph)
        counts: Counter[str] = Counter()
        rewritten = without_dead(_Rewrite(graph, directions).run(counts), Counter()) if directions else graph
        for node in rewritten if self.all else ():
            if isinstance(node.op, Scan):
                name = node.op.body.name
                problem = f"the scan {name} is not an LSTM, GRU or RNN of ONNX"
                raise BackendError(problem, loc=node.loc, notes=(str(differences[name]),))
        return result(graph, rewritten, counts)


def directions_in(graph: Graph) -> tuple[dict[str, Direction], dict[str, Difference]]:
    """Return the directions by their scans' names; for other scans the first differences, by the names of bodies."""
    directions: dict[str, Direction] = {}
    differences: dict[str, Difference] = {}
    for node in graph:
        if isinstance(node.op, Scan):
            try:
                directions[node.name] = match_direction(graph, node.name)
            except Mismatch as mismatch:
                differences[node.op.body.name] = mismatch.difference
    return directions, differences


def pairs(graph: Graph, directions: dict[str, Direction]) -> dict[str, tuple[str, ...]]:
    """Return the scans of each layer, forward before backward, by the name of the first scan."""
    layers: dict[str, tuple[str, ...]] = {}
    remaining = list(directions)
    while remaining:
        name = remaining.pop(0)
        after = graph.dependents({name})
        pair, reverse = directions[name].pair, directions[name].match.reverse
        others = (o for o in remaining if directions[o].pair == pair and directions[o].match.reverse != reverse)
        other = next((o for o in others if o not in after), None)
        if other is None:
            layers[name] = (name,)
        else:
            remaining.remove(other)
            layers[name] = (other, name) if reverse else (name, other)
    return layers


class _Rewrite:
    """Rewrites a graph's scans as layers. A node is copied when first needed: the scans of a layer may be far apart."""

    def __init__(self, graph: Graph, directions: dict[str, Direction]) -> None:
        self.graph, self.directions = graph, directions
        self.rebuild = Rebuild(graph)
        self.b = self.rebuild.builder
        self.pairs = pairs(graph, directions)  # the scans of each layer
        self.layer_of = {name: names for names in self.pairs.values() for name in names}  # by the name of each scan
        parts = (at for direction in directions.values() for at in direction.weights())
        self.pieces = Pieces(graph, self.b, self.need, parts)

    def run(self, counts: Counter[str]) -> Graph:
        """Return the graph with layers, which ``counts`` counts by kind."""
        for names in self.pairs.values():
            kind = self.directions[names[0]].kind.__name__.lower()
            counts[f"find_{kind}" if len(names) == 1 else f"find_bidirectional_{kind}"] += 1
        for node in self.graph:
            self.put(node)
        return self.rebuild.finish()

    def need(self, ref: Ref) -> Ref:
        if ref not in self.rebuild.new:
            self.put(self.graph.node(ref.node))
        return self.rebuild.new[ref]

    def put(self, node: Node) -> None:
        """Copy a node and what it reads, or write the layer of a scan, unless this was done before."""
        if Ref(node.name) in self.rebuild.new:
            return
        if node.name in self.layer_of:
            self._layer(self.layer_of[node.name])
        else:
            self.rebuild.copy(node, [self.need(ref) for ref in self.graph.args(node.name)])

    def _layer(self, names: tuple[str, ...]) -> None:
        """Replace scans, one for each direction, by a layer, and cut its results into those of each scan."""
        directions = [self.directions[name] for name in names]
        first, title = directions[0], _scan(self.graph, names[0]).body.name
        operands = [self._x(first)]
        for role, make in (("W", self._w), ("R", self._r), *([("B", self._b)] if first.bias else [])):
            operands.append(self._stacked([make(direction) for direction in directions], f"{title}/{role}"))
        if first.lengths is not None:
            operands.append(self.need(first.lengths))
        if first.initial:
            for state in range(len(first.match.states)):
                starts = [self.need(direction.match.states[state].initial) for direction in directions]
                operands.append(self._stacked(starts, f"{title}/{first.match.states[state].name}_0"))
        if first.peephole:
            operands.append(self._stacked([self._p(direction) for direction in directions], f"{title}/P"))
        titles, loc = [f"{title}/{r}" for r in ("Y", "Y_h", "Y_c")], self.graph.node(names[0]).loc
        results = self.b.add(_op(directions), *operands, names=titles, loc=loc)
        count = len(directions)
        cut = []
        for axis, ref in zip((1, 0, 0), results, strict=False):
            parts = [f"{self.b.node(ref.node).names[ref.out]}_{way}" for way in ("forward", "backward")]
            cut.append(self.b.add(Split(axis, (1,) * count), ref, names=parts) if count > 1 else (ref,))
        for number, name in enumerate(names):
            self._results(self.graph.node(name), self.directions[name], [parts[number] for parts in cut])

    def _results(self, node: Node, direction: Direction, results: Sequence[Ref]) -> None:
        """Put a direction's ``results`` in place of its scan's. Results that nothing reads become zeros."""
        scan, match = _scan(self.graph, node.name), direction.match
        order = [arg.name for i, arg in enumerate(scan.body.body_args()) if scan.role(i) == "state"]
        last = {len(match.results) + order.index(s.arg.node): at for at, s in enumerate(match.states)}
        for out, type_ in enumerate(node.types):
            unread = out < len(match.results) and not match.results[out].read
            part = None if unread else results[0 if out < len(match.results) else 1 + last[out]]
            op = Full(type_.shape) if part is None else Reshape(type_.shape)
            names = (node.names[out],)
            (value,) = self.b.add(op, *(() if part is None else (part,)), names=names, loc=node.loc)
            state = match.states[last[out]] if out in last else None
            if state is not None and state.read and direction.initial and direction.lengths is not None:
                value = self._or_initial(value, self.need(state.initial), self.need(direction.lengths), names)
            self.rebuild.new[Ref(node.name, out)] = value

    def _or_initial(self, last: Ref, first: Ref, lengths: Ref, names: tuple[str, ...]) -> Ref:
        """Return a last state; for empty sequences, for which ONNX does not define it, the initial state."""
        (complement,) = self.b.add(Affine(-1.0, 1.0), lengths)
        (empty,) = self.b.add(Relu(), complement, names=("empty",))
        (rows,) = self.b.add(Reshape((*self.b.type(empty).shape, 1)), empty)
        (nonempty,) = self.b.add(Affine(-1.0, 1.0), rows, names=("there",))
        terms = self.b.add(Mul(), last, nonempty)[0], self.b.add(Mul(), first, rows)[0]
        return self.b.add(Add(), *terms, names=names)[0]

    def _stacked(self, parts: Sequence[Ref], name: str) -> Ref:
        rows = [self.b.add(Reshape((1, *self.b.type(part).shape)), part, names=(name,))[0] for part in parts]
        return rows[0] if len(rows) == 1 else self.b.add(Concat(0), *rows, names=(f"{name}_both",))[0]

    def _x(self, direction: Direction) -> Ref:
        """Return the layer's sequence: the parts that enter, side by side; a part that is no sequence is repeated."""
        parts = []
        for at in direction.sequences:
            x = self.need(at.ref)
            if at.where != "sequence":
                (row,) = self.b.add(Reshape((1, *self.b.type(x).shape)), x)
                (x,) = self.b.add(Tile(0, direction.match.steps), row)
            assert at.columns is not None
            parts.append(self._columns(x, *at.columns))
        return self.pieces.join(parts, 2)

    def _columns(self, x: Ref, start: int, end: int) -> Ref:
        size = self.b.type(x).shape[-1]
        sizes = [n for n in (start, end - start, size - end) if n]
        return x if len(sizes) == 1 else self.b.add(Split(2, tuple(sizes)), x)[1 if start else 0]

    def _w(self, direction: Direction) -> Ref:
        """Return W: the rows of all gates below each other, with a block of columns for each part of the sequence."""
        units, rows = direction.match.units, []
        for gate, negated, _ in direction.parts:
            row = []
            for at in direction.sequences:
                assert at.columns is not None
                own = [e.matrix for e in gate.entering if e.x == at] if gate is not None else []
                row.append(self._sum(own, negated, (units, at.columns[1] - at.columns[0])))
            rows.append(self.pieces.join(row, 1))
        return self.pieces.join(rows, 0)

    def _r(self, direction: Direction) -> Ref:
        shape = (direction.match.units,) * 2
        rows = [self._sum(() if gate is None else gate.recurrent, neg, shape) for gate, neg, _ in direction.parts]
        return self.pieces.join(rows, 0)

    def _b(self, direction: Direction) -> Ref:
        """Return the biases of W, then the biases of R: the first bias of a gate belongs to W, the second to R."""
        of_w, of_r = [], []
        for part in direction.parts:
            after = direction.reset_after and part is direction.parts[-1]  # there r multiplies the recurrent part
            biases = () if part.gate is None else part.gate.biases
            w, r = (biases, part.inner) if after else (biases[:1], biases[1:])
            of_w.append(self._bias(direction, w, part.negated, 0.0 if part.gate is None else part.gate.constant))
            of_r.append(self._bias(direction, r, part.negated, 0.0))
        return self.pieces.join([*of_w, *of_r], 0)

    def _bias(self, direction: Direction, parts: Sequence[Place], negated: bool, constant: float) -> Ref:
        if not parts and constant:
            return self.b.add(Full((direction.match.units,), -constant if negated else constant))[0]
        bias = self._sum(parts, negated, (direction.match.units,))
        return self.b.add(Affine(1.0, -constant if negated else constant), bias)[0] if constant else bias

    def _sum(self, parts: Sequence[Matrix | Place], negated: bool, shape: tuple[int, ...]) -> Ref:
        """Return the sum of parts of weights, or zeros of ``shape`` if there are no parts."""
        if not parts:
            return self.b.add(Full(shape))[0]
        terms = [self.pieces.part(at, negated) for at in parts]
        return reduce(lambda total, more: self.b.add(Add(), total, more)[0], terms)

    def _p(self, direction: Direction) -> Ref:
        """Return the peepholes in the order i, o, f."""
        peepholes = []
        for gate, negated, _ in direction.parts[:3]:
            at = None if gate is None else gate.peephole
            peepholes.append(self._sum(() if at is None else (at,), negated, (direction.match.units,)))
        return self.pieces.join(peepholes, 0)


def _op(directions: Sequence[Direction]) -> ops.Recurrent:
    """Return the op of a layer with these directions; what both have in common comes from the first."""
    first, functions = directions[0], [function for direction in directions for function in direction.activations]
    alpha, beta = (tuple(values[at] for _, values in functions if len(values) > at) for at in (0, 1))
    flags = {"bias": first.bias, "lengths": first.lengths is not None, "initial": first.initial}
    if first.kind is ops.LSTM:
        flags |= {"coupled": first.coupled, "peephole": first.peephole}
    elif first.kind is ops.GRU:
        flags |= {"reset_after": first.reset_after}
    way = "bidirectional" if len(directions) > 1 else "reverse" if first.match.reverse else "forward"
    return first.kind(tuple(name for name, _ in functions), alpha, beta, way, first.clip, **flags)


def reasons(history: Sequence[Snapshot]) -> Iterator[str]:
    """Yield a line for each layer, and for each other scan why it is none; nothing for a form that the user chose."""
    names = [snapshot.pass_name for snapshot in history]
    if FindLayers.name not in names:
        return
    place = names.index(FindLayers.name)
    before, after = history[place - 1].graph, history[place].graph
    directions, differences = directions_in(before)
    for first, both in pairs(before, directions).items():
        kind, titles = directions[first].kind.__name__, [_scan(before, name).body.name for name in both]
        yield f"{' and '.join(titles)}: {kind}{' of both directions' if len(both) > 1 else ''}"
    loops = {node.op.body.name for node in history[-1].graph if isinstance(node.op, Scan)}
    for node in after:
        if isinstance(node.op, Scan):
            loop = "Scan" if node.op.body.name in loops else "unrolled, as it has one step"
            yield f"{node.op.body.name}: {loop}; it is no LSTM, GRU or RNN: {differences[node.op.body.name]}"
    if loops:
        yield (
            "Scan: few runtimes besides ONNX Runtime have this operator; `lstmc compile` of the model with its weights"
            " and the form unrolled writes a net without it, and so does `lstmc convert` of a Caffe net"
            " with the constant cont=1"
        )
