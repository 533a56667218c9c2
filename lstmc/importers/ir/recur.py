"""A recurrent layer: the equations of its cell, the op that runs the cell over time, and the layouts of frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from lstmc.importers.ir.values import Shape, ShapeProblem, Size, Weight, fixed, listed
from lstmc.ops import Array, Arrays, Draw, Op, Sample, Sigmoid, Tanh, Types
from lstmc.patterns.recognised import GRU_ORDERS, LSTM_ORDERS
from lstmc.types import TensorType

Kind = Literal["rnn", "gru", "lstm"]
SIGMOID, TANH = Sigmoid(), Tanh()
GATES: dict[str, tuple[str, ...]] = {"rnn": ("h",), "gru": ("z", "r", "n"), "lstm": ("i", "f", "o", "g")}


@dataclass(frozen=True)
class Cell:
    """The equations of a recurrent layer.

    ``gate`` is the function of the gates, ``new`` of the candidate (the only one of an ``rnn``), ``out`` of
    an LSTM's cell state in the output. ``reset_after``: a GRU's reset gate multiplies the recurrent product, not
    its operand. ``coupled``: the forget gate is f = 1 - i. ``clip`` limits the argument of
    each function to [-clip, clip]. ``static``: there is one more input, the same at every step. ``masked``: there is
    a mask, and where it is 0 all states stay.
    """

    kind: Kind
    gate: Op = SIGMOID
    new: Op = TANH
    out: Op = TANH
    bias: bool = True
    reset_after: bool = False
    peepholes: bool = False
    coupled: bool = False
    projection: bool = False
    clip: float | None = None
    static: bool = False
    masked: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        return ("h", "c") if self.kind == "lstm" else ("h",)

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the order of the gates in the rows of the written model's weights."""
        return tuple(gate for gate in GATES[self.kind] if not (self.coupled and gate == "f"))

    def weights(self) -> dict[str, str]:
        """Return the shapes of the weights by name: D is the input's width, S the static one's, H units, P outputs."""
        rows = "H" if self.kind == "rnn" else f"{len(self.gates)} * H"
        recurrent = "P" if self.projection else "H"
        shapes = {"W_x": f"{rows}, D"}
        if self.bias:
            shapes["b"] = rows
        if self.static:
            shapes["W_s"] = f"{rows}, S"
        if self.kind == "gru" and not self.reset_after:
            shapes |= {"W_h": "2 * H, H", "U": "H, H"}
        else:
            shapes["W_h"] = f"{rows}, {recurrent}"
        if self.kind == "gru" and self.reset_after and self.bias:
            shapes["b_h"] = "H"
        if self.peepholes:
            shapes |= {f"p_{gate}": "H" for gate in self.gates if gate != "g"}
        if self.projection:
            shapes["W_p"] = "P, H"
        return shapes


T = TypeVar("T")
Extra = Literal["mask", "static", "cont", "lengths"]


@dataclass(frozen=True, eq=False)
class Recur(Op):
    """A cell of ``units`` run over x [T, N, D]; results: the outputs [T, N, P], then each last state.

    Operands: x; the cell's weights in its order; the initial value [N, .] of each state of ``init``; then those of
    ``more``: ``mask`` [T, N, 1] of a masked cell; ``static`` [N, S], the static input; ``cont`` [T, N], which
    multiplies every state before a step; ``lengths`` [N], past which a sequence's states stay, and its outputs are
    zero. ``title`` is the name of the written cell, and the prefix of its weights, which layers of one title share.
    The op means what the language makes of its text, a cell and a scan.
    """

    name = "source.recur"
    operands = ("*xs",)
    cell: Cell
    units: int
    outputs: int
    title: str
    reverse: bool = False
    init: tuple[str, ...] = ()
    more: tuple[Extra, ...] = ()

    def extras(self, operands: Sequence[T]) -> dict[Extra, T]:
        """Return the operands of ``more`` by name."""
        return dict(zip(self.more, operands[len(operands) - len(self.more) :], strict=True))

    def infer(self, *xs: TensorType) -> Types:
        return tuple(map(TensorType, self._shapes(*(x.shape for x in xs))))

    def eval(self, *xs: Array) -> Arrays:
        raise NotImplementedError("a recurrent layer means what the language makes of its text")

    def vjp(self, cts: Arrays, outs: Arrays, *xs: Array) -> Arrays:
        raise NotImplementedError("a recurrent layer means what the language makes of its text")

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        raise NotImplementedError("recurrent layers come from nets")

    def _shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        x = shapes[0]
        if len(x) != 3:
            raise ShapeProblem(f"a recurrent layer takes [T, N, D], found {listed(x)}")
        width, weights = shapes[1][1], dict(zip(self.cell.weights(), shapes[1:], strict=False))
        if x[2] != width:
            raise ShapeProblem(f"{listed(x)} goes into weights for {width} inputs")
        units: dict[str, Size] = {"D": width, "H": self.units, "P": self.outputs}
        if self.cell.static:
            units["S"] = weights["W_s"][1]
        for name, text in self.cell.weights().items():
            expected: Shape = tuple(_size(size, units) for size in text.split(", "))
            if weights[name] != expected:
                raise ShapeProblem(f"{name} must be {listed(expected)}, found {listed(weights[name])}")
        states: dict[str, Shape] = {"h": (x[1], self.outputs), "c": (x[1], self.units)}
        initial = shapes[1 + len(weights) : 1 + len(weights) + len(self.init)]
        for state, shape in zip(self.init, initial, strict=True):
            if shape not in (states[state], states[state][1:]):
                raise ShapeProblem(f"the first {state} must be {listed(states[state])}, found {listed(shape)}")
        fits: dict[Extra, Shape] = {"cont": x[:2], "lengths": (x[1],), "static": (x[1], weights.get("W_s", (0, 0))[1])}
        fits["mask"] = (*x[:2], 1)
        for extra, shape in self.extras(shapes).items():
            if shape != fits[extra]:
                raise ShapeProblem(f"{extra} must be {listed(fits[extra])}, found {listed(shape)}")
        return ((x[0], x[1], self.outputs), *(states[state] for state in self.cell.states))


