"""Values made whole: by NumPy and Python, with the gradients that there are, and in real Caffe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, Model, Param, State, argmax, cell, floor, linear, mod, model, one_hot, scan, tanh, uniform
from lstmc.interp import backward, forward
from lstmc.ops import IntegerRange
from lstmc.weights import initial_weights
from tests.dsl.conftest import UserFile

A, B = 4, 6
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "floor": (lambda x, b: floor(3 * x), lambda x, b: np.floor(3 * x)),
    "math.floor": (lambda x, b: math.floor(x), lambda x, b: np.floor(x)),
    "round": (lambda x, b: round(2 * x), lambda x, b: np.rint(2 * x)),
    "mod by a number": (lambda x, b: mod(x, 0.7), lambda x, b: np.mod(x, 0.7)),
    "mod by a Value": (lambda x, b: mod(x, b * b + 1), lambda x, b: np.mod(x, b * b + 1)),
    "mod of a number": (lambda x, b: 7 % (b * b + 1), lambda x, b: np.mod(7, b * b + 1)),
    "by a negative number": (lambda x, b: x % -2, lambda x, b: x % -2),
    "floor division": (lambda x, b: x // 0.75, lambda x, b: x // 0.75),
    "argmax": (lambda x, b: argmax(x), lambda x, b: x.argmax(-1)),
    "argmax along the first axis": (lambda x, b: x.argmax(0), lambda x, b: x.argmax(0)),
    "argmax of one": (lambda x, b: argmax(x[:, :1]), lambda x, b: np.zeros(A)),
    "argmax of equal ones": (lambda x, b: argmax(round(x) * 0 + 1), lambda x, b: np.zeros(A)),
    "one_hot of one": (lambda x, b: one_hot(argmax(x[:, :1]), 1), lambda x, b: np.ones((A, 1))),
    "one_hot": (lambda x, b: one_hot(argmax(x), B), lambda x, b: np.eye(B)[x.argmax(-1)]),
}


def model_of(function: Callable[..., Any]) -> Model:
    @model
    def net(x: Any = Input(A, B), b: Any = Input(B)) -> Any:
        return {"y": function(x, b)}

    return net


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": 3 * rng.normal(size=(A, B)), "b": rng.normal(size=B)}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_numpy(name: str) -> None:
    ours, theirs = CASES[name]
    graph = model_of(ours).graph()
    found = forward(graph, arrays(), initial_weights(graph)).outputs["y"]
    np.testing.assert_allclose(found, theirs(**arrays()), rtol=0, atol=1e-12)


def test_whole_numbers_are_divided_exactly_where_their_quotient_is_not() -> None:
    @model
    def clock(t: Any = Input(5200)) -> Any:
        return {"left": t % 49, "times": t // 49}

    t = np.arange(-200.0, 5000.0)
    assert 49 * (1 / 49) < 1  # what a floor of the quotient would be misled by
    for dtype in (np.float64, np.float32):
        found = forward(clock.graph(), {"t": t}, dtype=dtype).outputs
        np.testing.assert_array_equal(found["left"], t % 49)
        np.testing.assert_array_equal(found["times"], t // 49)


def test_gradients_are_those_of_what_is_not_made_whole() -> None:
    given = arrays()
    seed = np.random.default_rng(1).normal(size=(A, B))
    found = backward(forward(model_of(lambda x, b: mod(x, b * b + 1)).graph(), given), {"y": seed}).inputs
    np.testing.assert_array_equal(found["x"], seed)
    times = np.floor(given["x"] / (given["b"] ** 2 + 1))
    np.testing.assert_allclose(found["b"], (-times * seed).sum(axis=0) * 2 * given["b"], rtol=1e-9)
    for name in ("floor", "round", "floor division", "argmax", "one_hot"):
        graph = model_of(CASES[name][0]).graph()
        run = forward(graph, given, initial_weights(graph))
        gradients = backward(run, {"y": np.ones_like(run.outputs["y"])}).inputs
        assert all((gradient == 0).all() for gradient in gradients.values()), name


def test_what_one_hot_takes_is_fed_so() -> None:
    @model
    def rows(x: Any = Input(3)) -> Any:
        return one_hot(x, 5)

    op = rows.graph().node("x").op
    assert isinstance(op, lstmc.ops.Input)
    assert op.values == IntegerRange(0, 4)


@cell
def clocked(
    x: Any = Input(A, 3),
    h: Any = State(A, B),
    *,
    W: Any = Param(B, 3, fill=uniform(-1, 1)),
    p: Any = Param(B, fill=uniform(0.5, 1)),
) -> Any:
    z = linear(x, W) + h
    h = mod(3 * z, 1 + p * p) - floor(2 * z) * tanh(p) + one_hot(argmax(z), B) * p + z % 2
    return h, {"h": h / 4}


@model
def clocks(x: Any = Input(3, A, 3)) -> Any:
    return scan(clocked(), x)[0]


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_real_caffe_agrees_forward_and_backward(target: str) -> None:
    verification = lstmc.compile(clocks, target=target).verify()
    assert verification, str(verification)


@pytest.mark.caffe
def test_real_caffe_divides_whole_numbers_exactly() -> None:
    @model
    def clock(t: Any = Input(5200)) -> Any:
        return {"left": t % 49, "times": t // 49}

    t = np.arange(-200.0, 5000.0)
    found = lstmc.compile(clock).run(t=t)
    np.testing.assert_array_equal(found["left"], t % 49)
    np.testing.assert_array_equal(found["times"], t // 49)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mod(x, 0)", "DslError: mod: expected a divisor that is not 0"),
        ("mod(3, 2)", "DslError: mod takes a Value and another one or a number, found two numbers"),
        ("floor(2.5)", "DslError: floor takes Values, found float 2.5"),
        ("argmax(x, 2)", "ShapeError: argmax: axis must be an integer from -2 to 1, found 2: x is f32[2,3]"),
        ("one_hot(x, 0)", "ShapeError: one_hot: size must be at least 1, found 0"),
        ("one_hot(x, 1.5)", "DslError: a size must be an integer or a dimension, found float 1.5"),
    ],
)
def test_errors(user: UserFile, value: str, message: str) -> None:
    code = f"@model\ndef net(x=Input(2, 3)):\n    return {value}\n"
    assert user.refused(code).startswith(f"{message}\n  user.py:7:")
