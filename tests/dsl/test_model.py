"""Models: inputs, parameters, outputs by name, dimensions, and what a model refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmc.errors import DimError, DslError
from lstmc.ops import Input, Param
from tests.dsl.conftest import NET, RNN, UserFile, leaves, lines


def test_inputs_and_parameters_are_called_as_in_the_signature(user: UserFile) -> None:
    graph = user.graph(
        """\
        @model
        def net(X=Input(N, D), *, mask=Input(N, 1, fill=constant(1)), W=Param(H, D, lr_mult=2), scale=0.5):
            return linear(X, W) * mask * scale
        """,
        H=4,
    )
    assert leaves(graph, Input) == {"X": (2, 5), "mask": (2, 1)}
    assert leaves(graph, Param) == {"W": (4, 5)}


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ("y", ["y"]),
        ("(y, z)", ["y", "z"]),
        ("[y, z]", ["y", "z"]),
        ("y, last['h']", ["y", "h_T"]),
        ("last['h']", ["h_T"]),
        ("tanh(y)", ["out"]),
        ("tanh(y), z", ["out_0", "z"]),
        ("y, y", ["out_0", "out_1"]),
        ("list(map(tanh, (y, z)))", ["out_0", "out_1"]),
        ("{'a': y, 'b': z, 'again': y}", ["a", "b", "again"]),
        ("{'net.1/y-2': y}", ["net.1/y-2"]),
        ("last", ["h"]),
        ("X", ["X"]),
    ],
)
def test_outputs_are_called_by_the_dict_or_the_returned_variables(
    user: UserFile, returned: str, names: list[str]
) -> None:
    code = (
        f"\n@model\ndef net(X=Input(T, N, D)):\n    y, last = scan(rnn(H=4), X)\n    z = 2*y\n    return {returned}\n"
    )
    assert [output.name for output in user.graph(RNN + code).outputs] == names


def test_an_output_of_a_function_with_several_returns_is_called_as_its_value_is(user: UserFile) -> None:
    code = "@model\ndef net(X=Input(N, D), d=0):\n    y = tanh(X)\n    if d:\n        return X\n    return y * 1\n"
    assert [output.name for output in user.graph(code).outputs] == ["out"]
    assert [output.name for output in user.graph(code.replace("y * 1", "y")).outputs] == ["y"]


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("3", "int 3"),
        ("X, 3", "int 3 in it"),
        ("{'a': None}", "None in it"),
        (
            "scan(rnn(H=4), X)",
            "dict {'h': <Value %rnn/h_T: f32[2,4]>} in it: scan returns its outputs and the last states, as in"
            " y, last = scan(...)",
        ),
    ],
)
def test_a_model_returns_values(user: UserFile, returned: str, found: str) -> None:
    code = f"\n@model\ndef net(X=Input(T, N, D)):\n    return {returned}\n"
    assert user.refused(RNN + code) == lines(
        f"DslError: a model returns a Value, a tuple of Values or a dict of them by name, found {found}",
        "  user.py:12:5 in model 'net'",
        f"    return {returned}",
        f"    {'^' * (7 + len(returned))}",
    )


def test_a_model_without_a_return_is_marked_at_its_def(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(T, N, D)):\n    y = tanh(X)\n") == lines(
        "DslError: a model returns a Value, a tuple of Values or a dict of them by name, found None",
        "  user.py:6:1 in model 'net'",
        "    def net(X=Input(T, N, D)):",
        "    ^^^^^^^",
    )


@pytest.mark.parametrize("returned", ["{}", "()"])
def test_a_model_returns_something(user: UserFile, returned: str) -> None:
    assert user.refused(f"@model\ndef net(X=Input(T, N, D)):\n    return {returned}\n") == lines(
        "DslError: a model must return at least one Value, found none",
        "  user.py:7:5 in model 'net'",
        f"    return {returned}",
        "    ^^^^^^^^^",
    )


@pytest.mark.parametrize("name", ["'a b'", "''", "1", "'a,b'", "'%a'"])
def test_the_name_of_an_output_must_be_one_that_a_layer_can_have(user: UserFile, name: str) -> None:
    assert user.refused(f"@model\ndef net(X=Input(T, N, D)):\n    return {{{name}: X}}\n") == lines(
        "DslError: the name of a model's output must be a letter or _, then letters, digits and any of _ . / -,"
        f" found {name}",
        "  user.py:7:5 in model 'net'",
        f"    return {{{name}: X}}",
        f"    {'^' * (13 + len(name) - 1)}",
    )


# dimensions ----------------------------------------------------------------------------------------------------

BODIES = {
    "in a shape": "def net(X=Input(T, N, 2*D)):\n    return reshape(X, T*N, K)\n",
    "bound to a cell": "def net(X=Input(T, N, D)):\n    y, _ = scan(rnn(H=2*K), X)\n    return y\n",
    "in a bound cell of the module": "def net(X=Input(T, N, D)):\n    y, _ = scan(encoder, X)\n    return y\n",
    "in a list of them": "def net(X=Input(T, N, D)):\n    y, _ = scan(layers[0], X)\n    return y\n",
    "in a comprehension": "def net(X=Input(T, N, D)):\n    return [scan(rnn(H=K), X)[0] for _ in (0,)][0]\n",
    "in an attribute": "def net(X=Input(T, N, D)):\n    return scan(rnn(H=Config.size), X)[0]\n",
    "in a helper function": "def net(X=Input(T, N, D)):\n    return helper(X)\n",
    "in an inner function": "def net(X=Input(T, N, D)):\n    f = lambda: reshape(X, T, -1, K)\n    return f()\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_dimensions_of_a_model_are_those_it_declares_and_those_that_its_body_asks_for(
    user: UserFile, body: str
) -> None:
    before = (
        "encoder = rnn(H=K)\nlayers = [encoder]\nclass Config:\n    size = K\n"
        "def helper(X):\n    return scan(rnn(H=K), X)[0]\n\n"
    )
    net = user.module(RNN + before + "@model\n" + body).net
    assert net.graph(T=3, N=2, D=5, K=10).outputs
    with pytest.raises(DimError) as caught:
        net.graph(T=3, N=2, D=5, K=10, Q=1)
    assert caught.value.message == "unknown dimension Q: net has T, N, D, K"


def test_dimensions_may_be_local_to_the_function_that_makes_the_model(user: UserFile) -> None:
    module = user.module(
        RNN
        + """
