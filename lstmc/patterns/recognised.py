"""The result of recognition: an LSTM, a GRU or an RNN, with the location of each weight.

Names follow the papers and ONNX: W multiplies the input, R the state h, b is added, P (a peephole) multiplies the cell
state c element by element. A prime marks the value after the step. An LSTM's gates are i, f, o, and g (the candidate,
called c or j elsewhere); a GRU's z, r, and n (called h elsewhere).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lstmc.ir import Graph, Ref, Scan
from lstmc.ops import Op
from lstmc.patterns.equations import Matrix, Place
from lstmc.source import SrcLoc

__all__ = ["GRU", "GRU_ORDERS", "LSTM", "LSTM_ORDERS", "RNN", "Activation", "Clipped", "Difference", "Entering", "Gate"]
__all__ += ["HardSigmoid", "Recognised", "Result", "State", "Unrecognised", "Valid", "describe", "moved"]


@dataclass(frozen=True)
class Entering:
    """A product W x. ``x`` is a sequence, or a value of the step that depends on no state; ``matrix`` is W [H, D]."""

    matrix: Matrix
    x: Place


@dataclass(frozen=True)
class HardSigmoid:
    """slope x + offset, clipped to [0, 1]."""

    slope: float
    offset: float
    name: ClassVar[str] = "hard_sigmoid"


@dataclass(frozen=True)
class Clipped:
    """An activation whose operand is first clipped to [``low``, ``high``]."""

    function: Op | HardSigmoid
    low: float
    high: float

    @property
    def name(self) -> str:
        return f"clipped {self.function.name}"


Activation = Op | HardSigmoid | Clipped


@dataclass(frozen=True)
class Gate:
    """A gate: ``activation`` of the sum at ``total``: products W x (``entering``), products R h, biases, a peephole
    times c, ``added`` values and a number ``constant``, all [N, H]."""

    activation: Activation
    total: Place
    entering: tuple[Entering, ...] = ()
    recurrent: tuple[Matrix, ...] = ()
    biases: tuple[Place, ...] = ()
    peephole: Place | None = None
    added: tuple[Place, ...] = ()
    constant: float = 0.0


@dataclass(frozen=True)
class State:
    """A state: argument and next value in the body, first value in the model; ``read``: its last value is used."""

    name: str
    arg: Ref
    initial: Ref
    following: Ref
    read: bool


@dataclass(frozen=True)
class Valid:
    """The mask of valid steps of a sequence: at the other steps states stay as they are. ``mask`` has a number for each
    row, 1 at valid steps (``inverted``: at invalid steps). ``lengths`` is the model's [N] that the mask is made from,
    if it is made from lengths."""

    mask: Place
    inverted: bool
    lengths: Ref | None


@dataclass(frozen=True)
class Result:
    """An output of a step: h' or c', zero at invalid steps if ``masked``; ``read``: a node reads its sequence."""

    of: str
    masked: bool
    read: bool


@dataclass(frozen=True)
class Recognised:
    """The common fields of the three kinds of cell. ``results`` are the scan's step outputs, in order. ``reset``, if
    not None, multiplies every state before each step, with a number for each row, such as Caffe's ``cont``, which is 0
    where a sequence begins."""

    scan: str
    units: int
    steps: int
    reverse: bool
    states: tuple[State, ...]
    results: tuple[Result, ...]
    reset: Place | None
    valid: Valid | None


@dataclass(frozen=True)
class LSTM(Recognised):
    """c' = f c + i g, h' = o activation(c'). States are h and c. ``f`` is None if f = 1 - i, ``i`` is None if i = 1 - f
    (coupled gates). ``activation`` None is the identity. ``c`` is the body's value c'."""

    i: Gate | None
    f: Gate | None
    o: Gate
    g: Gate
    activation: Op | None
    c: Ref

    def gates(self) -> dict[str, Gate]:
        by_name = {"i": self.i, "f": self.f, "o": self.o, "g": self.g}
        return {name: gate for name, gate in by_name.items() if gate is not None}


@dataclass(frozen=True)
class GRU(Recognised):
    """h' = z h + (1 - z) n, or with ``update_new`` h' = (1 - z) h + z n. The state is h. The reset gate r acts before
    the product with h, n = activation(W x + b + R (r h)), or, with ``reset_after``, after it, n = activation(W x + b +
    r (R h + ``inner_biases``))."""

    z: Gate
    r: Gate
    n: Gate
    update_new: bool
    reset_after: bool
    inner_biases: tuple[Place, ...] = ()

    def gates(self) -> dict[str, Gate]:
        return {"z": self.z, "r": self.r, "n": self.n}


@dataclass(frozen=True)
class RNN(Recognised):
    """h' = activation(W x + b + R h). The state is h."""

    h: Gate

    def gates(self) -> dict[str, Gate]:
        return {"h": self.h}


Cell = LSTM | GRU | RNN


@dataclass(frozen=True)
class Difference:
    """The first difference of a scan from a kind of cell: the expected part, the actual part, and its location."""

    expected: str
    found: str
    loc: SrcLoc | None = None

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"

    def located(self) -> str:
        return f"{self}" if self.loc is None else f"{self}, {self.loc}"


@dataclass(frozen=True)
class Unrecognised:
    """A scan that is no LSTM, GRU or RNN, with its first difference from each kind of cell by the kind's name."""

    scan: str
    differences: dict[str, Difference]


def describe(pattern: Cell | Unrecognised, graph: Graph) -> str:
    """Return a cell of ``graph`` as text, an equation on each line, or the differences of an unrecognised scan."""
    if isinstance(pattern, Unrecognised):
        return "".join(f"{kind}: {difference.located()}\n" for kind, difference in pattern.differences.items())
    text = _Text(graph, pattern)
    direction = ", backward" if pattern.reverse else ""
    lines = [f"{type(pattern).__name__} {pattern.scan}: {pattern.units} units, {pattern.steps} steps{direction}"]
    gates = {} if isinstance(pattern, RNN) else pattern.gates()
    lines += [f"{name} = {text.gate(name, gate)}" for name, gate in gates.items()]
    lines += text.update()
    lines += [f"{state.name} starts from {graph.value_name(state.initial)}" for state in pattern.states]
    if pattern.reset is not None:
        lines.append(f"states are multiplied by {text.place(pattern.reset)} before each step")
    if pattern.valid is not None:
        lines.append(f"a step is there {text.valid(pattern.valid)}")
    returned = [f"{result.of}'{' or zero' if result.masked else ''}" for result in pattern.results]
    lines.append(f"each step returns {', '.join(returned) or 'nothing'}")
    read = [f"each {result.of}'" for result in pattern.results if result.read]
    read += [f"the last {state.name}" for state in pattern.states if state.read]
    lines.append(f"read of it: {', '.join(read) or 'nothing'}")
    return "\n  ".join(lines) + "\n"


class _Text:
    """The parts of a recognised cell as text: places, matrices, gates, and the update of the states."""

    def __init__(self, graph: Graph, cell: Cell) -> None:
        self.graph, self.cell = graph, cell
        scan = graph.node(cell.scan).op
        assert isinstance(scan, Scan)
        self.body = scan.body

    def _name(self, at: Place | Matrix) -> str:
        return (self.body if at.where == "step" else self.graph).value_name(at.ref)

    def _part(self, at: Place | Matrix, part: tuple[int, int] | None, axis: int) -> str:
        """Return a part of an axis as ``start:stop``; empty if it is the whole axis."""
        graph = self.body if at.where == "step" else self.graph
        if part is None or part == (0, graph.type(at.ref).shape[axis]):
            return ""
        return f"{part[0]}:{part[1]}"

    def place(self, at: Place) -> str:
        part = self._part(at, at.columns, -1)
        return self._name(at) + (f"[{part}]" if part else "")

    def matrix(self, at: Matrix) -> str:
        """Return a matrix by its name, with the rows and columns in brackets if it is a part of a larger one."""
        rows, columns = self._part(at, at.rows, 0), self._part(at, at.columns, 1)
        part = f"{rows or ':'}, {columns}" if columns else rows
        return self._name(at) + (f"[{part}]" if part else "")

    def gate(self, name: str, gate: Gate) -> str:
        terms = [f"{self.matrix(product.matrix)} {self.place(product.x)}" for product in gate.entering]
        terms += [self.place(at) for at in (*gate.added, *gate.biases)]
        inside = "h"
        if isinstance(self.cell, GRU) and name == "n" and not self.cell.reset_after:
            inside = "(r h)"
        products = [f"{self.matrix(at)} {inside}" for at in gate.recurrent]
        if isinstance(self.cell, GRU) and name == "n" and self.cell.reset_after:
            products = [f"r ({' + '.join([*products, *map(self.place, self.cell.inner_biases)])})"]
        terms += products
        if gate.peephole is not None:
            terms.append(self.place(gate.peephole) + (" c'" if name == "o" else " c"))
        if gate.constant:
            terms.append(f"{gate.constant:g}")
        return _applied(gate.activation, " + ".join(terms))

    def valid(self, valid: Valid) -> str:
        if valid.lengths is not None:
            return f"before the length of its sequence, {self.graph.value_name(valid.lengths)}"
        return f"where {self.place(valid.mask)} is {0 if valid.inverted else 1}"

    def update(self) -> list[str]:
        cell = self.cell
        if isinstance(cell, RNN):
            return [f"h' = {self.gate('h', cell.h)}"]
        if isinstance(cell, GRU):
            return ["h' = (1 - z) h + z n" if cell.update_new else "h' = z h + (1 - z) n"]
        forget = "f" if cell.f is not None else "(1 - i)"
        new = "i" if cell.i is not None else "(1 - f)"
        shown = "c'" if cell.activation is None else f"{cell.activation.name}(c')"
        return [f"c' = {forget} c + {new} g", f"h' = o {shown}"]


def _applied(function: Activation, of: str) -> str:
    """Return an activation of the text ``of``, with the activation's numbers."""
    if isinstance(function, Clipped):
        return _applied(function.function, f"clip({of}, {function.low:g}, {function.high:g})")
    numbers = f", {function.slope:g}, {function.offset:g}" if isinstance(function, HardSigmoid) else ""
    return f"{function.name}({of}{numbers})"


LSTM_ORDERS: Mapping[str, str] = {
    "caffe": "ifog",  # lstm_layer.cpp, lstm_unit_layer.cpp
    "onnx": "iofg",  # operator LSTM: W [iofc]
    "pytorch": "ifgo",  # torch.nn.LSTM: weight_ih_l0 is (W_ii|W_if|W_ig|W_io)
    "keras": "ifgo",  # keras.layers.LSTM: kernel_i, kernel_f, kernel_c, kernel_o
    "tensorflow": "igfo",  # tf.compat.v1.nn.rnn_cell.BasicLSTMCell: i, j, f, o
}
GRU_ORDERS: Mapping[str, str] = {
    "onnx": "zrn",  # operator GRU: W [zrh]
    "pytorch": "rzn",  # torch.nn.GRU: weight_ih_l0 is (W_ir|W_iz|W_in)
    "keras": "zrn",  # keras.layers.GRU: z, r, h
}


def moved(order: str, target: str) -> tuple[int, ...]:
    """Return the permutation that takes gates packed in ``order`` to ``target``: the index in ``order`` of each.

    >>> moved("ifgo", "ifog")
    (0, 1, 3, 2)
    """
    if sorted(order) != sorted(target):
        raise ValueError(f"expected the gates {target} in some order, found {order}")
    return tuple(order.index(gate) for gate in target)
