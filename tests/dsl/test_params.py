"""Lists of parameters, and the number of the step: by NumPy, in real Caffe, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, dims, linear, model, params, scan, step, step_index, tanh, where, xavier
from lstmc.interp import forward
from lstmc.weights import initial_weights, parameters
from tests.dsl.conftest import UserFile

T, N, D, H, L = dims("T N D H L")


@cell
def deep(
    x: Any = Input(N, D),
    h: Any = State(N, H),
    *,
    W: Any = Param(H, D, fill=xavier()),
    R: Any = params(L, H, H, fill=xavier(), lr_mult=2),
    b: Any = params(L, H),
) -> Any:
    """Several layers a step; at every third step the state stays."""
    z = linear(x, W) + h
    for R_i, b_i in zip(R, b, strict=True):
        z = tanh(linear(z, R_i, b_i))
    h = where(step(1.5 - step_index() % 3), z, h)
    return h, {"h": h}


@model
def net(X: Any = Input(T, N, 5), V: Any = params(2, 3, 4, fill=xavier())) -> Any:
    y, _ = scan(deep(H=4, L=3), X)
    back, _ = scan(deep(H=4, L=1, name="back"), X, reverse=True, name="reversed")
    return {"y": linear(y, V[0]) + linear(back, V[1])}


def test_a_list_is_parameters_of_their_own() -> None:
    found = parameters(net.graph(T=5, N=2))
    assert {name: (op.shape, op.lr_mult) for name, op in found.items()} == {
        "V.0": ((3, 4), 1),
        "V.1": ((3, 4), 1),
        "deep/W": ((4, 5), 1),
        **{f"deep/R.{i}": ((4, 4), 2) for i in range(3)},
        **{f"deep/b.{i}": ((4,), 1) for i in range(3)},
        "back/W": ((4, 5), 1),
        "back/R.0": ((4, 4), 2),
        "back/b.0": ((4,), 1),
    }


def test_what_it_means() -> None:
    graph = net.graph(T=5, N=2)
    weights = {name: array.astype(float) for name, array in initial_weights(graph).items()}
    X = np.random.default_rng(0).normal(size=(5, 2, 5))

    def run(name: str, layers: int, steps: Any) -> list[Any]:
        h, found = np.zeros((2, 4)), []
        for number, x in enumerate(steps):
            z = x @ weights[f"{name}/W"].T + h
            for i in range(layers):
                z = np.tanh(z @ weights[f"{name}/R.{i}"].T + weights[f"{name}/b.{i}"])
            h = z if number % 3 < 1.5 else h
            found.append(h)
        return found

    ahead, back = np.stack(run("deep", 3, X)), np.stack(run("back", 1, X[::-1])[::-1])
    wanted = ahead @ weights["V.0"].T + back @ weights["V.1"].T
    np.testing.assert_allclose(forward(graph, {"X": X}, weights).outputs["y"], wanted, atol=1e-12)


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_real_caffe_agrees_forward_and_backward(target: str) -> None:
    verification = lstmc.compile(net, T=4, N=2, target=target).verify()
    assert verification, str(verification)


@cell
def counts(x: Any = Input(N, 1)) -> Any:
    return x + step_index(), {}


def test_a_net_of_one_step_counts_by_a_state() -> None:
    compiled = lstmc.compile(counts, N=2, T=1, step=True)
    (pair,) = compiled.compiled.states
    assert (pair.name, pair.before, pair.after, pair.initial) == (
        "step_index/index",
        "step_index/index_in",
        "step_index/index_out",
        0.0,
    )
    x = np.array([[[1.0], [2.0]]])
    with compiled.stream(on="interpreter") as step:
        assert [step(x=x)["y"].ravel().tolist() for _ in range(3)] == [[1, 2], [2, 3], [3, 4]]


def test_carry_goes_on_counting() -> None:
    @model
    def carried(X: Any = Input(3, N, 1)) -> Any:
        return {"y": scan(counts(), X, carry=True)[0]}

    graph = carried.graph(N=1)
    first = forward(graph, {"X": np.zeros((3, 1, 1))}).outputs
    assert first["y"].ravel().tolist() == [0, 1, 2]
    second = forward(graph, {"X": np.zeros((3, 1, 1)), "step_index/index_0": first["step_index/index_T"]}).outputs
    assert second["y"].ravel().tolist() == [3, 4, 5]


CELL = """\
@cell
def net_cell(x=Input(N, D), *, W={}):
    return linear(x, W[0]), {{}}

@model
def net(X=Input(3, 2, 5)):
    return scan(net_cell({}), X)[0]
"""


@pytest.mark.parametrize(
    ("declared", "bound", "message"),
    [
        (
            "params(2.5, H, D)",
            "H=4",
            "DslError: params: expected how many there are, then their shape, as in params(3, H, H), found 2.5",
        ),
        ("params(2)", "", "DslError: parameter needs a shape of at least one axis, found none"),
        (
            "params(2, H, D, fill=[1, 2])",
            "H=4",
            "DslError: params fill: expected a filler, which each of them is drawn by, found list [1, 2]",
        ),
        (
            "params(2, H, D)",
            "H=4, W=np.zeros((2, 4, 5))",
            "DslError: net_cell(W=...) takes a filler for the parameter, such as uniform(-0.1, 0.1), found a NumPy"
            " array (write const(it), or declare it as an Input or a Param)",
        ),
        (
            "params(K, H, D)",
            "H=4",
            "DimError: dimension K of parameter W [K, H, D] is not bound: write net_cell(K=SIZE)",
        ),
        ("params", "H=4", "DslError: argument W has no shape: expected W=params(...), found params"),
    ],
)
def test_errors_of_params(user: UserFile, declared: str, bound: str, message: str) -> None:
    assert user.refused(CELL.format(declared, bound)).startswith(f"{message}\n  user.py:")


def test_step_index_stands_in_a_cell_that_is_scanned(user: UserFile) -> None:
    code = "@model\ndef net(X=Input(3, 2, 5)):\n    return X * step_index()\n"
    assert user.refused(code).startswith(
        "DslError: step_index must be called in a cell that is scanned: a model has no steps\n  user.py:7:"
    )
