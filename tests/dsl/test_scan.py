"""``scan``: what it runs over, where states start, what it gives back, and how things are called."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from lstmc.ir import Graph, Scan
from lstmc.ops import Arg, Full, Leaf, Param
from tests.dsl.conftest import NET, RNN, UserFile, leaves, outputs, random_arrays

SUM = """\
@cell
def add(x=Input(N, D), h=State(N, D)):
    h = h + x
    return h, {"h": h}
"""
TWO = """\
@cell
def two(x=Input(N, D), z=Input(N, D), h=State(N, D), *, b=Param(D)):
    h = 0.5*h + x - 2*z + b
    return h, {"h": h}
"""


def net(body: str, inputs: str = "X=Input(T, N, D)") -> str:
    return f"\n@model\ndef net({inputs}):\n    {body}\n"


def scans(graph: Graph) -> list[Scan]:
    return [node.op for node in graph if isinstance(node.op, Scan)]


def computed(graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = random_arrays(graph)
    return outputs(graph, arrays), arrays


def test_it_gives_the_outputs_over_time_and_the_last_states(user: UserFile) -> None:
    found, arrays = computed(user.graph(SUM + net('y, last = scan(add(), X)\n    return {"y": y, "h": last["h"]}')))
    np.testing.assert_allclose(found["y"], np.cumsum(arrays["X"], axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found["h"], found["y"][-1])


def test_reverse_runs_from_the_last_step_and_keeps_places_in_time(user: UserFile) -> None:
    body = 'y, last = scan(add(), X, reverse=True)\n    return {"y": y, "h": last["h"]}'
    found, arrays = computed(user.graph(SUM + net(body)))
    np.testing.assert_allclose(found["y"], np.cumsum(arrays["X"][::-1], axis=0)[::-1], rtol=1e-12)
    np.testing.assert_array_equal(found["h"], found["y"][0])


@pytest.mark.parametrize("xs", ["(X, Z)", "[X, Z]", "{'z': Z, 'x': X}"])
def test_several_inputs_come_in_order_or_by_name(user: UserFile, xs: str) -> None:
    found, arrays = computed(
        user.graph(TWO + net(f"y, h = scan(two(), {xs})\n    return y", "X=Input(T, N, D), Z=Input(T, N, D)"))
    )
    h = np.zeros((2, 5))
    for x, z in zip(arrays["X"], arrays["Z"], strict=True):
        h = 0.5 * h + x - 2 * z + arrays["two/b"]
    np.testing.assert_allclose(found["y"][-1], h, rtol=1e-12)


@pytest.mark.parametrize("call", ["X, static={'z': Z}", "(X,), static={'z': Z}", "{'x': X}, static={'z': Z}"])
def test_a_static_input_is_the_same_at_every_step(user: UserFile, call: str) -> None:
    graph = user.graph(TWO + net(f"y, h = scan(two(), {call})\n    return y", "X=Input(T, N, D), Z=Input(N, D)"))
    found, arrays = computed(graph)
    h = np.zeros((2, 5))
    for x in arrays["X"]:
        h = 0.5 * h + x - 2 * arrays["Z"] + arrays["two/b"]
    np.testing.assert_allclose(found["y"][-1], h, rtol=1e-12)


@pytest.mark.parametrize("init", ["h0", "{'h': h0}", "2*h0 - h0"])
def test_init_gives_a_state_its_first_value(user: UserFile, init: str) -> None:
    body = f"y, last = scan(add(), X, init={init})\n    return y"
    found, arrays = computed(user.graph(SUM + net(body, "X=Input(T, N, D), h0=Input(N, D)")))
    np.testing.assert_allclose(found["y"], arrays["h0"] + np.cumsum(arrays["X"], axis=0), rtol=1e-12)


def test_a_state_without_init_starts_at_its_fill_or_at_zero(user: UserFile) -> None:
    graph = user.graph(
        """\
        @cell
        def count(x=Input(N, D), up=State(N, D, fill=constant(3)), down=State(N, D)):
            return (up, down), {"up": up + x, "down": down - x}

        @model
        def net(X=Input(T, N, D)):
            (up, down), last = scan(count(), X)
            return up, down
        """
    )
    starts = {node.name: node.op.value for node in graph if isinstance(node.op, Full)}
    assert starts == {"count/up_0": 3.0, "count/down_0": 0.0}
    found, _ = computed(graph)
    np.testing.assert_array_equal(found["down"][0], np.zeros((2, 5)))
    np.testing.assert_array_equal(found["up"][0], np.full((2, 5), 3.0))


def test_an_encoder_can_start_a_decoder(user: UserFile) -> None:
    body = """\
