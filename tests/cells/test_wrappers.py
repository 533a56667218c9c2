"""What is made of cells: each wrapper against NumPy, and in real Caffe."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace as Named

import numpy as np
import pytest

from lstmc import Cell, Input, Param, State, cell, dims, linear, model, tanh
from lstmc.backend import load_backend
from lstmc.cells import cfc, gru, lstm, sru
from lstmc.cells.wrappers import bidirectional, residual, stacked, time_distributed, variational_dropout, zoneout
from lstmc.errors import DslError
from lstmc.interp import forward
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import fixed_masks
from lstmc.verification.differential import check
from lstmc.weights import initial_weights
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.cells import references
from tests.cells.references import Reference, Step
from tests.cells.scanned import by_hand, cell_graph, drawn, interpreted

T, N, D, H = dims("T N D H")
LENGTHS = [(1, 1), (7, 3)]


def residual_sru(p: Named, x: Named, s: Named) -> Step:
    y, states = references.sru(p, x, s)
    return x.x + y, states


def zoneout_lstm(p: Named, x: Named, s: Named) -> Step:
    _, new = references.lstm(p, x, s)
    h, c = 0.05 * s.h + 0.95 * new["h"], 0.5 * s.c + 0.5 * new["c"]
    return h, {"h": h, "c": c}


def of_layer(p: Named, k: int) -> Named:
    return Named(**{n.removeprefix(f"layer_{k}/"): v for n, v in vars(p).items() if n.startswith(f"layer_{k}/")})


def stacked_lstm(p: Named, x: Named, s: Named) -> Step:
    a, below = references.lstm(of_layer(p, 1), x, Named(h=s.h_1, c=s.c_1))
    b, above = references.lstm(of_layer(p, 2), Named(x=a), Named(h=s.h_2, c=s.c_2))
    return b, {"h_1": below["h"], "c_1": below["c"], "h_2": above["h"], "c_2": above["c"]}


def stacked_cfc(p: Named, x: Named, s: Named) -> Step:
    a, below = references.cfc(of_layer(p, 1), x, Named(h=s.h_1))
    b, above = references.cfc(of_layer(p, 2), Named(x=a, dt=x.dt), Named(h=s.h_2))
    return b, {"h_1": below["h"], "h_2": above["h"]}


WRAPPED: dict[str, tuple[Cell, Reference]] = {
    "residual": (residual(sru), residual_sru),
    "zoneout": (zoneout(lstm, c=0.5, h=0.05), zoneout_lstm),
    "variational_dropout": (variational_dropout(gru), references.gru),
    "stacked": (stacked(lstm, 2), stacked_lstm),
    "stacked with several inputs": (stacked(cfc, 2, B=5), stacked_cfc),
}


def close(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_cell_is_what_its_wrapper_says(name: str, length: tuple[int, int]) -> None:
    made, step = WRAPPED[name]
    graph = cell_graph(made, length)
    values = drawn(made, graph)
    close(interpreted(graph, values), by_hand(made, graph, values, step))


def same_in_caffe(caffe: Runner, graph: Graph, weights: dict[str, Array]) -> None:
    backend = load_backend("caffe")
    compiled = compile_graph(graph, backend)
    report = check(compiled, backend.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [difference for difference in report.differences if not difference.passed]


@pytest.mark.caffe
@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_cell_means_the_same_in_real_caffe(caffe: Runner, name: str, length: tuple[int, int]) -> None:
    graph = cell_graph(WRAPPED[name][0], length)
    same_in_caffe(caffe, graph, drawn(WRAPPED[name][0], graph).weights)


def trained(made: Cell, length: tuple[int, int]) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """What a wrapped cell computes in training, its masks drawn half 0, half 2: its outputs, values and masks."""
    graph = fixed_masks(compile_graph(cell_graph(made, length), load_backend("caffe")).expanded)
    values = drawn(made, cell_graph(made, length))
    rng = np.random.default_rng(0)
    shapes = {node.name: node.types[0].shape for node in graph if node.name.endswith("/mask")}
    masks = {name: 2.0 * rng.integers(0, 2, shape) for name, shape in shapes.items()}
    return forward(graph, values.inputs | masks, values.weights).outputs, values.inputs | values.weights, masks


def test_zoneout_keeps_elements_in_training() -> None:
    outputs, values, masks = trained(zoneout(gru, 0.5), (1, 3))
    ((_, mask),) = masks.items()
    p = Named(**{name.removeprefix("cell/"): array for name, array in values.items()})
    new, _ = references.gru(p, Named(x=values["x"][0]), Named(h=values["h_0"]))
    np.testing.assert_allclose(outputs["h_T"], np.where(mask.reshape(new.shape) > 0, new, values["h_0"]), atol=1e-9)


def test_variational_dropout_draws_once_a_sequence() -> None:
    outputs, values, masks = trained(variational_dropout(gru), (4, 3))
    p = Named(**{name.removeprefix("cell/"): array for name, array in values.items()})
    by_shape = {mask.size: mask for mask in masks.values()}
    x_mask, h_mask = by_shape[3 * 3].reshape(3, 3), by_shape[3 * 4].reshape(3, 4)
    assert len(masks) == 2
    h = values["h_0"]
    for x in values["x"]:
        h, _ = references.gru(p, Named(x=x * x_mask), Named(h=h * h_mask))
    np.testing.assert_allclose(outputs["h_T"], h, atol=1e-9)


@cell
def dense(x=Input(N, D), *, W=Param(H, D), b=Param(H)):
    return tanh(linear(x, W, b)), {}


@model
def tagger(X=Input(T, N, D)):
    y, last = bidirectional(lstm(H=4, name="fore"), gru(H=3, name="back"), X)
    scores = time_distributed(dense(H=2, name="dense"), y)
    return {"y": y, "scores": scores, "fore": last["ahead"]["c"], "back": last["back"]["h"]}


def of_cell(weights: dict[str, Array], name: str) -> Named:
    return Named(**{n.removeprefix(f"{name}/"): array for n, array in weights.items() if n.startswith(f"{name}/")})


def rolled(step: Reference, p: Named, xs: Array, states: dict[str, Array]) -> tuple[list[Array], dict[str, Array]]:
    outputs = []
    for x in xs:
        y, states = step(p, Named(x=x), Named(**states))
        outputs.append(y)
    return outputs, states


@pytest.mark.parametrize("length", LENGTHS, ids=str)
def test_both_ways_and_every_step_at_once(length: tuple[int, int]) -> None:
    graph = tagger.graph(T=length[0], N=length[1], D=3)
    values = drawn(lstm, graph)
    zeros = {"h": np.zeros((length[1], 4)), "c": np.zeros((length[1], 4))}
    ahead, ahead_T = rolled(references.lstm, of_cell(values.weights, "fore"), values.inputs["X"], zeros)
    back, back_T = rolled(
        references.gru, of_cell(values.weights, "back"), values.inputs["X"][::-1], {"h": np.zeros((length[1], 3))}
    )
    y, p = np.concatenate([ahead, back[::-1]], 2), of_cell(values.weights, "dense")
    wanted = {"y": y, "scores": np.tanh(y @ p.W.T + p.b), "fore": ahead_T["c"], "back": back_T["h"]}
    close(interpreted(graph, values), wanted)


@pytest.mark.caffe
def test_both_ways_and_every_step_at_once_in_real_caffe(caffe: Runner) -> None:
    graph = tagger.graph(T=7, N=3, D=3)
    same_in_caffe(caffe, graph, initial_weights(graph))


def test_wrappers_wrap_wrapped_cells() -> None:
    made = residual(zoneout(sru, c=0.5))
    graph = cell_graph(made, (2, 3))
    values = drawn(made, graph)

    def step(p: Named, x: Named, s: Named) -> Step:
        y, new = references.sru(p, x, s)
        return x.x + y, {"c": 0.5 * s.c + 0.5 * new["c"]}

    close(interpreted(graph, values), by_hand(made, graph, values, step))


@cell
def alone(h=State(N, H)):
    return h, {"h": h}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zoneout(lstm, x=0.5), "zoneout of cell 'lstm' takes ratios for h, c, found x"),
        (
            lambda: variational_dropout(gru, c=0.5),
            "variational_dropout of cell 'gru' takes ratios for x, h, found c",
        ),
        (lambda: zoneout(lstm, 1.0), "zoneout: ratio must be from 0 up to, not including, 1, found 1.0"),
        (lambda: zoneout(lstm, h="a"), "zoneout: h must be from 0 up to, not including, 1, found 'a'"),
        (lambda: stacked(lstm, 0), "stacked takes a number of layers of 1 or more, found 0"),
        (lambda: stacked(alone, 2), "stacked feeds a cell's first input, and cell 'alone' has none"),
        (lambda: residual(alone), "residual adds a cell's first input, and cell 'alone' has none"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(make: Callable[[], Cell], message: str) -> None:
    with pytest.raises(DslError) as error:
        make()
    assert error.value.message == message
