"""One direction of an ONNX layer: match a scan with LSTM, GRU or RNN, or report the first difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from lstmc.ir import NEGATE, Builder, Graph, Ref, Scan
from lstmc.ops import Concat, Elu, Full, LeakyRelu, Relu, Reshape, Sigmoid, Softplus, Split, Tanh
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
    """Cuts weights of ``graph`` in the graph that is being built; ``need`` gives what stands for a value there."""

    def __init__(self, graph: Graph, b: Builder, need: Callable[[Ref], Ref], wanted: Iterable[Matrix | Place]) -> None:
        self.graph, self.b, self.need = graph, b, need
        self._cuts: dict[tuple[Ref, Range | None], set[int]] = {}
        self._made: dict[tuple[Ref, Range | None], dict[Range, Ref]] = {}
        for at in wanted:
            rows = self._rows(at)
            self._cuts.setdefault((at.ref, None), set()).update(rows)
            if isinstance(at, Matrix):
                self._cuts.setdefault((at.ref, rows), set()).update(at.columns)

    def part(self, at: Matrix | Place, negated: bool = False) -> Ref:
        """Rows, and columns, of a matrix; or a part of a vector, [H]."""
        rows = self._rows(at)
        axis = 0 if isinstance(at, Matrix) else self._rank(at) - 1
        found = self._cut(self.need(at.ref), at.ref, None, rows, axis)
        if isinstance(at, Matrix):
            found = self._cut(found, at.ref, rows, at.columns, 1)
        elif self._rank(at) > 1:
            (found,) = self.b.add(Reshape((rows[1] - rows[0],)), found)
        return self.b.add(NEGATE, found)[0] if negated else found

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

    def _cut(self, x: Ref, ref: Ref, rows: Range | None, wanted: Range, axis: int) -> Ref:
        """Part of x along an axis: of what stands for ``ref``, or for some rows of it."""
        key = ref, rows
        if key not in self._made:
            size = self.b.type(x).shape[axis]
            bounds = sorted({0, size, *self._cuts[key]})
            ranges = list(pairwise(bounds))
            pieces = (x,) if len(ranges) == 1 else self.b.add(Split(axis, tuple(e - s for s, e in ranges)), x)
            self._made[key] = dict(zip(ranges, pieces, strict=True))
        inside = [piece for (start, end), piece in self._made[key].items() if wanted[0] <= start and end <= wanted[1]]
        return self.join(inside, axis)


FUNCTIONS: Mapping[type, tuple[str, tuple[str, ...]]] = {
    Sigmoid: ("Sigmoid", ()),
    Tanh: ("Tanh", ()),
    Relu: ("Relu", ()),
    Softplus: ("Softplus", ()),
    LeakyRelu: ("LeakyRelu", ("slope",)),
    Elu: ("Elu", ("alpha",)),
    HardSigmoid: ("HardSigmoid", ("slope", "offset")),
}
Named = tuple[str, tuple[float, ...]]  # a function by ONNX's name, with its numbers
IDENTITY: Named = ("Affine", (1.0, 0.0))


@dataclass(frozen=True)
class Lane:
    """A scan as one direction of a layer. ``gates`` are in ONNX's order; None is one that another stands for."""

    kind: type[ops.Recurrent]
    found: LSTM | GRU | RNN
    gates: tuple[Gate | None, ...]
    negated: tuple[bool, ...]
    inner: tuple[tuple[Place, ...], ...]  # biases that belong to R
    activations: tuple[Named, ...]
    coupled: bool = False
    reset_after: bool = False
    initial: bool = False

    @property
    def sequences(self) -> tuple[Place, ...]:
        """What enters, in order: sequences, and values that are the same at every step."""
        return tuple(dict.fromkeys(e.x for gate in self.gates if gate is not None for e in gate.entering))

    @property
    def peephole(self) -> bool:
        return any(gate is not None and gate.peephole is not None for gate in self.gates)

    @property
    def bias(self) -> bool:
        whole = [gate for gate in self.gates if gate is not None]
        return any(gate.biases or gate.constant for gate in whole) or any(self.inner)

    @property
    def lengths(self) -> Ref | None:
        return None if self.found.valid is None else self.found.valid.lengths

    def weights(self) -> Iterator[Matrix | Place]:
        """Every part of a weight that it reads."""
        for gate, inner in zip(self.gates, self.inner, strict=True):
            if gate is not None:
                yield from (entering.matrix for entering in gate.entering)
                yield from gate.recurrent
                yield from (*gate.biases, *inner)
                yield from () if gate.peephole is None else (gate.peephole,)

    @property
    def clip(self) -> float:
        """What everything that a gate is a function of is held below, and above less it; 0 for nothing."""
        first = next(iter(self.found.gates().values())).activation
        return first.high if isinstance(first, Clipped) else 0.0

    @property
    def pair(self) -> tuple[object, ...]:
        """What the other direction of the same layer has too."""
        return (
            self.kind, self.found.units, self.sequences, self.lengths, self.coupled, self.reset_after, self.peephole,
            self.initial, self.bias, self.clip,
        )  # fmt: skip


