"""Cells called in other cells: who shares parameters with whom, whose sizes they see, and what a call refuses."""

from __future__ import annotations

import numpy as np
import pytest

import lstmc
from lstmc.ops import Param
from tests.dsl.conftest import NET, RNN, UserFile, leaves, lines, outputs, random_arrays

STACK = """\
{before}
@cell
def stack(x=Input(N, D), a=State(N, D), b=State(N, D)):
    {bound}
    y, next_a = {first}(x, h=a)
    y, next_b = {second}(y, b)
    return y, {{"a": next_a["h"], "b": next_b["h"]}}

@model
def net(X=Input(T, N, D)):
    y, last = scan(stack(), X)
    return y
"""


@pytest.mark.parametrize(
    ("before", "bound", "first", "second", "params"),
    [
        ("layer = rnn(H=5)", "pass", "layer", "layer", {"layer/W", "layer/U"}),
        ("", "layer = rnn(H=D)", "layer", "layer", {"layer/W", "layer/U"}),
        ("", "layers = [rnn(H=D), rnn(H=D)]", "layers[0]", "layers[1]", {"rnn/W", "rnn/U", "rnn_2/W", "rnn_2/U"}),
        ("low = rnn(H=5); high = rnn(H=5)", "pass", "low", "high", {"low/W", "low/U", "high/W", "high/U"}),
        ("", "pass", "rnn(H=D, name='low')", "rnn(H=D, name='top.1')", {"low/W", "low/U", "top.1/W", "top.1/U"}),
    ],
    ids=["one object", "one object made in the body", "two objects", "two variables", "two names"],
)
def test_one_bound_object_shares_its_parameters_and_two_do_not(
    user: UserFile, before: str, bound: str, first: str, second: str, params: set[str]
) -> None:
    graph = user.graph(RNN + STACK.format(before=before, bound=bound, first=first, second=second))
    assert set(leaves(graph, Param)) == params
    names = sorted({name.partition("/")[0] for name in params}, key=lambda name: name in ("rnn_2", "high", "top.1"))
    arrays = random_arrays(graph)
    a = b = np.zeros((2, 5))
    for x in arrays["X"]:
        a = np.tanh(x @ arrays[f"{names[0]}/W"].T + a @ arrays[f"{names[0]}/U"].T)
        b = np.tanh(a @ arrays[f"{names[-1]}/W"].T + b @ arrays[f"{names[-1]}/U"].T)
    np.testing.assert_allclose(outputs(graph, arrays)["y"][-1], b, rtol=1e-12)


def test_a_cell_made_in_a_body_stays_one_when_the_body_is_scanned_twice(user: UserFile) -> None:
    graph = user.graph(
        RNN
        + """
def block(x, h, size):
    return rnn(H=size)(x, h=h)

@cell
def stack(x=Input(N, D), a=State(N, D), b=State(N, D)):
    y, low = block(x, a, D)
    y, high = block(y, b, D)
    return y, {"a": low["h"], "b": high["h"]}

@model
def net(X=Input(T, N, D), Z=Input(7, N, D)):
    shared = stack()
    y, last = scan(shared, X)
    z, last = scan(shared, Z)
    other, last = scan(stack(), Z)
    return y, z, other
"""
    )
    assert [*leaves(graph, Param)] == [f"rnn{n}/{p}" for n in ("", "_2", "_3", "_4") for p in ("W", "U")]


def test_a_size_bound_in_a_body_is_the_enclosing_cells_own(user: UserFile) -> None:
    graph = user.graph(
        RNN
        + """
@cell
def wide(x=Input(N, D), h=State(N, H)):
    y, following = rnn(H=H)(x, h)
    return y, following

@model
def net(X=Input(T, N, D), Z=Input(T, N, H)):
    y, last = scan(wide(H=6), X)
    z, last = scan(rnn(H=H), Z)
    return y, z
""",
        H=3,
    )
    assert leaves(graph, Param) == {"rnn/W": (6, 5), "rnn/U": (6, 6), "rnn_2/W": (3, 3), "rnn_2/U": (3, 3)}


