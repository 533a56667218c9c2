"""``cont``, ``lengths``, ``length``, ``carry``, and first values without a batch: what each does to a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstmc.interp import backward, forward
from lstmc.ir import Graph, Ref
from lstmc.ops import Input, IntegerRange
from tests.dsl.conftest import UserFile, lines, random_arrays

STEPS, BATCH, WIDTH = 6, 4, 3
CELL = """\
@cell
def leaky(x=Input(N, D), h=State(N, D), c=State(N, D), *, U=Param(D, D)):
    c = 0.5*c + x
    h = tanh(linear(h, U) + c)
    return {"h": h, "sum": h + c}, {"h": h, "c": c}
"""


def net(call: str, inputs: str = "X=Input(T, N, D)", result: str = "{**y, **last}") -> str:
    return CELL + f"\n@model\ndef net({inputs}):\n    y, last = {call}\n    return {result}\n"


def stepped(x: np.ndarray, U: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c = 0.5 * c + x
    return np.tanh(h @ U.T + c), c


def graph_of(user: UserFile, code: str) -> Graph:
    return user.graph(code, T=STEPS, N=BATCH, D=WIDTH)


def run(graph: Graph, **given: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    arrays = random_arrays(graph) | given
    return forward(graph, arrays, arrays).outputs, arrays


def test_cont_multiplies_every_state_before_the_step(user: UserFile) -> None:
    code = net("scan(leaky(), X, cont=C)", "X=Input(T, N, D), C=Input(T, N)", '{"h": y["h"], "last": last["h"]}')
    cont = (np.random.default_rng(0).random((STEPS, BATCH)) > 0.4).astype(float)
    found, arrays = run(graph_of(user, code), C=cont)
    h = c = np.zeros((BATCH, WIDTH))
    for t in range(STEPS):
        h, c = stepped(arrays["X"][t], arrays["leaky/U"], h * cont[t][:, None], c * cont[t][:, None])
        np.testing.assert_allclose(found["h"][t], h, rtol=1e-12)
    np.testing.assert_allclose(found["last"], h, rtol=1e-12)


LENGTHS = np.array([6, 0, 1, 4])
MASKED = "X=Input(T, N, D), L=Input(N)"
OUTPUTS = '{"h": y["h"], "sum": y["sum"], "h_T": last["h"], "c_T": last["c"]}'


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_freeze_states_and_clear_outputs(user: UserFile, reverse: bool) -> None:
    call = f"scan(leaky(), X, lengths=L, reverse={reverse})"
    found, arrays = run(graph_of(user, net(call, MASKED, OUTPUTS)), L=LENGTHS)
    for n, length in enumerate(LENGTHS):
        h = c = np.zeros(WIDTH)
        for t in reversed(range(length)) if reverse else range(length):
            h, c = stepped(arrays["X"][t, n], arrays["leaky/U"], h, c)
            np.testing.assert_allclose(found["h"][t, n], h, rtol=1e-12)
            np.testing.assert_allclose(found["sum"][t, n], h + c, rtol=1e-12)
        np.testing.assert_array_equal(found["h"][length:, n], 0)
        np.testing.assert_array_equal(found["sum"][length:, n], 0)
        np.testing.assert_allclose(found["h_T"][n], h, rtol=1e-12)
        np.testing.assert_allclose(found["c_T"][n], c, rtol=1e-12)


@pytest.mark.parametrize("shape", ["N, D", "N"])
def test_a_cell_without_states_takes_masks_too(user: UserFile, shape: str) -> None:
    code = f"""\
@cell
def doubled(x=Input({shape})):
    return 2 * x, {{}}

@model
def net(X=Input(T, {shape}), L=Input(N), C=Input(T, N), v=Input(D)):
    return {{"y": scan(doubled(), X, lengths=L, cont=C)[0], "v": v}}