def lane_of(graph: Graph, name: str) -> Lane:
    """The scan as a direction of a layer. Raises :class:`Mismatch`: it is none, with the first thing that differs."""
    found = recognise(graph, name)
    if isinstance(found, Unrecognised):
        nearest = {2: "LSTM", 1: "GRU"}.get(_states(graph, name), "RNN")
        raise Mismatch(found.differences[nearest])
    return _Reader(graph, found).lane()


def _states(graph: Graph, name: str) -> int:
    scan = graph.node(name).op
    assert isinstance(scan, Scan)
    return scan.states


class _Reader:
    def __init__(self, graph: Graph, found: LSTM | GRU | RNN) -> None:
        self.graph, self.found, self.loc = graph, found, graph.node(found.scan).loc

    def mismatch(self, expected: str, found: str) -> Mismatch:
        return Mismatch(Difference(expected, found, self.loc))

    def lane(self) -> Lane:
        self._check_steps()
        made = self._lane()
        self._check_clip()
        for name, gate in self.found.gates().items():
            self._check_gate(name, gate)
        if not made.sequences:
            raise self.mismatch("a sequence that enters", "none")
        return made

    def _lane(self) -> Lane:
        found, initial = self.found, not all(map(self._zero, (state.initial for state in self.found.states)))
        if isinstance(found, LSTM):
            return self._lstm(found, initial)
        if isinstance(found, GRU):
            f, g = self._one([found.z, found.r]), self._function(found.n.activation)
            if found.update_new and not _mirrored(f):
                raise self.mismatch("an update gate whose rest is a gate too, a sigmoid", f[0])
            named = {"z": found.z, "r": found.r, "n": found.n}
            gates = tuple(named[name] for name in GRU_ORDERS["onnx"])
            inner = tuple(found.inner_biases if name == "n" else () for name in GRU_ORDERS["onnx"])
            negated = tuple(found.update_new and name == "z" for name in GRU_ORDERS["onnx"])
            return Lane(ops.GRU, found, gates, negated, inner, (f, g), reset_after=found.reset_after, initial=initial)
        return Lane(ops.RNN, found, (found.h,), (False,), ((),), (self._function(found.h.activation),), initial=initial)

    def _lstm(self, found: LSTM, initial: bool) -> Lane:
        """Coupled gates are i and 1 - i there: of f and 1 - f, i is the sigmoid of minus what f is of."""
        f = self._one([gate for gate in (found.i, found.f, found.o) if gate is not None])
        if found.i is None and not _mirrored(f):
            raise self.mismatch("a forget gate whose rest is a gate too, a sigmoid", f[0])
        coupled = found.i is None or found.f is None
        named = {"i": found.i or found.f, "f": None if coupled else found.f, "o": found.o, "g": found.g}
        order = LSTM_ORDERS["onnx"]
        h = IDENTITY if found.activation is None else self._function(found.activation)
        return Lane(
            ops.LSTM,
            found,
            tuple(named[name] for name in order),
            tuple(found.i is None and name == "i" for name in order),
            ((),) * len(order),
            (f, self._function(found.g.activation), h),
            coupled=coupled,
            initial=initial,
        )

    def _one(self, gates: list[Gate]) -> Named:
        functions = list(dict.fromkeys(self._function(gate.activation) for gate in gates))
        if len(functions) > 1:
            raise self.mismatch("one function for all gates", ", ".join(name for name, _ in functions))
        return functions[0]

    def _function(self, op: Activation) -> Named:
        op = op.function if isinstance(op, Clipped) else op
        if type(op) not in FUNCTIONS:
            raise self.mismatch(f"one of the functions {', '.join(name for name, _ in FUNCTIONS.values())}", op.name)
        name, fields = FUNCTIONS[type(op)]
        return name, tuple(float(getattr(op, field)) for field in fields)

    def _zero(self, ref: Ref) -> bool:
        op = self.graph.node(ref.node).op
        return isinstance(op, Full) and op.value == 0

    def _check_steps(self) -> None:
        found = self.found
        if found.reset is not None:
            raise self.mismatch("states that go on from step to step", "an indicator that they are multiplied by")
        if found.valid is not None and found.valid.lengths is None:
            raise self.mismatch("sequences that end at their lengths", "a mask of steps")
        for result in found.results:
            if result.read and result.of != "h":
                raise self.mismatch("h to be all that is read of each step", f"each {result.of}'")
            if result.read and result.masked != (found.valid is not None):
                raise self.mismatch("zeros past the end of a sequence", "what the states are there")

    def _check_clip(self) -> None:
        gates = self.found.gates()
        bounds = {name: (a.low, a.high) for name, gate in gates.items() if isinstance(a := gate.activation, Clipped)}
        if bounds and (len(bounds) < len(gates) or len(set(bounds.values())) > 1 or any(map(sum, bounds.values()))):
            told = ", ".join(f"{name} between {low:g} and {high:g}" for name, (low, high) in bounds.items())
            raise self.mismatch("every gate to be clipped between -c and c, or none", told)

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


def _mirrored(function: Named) -> bool:
    """Whether 1 - f(x) is f(-x)."""
    name, numbers = function
    return name == "Sigmoid" or (name == "HardSigmoid" and numbers[1] == 0.5)
