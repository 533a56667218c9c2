"""The interpreter, whose word everything else is held against. (Scans: ``test_interp_scan.py``.)"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lstmc.errors import InterpreterError
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Ref, parse_graph
from lstmc.ops import Array, Values

SQUARE = parse_graph("""\
graph square {
  %x: f32[2,3] = input()
  %c: f32[3] = input(fill=uniform(0.0, 1.0))
  %W: f32[2,3] = param()
  %unused: f32[4] = param()
  %y: f32[2,3] = mul(%x, %x)
  %half: f32[] = full(value=0.5)
  %z: f32[2,3] = mul(%y, %half)
  %left, %right: f32[2,1], f32[2,2] = split(%W, axis=1, sizes=(1, 2))
  return z=%z, W=%W, x=%x, right=%right, again=%right
}
""")
SQUARE_PARAMS = {"W": np.ones((2, 3)), "unused": np.zeros(4)}


def test_gradients_of_all_readers_add_up() -> None:
    x = np.arange(6.0).reshape(2, 3)
    run = forward(SQUARE, {"x": x}, SQUARE_PARAMS)
    ct = np.full((2, 3), 2.0)
    found = backward(run, {"z": ct, "x": ct, "W": ct, "right": np.ones((2, 2)), "again": np.ones((2, 2))})
    assert_array_equal(found.inputs["x"], 2 * x + 2)
    assert_array_equal(found.params["W"], [[2, 4, 4], [2, 4, 4]])


def test_gradients_are_zero_where_nothing_flows() -> None:
    run = forward(SQUARE, {"x": np.ones((2, 3))}, SQUARE_PARAMS)
    found = backward(run, {"z": np.ones((2, 3))})
    assert set(found.inputs) == {"x", "c"}
    assert set(found.params) == {"W", "unused"}
    for array, shape in ((found.inputs["c"], (3,)), (found.params["W"], (2, 3)), (found.params["unused"], (4,))):
        assert_array_equal(array, np.zeros(shape))
    assert_array_equal(backward(run, {}).inputs["x"], np.zeros((2, 3)))


def test_every_value_can_be_read_by_name() -> None:
    run = forward(SQUARE, {"x": np.full((2, 3), 3.0)}, SQUARE_PARAMS)
    named = run.by_name()
    assert set(named) == {"x", "c", "W", "unused", "y", "half", "z", "left", "right"}
    assert_array_equal(named["y"], np.full((2, 3), 9.0))
    assert_array_equal(run.values[Ref("left", 1)], named["right"])
    assert list(run.outputs) == ["z", "W", "x", "right", "again"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_value_and_gradient_has_the_precision_asked_for(dtype: type) -> None:
    run = forward(SQUARE, {"x": np.ones((2, 3))}, SQUARE_PARAMS, dtype)
    found = backward(run, {"z": np.ones((2, 3))})
    arrays = {**run.by_name(), **found.inputs, **found.params}
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(arrays, np.dtype(dtype))


def test_a_filled_input_is_drawn_unless_it_is_given() -> None:
    x = np.zeros((2, 3))

    def c(**given: object) -> Array:
        return forward(SQUARE, {"x": x, **given}, SQUARE_PARAMS).by_name()["c"]

    assert_array_equal(c(c=[1, 2, 3]), [1.0, 2.0, 3.0])
    assert_array_equal(c(), c())
    assert (c() >= 0).all()
    assert (c() <= 1).all()
    assert_array_equal(c(), named_rng(0, "c").uniform(0, 1, 3))
    other = forward(SQUARE, {"x": x}, SQUARE_PARAMS, seed=1).by_name()["c"]
    assert not np.array_equal(other, c())


def test_random_streams_differ_by_name_and_seed_alone() -> None:
    draws = [named_rng(seed, name).integers(2**62) for seed in (0, 1) for name in ("a", "b")]
    assert len(set(draws)) == 4
    assert named_rng(1, "b").integers(2**62) == draws[3]


@pytest.mark.parametrize(
    ("inputs", "params", "text"),
    [
        ({}, SQUARE_PARAMS, "input x is not given: expected f32[2,3]"),
        ({"x": np.ones((3, 2))}, SQUARE_PARAMS, "input x has the wrong shape: expected f32[2,3], found f32[3,2]"),
        ({"x": 1.0}, SQUARE_PARAMS, "input x has the wrong shape: expected f32[2,3], found f32[]"),
        (
            {"x": np.ones((2, 3)), "c": [1.0]},
            SQUARE_PARAMS,
            "input c has the wrong shape: expected f32[3], found f32[1]",
        ),
        ({"x": np.ones((2, 3))}, {"W": np.ones((2, 3))}, "parameter unused is not given: expected f32[4]"),
        (
            {"x": np.ones((2, 3))},
            SQUARE_PARAMS | {"W": np.ones(6)},
            "parameter W has the wrong shape: expected f32[2,3], found f32[6]",
        ),
    ],
)
def test_what_is_missing_or_misshapen_is_named(inputs: dict[str, object], params: dict[str, object], text: str) -> None:
    with pytest.raises(InterpreterError) as caught:
        forward(SQUARE, inputs, params)
    assert caught.value.message == text


def test_a_misshapen_cotangent_is_named() -> None:
    run = forward(SQUARE, {"x": np.ones((2, 3))}, SQUARE_PARAMS)
    with pytest.raises(InterpreterError) as caught:
        backward(run, {"z": np.ones((3, 2))})
    assert caught.value.message == "cotangent z has the wrong shape: expected f32[2,3], found f32[3,2]"


def test_infinities_and_nan_are_values() -> None:
    graph = parse_graph("""\
graph g {
  %x: f32[3] = input()
  %l: f32[3] = log(%x)
  %e: f32[3] = exp(%x)
  return l=%l, e=%e
}
""")
    run = forward(graph, {"x": [0.0, -1.0, 1e4]})
    assert_array_equal(run.outputs["l"], [-np.inf, np.nan, np.log(1e4)])
    assert_array_equal(run.outputs["e"], [1.0, np.exp(-1.0), np.inf])
    assert_array_equal(backward(run, {"l": np.ones(3)}).inputs["x"], [np.inf, -1.0, 1e-4])


def test_a_fixed_array_has_its_own_numbers_and_others_are_asked_for() -> None:
    two = Values.of([2.0, 0.5])
    graph = parse_graph(f"""graph net {{
        %x: f32[2] = input()
        %c: f32[2] = param(fill=values({two.shape}, {two.data!r}), lr_mult=0.0, decay_mult=0.0)
        %y: f32[2] = mul(%x, %c)
        return y=%y
    }}""")
    assert_array_equal(forward(graph, {"x": np.array([3.0, 4.0])}).outputs["y"], [6, 2])
