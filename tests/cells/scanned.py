"""A library cell, found as a user finds it, scanned from random initial states on random weights."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from lstmc import Input, dims, model, scan
from lstmc.backend import load_cell
from lstmc.interp import forward, named_rng
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.weights import parameters

T, N, D, H = dims("T N D H")
SIZES = ((1, 1, 1, 1), (4, 3, 5, 2), (6, 2, 3, 4))


@dataclass(frozen=True)
class Scanned:
    """Everything of one run: parameters by the cell's own names, inputs, initial states, results."""

    params: SimpleNamespace
    x: Array
    initial: dict[str, Array]
    y: Array
    last: dict[str, Array]


def cell_graph(name: str, sizes: tuple[int, int, int, int], reverse: bool = False, states: bool = True) -> Graph:
    """A model of one scan of the library cell; with ``states`` its initial states are inputs."""
    bound = load_cell(name)(H=sizes[3], name="cell")
    one = bound.cell.states

    @model
    def net(X=Input(T, N, D), h0=Input(N, H), c0=Input(N, H)):
        init = {state: value for state, value in (("h", h0), ("c", c0)) if state in one} if states else None
        y, last = scan(bound, X, init=init, reverse=reverse)
        return {"y": y, **{f"{state}_T": value for state, value in last.items()}}

    steps, batch, width, units = sizes
    return net.graph(T=steps, N=batch, D=width, H=units)


def scanned(name: str, sizes: tuple[int, int, int, int]) -> Scanned:
    """Run it in the float64 interpreter."""
    steps, batch, width, units = sizes
    graph = cell_graph(name, sizes)
    weights = {n: draw(n, *op.shape) for n, op in parameters(graph).items()}
    x, h0, c0 = draw("X", steps, batch, width), draw("h0", batch, units), draw("c0", batch, units)
    outputs = forward(graph, {"X": x, "h0": h0, "c0": c0}, weights).outputs
    params: dict[str, Any] = {n.removeprefix("cell/"): array for n, array in weights.items()}
    last = {n.removesuffix("_T"): array for n, array in outputs.items() if n != "y"}
    return Scanned(SimpleNamespace(**params), x, {"h": h0, "c": c0}, outputs["y"], last)


def draw(name: str, *shape: int) -> Array:
    return named_rng(7, name).normal(size=shape)


def sigmoid(x: Array) -> Array:
    """The logistic function, from its definition."""
    return 1 / (1 + np.exp(-x))


def assert_equal(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
