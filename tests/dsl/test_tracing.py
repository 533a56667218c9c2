"""Tracing leaves nothing behind: repeated traces, errors, several models, values kept for later."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from typing import Any

import pytest

from lstmc import Value
from lstmc.cells import gru, gru_reset_after, lstm, lstm_peephole, rnn
from lstmc.dsl import CellModel
from lstmc.errors import DslError, LstmcError
from lstmc.ir import parse_graph, print_graph, verify
from lstmc.ops import Param
from tests.dsl.conftest import NET, RNN, SIZES, UserFile, leaves, lines

LIBRARY = (rnn, lstm, lstm_peephole, gru, gru_reset_after)


@pytest.mark.parametrize("cell", LIBRARY, ids=lambda cell: cell.name)
def test_a_trace_is_the_same_each_time(cell: Any) -> None:
    first, second = (CellModel(cell).graph(**SIZES, H=4) for _ in range(2))
    assert first == second
    assert print_graph(first) == print_graph(second)
    assert parse_graph(print_graph(first)) == first
    verify(first)


@pytest.mark.slow
def test_a_trace_is_the_same_in_another_process(user: UserFile) -> None:
    module = user.module(RNN + NET.format("rnn(H=4)"))
    code = "import user; from lstmc.ir import print_graph; print(print_graph(user.net.graph(T=3, N=2, D=5)), end='')"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert made.stdout == print_graph(module.net.graph(**SIZES))


def test_a_bound_cell_of_the_module_serves_models_of_any_size(user: UserFile) -> None:
    module = user.module(
        RNN
        + """
encoder = rnn(H=2*K)

@model
def one(X=Input(T, N, D)):
    y, last = scan(encoder, X)
    return y

@model
def two(X=Input(T, N, 3)):
    y, last = scan(encoder, X)
    z, last = scan(encoder, X, init=last, reverse=True)
    return y, z
"""
    )
    assert leaves(module.one.graph(**SIZES, K=2), Param) == {"encoder/W": (4, 5), "encoder/U": (4, 4)}
    assert leaves(module.two.graph(T=7, N=1, K=3), Param) == {"encoder/W": (6, 3), "encoder/U": (6, 6)}
    assert leaves(module.one.graph(**SIZES, K=2), Param) == {"encoder/W": (4, 5), "encoder/U": (4, 4)}


SWITCH = (
    RNN
    + """
wrong = []

@cell
def outer(x=Input(N, D), h=State(N, 4)):
    y, s = shared(x, h)
    if wrong:
        y = y + x
    return y, s

shared = rnn(H=4)
bound = outer()

@model
def net(X=Input(T, N, D)):
    y, last = scan(bound, X)
    return y
"""
)


def test_an_error_leaves_nothing_behind(user: UserFile) -> None:
    module = user.module(SWITCH)
    before = module.net.graph(**SIZES)
    module.wrong.append(True)
    errors = []
    for _ in range(2):
        with pytest.raises(LstmcError) as caught:
            module.net.graph(**SIZES)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    with pytest.raises(LstmcError, match="dimension N must be at least 1"):
        module.net.graph(T=3, N=-1, D=5)
    module.wrong.clear()
    assert module.net.graph(**SIZES) == before


def test_a_trace_does_not_outlive_its_graph(user: UserFile) -> None:
    cell = RNN.replace("return h,", "kept.append(x)\n    return h,")
    module = user.module("kept = []\n" + cell + NET.format("rnn(H=4)"))
    graph = module.net.graph(**SIZES)
    trace = weakref.ref(module.kept.pop().trace)
    gc.collect()
    assert trace() is None
    assert len(graph) > 0


LEAK = """\
kept = []

@cell
def leaky(x=Input(N, D), h=State(N, D)):
    z = tanh(x)
    {before}
    kept.append(z)
    return z, {{"h": h + 0*x}}

@model
def net(X=Input(T, N, D)):
    y, last = scan(leaky(), X)
    return {returned}
"""
OUTSIDE = (
    "DslError: a value of {} is used outside the call that made it. Return it from there, or pass it on as an input,"
    " a state or a static input"
)


@pytest.mark.parametrize(
    ("returned", "start", "length"),
    [
        ("kept[0]", 0, 14),
        ("y + kept[0]", 7, 11),
        ("kept[0] * y", 7, 11),
        ("tanh(kept[0])", 7, 13),
        ("scan(leaky(), kept[0])", 21, 7),
        ("scan(leaky(), y, init=kept[0])", 24, 12),
        ("leaky()(kept[0], kept[0])", 7, 25),
        ("split(kept[0], 5)", 7, 17),
    ],
)
def test_a_value_of_a_body_cannot_leave_it_by_the_back_door(
    user: UserFile, returned: str, start: int, length: int
) -> None:
    assert user.refused(LEAK.format(before="pass", returned=returned)) == lines(
        OUTSIDE.format("cell 'leaky'"),
        f"  user.py:17:{start + 5} in model 'net'",
        f"    return {returned}",
        f"    {' ' * start}{'^' * length}",
    )


def test_a_value_of_one_body_cannot_enter_another(user: UserFile) -> None:
    code = LEAK.format(before="if kept: z = z + kept[0]", returned="scan(leaky(), X)[0]")
    assert user.refused(code) == lines(
        OUTSIDE.format("cell 'leaky'"),
        "  user.py:10:18 in cell 'leaky'",
        "    if kept: z = z + kept[0]",
        "                 ^^^^^^^^^^^",
        "  cell 'leaky' is scanned at user.py:17",
    )


def test_a_value_of_one_model_cannot_enter_another(user: UserFile) -> None:
    module = user.module(
        """\
        kept = []

        @model
        def first(X=Input(N, D)):
            kept.append(X)
            return X

        @model
        def second(X=Input(N, D)):
            return X + kept[0]
        """
    )
    module.first.graph(N=2, D=5)
    with pytest.raises(DslError) as caught:
        module.second.graph(N=2, D=5)
    assert str(caught.value) == lines(
        OUTSIDE.format("model 'first'"),
        "  user.py:14:12 in model 'second'",
        "    return X + kept[0]",
        "           ^^^^^^^^^^^",
    )


def test_a_model_called_in_the_body_of_another_does_not_get_its_values(user: UserFile) -> None:
    code = """\
        @model
        def inner(Z=Input(N, D)):
            return Z * shared[0]

        shared = []

        @model
        def net(X=Input(N, D)):
            shared.append(X)
            return inner.graph(N=2, D=5)
        """
    assert user.refused(code) == lines(
        OUTSIDE.format("model 'net'"),
        "  user.py:7:12 in model 'inner'",
        "    return Z * shared[0]",
        "           ^^^^^^^^^^^^^",
    )


def test_a_value_is_of_no_use_after_its_model_is_traced(user: UserFile) -> None:
    module = user.module("kept = []\n@model\ndef net(X=Input(N, D)):\n    kept.append(X)\n    return X\n")
    module.net.graph(N=2, D=5)
    (value,) = module.kept
    assert isinstance(value, Value)
    assert repr(value) == "<Value %X: f32[2,5]>"
    with pytest.raises(DslError) as caught:
        value + 1
    assert str(caught.value).startswith(OUTSIDE.format("model 'net'") + "\n")
