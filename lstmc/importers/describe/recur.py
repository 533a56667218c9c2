"""A recurrent layer: one cell, run over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from lstmc.importers.describe.cell import Cell
from lstmc.importers.describe.op import Op
from lstmc.importers.describe.shapes import Shape, ShapeProblem, Size, fixed, listed
from lstmc.ops import Array

T = TypeVar("T")
Extra = Literal["mask", "static", "cont", "lengths"]


@dataclass(frozen=True)
class Recur(Op):
    """A cell of ``units`` run over x [T, N, D]; results: the outputs [T, N, P], then each last state.

    Operands: x; the cell's weights in its order; a first value [N, .] for each state of ``init``; then those of
    ``more``: ``mask`` [T, N, 1] of a masked cell; ``static`` [N, S], what every step sees; ``cont`` [T, N], which
    multiplies every state before a step; ``lengths`` [N], past which a sequence's states stay, and its outputs are
    zero. ``name`` is the written cell's, under which its weights are found; two of one name share them.
    """

    cell: Cell
    units: int
    outputs: int
    name: str
    reverse: bool = False
    init: tuple[str, ...] = ()
    more: tuple[Extra, ...] = ()

    def extras(self, operands: Sequence[T]) -> dict[Extra, T]:
        """The last operands, those of ``more``, by name."""
        return dict(zip(self.more, operands[len(operands) - len(self.more) :], strict=True))

    def infer(self, *shapes: Shape) -> tuple[Shape, ...]:
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
            wanted: Shape = tuple(_size(size, units) for size in text.split(", "))
            if weights[name] != wanted:
                raise ShapeProblem(f"{name} must be {listed(wanted)}, found {listed(weights[name])}")
        states: dict[str, Shape] = {"h": (x[1], self.outputs), "c": (x[1], self.units)}
        given = shapes[1 + len(weights) : 1 + len(weights) + len(self.init)]
        for state, shape in zip(self.init, given, strict=True):
            if shape not in (states[state], states[state][1:]):
                raise ShapeProblem(f"the first {state} must be {listed(states[state])}, found {listed(shape)}")
        fits: dict[Extra, Shape] = {"cont": x[:2], "lengths": (x[1],), "static": (x[1], weights.get("W_s", (0, 0))[1])}
        fits["mask"] = (*x[:2], 1)
        for extra, shape in self.extras(shapes).items():
            if shape != fits[extra]:
                raise ShapeProblem(f"{extra} must be {listed(fits[extra])}, found {listed(shape)}")
        return ((x[0], x[1], self.outputs), *(states[state] for state in self.cell.states))

    def eval(self, *arrays: Array) -> tuple[Array, ...]:
        x, names = arrays[0], list(self.cell.weights())
        weights = dict(zip(names, arrays[1 : 1 + len(names)], strict=True))
        given = dict(zip(self.init, arrays[1 + len(names) :], strict=False))
        size = {"h": self.outputs, "c": self.units}
        state = {name: np.broadcast_to(given.get(name, 0.0), (x.shape[1], size[name])) for name in self.cell.states}
        more = self.extras(arrays)
        y = np.zeros((*x.shape[:2], self.outputs), x.dtype)
        for t in reversed(range(len(x))) if self.reverse else range(len(x)):
            if "cont" in more:
                state = {name: value * more["cont"][t][:, None] for name, value in state.items()}
            new = self.cell.step(x[t], state, weights, more.get("static"))
            if "lengths" in more:
                there = (more["lengths"] > t)[:, None]
                y[t] = np.where(there, new["h"], 0)
                state = {name: np.where(there, new[name], state[name]) for name in state}
            elif "mask" in more:
                state = {name: np.where(more["mask"][t] > 0.5, new[name], state[name]) for name in state}
                y[t] = state["h"]
            else:
                y[t], state = new["h"], new
        return (y, *(state[name] for name in self.cell.states))


def _size(text: str, sizes: dict[str, Size]) -> Size:
    """``4 * H`` with the sizes put in."""
    number, _, name = text.rpartition(" * ")
    return fixed(sizes[name], name) * int(number or 1)
