"""Ops that have no function of their own, as a package brings them, in cells and models."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import pytest

from lstmc import Input, State, cell, model, op, op_results, scan
from lstmc.interp import backward, forward
from lstmc.ir import parse_graph, print_graph
from tests.dsl.conftest import UserFile, lines, random_arrays
from tests.dsl.plugin_ops import Cube, Halves, scaled


def test_a_function_is_made_of_the_class_of_a_pointwise_op() -> None:
    assert (scaled.__name__, scaled.__module__) == ("scaled", "tests.dsl.plugin_ops")
    assert scaled.__doc__ == "y = scale x + shift."
    assert str(signature(scaled)) == "(x: 'Value', scale: 'float', shift: 'float' = 0.0) -> 'Value'"

    @model
    def net(X: Any = Input(2, 4)) -> Any:
        return {"y": scaled(X, 2, shift=1), "z": scaled(scale=-1, x=X)}

    graph = net.graph()
    X = np.arange(8.0).reshape(2, 4)
    found = forward(graph, {"X": X}, {}).outputs
    np.testing.assert_array_equal(found["y"], 2 * X + 1)
    np.testing.assert_array_equal(found["z"], -X)


def test_what_an_op_s_own_function_makes_is_called_and_placed_as_by_the_language_s_functions(user: UserFile) -> None:
    body = "low, high = ops.halves(X)\n    twice = ops.scaled(low, 2)\n    return {'y': tanh(twice) + high}"
    graph = user.graph(f"import tests.dsl.plugin_ops as ops\n@model\ndef net(X=Input(2, 4)):\n    {body}\n")
    assert [(node.names, node.loc and str(node.loc)) for node in graph][1:3] == [
        (("low", "high"), "user.py:8:17"),
        (("twice",), "user.py:9:13"),
    ]


OF_THE_MODEL_FILE = """\
from dataclasses import dataclass
from lstmc.ops import Pointwise
from tests.dsl.plugin_ops import Cube

@dataclass(frozen=True)
class Mine(Cube):
    name = "mine.cube"

def mine(x):
    return op(Mine(), x)

@model
def net(X=Input(2, 4)):
    first = mine(X)
    second = op(Mine(), first)
    return {"y": second + 1}
"""


def test_the_same_where_op_function_and_model_stand_in_one_file(user: UserFile) -> None:
    graph = user.graph(OF_THE_MODEL_FILE)
    assert [(node.name, node.loc and str(node.loc)) for node in graph][1:3] == [
        ("first", "user.py:18:13"),
        ("second", "user.py:19:14"),
    ]


def test_an_op_is_used_in_a_cell_and_a_model() -> None:
    @cell
    def cubes(x: Any = Input(2, 4), h: Any = State(2, 4)) -> Any:
        h = op(Cube(), x) + 0.5 * h
        return h, {"h": h}

    @model
    def net(X: Any = Input(3, 2, 4)) -> Any:
        y, _ = scan(cubes(), X)
        low, high = op_results(Halves(), y)
        return {"low": low, "high": high}

    graph = net.graph()
    arrays = random_arrays(graph)
    run = forward(graph, arrays, {})
    h, expected = np.zeros((2, 4)), []
    for x in arrays["X"]:
        h = x**3 + 0.5 * h
        expected.append(h)
    np.testing.assert_allclose(run.outputs["low"], np.stack(expected)[..., :2], rtol=1e-12)
    np.testing.assert_allclose(run.outputs["high"], np.stack(expected)[..., 2:], rtol=1e-12)
    assert parse_graph(print_graph(graph), (Cube, Halves)) == graph
    cts = {name: np.ones_like(out) for name, out in run.outputs.items()}
    found = backward(run, cts).inputs["X"]
    np.testing.assert_allclose(found, 3 * arrays["X"] ** 2 * np.array([1.75, 1.5, 1])[:, None, None], rtol=1e-12)


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            "op(«ops.Cube», X)",
            "op takes an op, then the Values that it works on, found the class Cube: call it",
        ),
        ("op(«X», X)", "op takes an op, then the Values that it works on, found a Value"),
        ("op_results(«3», X)", "op_results takes an op, then the Values that it works on, found int 3"),
        (
            "op(«ops.Layer()», X)",
            "op: test.Layer is a layer of backend shop: write a model in ops of no backend",
        ),
        ("op(ops.Cube(), «3»)", "test.cube takes Values, found int 3"),
        ("«op(ops.Cube(), X, X)»", "test.cube takes x, found 2 Values"),
        ("«op(ops.Cube())»", "test.cube takes x, found no Values"),
        ("«ops.halves(3)»", "test.halves takes Values, found int 3"),
        ("ops.scaled(«3», 2)", "scaled takes Values, found int 3"),
        ("ops.scaled(X, «'a'»)", "scaled: scale must be a number, found str 'a'"),
        (
            "«pointwise(ops.Halves)»",
            "pointwise takes a class that derives from lstmc.ops.Pointwise, found Halves",
        ),
        (
            "«pointwise(ops.Cube())»",
            "pointwise takes a class that derives from lstmc.ops.Pointwise, found Cube Cube()",
        ),
        ("«op(ops.Halves(), X)»", "op: test.halves has 2 results: write op_results, which gives all"),
        (
            "«op_results(ops.Halves(), Y)»",
            "test.halves: its infer failed (ValueError: six): the op must raise ShapeError",
        ),
    ],
)
def test_what_is_no_op_of_models_is_refused(user: UserFile, marked: str, message: str) -> None:
    statement = f"z = {marked}"
    start, end = statement.index("«"), statement.index("»") - 1
    plain = statement.replace("«", "").replace("»", "")
    net = f"@model\ndef net(X=Input(2, 4), Y=Input(2, 6)):\n    {plain}\n    return X\n"
    assert user.refused(f"import tests.dsl.plugin_ops as ops\n{net}") == lines(
        f"DslError: {message}",
        f"  user.py:8:{start + 5} in model 'net'",
        f"    {plain}",
        f"    {' ' * start}{'^' * (end - start)}",
    )
