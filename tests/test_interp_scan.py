"""Scans in the interpreter, against loops by hand and against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.interp import backward, forward
from lstmc.ir import Graph, parse_graph
from lstmc.ops import Array, Input, Param
from lstmc.testing import random_cotangents, random_leaves

T, N, D, H = 4, 3, 2, 5

ELMAN = """\
graph elman {
  %X: f32[4,3,2] = input()
  %s: f32[3,5] = input()
  %h0: f32[3,5] = input()
  %W: f32[5,2] = param()
  %U: f32[5,5] = param()
  %y, %h_T: f32[4,3,5], f32[3,5] = scan(%X, %h0, %s, %W, %U, length=4REVERSE) {
    body step {
      %x: f32[3,2] = arg()
      %h_prev: f32[3,5] = arg(role='state')
      %s: f32[3,5] = arg(role='static')
      %W: f32[5,2] = arg(role='weight')
      %U: f32[5,5] = arg(role='weight')
      %a: f32[3,5] = linear(%x, %W)
      %b: f32[3,5] = linear(%h_prev, %U)
      %c: f32[3,5] = add(%a, %b)
      %d: f32[3,5] = tanh(%c)
      %h: f32[3,5] = mul(%d, %s)
      return %d, next h=%h
    }
  }
  return y=%y, h_T=%h_T
}
"""
TWO_STATES = """\
graph two {
  %X: f32[4,3] = input()
  %Z: f32[4,3] = input()
  %a0: f32[3] = input()
  %b0: f32[3] = input()
  %y, %v, %a_T, %b_T: f32[4,3], f32[4,3], f32[3], f32[3] = scan(%X, %a0, %Z, %b0, length=4) {
    body step {
      %x: f32[3] = arg()
      %a: f32[3] = arg(role='state')
      %z: f32[3] = arg()
      %b: f32[3] = arg(role='state')
      %p: f32[3] = mul(%x, %b)
      %q: f32[3] = sub(%a, %z)
      return %p, v=%a, next a=%p, next b=%q
    }
    FIRST
  }
  return y=%y, v=%v, a_T=%a_T, b_T=%b_T
}
"""
FIRST_STEP = """first step {
      %x: f32[3] = arg()
      %a: f32[3] = arg(role='state')
      %z: f32[3] = arg()
      %b: f32[3] = arg(role='state')
      %p: f32[3] = exp(%z)
      return %x, v=%z, next a=%p, next b=%b
    }"""


def fed(graph: Graph) -> tuple[dict[str, Array], dict[str, Array]]:
    return random_leaves(graph, Input), random_leaves(graph, Param)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_the_loop_that_one_would_write(reverse: bool) -> None:
    graph = parse_graph(ELMAN.replace("REVERSE", ", reverse=True" if reverse else ""))
    inputs, params = fed(graph)
    h, expected = inputs["h0"], np.empty((T, N, H))
    for t in reversed(range(T)) if reverse else range(T):
        expected[t] = np.tanh(inputs["X"][t] @ params["W"].T + h @ params["U"].T)
        h = expected[t] * inputs["s"]
    found = forward(graph, inputs, params).outputs
    assert_allclose(found["y"], expected, rtol=1e-14)
    assert_allclose(found["h_T"], h, rtol=1e-14)


def test_states_go_on_by_their_own_names_and_sequences_by_time() -> None:
    graph = parse_graph(TWO_STATES.replace("    FIRST\n", ""))
    inputs, _ = fed(graph)
    a, b = inputs["a0"], inputs["b0"]
    ys, vs = [], []
    for x, z in zip(inputs["X"], inputs["Z"], strict=True):
        ys.append(x * b)
        vs.append(a)
        a, b = x * b, a - z
    found = forward(graph, inputs).outputs
    for name, expected in {"y": np.stack(ys), "v": np.stack(vs), "a_T": a, "b_T": b}.items():
        assert_array_equal(found[name], expected, name)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_step_that_runs_first_is_the_first_body(reverse: bool) -> None:
    text = TWO_STATES.replace("FIRST", FIRST_STEP).replace("length=4", f"length=4, reverse={reverse}")
    graph = parse_graph(text)
    inputs, _ = fed(graph)
    a, b = inputs["a0"], inputs["b0"]
    ys, order = np.empty((4, 3)), list(reversed(range(4))) if reverse else list(range(4))
    for t in order:
        x, z = inputs["X"][t], inputs["Z"][t]
        if t == order[0]:
            ys[t], a, b = x, np.exp(z), b
        else:
            ys[t], a, b = x * b, x * b, a - z
    found = forward(graph, inputs).outputs
    assert_array_equal(found["y"], ys)
    assert_array_equal(found["a_T"], a)
    assert_array_equal(found["b_T"], b)


DIFFERENTIATED = {
    "elman": ELMAN.replace("REVERSE", ""),
    "elman reversed": ELMAN.replace("REVERSE", ", reverse=True"),
    "two states": TWO_STATES.replace("    FIRST\n", ""),
    "first step": TWO_STATES.replace("FIRST", FIRST_STEP),
    "first step reversed": TWO_STATES.replace("FIRST", FIRST_STEP).replace("length=4", "length=4, reverse=True"),
}


@pytest.mark.parametrize("text", DIFFERENTIATED.values(), ids=DIFFERENTIATED)
def test_backward_equals_finite_differences(text: str) -> None:
    graph = parse_graph(text)
    inputs, params = fed(graph)
    cotangents = random_cotangents(graph)
    found = backward(forward(graph, inputs, params), cotangents)
    leaves = inputs | params

    def loss(changed: Mapping[str, Array]) -> float:
        outputs = forward(graph, leaves | changed, leaves | changed).outputs
        return float(sum(np.vdot(cotangents[name], value) for name, value in outputs.items()))

    for name, gradient in (found.inputs | found.params).items():
        assert gradient.shape == leaves[name].shape
        assert_allclose(gradient, differences(loss, name, leaves[name]), rtol=1e-6, atol=1e-8, err_msg=name)


def differences(loss: Callable[[Mapping[str, Array]], float], name: str, value: Array, step: float = 1e-6) -> Array:
    result = np.zeros_like(value)
    for index in np.ndindex(*value.shape):
        moved = np.zeros_like(value)
        moved[index] = step
        result[index] = (loss({name: value + moved}) - loss({name: value - moved})) / (2 * step)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_value_and_gradient_has_the_precision_asked_for(dtype: type) -> None:
    for text in DIFFERENTIATED.values():
        graph = parse_graph(text)
        inputs, params = fed(graph)
        run = forward(graph, inputs, params, dtype)
        found = backward(run, random_cotangents(graph))
        arrays = {**run.by_name(), **found.inputs, **found.params}
        assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(arrays, np.dtype(dtype))


def test_float32_is_close_to_float64() -> None:
    graph = parse_graph(DIFFERENTIATED["elman"])
    inputs, params = fed(graph)
    runs = [forward(graph, inputs, params, dtype) for dtype in (np.float32, np.float64)]
    assert_allclose(runs[0].outputs["y"], runs[1].outputs["y"], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(runs[0].outputs["y"], runs[1].outputs["y"])


def test_what_is_given_is_not_changed() -> None:
    graph = parse_graph(DIFFERENTIATED["two states"])
    inputs, _ = fed(graph)
    kept = {name: array.copy() for name, array in inputs.items()}
    cotangents = random_cotangents(graph)
    kept_cotangents = {name: array.copy() for name, array in cotangents.items()}
    backward(forward(graph, inputs), cotangents)
    for name, array in (kept | kept_cotangents).items():
        assert_array_equal((inputs | cotangents)[name], array)


def test_one_step_and_one_element_are_no_special_case() -> None:
    graph = parse_graph("""\
graph g {
  %X: f32[1,1,1] = input()
  %h0: f32[1,1] = full(value=2.0)
  %y, %h_T: f32[1,1,1], f32[1,1] = scan(%X, %h0, length=1) {
    body step {
      %x: f32[1,1] = arg()
      %h_prev: f32[1,1] = arg(role='state')
      %h: f32[1,1] = mul(%x, %h_prev)
      return %h, next h=%h
    }
  }
  return y=%y, h=%h_T
}
""")
    run = forward(graph, {"X": [[[3.0]]]})
    assert_array_equal(run.outputs["y"], [[[6.0]]])
    assert_array_equal(backward(run, {"y": [[[1.0]]], "h": [[2.0]]}).inputs["X"], [[[6.0]]])
