"""Code that has no file, or not the one it was read from: it works, and errors lose their carets only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lstmc import BoundCell
from lstmc.errors import LstmcError
from lstmc.ir import parse_graph, print_graph
from lstmc.ops import Param
from tests.dsl.conftest import NET, PREAMBLE, RNN, SIZES, UserFile, leaves


def executed(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "typed_in"}
    exec(compile(PREAMBLE + code, "<stdin>", "exec"), names)
    return names


def test_a_cell_typed_in_works() -> None:
    graph = executed(RNN + NET.format("rnn(H=4)"))["net"].graph(**SIZES)
    assert leaves(graph, Param) == {"rnn/W": (4, 5), "rnn/U": (4, 4)}
    assert [output.name for output in graph.outputs] == ["out"]  # the variable's name is not to be seen
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            RNN.replace("linear(h, U)", "linear(h, W)"),
            "ShapeError: linear: last axes differ: x is f32[2,4], w is f32[4,5]; w is [out, in]: w.T would fit\n"
            "  <stdin>:7:29 in cell 'rnn'\n"
            "  x is h: state [N, H], declared at <stdin>:6\n"
            "  w is W: parameter [H, D], declared at <stdin>:6\n"
            "  cell 'rnn' is scanned at <stdin>:12",
        ),
        (
            RNN.replace('return h, {"h": h}', "return h"),
            'DslError: a cell returns its output and its next states: expected `return y, {"h": ...}`, found one'
            " Value\n"
            "  <stdin>:5:1 in cell 'rnn'\n"
            "  cell 'rnn' is scanned at <stdin>:12",
        ),
        (
            RNN.replace("x=Input(N, D)", "x"),
            "DslError: argument x is not declared: expected x=Input(...), State(...), Param(...) or a default value"
            " that makes it an option\n"
            "  <stdin>:5:1 in cell 'rnn'",
        ),
    ],
    ids=["shapes", "return", "declaration"],
)
def test_its_errors_have_places_without_carets(code: str, text: str) -> None:
    with pytest.raises(LstmcError) as caught:
        executed(code + NET.format("rnn(H=4)"))["net"].graph(**SIZES)
    assert str(caught.value) == text


@pytest.mark.slow
def test_a_cell_typed_into_a_console_works(tmp_path: Path) -> None:
    """A real interactive interpreter, where neither spans nor files are to be had."""
    typed = f"{PREAMBLE}{RNN}\n{NET.format('rnn(H=4)').strip()}\n\nprint(net.graph(T=3, N=2, D=5))\nnet.graph(T=0)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHON_BASIC_REPL": "1"}
    ended = subprocess.run(
        [sys.executable, "-i"], input=typed, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert "<Graph net: 5 nodes>" in ended.stdout
    assert "dimension T must be at least 1, found 0 (given as T=0)" in ended.stderr


def test_a_file_that_is_gone_costs_the_caret_only(user: UserFile) -> None:
    net = user.module(RNN.replace("linear(h, U)", "linear(h, W)") + NET.format("rnn(H=4)")).net
    Path("user.py").unlink()
    with pytest.raises(LstmcError) as caught:
        net.graph(**SIZES)
    assert str(caught.value).splitlines()[:3] == [
        "ShapeError: linear: last axes differ: x is f32[2,4], w is f32[4,5]; w is [out, in]: w.T would fit",
        "  user.py:7:29 in cell 'rnn'",
        "  x is h: state [N, H], declared at user.py:6",
    ]


def test_a_file_edited_after_its_import_is_shown_as_it_is_now(user: UserFile) -> None:
    net = user.module(RNN.replace("linear(h, U)", "linear(h, W)") + NET.format("rnn(H=4)")).net
    for _ in range(2):  # the first error reads the file
        with pytest.raises(LstmcError) as caught:
            net.graph(**SIZES)
    Path("user.py").write_text("# all is new\n" * 12)
    with pytest.raises(LstmcError) as caught:
        net.graph(**SIZES)
    assert str(caught.value).splitlines()[1:3] == ["  user.py:7:29 in cell 'rnn'", "    # all is new"]


def test_the_users_own_exceptions_are_left_alone(user: UserFile) -> None:
    module = user.module(RNN.replace("linear(h, U)", "linear(h, UU)") + NET.format("rnn(H=4)"))
    for _ in range(2):
        with pytest.raises(NameError, match="name 'UU' is not defined"):
            module.net.graph(**SIZES)
    assert isinstance(module.rnn(H=4), BoundCell)
