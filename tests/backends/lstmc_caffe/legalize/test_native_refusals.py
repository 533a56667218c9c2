"""What Caffe's own LSTM and RNN cannot have of an LSTM or an RNN that was recognised, by the first difference."""

from __future__ import annotations

from typing import Any

import pytest

from lstmc import Input, Value, dims, model, scan
from lstmc.backend import load_backend
from lstmc.errors import BackendError
from lstmc.pipeline import compile_graph

T, N = dims("T N")
LSTM = """\
@cell
def one(x: Value = Input(N, D), h: Value = State(N, H), c: Value = State(N, H), *,
        W: Value = Param(4 * H, D), b: Value = Param(4 * H), U: Value = Param(4 * H, H), V: Value = Param(4 * H, H)):
    i, f, o, g = split(linear(x, W, b) + linear(h, U), 4)
    c2 = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h2 = sigmoid(o) * tanh(c2)
    return h2, {"h": h2, "c": c2}
"""
RNN = """\
@cell
def one(x: Value = Input(N, D), h: Value = State(N, H), *,
        W: Value = Param(H, D), b: Value = Param(H), U: Value = Param(H, H)):
    h2 = tanh(linear(x, W, b) + linear(h, U))
    return h2, {"h": h2}
"""


def difference(source: str, *changes: tuple[str, str], **options: Any) -> str:
    """What is said of the kind that the cell is."""
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    module: dict[str, Any] = {"__name__": "cells"}
    exec(compile(f"from lstmc import *\nN, D, H = dims('N D H')\n{source}", "<cells>", "exec"), module)

    @model
    def net(X: Value = Input(T, N, 4)) -> dict[str, Value]:
        y, _ = scan(module["one"](H=4), X, **options)
        return {"y": y}

    return refused(net.graph(T=3, N=2), "RNN" if "c: Value" not in source else "LSTM")


def refused(graph: Any, kind: str) -> str:
    with pytest.raises(BackendError) as caught:
        compile_graph(graph, load_backend("caffe"), "caffe-native")
    return next(note for note in caught.value.notes if note.startswith(kind))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("sigmoid(f)", "relu(f)"), "sigmoid(f), found relu of f"),
        (("tanh(g)", "relu(g)"), "tanh(g), found relu of g"),
        (("* tanh(c2)", "* c2"), "tanh(c), found no function of c"),
        (("sigmoid(f) *", "sigmoid(f + 1) *"), "the gate f to be of W_x x + b + W_h h alone, found 1 added to it"),
        (
            ("c2 = sigmoid(f) * c + sigmoid(i)", "f = sigmoid(f)\n    c2 = f * c + (1 - f)"),
            "gates i and f of their own, found an input gate that is 1 minus the forget gate",
        ),
        (
            ("linear(h, U)", "linear(h, U) + linear(h, V)"),
            "one product of h in the gate i, W_x x + b + W_h h, found %one/U_V, %one/U_V",
        ),
        (("linear(x, W, b)", "linear(x, W)"), "one bias in the gate i, W_x x + b + W_h h, found none"),
        (("tanh(g)", "tanh(g + x)"), "the gate g to be of W_x x + b + W_h h alone, found %X added to it"),
    ],
)
def test_what_an_lstm_of_caffe_cannot_have(change: tuple[str, str], expected: str) -> None:
    assert difference(LSTM, change) == f"LSTM: expected {expected}"


def test_gates_that_stand_in_different_orders() -> None:
    found = difference(
        LSTM,
        ("i, f, o, g = split(linear(x, W, b) + linear(h, U), 4)", "i, f, o, g = split(linear(x, W, b), 4)"),
        ("c2 =", "i2, o2, f2, g2 = split(linear(h, U), 4)\n    i, f, o, g = i + i2, f + f2, o + o2, g + g2\n    c2 ="),
    )
    assert found == "LSTM: expected one order of gates in W_x, b and W_h, found ifog, ifog, iofg"


def test_masks_of_steps() -> None:
    source = LSTM.replace("x: Value = Input(N, D)", "x: Value = Input(N, D), m: Value = Input(N, 1)")
    for state in "hc":
        source = source.replace(f'"{state}": {state}2', f'"{state}": m * {state}2 + (1 - m) * {state}')
    module: dict[str, Any] = {"__name__": "cells"}
    exec(compile(f"from lstmc import *\nN, D, H = dims('N D H')\n{source}", "<cells>", "exec"), module)

    @model
    def net(X: Value = Input(T, N, 4), M: Value = Input(T, N, 1)) -> dict[str, Value]:
        y, _ = scan(module["one"](H=4), {"x": X, "m": M})
        return {"y": y}

    assert refused(net.graph(T=3, N=2), "LSTM") == "LSTM: expected every step to be there, found a mask of steps, %M"


def test_another_function_in_an_rnn() -> None:
    assert difference(RNN, ("tanh(", "relu(")) == "RNN: expected tanh(h), found relu of h"


def test_the_same_matrix_twice_in_an_rnn() -> None:
    assert difference(RNN, ("linear(h, U)", "linear(h, U) + linear(x, U)")) == (
        "RNN: expected one product of x in the gate h, W_x x + b + W_h h, found %one/W, %one/U"
    )
