"""Ops that have no function of their own, as a package brings them, in cells and models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmc import Input, State, cell, model, op, op_results, scan
from lstmc.interp import backward, forward
from lstmc.ir import parse_graph, print_graph
from tests.dsl.conftest import UserFile, lines, random_arrays
from tests.dsl.plugin_ops import Cube, Halves


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
