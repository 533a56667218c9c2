"""Parameters of an imported model, as recipes from source tensors; the layout of recurrent weights of frameworks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from lstmc.importers.ir.recur import Cell
from lstmc.importers.ir.sizes import ShapeProblem, open_sizes
from lstmc.ops import Array
from lstmc.patterns.recognised import GRU_ORDERS, LSTM_ORDERS

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """A parameter: ``shape``, the names of its source tensors, the ``recipe`` in words, and ``make`` to compute it."""

    shape: Sizes
    sources: tuple[str, ...]
    recipe: str
    make: Callable[[], Array] = field(repr=False, compare=False)

    def array(self) -> Array:
        """Return the elements as float32."""
        with np.errstate(all="ignore"):  # what is not finite is found when it is written
            array = np.ascontiguousarray(self.make(), np.float32)
        assert array.shape == self.shape, f"{self.recipe}: expected {self.shape}, made {array.shape}"
        return array

    def rows(self, parts: int, order: Sequence[int], names: Sequence[str]) -> Weight:
        """Return the blocks ``order`` of the first axis, which is cut into ``parts`` equal blocks."""
        size = self.shape[0] // parts
        if list(order) == list(range(parts)):
            return self
        index = np.concatenate([np.arange(size) + size * place for place in order])
        shape = (size * len(order), *self.shape[1:])
        return self.derived(shape, f"rows {', '.join(names)} of {self.recipe}", lambda: self.make()[index])

    def plus(self, other: Weight) -> Weight:
        """Return the sum of two weights of one shape."""
        if self.shape != other.shape:
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} plus {other.recipe} of {list(other.shape)}")
        return Weight(
            self.shape,
            (*self.sources, *other.sources),
            f"{self.recipe} + {other.recipe}",
            lambda: self.make() + other.make(),
        )

    def transposed(self, *axes: int) -> Weight:
        """Return the weight with its axes permuted; the default reverses them."""
        axes = axes or tuple(reversed(range(len(self.shape))))
        if axes == tuple(range(len(self.shape))):
            return self
        recipe = f"{self.recipe} transposed" + ("" if len(axes) == 2 else f" by {list(axes)}")
        return self.derived(tuple(self.shape[a] for a in axes), recipe, lambda: self.make().transpose(axes))

    def reshaped(self, *shape: int) -> Weight:
        """Return the elements in another shape."""
        if shape == self.shape:
            return self
        if prod(shape) != prod(self.shape):
            raise ShapeProblem(f"{self.recipe} of {list(self.shape)} cannot be reshaped to {list(shape)}")
        return self.derived(shape, f"{self.recipe} as {list(shape)}", lambda: self.make().reshape(shape))

    def at(self, index: int) -> Weight:
        """Return one element of the first axis."""
        return self.derived(self.shape[1:], f"{self.recipe}[{index}]", lambda: self.make()[index])

    def cut(self, start: int, stop: int, axis: int = 0) -> Weight:
        """Return the elements from ``start`` up to ``stop`` of an axis."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        place = (slice(None),) * axis + (slice(start, stop),)
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        recipe = f"{self.recipe}[{':, ' * axis}{start}:{stop}]"
        return self.derived(shape, recipe, lambda: self.make()[place])

    def derived(self, shape: Sizes, recipe: str, make: Callable[[], Array]) -> Weight:
        """Return another weight computed from the same source tensors."""
        return Weight(shape, self.sources, recipe, make)


def joined(weights: Sequence[Weight]) -> Weight:
    """Concatenate weights along their first axis."""
    if len(weights) == 1:
        return weights[0]
    return Weight(
        (sum(weight.shape[0] for weight in weights), *weights[0].shape[1:]),
        tuple(dict.fromkeys(name for weight in weights for name in weight.sources)),
        f"[{', '.join(weight.recipe for weight in weights)}]",
        lambda: np.concatenate([weight.make() for weight in weights]),
    )


def number(value: Array, recipe: str = "a constant of the graph") -> Weight:
    """Return a constant without source tensors as a weight. Raises :class:`ShapeProblem` for an open size in it."""
    if names := dict.fromkeys(map(str, open_sizes(np.asarray(value).ravel().tolist()))):
        raise ShapeProblem(f"{', '.join(names)} must be known here, as a number to compute with")
    array = np.asarray(value, np.float32)
    return Weight(array.shape, (), recipe, lambda: array)


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