def make():
    steps, size, unused = dims("steps size unused")
    layer = rnn(H=size)

    @model
    def net(X=Input(steps, N, D)):
        y, last = scan(layer, X)
        z, last = scan(rnn(H=size), X)
        return y, z

    return net
"""
    )
    net = module.make()
    assert str(net.graph(steps=3, N=2, D=5, size=4).outputs[0].name) == "y"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"Q": 3}, "unknown dimension Q: net has T, N, D"),
        ({"T": 0}, "dimension T must be at least 1, found 0 (given as T=0)"),
        ({"T": -1}, "dimension T must be at least 1, found -1 (given as T=-1)"),
        ({"T": 3.0}, "dimension T must be a positive integer, found float 3.0"),
        ({"T": "3"}, "dimension T must be a positive integer, found str '3'"),
        ({"T": True}, "dimension T must be a positive integer, found True"),
        ({"T": None}, "dimension T must be a positive integer, found None"),
    ],
)
def test_sizes_given_to_a_model_are_checked(user: UserFile, sizes: dict[str, Any], message: str) -> None:
    assert user.refused("@model\ndef net(X=Input(T, N, D)):\n    return X\n", **sizes) == lines(
        f"DimError: {message}",
        "  user.py:6:1 in model 'net'",
        "    def net(X=Input(T, N, D)):",
        "    ^^^^^^^",
    )


def test_a_model_without_dimensions_says_so(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(3, 2)):\n    return X\n", T=3).startswith(
        "DimError: unknown dimension T: net has none\n"
    )


def test_a_dimension_without_a_size_says_how_to_give_one(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(T, N, H)):\n    return X\n") == lines(
        "DimError: dimension H of input X [T, N, H] is not bound: give it a size with H=SIZE",
        "  user.py:6:11 in model 'net'",
        "    def net(X=Input(T, N, H)):",
        "              ^^^^^^^^^^^^^^",
        "  for example H=64",
    )


def test_a_size_under_a_wrong_name_is_told_where_the_right_one_is_missing(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(T, N, H)):\n    return X\n", hidden=5) == lines(
        "DimError: dimension H of input X [T, N, H] is not bound: give it a size with H=SIZE",
        "  user.py:6:11 in model 'net'",
        "    def net(X=Input(T, N, H)):",
        "              ^^^^^^^^^^^^^^",
        "  for example H=64",
        "  sizes that were given, and not used until here: hidden",
    )


def test_a_shape_that_comes_to_nothing_says_why(user: UserFile) -> None:
    assert user.refused("@model\ndef net(X=Input(N, D - 5)):\n    return X\n") == lines(
        "DimError: D - 5 of input X [N, D - 5] must be at least 1, found 0 (D is 5, given as D=5)",
        "  user.py:6:11 in model 'net'",
        "    def net(X=Input(N, D - 5)):",
        "              ^^^^^^^^^^^^^^^",
    )


def test_sizes_may_be_numpys(user: UserFile) -> None:
    net = user.module(RNN + NET.format("rnn(H=4)")).net
    assert net.graph(T=np.int32(3), N=np.int64(2), D=5) == net.graph(T=3, N=2, D=5)


def test_one_step_one_example_one_unit_and_long_sequences_trace(user: UserFile) -> None:
    net = user.module(RNN + NET.format("rnn(H=H)")).net
    assert len(net.graph(T=1, N=1, D=1, H=1)) == len(net.graph(T=5000, N=1, D=1, H=1))


@pytest.mark.parametrize(
    ("delays", "text"),
    [
        ("{'y': -1}", "delays= has the steps by which outputs are late, as in {\"y\": 2}, found {'y': -1}"),
        ("3", 'delays= has the steps by which outputs are late, as in {"y": 2}, found 3'),
        ("{'x': 1}", "delays= names x: the outputs of net are y"),
    ],
)
def test_delays_are_steps_of_outputs(user: UserFile, delays: str, text: str) -> None:
    with pytest.raises(DslError) as caught:
        user.graph(f"\n@model(delays={delays})\ndef net(X=Input(T, D)):\n    return {{'y': tanh(X)}}\n")
    assert caught.value.message == text
    assert "in model 'net'" in str(caught.value)


def test_a_step_returns_more_than_its_states(user: UserFile) -> None:
    with pytest.raises(DslError) as caught:
        user.graph('\n@model(states={"h": "y"})\ndef net(x=Input(D), h=Input(D)):\n    return {"y": x + h}\n')
    assert caught.value.message == (
        "net returns next values of states alone: return a result too, which may be the same value under another name,"
        ' as in {"result": y, "y": y}'
    )
    user.graph(
        '\n@model(states={"h": "y"})\ndef net(x=Input(D), h=Input(D)):\n    return {"result": x + h, "y": x + h}\n'
    )


STEP = (
    "\n@model(states={})\ndef net(x=Input(D), h=Input(D), g=Input(2)):\n"
    "    return {{'y': h * x, 'h_next': tanh(h + x), 'z': g}}\n"
)


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ("3", 'states= has the next value of each state, an output, as in {"h": "h_next"}, found 3'),
        (
            "{'h': 'h_next', 'x': 'h_next'}",
            "states= has the next value of each state, an output, as in {\"h\": \"h_next\"}, found {'h': 'h_next', 'x':"
            " 'h_next'}",
        ),
        ("{'hh': 'h_next'}", "states= names hh: did you mean h?"),
        ("{'h': 'last'}", "states= names last: the outputs of net are y, h_next, z"),
        ("{'h': 'z'}", "state h is f32[3]: expected z, its next value, to be the same, found f32[2]"),
    ],
)
def test_states_of_a_step_are_inputs_with_outputs_of_their_shapes(user: UserFile, states: str, text: str) -> None:
    with pytest.raises(DslError) as caught:
        user.module(STEP.format(states)).net.graph(D=3)
    assert caught.value.message == text
    assert "in model 'net'" in str(caught.value)
