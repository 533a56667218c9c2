"""What options of library cells mean: the same step as a reference, on other numbers or with another function."""

from __future__ import annotations

from types import SimpleNamespace as Named
from typing import Any

import numpy as np
import pytest

from lstmc import hard_sigmoid, relu, softplus, softsign
from lstmc.backend import load_backend, load_cell
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.verification.differential import check
from lstmc_caffe.runtime.executor import CaffeExecutor
from lstmc_caffe.runtime.runner import Runner
from tests.cells import references
from tests.cells.references import Reference, Step, sigmoid
from tests.cells.scanned import by_hand, cell_graph, drawn, interpreted

LENGTH = (3, 2)


def lstm_without_bias(p: Named, x: Named, s: Named) -> Step:
    return references.lstm(Named(W_x=p.W_x, W_h=p.W_h, b=np.zeros(len(p.W_x))), x, s)


def lstm_with_forget_bias(p: Named, x: Named, s: Named) -> Step:
    units = s.h.shape[1]
    b = p.b + np.repeat([0, 1.5, 0, 0], units)
    return references.lstm(Named(W_x=p.W_x, W_h=p.W_h, b=b), x, s)


def lstm_with_clip(p: Named, x: Named, s: Named) -> Step:
    i, f, o, g = np.split(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b, 4, axis=1)
    c = np.clip(sigmoid(f) * s.c + sigmoid(i) * np.tanh(g), -0.4, 0.4)
    h = sigmoid(o) * np.tanh(c)
    return h, {"h": h, "c": c}


def lstm_of_other_functions(p: Named, x: Named, s: Named) -> Step:
    i, f, o, g = np.split(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b, 4, axis=1)
    c = s.c / (1 + np.exp(-f)) + sigmoid(i) * np.maximum(g, 0)
    h = sigmoid(o) * np.maximum(c, 0)
    return h, {"h": h, "c": c}


def rnn_relu(p: Named, x: Named, s: Named) -> Step:
    h = np.maximum(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b, 0)
    return h, {"h": h}


def indrnn_softplus(p: Named, x: Named, s: Named) -> Step:
    h = np.log1p(np.exp(x.x @ p.W.T + p.u * s.h + p.b))
    return h, {"h": h}


def slstm_of_sigmoids(p: Named, x: Named, s: Named) -> Step:
    i, f, o, z = np.split(x.x @ p.W_x.T + s.h @ p.W_h.T + p.b, 4, axis=1)
    m = np.maximum(np.log(sigmoid(f)) + s.m, i)
    i, f = np.exp(i - m), sigmoid(f) * np.exp(s.m - m)
    c, n = f * s.c + i * np.tanh(z), f * s.n + i
    return sigmoid(o) * c / n, {"h": sigmoid(o) * c / n, "c": c, "n": n, "m": m}


def mlstm_of_sigmoids(p: Named, x: Named, s: Named) -> Step:
    """The same step with ln sigmoid(f) in the place of f."""
    i, f = np.split(x.x @ p.W_if.T + p.b_if, 2, axis=1)
    y, states = [], []
    for row, forget in enumerate(np.log(sigmoid(f))):
        one = Named(**{**vars(p), "W_if": np.zeros_like(p.W_if), "b_if": np.array([i[row, 0], forget[0]])})
        of_row = Named(**{n: a[row : row + 1] for n, a in vars(s).items()})
        made, new = references.mlstm(one, Named(x=x.x[row : row + 1]), of_row)
        y.append(made)
        states.append(new)
    return np.concatenate(y), {n: np.concatenate([new[n] for new in states]) for n in vars(s)}


def antisymmetric_without_gate(p: Named, x: Named, s: Named) -> Step:
    A = p.W - p.W.T - 0.5 * np.eye(len(p.W))
    h = s.h + 0.2 * np.tanh(s.h @ A.T + x.x @ p.V.T + p.b)
    return h, {"h": h}