def test_a_bound_cell_can_be_one_step_of_a_model(user: UserFile) -> None:
    graph = user.graph(
        RNN
        + """
@model
def net(x=Input(N, D), h=Input(N, 4)):
    first = rnn(H=4)
    y, following = first(x, h)
    y, following = first(x, h=following["h"])
    return y
"""
    )
    arrays = random_arrays(graph)
    h = arrays["h"]
    for _ in range(2):
        h = np.tanh(arrays["x"] @ arrays["first/W"].T + h @ arrays["first/U"].T)
    np.testing.assert_allclose(outputs(graph, arrays)["y"], h, rtol=1e-12)


CALLER = """
@cell
def outer(x=Input(N, D), h=State(N, 4)):
    y, s = {call}
    return y, s

@model
def net(X=Input(T, N, D)):
    y, last = scan(outer(), X)
    return y
"""
EXPECTED = "DslError: rnn takes x, h: expected rnn(...)(x, h=h), found {} by position and {} by name"


@pytest.mark.parametrize(
    ("marked", "message", "notes"),
    [
        ("«rnn(H=4)(x)»", EXPECTED.format(1, "none"), ()),
        ("«rnn(H=4)(x, g=h)»", EXPECTED.format(1, "g"), ()),
        ("«rnn(H=4)(x, h, h)»", EXPECTED.format(3, "none"), ()),
        ("«rnn(H=4)(x, x=x)»", EXPECTED.format(1, "x"), ()),
        ("«rnn(H=4)()»", EXPECTED.format(0, "none"), ()),
        ("rnn(H=4)(x, «0»)", "DslError: h of cell 'rnn' must be a Value, found int 0", ()),
        ("rnn(H=4)(x, «h=None»)", "DslError: h of cell 'rnn' must be a Value, found None", ()),
        (
            "«rnn(H=3)(x, h)»",
            "DimError: dimension H is 3 (bound by rnn(H=3) at user.py:12) and 4 (from h, which is f32[2,4])",
            (
                "h of cell 'rnn': state [N, H], declared at user.py:6",
                "given h: state [N, 4], declared at user.py:11",
            ),
        ),
        (
            "«rnn(H=4)(x, split(h, 2)[0] * 2)»",
            "DimError: dimension H is 4 (bound by rnn(H=4) at user.py:12) and 2 (from h, which is f32[2,2])",
            (
                "h of cell 'rnn': state [N, H], declared at user.py:6",
                "given split(h, 2)[0] * 2: f32[2,2], made at user.py:12",
            ),
        ),
        (
            "rnn(«H=K»)(x, h)",
            "DimError: dimension K of rnn(H=K) has no size: cell 'outer' has N, D. Write rnn(H=SIZE), or give the"
            " model's K a size with K=SIZE",
            (),
        ),
    ],
)
def test_what_a_call_in_a_body_refuses(user: UserFile, marked: str, message: str, notes: tuple[str, ...]) -> None:
    start, end = marked.index("«"), marked.index("»") - 1
    call = marked.replace("«", "").replace("»", "")
    assert user.refused(RNN + CALLER.format(call=call)) == lines(
        message,
        f"  user.py:12:{start + 12} in cell 'outer'",
        f"    y, s = {call}",
        f"    {' ' * (start + 7)}{'^' * (end - start)}",
        *(f"  {note}" for note in notes),
        "  cell 'outer' is scanned at user.py:17",
    )


def test_an_error_in_a_called_cell_is_at_its_own_line_and_names_the_way_there(user: UserFile) -> None:
    code = RNN.replace("linear(h, U)", "linear(h, W)") + CALLER.format(call="rnn(H=4)(x, h)")
    assert user.refused(code) == lines(
        "ShapeError: linear: last axes differ: x is f32[2,4], w is f32[4,5]; w is [out, in]: w.T would fit",
        "  user.py:7:29 in cell 'rnn'",
        "    h = tanh(linear(x, W) + linear(h, W))",
        "                            ^^^^^^^^^^^^",
        "  x is h: state [N, 4], declared at user.py:11",
        "  w is W: parameter [H, D], declared at user.py:6",
        "  cell 'rnn' is called at user.py:12",
        "  cell 'outer' is scanned at user.py:17",
    )