encoder, decoder = rnn(H=4, name="encoder"), rnn(H=4, name="decoder")
    _, last = scan(encoder, X)
    y, _ = scan(decoder, X, init=last)
    return y"""
    found, arrays = computed(user.graph(RNN + net(body)))
    h = np.zeros((2, 4))
    for name in ("encoder", "decoder"):
        for x in arrays["X"]:
            h = np.tanh(x @ arrays[f"{name}/W"].T + h @ arrays[f"{name}/U"].T)
    np.testing.assert_allclose(found["y"][-1], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("returned", "hidden", "seen", "names"),
    [
        ("(h, x)", "y[0]", "y[1]", ["rnn/0", "rnn/1"]),
        ("[h, x]", "y[0]", "y[1]", ["rnn/0", "rnn/1"]),
        ('{"hidden": h, "seen": x}', 'y["hidden"]', 'y["seen"]', ["rnn/hidden", "rnn/seen"]),
        ("h", "y", "X", ["rnn/y"]),
        ("None", "reshape(last['h'], 1, N, -1)", "X", []),
    ],
)
def test_step_outputs_come_back_in_the_form_the_step_returned(
    user: UserFile, returned: str, hidden: str, seen: str, names: list[str]
) -> None:
    code = RNN.replace("return h,", f"return {returned},")
    body = f'y, last = scan(rnn(H=4), X)\n    return {{"hidden": {hidden} * 1, "seen": {seen} * 1}}'
    graph = user.graph(code + net(body))
    (scan,) = [node for node in graph if isinstance(node.op, Scan)]
    assert scan.names == (*names, "rnn/h_T")
    found, arrays = computed(graph)
    h = np.zeros((2, 4))
    for x in arrays["X"]:
        h = np.tanh(x @ arrays["rnn/W"].T + h @ arrays["rnn/U"].T)
    np.testing.assert_allclose(found["hidden"][-1], h, rtol=1e-12)
    np.testing.assert_array_equal(found["seen"], arrays["X"])


def test_one_bound_cell_scanned_twice_shares_its_parameters(user: UserFile) -> None:
    body = """\
shared = rnn(H=4)
    y, _ = scan(shared, X)
    z, _ = scan(shared, Z)
    return y, z"""
    graph = user.graph(RNN + net(body, "X=Input(T, N, D), Z=Input(7, N, D)"))
    assert [*leaves(graph, Param)] == ["shared/W", "shared/U"]
    assert [scan.length for scan in scans(graph)] == [3, 7]
    assert [scan.body.name for scan in scans(graph)] == ["shared", "shared_2"]


def test_two_bound_cells_do_not_share(user: UserFile) -> None:
    body = "y, _ = scan(rnn(H=5), X)\n    z, _ = scan(rnn(H=5), y)\n    return z"
    assert [*leaves(user.graph(RNN + net(body)), Param)] == ["rnn/W", "rnn/U", "rnn_2/W", "rnn_2/U"]


def test_a_bound_cell_is_called_by_its_name_or_its_variable_or_its_cell(user: UserFile) -> None:
    body = """\
forward = rnn(H=4)
    a, _ = scan(forward, X)
    b, _ = scan(rnn(H=4, name="back"), X, reverse=True)
    c, _ = scan(rnn(H=4), X)
    d, _ = scan(rnn(H=4), X, name="top")
    return concat(a, b, c, d)"""
    graph = user.graph(RNN + net(body))
    assert [name for name in leaves(graph, Param) if name.endswith("W")] == ["forward/W", "back/W", "rnn/W", "rnn_2/W"]
    assert [scan.body.name for scan in scans(graph)] == ["forward", "back", "rnn", "top"]


def test_values_are_called_after_the_variables_they_are_assigned_to(user: UserFile) -> None:
    graph = user.graph(
        """\
        @cell
        def gated(x=Input(N, D), h=State(N, H), *, W=Param(2*H, D)):
            update, new = split(linear(x, W), 2)
            gate: Value = sigmoid(update)
            mixed = gate * h + (1 - gate) * tanh(new)
            h = mixed
            return h, {"h": h}

        @model
        def net(X=Input(T, N, D)):
            scaled = 2 * X
            y, last = scan(gated(H=4), scaled)
            return y
        """
    )
    (scan,) = scans(graph)
    names = [node.names for node in scan.body if not isinstance(node.op, Arg)]
    # h is the state's next value; without a variable a value is called after its op and its operands
    unnamed = [("mul_gate_h_prev",), ("affine_gate",), ("tanh_new",), ("mul_gate_new",)]
    assert names == [("linear_W",), ("update", "new"), ("gate",), *unnamed, ("h",)]
    assert [node.name for node in scan.body if isinstance(node.op, Arg)] == ["x", "h_prev", "gated/W"]
    assert "scaled" in graph


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("y = silu(X)", ["sigmoid_X", "y"]),  # the variable is the result's, not the first op's
        ("y = silu(X) + 1", ["sigmoid_X", "silu_X", "y"]),  # a function's result is called after the function
        (
            "y = X.sigmoid() % 2",
            [
                "sigmoid_X",
                "affine_X",
                "round_X",
                "affine_X_2",
                "sub_X",
                "affine_X_3",
                "stop_gradient_X",
                "relu_X",
                "affine_X_4",
                "tanh_X",
                "affine_X_5",
                "y",
            ],
        ),
        ("y = tanh(tanh(tanh(X)))", ["tanh_X", "tanh_X_2", "y"]),  # a chain does not make names longer
        ("a, b = split(X, [1, 4]); y = a * sigmoid(b[:, :1])", ["a", "b", "split_b", "split_b_2", "sigmoid_b", "y"]),
        ("y = tanh(X)\n    y = tanh(y)\n    y = tanh(y)", ["y_2", "y_3", "y"]),  # the output keeps its name
        (f"{'very_' * 7}long = X + 1\n    y = tanh({'very_' * 7}long) + 1", [f"{'very_' * 7}long", "tanh", "y"]),
        (
            "y = linear(X, V) * sigmoid(linear(X, transpose(V)))",
            ["linear_V", "transpose_V", "linear_V_2", "sigmoid_V", "y"],
        ),
    ],
)
def test_names_without_a_variable(user: UserFile, body: str, names: list[str]) -> None:
    graph = user.graph(f"""\