"""
    found, arrays = run(graph_of(user, code), L=LENGTHS, C=np.zeros((STEPS, BATCH)))
    there = np.arange(STEPS)[:, None] < LENGTHS
    np.testing.assert_allclose(found["y"].T, 2 * arrays["X"].T * there.T, rtol=1e-12)


def test_lengths_have_no_gradient_and_what_is_past_the_end_neither(user: UserFile) -> None:
    graph = graph_of(user, net("scan(leaky(), X, lengths=L)", MASKED, OUTPUTS))
    arrays = random_arrays(graph) | {"L": LENGTHS}
    done = forward(graph, arrays, arrays)
    cotangents = {name: np.random.default_rng(0).normal(size=value.shape) for name, value in done.outputs.items()}
    gradients = backward(done, cotangents).inputs
    np.testing.assert_array_equal(gradients["L"], 0)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(gradients["X"][length:, n], 0)
        assert np.all(gradients["X"][:length, n] != 0)


def test_scans_of_the_same_lengths_share_their_masks(user: UserFile) -> None:
    code = CELL + (
        "\n@model\ndef net(X=Input(T, N, D), L=Input(N)):\n    fore, _ = scan(leaky(), X, lengths=L)\n"
        '    back, _ = scan(leaky(), X, lengths=L, reverse=True)\n    return fore["h"], back["h"]\n'
    )
    names = [node.name for node in graph_of(user, code)]
    assert [name for name in names if name.startswith("steps_left") and "_T" not in name] == ["steps_left"]
    assert [name for name in names if name.startswith("valid")] == ["valid"]


def test_last_valid_is_the_value_at_each_end(user: UserFile) -> None:
    code = net("scan(leaky(), X)", MASKED, '{"s": y["sum"], "last": last_valid(y["sum"], L)}')
    found, _ = run(graph_of(user, code), L=LENGTHS)
    wanted = [found["s"][length - 1, n] if length else np.zeros(WIDTH) for n, length in enumerate(LENGTHS)]
    np.testing.assert_array_equal(found["last"], wanted)


def test_inputs_know_what_their_elements_must_be(user: UserFile) -> None:
    code = net(
        "scan(leaky(), X, lengths=reshape(L, N), cont=C)", "X=Input(T, N, D), L=Input(N, 1), C=Input(T, N)", OUTPUTS
    )
    inputs = {node.name: node.op.values for node in graph_of(user, code) if isinstance(node.op, Input)}
    assert inputs == {"X": None, "L": IntegerRange(0, STEPS), "C": IntegerRange(0, 1)}


@pytest.mark.parametrize(
    ("option", "returned", "message", "note"),
    [
        (
            "lengths=L",
            "reshape(h, 3, 4)",
            "lengths is for 4 sequences, but output of odd is f32[3,4]",
            "reshape(h, 3, 4)",
        ),
        ("cont=C", "h", "cont is for 4 sequences, but state s of odd is f32[2]", "s"),
    ],
)
def test_what_a_mask_multiplies_has_a_row_for_each_sequence(
    user: UserFile, option: str, returned: str, message: str, note: str
) -> None:
    code = f"""\
        @cell
        def odd(x=Input(N, D), h=State(N, D), s=State(2)):
            h = h + x
            return {returned}, {{"h": h, "s": s}}

        @model
        def net(X=Input(T, N, D), C=Input(T, N), L=Input(N)):
            y, last = scan(odd(), X, {option})
            return last["h"]
        """
    code = code if option == "cont=C" else code.replace(", s=State(2)", "").replace(', "s": s', "")
    told = user.refused(code, T=STEPS, N=BATCH, D=WIDTH)
    assert told.splitlines()[0] == f"ShapeError: {message}: expected [4, ...]"
    assert note in told


FREE = """\
@cell
def free(h=State(N, H), *, U=Param(H, H)):
    h = tanh(linear(h, U) + 0.1)
    return h, {"h": h}