def test_an_error_in_a_library_cell_shows_the_library_line_and_the_users(user: UserFile) -> None:
    code = """\
        from lstmc.cells import gru

        @cell
        def outer(x=Input(N, D), h=State(N, 4)):
            y, s = gru(H=4)(x, reshape(h, N, 2, 2))
            return y, {"h": reshape(y, N, 2, 2)}

        @model
        def net(X=Input(T, N, D)):
            y, last = scan(outer(), X)
            return y
        """
    assert user.refused(code) == lines(
        "ShapeError: state h is f32[2,4], its next value is f32[2,2,2]",
        "  user.py:10:5 in cell 'outer'",
        '    return y, {"h": reshape(y, N, 2, 2)}',
        "    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  h: state [N, 4], declared at user.py:8",
        "  next h is reshape(y, N, 2, 2): f32[2,2,2], made at user.py:10",
        "  cell 'outer' is scanned at user.py:14",
    )


def test_a_cell_that_calls_itself_is_refused(user: UserFile) -> None:
    code = RNN.replace("tanh(linear(x, W) + linear(h, U))", "again(x, h)[0]") + "again = rnn(H=4)\n"
    assert user.refused(code + NET.format("again")) == lines(
        "DslError: cell 'rnn' calls itself: a step is traced to its end, so it cannot contain itself",
        "  user.py:7:9 in cell 'rnn'",
        "    h = again(x, h)[0]",
        "        ^^^^^^^^^^^",
        "  cell 'rnn' is scanned at user.py:13",
    )


def test_a_cell_without_arguments_cannot_be_called(user: UserFile) -> None:
    code = """\
        @cell
        def weights(*, W=Param(H)):
            return W, {}

        @model
        def net(X=Input(T, N, D)):
            y, s = weights(H=4)()
            return y
        """
    assert user.refused(code) == lines(
        "DslError: cell 'weights' has no input and no state: there is nothing to call it on",
        "  user.py:11:12 in model 'net'",
        "    y, s = weights(H=4)()",
        "           ^^^^^^^^^^^^^^",
    )


@pytest.mark.slow
def test_how_deep_cells_may_be_nested(user: UserFile) -> None:
    def nested(count: int) -> str:
        cells = [RNN.replace("rnn", "c0"), "k0 = c0(H=4)\n"]
        for number in range(1, count):
            inner = f"tanh(linear(x, W) + k{number - 1}(x, h)[0])"
            cells += [
                RNN.replace("rnn", f"c{number}").replace("tanh(linear(x, W) + linear(h, U))", inner),
                f"k{number} = c{number}(H=4)\n",
            ]
        return "".join(cells) + NET.format(f"k{count - 1}")

    assert len(user.graph(nested(200))) > 0
    said = user.refused(nested(500)).splitlines()
    assert said[0] == "DslError: expected at most 200 cells one inside the other, found more"
    assert said[1].endswith("in cell 'c300'")
    assert len(said) < 20


def test_a_state_may_be_called_self() -> None:
    @lstmc.cell
    def inner(x=lstmc.Input(2, 3), self=lstmc.State(2, 3)):  # type: ignore[no-untyped-def]
        self = lstmc.tanh(x + self)
        return self, {"self": self}

    @lstmc.cell
    def outer(x=lstmc.Input(2, 3), self=lstmc.State(2, 3)):  # type: ignore[no-untyped-def]
        return inner()(x, self=self)

    @lstmc.model
    def net(X=lstmc.Input(4, 2, 3)):  # type: ignore[no-untyped-def]
        return lstmc.scan(outer(), X)[0]

    assert [output.name for output in net.graph().outputs] == ["out"]
