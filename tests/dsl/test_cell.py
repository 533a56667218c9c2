"""Cells: binding sizes, options and fillers."""

from __future__ import annotations

import numpy as np
import pytest

from lstmc.cells import lstm
from lstmc.ir import Scan
from lstmc.ops import Param
from tests.dsl.conftest import NET, RNN, UserFile, leaves, lines, outputs, random_arrays


def test_a_cell_tells_its_arguments_and_dimensions() -> None:
    assert (lstm.name, lstm.dims) == ("lstm", ["N", "D", "H"])
    assert ([*lstm.inputs], [*lstm.states], [*lstm.params]) == (["x"], ["h", "c"], ["W_x", "b", "W_h"])
    assert (lstm.__doc__ or "").startswith("c' = sigmoid(f) c")


def test_sizes_may_be_python_and_numpy_whole_numbers(user: UserFile) -> None:
    wanted = {"rnn/W": (4, 5), "rnn/U": (4, 4)}
    assert leaves(user.graph(RNN + NET.format("rnn(H=4)")), Param) == wanted
    assert leaves(user.graph(RNN + NET.format("rnn(H=np.int64(4))")), Param) == wanted


def test_a_parameter_can_be_bound_to_another_filler_and_keeps_its_multipliers(user: UserFile) -> None:
    graph = user.graph(
        """\
        @cell
        def affine(x=Input(N, D), *, W=Param(H, D, fill=xavier(), lr_mult=2), b=Param(H, decay_mult=0)):
            return linear(x, W, b), {}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(affine(H=5, W=gaussian(0, 0.1), b=constant(1)), X)
            return y
        """
    )
    ops = {node.name: node.op for node in graph}
    assert repr(ops["affine/W"]) == "Param(shape=(5, 5), fill=gaussian(0, 0.1), lr_mult=2.0, decay_mult=1.0)"
    assert repr(ops["affine/b"]) == "Param(shape=(5,), fill=constant(1), lr_mult=1.0, decay_mult=0.0)"


OPTION = """\
@cell
def step(x=Input(N, D), h=State(N, D), *, W=Param(D, D), activation=tanh, leak=0.5, residual=False):
    z = activation(linear(h, W) + x)
    h = leak * h + (1 - leak) * (z + x if residual else z)
    return h, {"h": h}
"""


@pytest.mark.parametrize(
    ("bound", "ops"),
    [
        ("step()", {"tanh"}),
        ("step(activation=relu)", {"relu"}),
        ("step(activation=lambda z: log(exp(z) + 1), leak=0.1)", {"exp", "log"}),
    ],
)
def test_an_argument_that_is_no_declaration_is_an_option(user: UserFile, bound: str, ops: set[str]) -> None:
    graph = user.graph(OPTION + NET.format(bound))
    (scan,) = [node.op for node in graph if isinstance(node.op, Scan)]
    assert {node.op.name for node in scan.body} - {"arg", "linear", "add", "affine"} == ops


def test_an_option_may_choose_with_if_because_python_decides_it_while_tracing(user: UserFile) -> None:
    plain, residual = (user.graph(OPTION + NET.format(bound)) for bound in ("step()", "step(residual=True)"))
    arrays = random_arrays(plain)
    x, w = arrays["X"], arrays["step/W"]
    for graph, skip in ((plain, 0), (residual, 1)):
        h = np.zeros((2, 5))
        for t in range(3):
            h = 0.5 * h + 0.5 * (np.tanh(h @ w.T + x[t]) + skip * x[t])
        np.testing.assert_allclose(outputs(graph, arrays)["y"][-1], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("bound", "start", "length", "text"),
    [
        (
            "rnn(H=4, G=3)",
            9,
            3,
            "DimError: rnn has no dimension, option or parameter G; it has dimensions N, D, H; parameters W, U",
        ),
        (
            "rnn(x=3)",
            4,
            3,
            "DimError: rnn has no dimension, option or parameter x; it has dimensions N, D, H; parameters W, U",
        ),
        (
            "rnn(units=3)",
            4,
            7,
            "DimError: rnn has no dimension, option or parameter units: write H=; it has dimensions N, D, H;"
            " parameters W, U",
        ),
        ("rnn(H=2.5)", 4, 5, "DimError: rnn(H=...) takes a positive integer or a dimension, found float 2.5"),
        ("rnn(H=0)", 4, 3, "DimError: rnn(H=...) takes a positive integer or a dimension, found int 0"),
        ("rnn(H='4')", 4, 5, "DimError: rnn(H=...) takes a positive integer or a dimension, found str '4'"),
        ("rnn(H=True)", 4, 6, "DimError: rnn(H=...) takes a positive integer or a dimension, found True"),
        (
            "rnn(H=4, W='0.1')",
            9,
            7,
            "DslError: rnn(W=...) takes a filler for the parameter, such as uniform(-0.1, 0.1), found str '0.1'",
        ),
        ("rnn(4)", 0, 6, "DslError: sizes are given by name: expected rnn(H=...), found int 4"),
        (
            "rnn(X)",
            0,
            6,
            "DslError: cell 'rnn' has no sizes yet: write rnn(H=...) first, and call what that returns, as in"
            " rnn(H=...)(x, h), or scan it in a model",
        ),
        (
            "rnn(H=4, name='a b')",
            9,
            10,
            "DslError: the name of a bound cell must be a letter or _, then letters, digits and any of _ . / -,"
            " found 'a b'",
        ),
    ],
)
def test_what_binding_refuses(user: UserFile, bound: str, start: int, length: int, text: str) -> None:
    assert user.refused(RNN + NET.format(bound)) == lines(
        text,
        f"  user.py:12:{20 + start} in model 'net'",
        f"    y, last = scan({bound}, X)",
        f"    {' ' * (15 + start)}{'^' * length}",
    )


def test_options_are_named_among_what_can_be_bound(user: UserFile) -> None:
    assert user.refused(OPTION + NET.format("step(leek=1)")).startswith(
        "DimError: step has no dimension, option or parameter leek: did you mean leak?; it has dimensions N, D;"
        " options activation, leak, residual;"
        " parameters W\n"
    )