"""


@pytest.mark.parametrize(
    ("call", "inputs"),
    [
        ("scan(free(), length=T, init=h0)", "h0=Input(N, H)"),
        ("scan(free(), None, length=T, init={'h': h0})", "h0=Input(N, H)"),
        ("scan(free(), length=T)", "h0=Input(N, H)"),
    ],
)
def test_a_cell_without_a_sequence_runs_for_length_steps(user: UserFile, call: str, inputs: str) -> None:
    bound = call.replace("free()", "free(N=N, H=H)")
    code = FREE + f"\n@model\ndef net({inputs}):\n    y, last = {bound}\n    return y\n"
    graph = user.graph(code, T=5, N=2, H=3)
    found, arrays = run(graph)
    (y,) = found.values()
    h = arrays["h0"] if "init" in call else np.zeros((2, 3))
    for t in range(5):
        h = np.tanh(h @ arrays["free/U"].T + 0.1)
        np.testing.assert_allclose(y[t], h, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "«scan(free(N=2, H=3))»",
            "DslError: cell 'free' runs over no sequence here: expected the number of steps, as in length=T",
        ),
        (
            "scan(free(N=2, H=3), «length=1.5»)",
            "DslError: length takes a positive integer or a dimension, found float 1.5",
        ),
        (
            "scan(free(N=2, H=3), «length=K»)",
            "DimError: dimension K has no size in model 'net', which has T: give it a size with K=SIZE",
        ),
    ],
)
def test_what_length_refuses(user: UserFile, call: str, message: str) -> None:
    before, marked, after = call.replace("«", "\0").replace("»", "\0").split("\0")
    line = f"    y, last = {before}{marked}{after}"
    code = FREE + f"\n@model\ndef net(X=Input(T)):\n{line}\n    return y\n"
    start = line.index(marked)
    assert user.refused(code, T=3) == lines(
        message, f"  user.py:12:{start + 1} in model 'net'", line, "    " + " " * (start - 4) + "^" * len(marked)
    )


def test_scan_without_a_model_is_refused(user: UserFile) -> None:
    refused = user.refused(FREE + "\nscan(free(N=2, H=3), length=4)\n")
    assert refused.splitlines()[0] == (
        "DslError: scan must be called in a model: expected a function with @model around it"
    )


def test_a_first_value_without_a_batch_is_repeated_along_it(user: UserFile) -> None:
    code = net("scan(leaky(), X, init={'h': h0})", "X=Input(T, N, D), h0=Param(D)", '{"h": y["h"]}')
    found, arrays = run(graph_of(user, code))
    zero = np.zeros((BATCH, WIDTH))
    h, _ = stepped(arrays["X"][0], arrays["leaky/U"], zero + arrays["h0"], zero)
    np.testing.assert_allclose(found["h"][0], h, rtol=1e-12)


def test_a_carried_state_has_a_name_that_no_output_has(user: UserFile) -> None:
    """Also where the user's own output is called so; one that is that very state is the one that is carried."""
    result = '{"cell/h_T": y["h"], "cell/c_T": last["c"]}'
    graph = graph_of(user, net("scan(leaky(name='cell'), X, carry=True)", result=result))
    assert [(o.name, graph.type(o.ref).shape, o.carried_to) for o in graph.outputs] == [
        ("cell/h_T", (STEPS, BATCH, WIDTH), None),
        ("cell/c_T", (BATCH, WIDTH), Ref("cell/c_0")),
        ("cell/h_T_2", (BATCH, WIDTH), Ref("cell/h_0")),
    ]


def test_carried_states_are_inputs_that_follow_outputs(user: UserFile) -> None:
    graph = graph_of(user, net("scan(leaky(name='cell'), X, carry=True)", result='{"h": y["h"]}'))
    inputs = [node.name for node in graph if isinstance(node.op, Input)]
    assert inputs == ["X", "cell/h_0", "cell/c_0"]
    assert {name: output.name for name, output in graph.carried().items()} == {
        "cell/h_0": "cell/h_T",
        "cell/c_0": "cell/c_T",
    }
    assert [output.name for output in graph.outputs] == ["h", "cell/h_T", "cell/c_T"]
    arrays = random_arrays(graph)
    arrays |= {name: np.zeros((BATCH, WIDTH)) for name in ("cell/h_0", "cell/c_0")}
    once = forward(graph, arrays, arrays).outputs
    carried = {name: once[output.name] for name, output in graph.carried().items()}
    twice = forward(graph, arrays | carried, arrays).outputs
    h, c = (once[f"cell/{state}_T"] for state in "hc")
    h, _ = stepped(arrays["X"][0], arrays["cell/U"], h, c)
    np.testing.assert_allclose(twice["h"][0], h, rtol=1e-12)