def _size(text: str, sizes: dict[str, Size]) -> Size:
    """Return the value of a product such as ``4 * H``."""
    number, _, name = text.rpartition(" * ")
    return fixed(sizes[name], name) * int(number or 1)


@dataclass(frozen=True)
class Convention:
    """``gates``: the order of the blocks in stored weights. ``transposed``: stored [in, gates x H], one gate beside
    the other, where the others have [gates x H, in]. ``source`` says where that is written."""

    gates: tuple[str, ...]
    transposed: bool
    source: str


TORCH = "torch.nn.modules.rnn, 'Variables' of each layer"
ONNX = "onnx/docs/Operators.md"
KERAS = "keras/src/layers/rnn/*.py, the splits of the kernels in each cell's call"
CAFFE = "lstm_unit_layer.cpp, rnn_layer.cpp"
CONVENTIONS: dict[tuple[str, str], Convention] = {
    ("torch", "rnn"): Convention(("h",), False, TORCH),
    ("torch", "lstm"): Convention(tuple(LSTM_ORDERS["pytorch"]), False, TORCH),
    ("torch", "gru"): Convention(tuple(GRU_ORDERS["pytorch"]), False, TORCH),
    ("onnx", "rnn"): Convention(("h",), False, ONNX),
    ("onnx", "lstm"): Convention(tuple(LSTM_ORDERS["onnx"]), False, ONNX),
    ("onnx", "gru"): Convention(tuple(GRU_ORDERS["onnx"]), False, ONNX),
    ("keras", "rnn"): Convention(("h",), True, KERAS),
    ("keras", "lstm"): Convention(tuple(LSTM_ORDERS["keras"]), True, KERAS),
    ("keras", "gru"): Convention(tuple(GRU_ORDERS["keras"]), True, KERAS),
    ("caffe", "rnn"): Convention(("h",), False, CAFFE),
    ("caffe", "lstm"): Convention(tuple(LSTM_ORDERS["caffe"]), False, CAFFE),
}


def cell_weights(
    framework: str,
    cell: Cell,
    w_x: Weight,
    w_h: Weight,
    b_x: Weight | None = None,
    b_h: Weight | None = None,
    more: Mapping[str, Weight] | None = None,
) -> dict[str, Weight]:
    """Return the written cell's weights from the framework's input, recurrent and bias blocks.

    ``more`` are peepholes and the projection, by the cell's own names. A bias that the framework adds outside of the
    recurrent product is b_x; one inside, which matters to a GRU that resets after it, is b_h.
    """
    convention = CONVENTIONS[framework, cell.kind]
    if convention.transposed:
        w_x, w_h = w_x.transposed(), w_h.transposed()
    parts = len(convention.gates)

    def blocks(weight: Weight, gates: tuple[str, ...]) -> Weight:
        return weight.rows(parts, [convention.gates.index(gate) for gate in gates], gates)

    packed = {"W_x": blocks(w_x, cell.gates)}
    if cell.bias:
        packed["b"] = _bias(cell, *(None if b is None else blocks(b, cell.gates) for b in (b_x, b_h)))
    if cell.kind == "gru" and not cell.reset_after:
        packed |= {"W_h": blocks(w_h, ("z", "r")), "U": blocks(w_h, ("n",))}
    else:
        packed["W_h"] = blocks(w_h, cell.gates)
    if cell.kind == "gru" and cell.reset_after and cell.bias:
        assert b_h is not None
        packed["b_h"] = blocks(b_h, ("n",))
    return packed | dict(more or {})


def _bias(cell: Cell, b_x: Weight | None, b_h: Weight | None) -> Weight:
    """Return one bias: the sum of the two, apart from a reset gate's recurrent part."""
    if b_x is None or b_h is None:
        bias = b_x or b_h
        assert bias is not None
        return bias
    if not (cell.kind == "gru" and cell.reset_after):
        return b_x.plus(b_h)
    cut = b_x.shape[0] * 2 // 3

    def make() -> Array:
        return np.concatenate([b_x.make()[:cut] + b_h.make()[:cut], b_x.make()[cut:]])

    return Weight(b_x.shape, (*b_x.sources, *b_h.sources), f"{b_x.recipe} + z, r of {b_h.recipe}", make)