@model
def net(X=Input(N, D), V=Param(D, D)):
    {body}
    return y
""")
    assert [name for node in graph for name in node.names if not isinstance(node.op, Leaf)] == names


def test_a_states_next_value_is_called_by_the_states_name(user: UserFile) -> None:
    code = """\
        @cell
        def swap(x=Input(N, D), h=State(N, D), c=State(N, D)):
            h_new = tanh(h + x)
            c_new = sigmoid(c - x)
            return h_new * c_new, {"h": c_new, "c": h_new}
        """
    (scan,) = scans(user.graph(dedent(code) + NET.format("swap()")))
    results = {output.name: scan.body.value_name(output.ref) for output in scan.body.outputs}
    assert results == {"": "mul_h_new_c_new", "h": "h", "c": "c"}
    assert {node.name: node.op.name for node in scan.body if node.name in "hc"} == {"h": "sigmoid", "c": "tanh"}


def test_values_of_the_model_enter_a_body_as_static_arguments_and_parameters_as_weights(user: UserFile) -> None:
    graph = user.graph(
        """\
        @model
        def net(X=Input(T, N, D), S=Input(N, D), V=Param(D, D)):
            context = tanh(S)

            @cell
            def attend(x=Input(N, D), h=State(N, D)):
                h = linear(h, V) + x * context + context
                return h, {"h": h}

            y, last = scan(attend(), X)
            return y
        """
    )
    (scan,) = scans(graph)
    roles = {node.name: node.op.role for node in scan.body if isinstance(node.op, Arg)}
    assert roles == {"x": "x", "h_prev": "state", "V": "weight", "context": "static"}
    found, arrays = computed(graph)
    h = np.zeros((2, 5))
    context = np.tanh(arrays["S"])
    for x in arrays["X"]:
        h = h @ arrays["V"].T + x * context + context
    np.testing.assert_allclose(found["y"][-1], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "call", "shapes"),
    [
        ("X=Input(T, N, 3, 2, 2), h0=Input(N, 4)", "X, init=h0", {"rnn/W": (4, 12), "rnn/U": (4, 4)}),
        ("X=Input(T, N, 3), h0=Input(N, 2, 2)", "X, init=h0", {"rnn/W": (4, 3), "rnn/U": (4, 4)}),
    ],
)
def test_extra_trailing_axes_are_flattened_into_the_last_declared_one(
    user: UserFile, inputs: str, call: str, shapes: dict[str, Any]
) -> None:
    graph = user.graph(RNN + net(f"y, last = scan(rnn(), {call})\n    return y", inputs))
    assert leaves(graph, Param) == shapes
    found, arrays = computed(graph)
    h = arrays["h0"].reshape(2, 4)
    for x in arrays["X"].reshape(3, 2, -1):
        h = np.tanh(x @ arrays["rnn/W"].T + h @ arrays["rnn/U"].T)
    np.testing.assert_allclose(found["y"][-1], h, rtol=1e-12)


def test_a_scan_over_values_of_the_model_may_stand_in_a_helper_function(user: UserFile) -> None:
    graph = user.graph(
        RNN
        + """
def both(X, bound):
    y, _ = scan(bound, X)
    z, _ = scan(bound, X, reverse=True)
    return concat(y, z)

@model
def net(X=Input(T, N, D)):
    return both(X, rnn(H=4))
"""
    )
    assert [scan.reverse for scan in scans(graph)] == [False, True]
    assert [(output.name, str(graph.type(output.ref))) for output in graph.outputs] == [("out", "f32[3,2,8]")]
