"""One direction of an ONNX layer: match a scan with LSTM, GRU or RNN, or report the first difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

from lstmc.ir import NEGATE, Builder, Graph, Ref, Scan
from lstmc.ops import CORE, Concat, Full, Input, Reshape, Split
from lstmc.ops.frameworks import functions_of
from lstmc.patterns import (
    GRU,
    GRU_ORDERS,
    LSTM,
    LSTM_ORDERS,
    RNN,
    Activation,
    Clipped,
    Difference,
    Gate,
    HardSigmoid,
    Matrix,
    Mismatch,
    Place,
    Unrecognised,
    recognise,
)
from lstmc_onnx import ops

Range = tuple[int, int]


class Pieces:
    """Slices of the weights of ``graph`` in the graph under construction; ``need`` maps an old value to its new
    value."""

    def __init__(self, graph: Graph, b: Builder, need: Callable[[Ref], Ref], parts: Iterable[Matrix | Place]) -> None:
        self.graph, self.b, self.need = graph, b, need
        self._cuts: dict[tuple[Ref, Range | None], set[int]] = {}
        self._pieces: dict[tuple[Ref, Range | None], dict[Range, Ref]] = {}
        for at in parts:
            rows = self._rows(at)
            self._cuts.setdefault((at.ref, None), set()).update(rows)
            if isinstance(at, Matrix):
                self._cuts.setdefault((at.ref, rows), set()).update(at.columns)

    def part(self, at: Matrix | Place, negated: bool = False) -> Ref:
        """Return rows and columns of a matrix, or a part of a vector [H]."""
        rows = self._rows(at)
        axis = 0 if isinstance(at, Matrix) else self._rank(at) - 1
        piece = self._cut(self.need(at.ref), at.ref, None, rows, axis)
        if isinstance(at, Matrix):
            piece = self._cut(piece, at.ref, rows, at.columns, 1)
        elif self._rank(at) > 1:
            (piece,) = self.b.add(Reshape((rows[1] - rows[0],)), piece)
        return self.b.add(NEGATE, piece)[0] if negated else piece

    def zeros(self, *shape: int) -> Ref:
        return self.b.add(Full(shape))[0]

    def join(self, parts: list[Ref], axis: int) -> Ref:
        return parts[0] if len(parts) == 1 else self.b.add(Concat(axis), *parts)[0]

    def _rank(self, at: Matrix | Place) -> int:
        return self.graph.type(at.ref).rank

    def _rows(self, at: Matrix | Place) -> Range:
        rows = at.rows if isinstance(at, Matrix) else at.columns
        assert rows is not None
        return rows

    def _cut(self, x: Ref, ref: Ref, rows: Range | None, span: Range, axis: int) -> Ref:
        """Return a part of x along an axis; x is the new value of ``ref``, or of some of its rows."""
        key = ref, rows
        if key not in self._pieces:
            size = self.b.type(x).shape[axis]
            bounds = sorted({0, size, *self._cuts[key]})
            ranges = list(pairwise(bounds))
            pieces = (x,) if len(ranges) == 1 else self.b.add(Split(axis, tuple(e - s for s, e in ranges)), x)
            self._pieces[key] = dict(zip(ranges, pieces, strict=True))
        inside = [piece for (start, end), piece in self._pieces[key].items() if span[0] <= start and end <= span[1]]
        return self.join(inside, axis)


_KINDS: Mapping[str, Any] = {**{op.name: op for op in CORE}, HardSigmoid.name: HardSigmoid}
FUNCTIONS: Mapping[Any, tuple[str, tuple[str, ...]]] = {
    _KINDS[row.function]: (foreign.name, tuple(field.name for field in fields(_KINDS[row.function])))
    for foreign, row in functions_of("onnx")
    if row.cell and row.operator and row.function in _KINDS
}
Function = tuple[str, tuple[float, ...]]  # ONNX's name of a function, and its parameters
IDENTITY: Function = ("Affine", (1.0, 0.0))


class Part(NamedTuple):
    """A gate of a layer, None for a coupled one; whether its weights are negated; the biases added to R h."""

    gate: Gate | None
    negated: bool = False
    inner: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Direction:
    """A scan as one direction of a layer. ``parts`` are in ONNX's order."""

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
        """The bound c of gate inputs, clipped to [-c, c]; 0 for none."""
        first = next(iter(self.match.gates().values())).activation
        return first.high if isinstance(first, Clipped) else 0.0

    @property
    def pair(self) -> tuple[object, ...]:
        """The key that both directions of a layer share."""
        return (
            self.kind, self.match.units, self.sequences, self.lengths, self.coupled, self.reset_after, self.peephole,
            self.initial, self.bias, self.clip,
        )  # fmt: skip


