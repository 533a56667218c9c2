"""A recognised cell computed by its equations, from nothing but what the recognition says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.testing import assert_allclose

from lstmc.interp import Evaluation
from lstmc.ir import Ref
from lstmc.ops import Affine, Array
from lstmc.patterns import GRU, LSTM, RNN, Gate, Matrix, Place


class Run:
    """Steps of a cell on the values of a model that the interpreter evaluated."""

    def __init__(self, cell: LSTM | GRU | RNN, run: Evaluation) -> None:
        self.cell, self.run = cell, run

    def whole(self, at: Place | Matrix, t: int) -> Array:
        values = self.run.steps[self.cell.scan][t].values if at.where == "step" else self.run.values
        return values[at.ref][t] if at.where == "sequence" else values[at.ref]

    def value(self, at: Place, t: int) -> Array:
        whole = self.whole(at, t)
        return whole[..., None] if at.columns is None else whole[..., slice(*at.columns)]

    def product(self, at: Matrix, x: Array, t: int) -> Array:
        return x @ self.whole(at, t)[slice(*at.rows), slice(*at.columns)].T

    def gate(self, gate: Gate, t: int, h: Array, c: Any = 0.0) -> Array:
        total = np.full(h.shape, gate.constant)
        for entering in gate.entering:
            x = self.whole(entering.x, t).reshape(len(h), -1) if entering.x.columns is None else None
            total = total + self.product(entering.matrix, self.value(entering.x, t) if x is None else x, t)
        total = total + sum(self.product(matrix, h, t) for matrix in gate.recurrent)
        total = total + sum(self.value(at, t) for at in (*gate.biases, *gate.added))
        total = total + (0 if gate.peephole is None else self.value(gate.peephole, t) * c)
        return gate.activation.eval(total)[0]

    def step(self, t: int, h: Array, c: Array) -> tuple[Array, Array]:
        cell = self.cell
        if isinstance(cell, RNN):
            return self.gate(cell.h, t, h), c
        if isinstance(cell, LSTM):
            f = None if cell.f is None else self.gate(cell.f, t, h, c)
            i = 1 - f if cell.i is None else self.gate(cell.i, t, h, c)
            new = (1 - i if f is None else f) * c + i * self.gate(cell.g, t, h, c)
            shown = new if cell.activation is None else cell.activation.eval(new)[0]
            return self.gate(cell.o, t, h, new) * shown, new
        z, r = self.gate(cell.z, t, h), self.gate(cell.r, t, h)
        if not cell.reset_after:
            n = self.gate(cell.n, t, r * h)
        else:
            inner = sum(self.product(matrix, h, t) for matrix in cell.n.recurrent)
            inner = r * (inner + sum(self.value(at, t) for at in cell.inner_biases))
            apart = Gate(cell.n.activation, cell.n.total, cell.n.entering, (), cell.n.biases, None, cell.n.added)
            n = apart.activation.eval(self._total(apart, t, h, cell.n.constant) + inner)[0]
        return ((1 - z) * h + z * n if cell.update_new else z * h + (1 - z) * n), c

    def _total(self, gate: Gate, t: int, h: Array, constant: float) -> Array:
        summed = Gate(Affine(), gate.total, gate.entering, (), gate.biases, None, gate.added, constant)
        return self.gate(summed, t, h)

    def results(self) -> list[Array]:
        """What the scan gives: sequences, then last states in the order of the body's states."""
        cell = self.cell
        states = {state.name: self.run.values[state.initial] for state in cell.states}
        rows: dict[int, list[Array]] = {}
        for t in reversed(range(cell.steps)) if cell.reverse else range(cell.steps):
            reset = 1.0 if cell.reset is None else self.value(cell.reset, t)
            h, c = self.step(t, states["h"] * reset, states.get("c", np.zeros(1)) * reset)
            there: Any = 1.0
            if cell.valid is not None:
                mask = self.value(cell.valid.mask, t)
                there = 1 - mask if cell.valid.inverted else mask
            new = {"h": h, "c": c}
            rows[t] = [new[result.of] * (there if result.masked else 1) for result in cell.results]
            states = {name: there * new[name] + (1 - there) * old for name, old in states.items()}
        sequences = [np.stack(values) for values in zip(*(rows[t] for t in sorted(rows)), strict=True)]
        return [*sequences, *(states[name] for name in self._order())]

    def _order(self) -> list[str]:
        arguments = [arg.name for arg in self.run.graph.node(self.cell.scan).op.body.body_args()]  # type: ignore[attr-defined]
        return [state.name for state in sorted(self.cell.states, key=lambda s: arguments.index(s.arg.node))]


def assert_computes(cell: LSTM | GRU | RNN, run: Evaluation) -> None:
    """The equations give what the interpreter gives, every sequence and every last state."""
    for number, found in enumerate(Run(cell, run).results()):
        wanted = run.values[Ref(cell.scan, number)]
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, err_msg=f"{cell.scan}, result {number}")
