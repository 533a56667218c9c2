"""A library cell, found as a user finds it, scanned from states that are fed, on random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature
from types import SimpleNamespace
from typing import Any

import numpy as np

from lstmc import Cell, Input, scan
from lstmc.backend import load_cell
from lstmc.dsl import Model
from lstmc.dsl.dims import Size
from lstmc.interp import forward, named_rng
from lstmc.ir import Graph, Scan
from lstmc.ops import Array, Op
from lstmc.weights import check_weights, parameters
from tests.cells.references import REFERENCES, Reference

SIZES = dict(zip("DHPBSEACFYXKMRGV", (3, 4, 2, 5, 3, 2, 5, 2, 3, 4, 5, 3, 5, 2, 2, 3), strict=True))
LENGTHS = ((1, 1), (1, 3), (2, 1), (2, 3), (7, 1), (7, 3))  # T, N
# What an input or parameter must be, where not every number makes sense.
RANGES: dict[str, dict[str, Callable[[Array], Array]]] = {
    "cfc": {"dt": np.abs},
    "gru_d": {"delta": np.abs, "mask": lambda drawn: (drawn > 0).astype(float)},
    "ltc": {"tau": lambda drawn: 0.5 + np.abs(drawn)},
    "phased_lstm": {"tau": lambda drawn: 0.5 + np.abs(drawn)},
}

# What a state starts as, of what is fed, where it is never any number: on arrays and on Values.
STARTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("slstm", "n"): lambda fed: 1 + abs(fed),
    ("slstm_heads", "n"): lambda fed: 1 + abs(fed),
    ("aaren", "c"): lambda fed: 1 + abs(fed),
    ("ntm", "w_r"): abs,
    ("ntm", "w_w"): abs,
}


def start(cell: Cell, state: str, fed: Any) -> Any:
    """The first value of a state, an array or a Value as what is fed."""
    return STARTS.get((cell.name, state), lambda same: same)(fed)


def cell_graph(
    name: str | Cell, length: tuple[int, int], reverse: bool = False, states: bool = True, **options: object
) -> Graph:
    """A model of one scan of a cell, by its name in the library; with ``states`` these start as inputs ``h_0``."""
    cell = load_cell(name) if isinstance(name, str) else name
    sizes = {dim: size for dim, size in SIZES.items() if dim in cell.dims}
    given = {"T": length[0], "N": length[1]}

    def net(**values: object) -> dict[str, object]:
        xs = {n: values[n] for n in cell.inputs}
        init = {n: start(cell, n, values[f"{n}_0"]) for n in cell.states} if states else None
        y, last = scan(cell(name="cell", N=length[1], **sizes, **options), xs, init=init, reverse=reverse)
        return {"y": y, **{f"{state}_T": value for state, value in last.items()}}

    def sized(shape: tuple[Size, ...]) -> list[int]:
        return [size if isinstance(size, int) else size.value(sizes | given) for size in shape]

    shapes = {n: [length[0], *sized(declared.shape)] for n, declared in cell.inputs.items()}
    shapes |= {f"{n}_0": sized(declared.shape) for n, declared in cell.states.items() if states}
    net.__name__ = cell.name
    net.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(n, Parameter.KEYWORD_ONLY, default=Input(*shape)) for n, shape in shapes.items()]
    )
    return Model(net).graph()


@dataclass(frozen=True)
class Drawn:
    """Values for all that a cell's graph needs: its inputs, first states and parameters, each in its range."""

    inputs: dict[str, Array]
    weights: dict[str, Array]


def drawn(name: str | Cell, graph: Graph) -> Drawn:
    ranges = RANGES.get(name, {}) if isinstance(name, str) else {}

    def draw(n: str, shape: tuple[int, ...]) -> Array:
        values: Array = named_rng(7, n).normal(size=shape).astype(np.float32).astype(float)
        return ranges.get(n.removeprefix("cell/"), np.asarray)(values)

    inputs = {node.name: draw(node.name, node.types[0].shape) for node in graph if node.op.name == "input"}
    weights = {n: draw(n, op.shape) for n, op in parameters(graph).items() if not op.fixed}
    whole = check_weights(weights, graph, graph.name)  # with the fixed ones
    return Drawn(inputs, {n: weights.get(n, array.astype(float)) for n, array in whole.items()})


def interpreted(graph: Graph, values: Drawn) -> dict[str, Array]:
    """Its outputs in the float64 interpreter."""
    return forward(graph, values.inputs, values.weights).outputs


def by_hand(name: str | Cell, graph: Graph, values: Drawn, step: Reference | None = None) -> dict[str, Array]:
    """The same outputs by the NumPy reference, or by ``step``, step after step."""
    if isinstance(name, str):
        cell, step = load_cell(name), step or REFERENCES[name]
    else:
        cell = name
    assert step is not None, "a cell that is not the library's needs a reference"
    params = SimpleNamespace(**{n.removeprefix("cell/"): array for n, array in values.weights.items()})
    states = {n: start(cell, n, values.inputs[f"{n}_0"]) for n in cell.states}
    sequences = {n: values.inputs[n] for n in cell.inputs}
    outputs = []
    for t in range(len(next(iter(sequences.values())))):
        x = SimpleNamespace(step_index=t, **{n: sequence[t] for n, sequence in sequences.items()})
        y, states = step(params, x, SimpleNamespace(**states))
        outputs.append(y)
    return {"y": np.stack(outputs), **{f"{n}_T": array for n, array in states.items()}}


@cache
def ops_of(name: str) -> set[type[Op]]:
    """The ops of a cell over a sequence."""

    def ops(graph: Graph) -> set[type[Op]]:
        inside = (ops(node.op.body) for node in graph if isinstance(node.op, Scan))
        return {type(node.op) for node in graph}.union(*inside)

    return ops(cell_graph(name, (2, 3)))


def with_all_ops(cells: Sequence[str]) -> set[str]:
    """Few of the cells, that have all their ops between them."""
    chosen, left = set[str](), set[type[Op]]().union(*map(ops_of, cells))
    while left:
        best = max(cells, key=lambda name: len(ops_of(name) & left))
        chosen.add(best)
        left -= ops_of(best)
    return chosen