def match_direction(graph: Graph, name: str) -> Direction:
    """Return the scan as a direction of a layer. Raises :class:`Mismatch` with the first difference."""
    match = recognise(graph, name)
    if isinstance(match, Unrecognised):
        nearest = {2: "LSTM", 1: "GRU"}.get(_states(graph, name), "RNN")
        raise Mismatch(match.differences[nearest])
    return _Matcher(graph, match).direction()


def _states(graph: Graph, name: str) -> int:
    scan = graph.node(name).op
    assert isinstance(scan, Scan)
    return scan.states


class _Matcher:
    def __init__(self, graph: Graph, match: LSTM | GRU | RNN) -> None:
        self.graph, self.match, self.loc = graph, match, graph.node(match.scan).loc

    def mismatch(self, expected: str, actual: str) -> Mismatch:
        return Mismatch(Difference(expected, actual, self.loc))

    def direction(self) -> Direction:
        self._check_steps()
        direction = self._match()
        self._check_clip()
        for name, gate in self.match.gates().items():
            self._check_gate(name, gate)
        if not direction.sequences:
            raise self.mismatch("a sequence that enters", "none")
        return direction

    def _match(self) -> Direction:
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
            parts = tuple(by_name[name] for name in GRU_ORDERS["onnx"])
            return Direction(ops.GRU, match, parts, (f, g), reset_after=match.reset_after, initial=initial)
        function = self._function(match.h.activation)
        return Direction(ops.RNN, match, (Part(match.h),), (function,), initial=initial)

    def _lstm(self, lstm: LSTM, initial: bool) -> Direction:
        """ONNX's coupled gates are i and 1 - i. For f and 1 - f, i is the sigmoid of the negated input of f."""
        f = self._one([gate for gate in (lstm.i, lstm.f, lstm.o) if gate is not None])
        if lstm.i is None and not _mirrored(f):
            raise self.mismatch("a forget gate whose rest is a gate too, a sigmoid", f[0])
        coupled = lstm.i is None or lstm.f is None
        by_name = {"i": lstm.i or lstm.f, "f": None if coupled else lstm.f, "o": lstm.o, "g": lstm.g}
        h = IDENTITY if lstm.activation is None else self._function(lstm.activation)
        return Direction(
            ops.LSTM,
            lstm,
            tuple(Part(by_name[name], lstm.i is None and name == "i") for name in LSTM_ORDERS["onnx"]),
            (f, self._function(lstm.g.activation), h),
            coupled=coupled,
            initial=initial,
        )

    def _one(self, gates: list[Gate]) -> Function:
        functions = list(dict.fromkeys(self._function(gate.activation) for gate in gates))
        if len(functions) > 1:
            raise self.mismatch("one function for all gates", ", ".join(name for name, _ in functions))
        return functions[0]

    def _function(self, op: Activation) -> Function:
        op = op.function if isinstance(op, Clipped) else op
        if type(op) not in FUNCTIONS:
            raise self.mismatch(f"one of the functions {', '.join(name for name, _ in FUNCTIONS.values())}", op.name)
        name, fields = FUNCTIONS[type(op)]
        return name, tuple(float(getattr(op, field)) for field in fields)

    def _zero(self, ref: Ref) -> bool:
        op = self.graph.node(ref.node).op
        return isinstance(op, Full) and op.value == 0

    def _check_steps(self) -> None:
        match = self.match
        if match.reset is not None:
            raise self.mismatch("states that go on from step to step", "an indicator that they are multiplied by")
        if match.valid is not None:
            if match.valid.lengths is None:
                raise self.mismatch("sequences that end at their lengths", "a mask of steps")
            lengths = self.graph.node(match.valid.lengths.node).op
            if match.steps == 1 and not (isinstance(lengths, Input) and lengths.values):
                raise self.mismatch("lengths of 0 or 1, as it has one step", "any number of steps left")
        for result in match.results:
            if result.read and result.of != "h":
                raise self.mismatch("h to be all that is read of each step", f"each {result.of}'")
            if result.read and result.masked != (match.valid is not None):
                raise self.mismatch("zeros past the end of a sequence", "the states at these steps")

    def _check_clip(self) -> None:
        gates = self.match.gates()
        bounds = {name: (a.low, a.high) for name, gate in gates.items() if isinstance(a := gate.activation, Clipped)}
        if bounds and (len(bounds) < len(gates) or len(set(bounds.values())) > 1 or any(map(sum, bounds.values()))):
            ranges = ", ".join(f"{name} between {low:g} and {high:g}" for name, (low, high) in bounds.items())
            raise self.mismatch("every gate to be clipped between -c and c, or none", ranges)

    def _check_gate(self, name: str, gate: Gate) -> None:
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
        inside = [part.ref.node for part in parts if part.where == "step"]
        if inside:
            raise self.mismatch("weights that are the same at every step", f"%{inside[0]}, which is made at each step")


def _mirrored(function: Function) -> bool:
    """Return whether 1 - f(x) is f(-x)."""
    name, numbers = function
    return name == "Sigmoid" or (name == "HardSigmoid" and numbers[1] == 0.5)