def clockwork_of_two(p: Named, x: Named, s: Named) -> Step:
    new = np.tanh(x.x @ p.W.T + p.b + s.h @ np.where(np.mgrid[:4, :4][0] // 2 * 2 <= np.arange(4), p.U, 0).T)
    h = np.where([x.step_index % 2 == 0, x.step_index % 2 == 0, x.step_index % 3 == 0, x.step_index % 3 == 0], new, s.h)
    return h, {"h": h}


def phased_lstm_that_is_often_open(p: Named, x: Named, s: Named) -> Step:
    return references.phased_lstm(p, x, s, open_ratio=0.8)


def rhn_of_one(p: Named, x: Named, s: Named) -> Step:
    h, t = np.split(x.x @ p.W.T + s.s @ p.R.T + p.b, 2, axis=1)
    state = sigmoid(t) * np.tanh(h) + (1 - sigmoid(t)) * s.s
    return state, {"s": state}


OPTIONS: list[tuple[str, dict[str, Any], Reference]] = [
    ("lstm", {"bias": False}, lstm_without_bias),
    ("lstm", {"forget_bias": 1.5}, lstm_with_forget_bias),
    ("lstm", {"cell_clip": 0.4}, lstm_with_clip),
    ("lstm", {"activation": relu}, lstm_of_other_functions),
    ("rnn", {"activation": relu}, rnn_relu),
    ("indrnn", {"activation": softplus}, indrnn_softplus),
    ("slstm", {"sigmoid_forget": True}, slstm_of_sigmoids),
    ("mlstm", {"sigmoid_forget": True}, mlstm_of_sigmoids),
    ("antisymmetric", {"gated": False, "epsilon": 0.2, "gamma": 0.5}, antisymmetric_without_gate),
    ("clockwork", {"periods": (2, 3)}, clockwork_of_two),
    ("phased_lstm", {"open_ratio": 0.8}, phased_lstm_that_is_often_open),
    ("rhn", {"depth": 1}, rhn_of_one),
]


@pytest.mark.parametrize(("name", "options", "step"), OPTIONS)
def test_an_option_is_what_its_cell_says(name: str, options: dict[str, Any], step: Reference) -> None:
    graph = cell_graph(name, LENGTH, **options)
    values = drawn(name, graph)
    found, wanted = interpreted(graph, values), by_hand(name, graph, values, step)
    assert set(found) == set(wanted)
    for output, array in wanted.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-9, atol=1e-9, err_msg=output)


class OtherTanh:
    """NumPy with x / (1 + |x|) for tanh."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def tanh(x: Array) -> Array:
        return x / (1 + np.abs(x))


OTHER_FUNCTIONS = [
    name for name in references.REFERENCES if {"gate", "activation"} <= load_cell(name).signature.options.keys()
]


@pytest.mark.parametrize("name", OTHER_FUNCTIONS)
def test_gates_and_activations_are_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same equations, with a hard sigmoid and a softsign in the places of their functions."""
    graph = cell_graph(name, LENGTH, gate=hard_sigmoid, activation=softsign)
    values = drawn(name, graph)
    monkeypatch.setattr(references, "sigmoid", lambda x: np.clip(0.2 * x + 0.5, 0, 1))
    monkeypatch.setattr(references, "np", OtherTanh())
    found, wanted = interpreted(graph, values), by_hand(name, graph, values)
    for output, array in wanted.items():
        np.testing.assert_allclose(found[output], array, rtol=1e-9, atol=1e-9, err_msg=output)


@pytest.mark.caffe
@pytest.mark.parametrize(("name", "options"), [(name, options) for name, options, _ in OPTIONS])
def test_an_option_means_the_same_in_real_caffe(caffe: Runner, name: str, options: dict[str, Any]) -> None:
    backend = load_backend("caffe")
    graph = cell_graph(name, LENGTH, **options)
    compiled, weights = compile_graph(graph, backend), drawn(name, graph).weights
    report = check(compiled, backend.emit(compiled, weights), weights, CaffeExecutor(caffe, "cpu"))
    assert report.passed, [difference for difference in report.differences if not difference.passed]


def test_without_bias_there_is_none() -> None:
    compiled = compile_graph(cell_graph("lstm", LENGTH, bias=False), load_backend("caffe"))
    assert "cell/b" not in {node.name for node in compiled.expanded}
