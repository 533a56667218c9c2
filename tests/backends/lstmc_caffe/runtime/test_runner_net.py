"""What real Caffe computes, as seen through Net: values, gradients, parameters, and refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc_caffe.processes.process import CaffeRequestError
from lstmc_caffe.runtime.runner import Net, Runner
from tests.backends.lstmc_caffe.in_worker import FORCED, set_params

pytestmark = pytest.mark.caffe

# y = tanh(x W' + b) W' + b2, the weights shared; a and h are read by other layers.
TINY = """
name: "tiny"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a" param { name: "W" } param { name: "b" lr_mult: 2 }
        inner_product_param { num_output: 3 weight_filler { type: "uniform" min: -1 max: 1 } } }
layer { name: "act" type: "TanH" bottom: "a" top: "h" }
layer { name: "two" type: "InnerProduct" bottom: "h" top: "y" param { name: "W" }
        inner_product_param { num_output: 3 } }
"""
W = np.array([[0.5, -1, 0.25], [1, 0.125, -0.5], [-0.75, 2, 1]])
B = np.array([0.1, -0.2, 0.3])
B2 = np.array([1.0, 2, 3])
X = np.array([[0.5, -0.25, 1], [-1, 0.75, 0.125]])


@pytest.fixture(scope="module")
def tiny(caffe: Runner) -> Iterator[Net]:
    with caffe.load(FORCED + TINY, probes=["a", "h", "y"]) as net:
        set_params(caffe, net, {"W": W, "b": B, "two/1": B2})
        yield net


def expected(x: np.ndarray[Any, Any], da: Any = 0.0, dh: Any = 0.0, dy: Any = 0.0) -> dict[str, Any]:
    """The net in NumPy, and its gradients where da, dh and dy are injected."""
    a = x @ W.T + B
    h = np.tanh(a)
    dy = np.broadcast_to(dy, h.shape)
    grad_h = dh + dy @ W
    grad_a = da + grad_h * (1 - h * h)
    return {
        "blobs": {"a": a, "h": h, "y": h @ W.T + B2},
        "diffs": {"x": grad_a @ W, "a": grad_a, "h": grad_h, "y": dy},
        "params": {"W": dy.T @ h + grad_a.T @ x, "b": grad_a.sum(0), "two/1": dy.sum(0)},
    }


def assert_close(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert set(found) >= set(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == np.float32
        assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_what_a_net_has(tiny: Net) -> None:
    assert tiny.inputs == ("x",)
    assert tiny.outputs == ("y",)
    assert {name: tiny.blobs[name] for name in "xahy"} == dict.fromkeys("xahy", (2, 3))
    assert not [name for name in tiny.blobs if "probe" in name]
    assert tiny.params == {"W": (3, 3), "b": (3,), "two/1": (3,)}


def test_forward_is_numpys(tiny: Net) -> None:
    result = tiny.run({"x": X}, want=["a", "h", "y"])
    assert_close(result.blobs, expected(X)["blobs"])
    assert (result.diffs, result.param_diffs) == ({}, {})
    assert list(tiny.run({"x": X}).blobs) == ["y"]
    assert set(tiny.run({"x": X}, want=tiny.blobs).blobs) == set(tiny.blobs)


@pytest.mark.parametrize(
    "injected", [{"y": 1.0}, {"a": 0.5}, {"h": -2.0}, {"a": 0.5, "h": -2.0, "y": 1.0}, {}], ids=str
)
def test_gradients_are_injected_where_other_layers_read(tiny: Net, injected: dict[str, float]) -> None:
    values = {name: scale * np.arange(1, 7).reshape(2, 3) for name, scale in injected.items()}
    result = tiny.run({"x": X}, backward=values, want_diffs=list("xahy"), want_param_diffs=True)
    wanted = expected(X, **{f"d{name}": value for name, value in values.items()})
    assert_close(result.diffs, wanted["diffs"])
    assert_close(result.param_diffs, wanted["params"])


def test_parameter_gradients_are_of_one_run(tiny: Net) -> None:
    first, second = (
        tiny.run({"x": X}, backward={"y": np.ones((2, 3))}, want_param_diffs=True).param_diffs for _ in range(2)
    )
    for name in tiny.params:
        assert_array_equal(first[name], second[name])


def test_arrays_are_exactly_caffes(caffe: Runner) -> None:
    text = TINY[: TINY.index('layer { name: "one"')] + 'layer { name: "s" type: "Power" bottom: "x" top: "y" }'
    values = np.array([[0.1, -0.0, 1e-45], [np.inf, np.nan, 3.4e38]], np.float32)
    with caffe.load(text) as net:
        assert net.run({"x": values}).blobs["y"].tobytes() == values.tobytes()


def test_parameters_are_shared_and_kept(caffe: Runner) -> None:
    with caffe.load(TINY) as net:
        set_params(caffe, net, {"W": W, "b": B, "two/1": B2})
        set_params(caffe, net, {"W": 2 * W})
        doubled = net.run({"x": X}).blobs["y"]
    assert_allclose(doubled, np.tanh(2 * X @ W.T + B) @ (2 * W).T + B2, rtol=1e-5)


def test_param_gradients_need_no_force_backward(caffe: Runner) -> None:
    with caffe.load(TINY, probes=["y"]) as net:
        set_params(caffe, net, {"W": W, "b": B, "two/1": B2})
        result = net.run({"x": X}, backward={"y": np.ones((2, 3))}, want_param_diffs=True)
    assert_close(result.param_diffs, expected(X, dy=1.0)["params"])


def test_a_probed_input_and_a_blob_that_is_changed_in_place(caffe: Runner) -> None:
    text = TINY.replace('top: "h"', 'top: "a"').replace('bottom: "h"', 'bottom: "a"')
    with caffe.load(FORCED + text, probes=["x", "a"]) as net:
        set_params(caffe, net, {"W": W, "b": B, "two/1": B2})
        given = {"x": np.full((2, 3), 0.5), "a": np.ones((2, 3))}
        result = net.run({"x": X}, want=["a"], backward=given, want_diffs=["x", "a"])
    wanted = expected(X, dh=1.0)
    assert_allclose(result.blobs["a"], wanted["blobs"]["h"], rtol=1e-5)
    # The gradient is that of the probed, last version; the blob ends with that of the first.
    assert_allclose(result.diffs["a"], wanted["diffs"]["a"], rtol=1e-5, atol=1e-6)
    assert_allclose(result.diffs["x"], wanted["diffs"]["x"] + 0.5, rtol=1e-5, atol=1e-6)


def test_losses_of_the_nets_own_take_part(caffe: Runner) -> None:
    loss = """
    layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 3 }
    """
    with caffe.load(FORCED + TINY + loss) as net:
        set_params(caffe, net, {"W": W, "b": B, "two/1": B2})
        result = net.run({"x": X, "t": np.zeros((2, 3))}, backward={}, want_diffs=["y"])
    y = expected(X)["blobs"]["y"]
    assert result.blobs["loss"].shape == ()
    assert_allclose(result.blobs["loss"], (y**2).sum() / 4, rtol=1e-5)
    assert_allclose(result.diffs["y"], 3 * y / 2, rtol=1e-5)


def test_phases(caffe: Runner) -> None:
    text = TINY + 'layer { name: "z" type: "Power" bottom: "y" top: "z" include { phase: TRAIN } }'
    with caffe.load(text, phase="TRAIN") as train, caffe.load(text) as test:
        assert (train.outputs, test.outputs) == (("z",), ("y",))


def test_files_and_weights(caffe: Runner, tmp_path: Path) -> None:
    functions = tmp_path / "save.py"
    functions.write_text(
        "import caffe\n"
        "def save(args, arrays):\n"
        "    net = caffe.Net(args[0], caffe.TEST)\n"
        "    for index, name in enumerate(('W', 'b')):\n"
        "        net.params['one'][index].data[...] = arrays[name]\n"
        "    net.save(args[1])\n"
        "    return None, {}\n"
    )
    prototxt, weights = tmp_path / "ü net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text("# é, and no name" + TINY.replace('name: "tiny"', ""))
    caffe.call(functions, "save", [str(prototxt), str(weights)], {"W": W, "b": B})
    moved = weights.rename(tmp_path / os.fsdecode(b"\xff.caffemodel"))  # no UTF-8
    with caffe.load(prototxt, weights=moved) as net:
        assert_array_equal(set_params(caffe, net, {})["W"], W.astype("f4"))
        assert net.title == "net ü net.prototxt"


def test_a_native_lstm_of_300_steps(caffe: Runner) -> None:
    text = """
    name: "native"
    layer { name: "x" type: "Input" top: "x" top: "cont"
            input_param { shape { dim: 300 dim: 2 dim: 8 } shape { dim: 300 dim: 2 } } }
    layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
            param { name: "W_x" } param { name: "b" } param { name: "W_h" }
            recurrent_param { num_output: 4 weight_filler { type: "uniform" min: -0.1 max: 0.1 } } }
    """
    cont = np.ones((300, 2))
    cont[0] = 0
    with caffe.load(FORCED + text, probes=["h"]) as net:
        assert net.params == {"W_x": (16, 8), "b": (16,), "W_h": (16, 4)}
        inputs = {"x": np.ones((300, 2, 8)), "cont": cont}
        result = net.run(inputs, backward={"h": np.ones((300, 2, 4))}, want_diffs=["x"], want_param_diffs=True)
        assert result.blobs["h"].shape == (300, 2, 4)
        assert np.abs(result.diffs["x"]).min() > 0
        assert np.abs(result.param_diffs["W_h"]).max() > 0


def test_a_net_of_thousands_of_layers(caffe: Runner) -> None:
    chain = ['layer { name: "x" type: "Input" top: "h0" input_param { shape { dim: 1 dim: 2 } } }']
    for step in range(3000):
        chain.append(
            f'layer {{ name: "l{step}" type: "InnerProduct" bottom: "h{step}" top: "h{step + 1}"'
            ' param { name: "W" } inner_product_param { num_output: 2 bias_term: false } }'
        )
    with caffe.load(FORCED + "\n".join(chain), probes=["h1500", "h3000"]) as net:
        set_params(caffe, net, {"W": [[0, 1], [1, 0]]})
        ones = {"h1500": np.ones((1, 2)), "h3000": np.array([[1, 2]])}
        result = net.run({"h0": [[3, 4]]}, want=net.blobs, backward=ones, want_diffs=["h0"], want_param_diffs=True)
    assert_array_equal(result.blobs["h2999"], [[4, 3]])
    assert_array_equal(result.diffs["h0"], [[2, 3]])
    assert len(result.blobs) == len(net.blobs) > 3000


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"inputs": {"x": np.zeros((3, 2))}}, "forward: input x: expected shape (2, 3), found (3, 2)"),
    "missing": ({"inputs": {}}, "forward: no array was given for input x"),
    "unknown input": ({"inputs": {"x": X, "z": X}}, "forward: no input is called z; it has x"),
    "unknown blob": ({"want": ["q"]}, "forward: no blob is called q; it has a, h, x, y"),
    "probe's shape": (
        {"backward": {"y": np.zeros(3)}},
        "forward and backward: gradient of y: expected shape (2, 3), found (3,)",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_runs_that_are_refused(caffe: Runner, name: str) -> None:
    arguments, message = REFUSALS[name]
    with caffe.load(TINY, probes=["y"]) as net, pytest.raises(CaffeRequestError) as caught:
        net.run(**{"inputs": {"x": X}, **arguments})
    assert str(caught.value) == f"CaffeRequestError: cannot run net 'tiny' {message}"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TINY, {"probes": ["y", "q"]}, "cannot probe blob q: no layer of the net makes it"),
        (
            'layers { name: "x" }',
            {},
            "the net has old 'layers' fields; rewrite it by Caffe's upgrade_net_proto_text",
        ),
        (
            TINY + TINY[TINY.index('layer { name: "two"') :].replace('"y"', '"z"'),
            {},
            "two parameters are called two/1: give layers unique names",
        ),
    ],
    ids=["probe", "old", "names"],
)
def test_nets_that_are_refused(caffe: Runner, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CaffeRequestError) as caught:
        caffe.load(text, **options)
    assert str(caught.value).endswith(f" (TEST, cpu): {message}")


def test_text_that_is_no_prototxt_says_where(caffe: Runner) -> None:
    with pytest.raises(CaffeRequestError) as caught:
        caffe.load('name: "n"\nlayer { nam: "x" }')
    text = str(caught.value)  # what lies between depends on the version of protobuf
    assert text.startswith("CaffeRequestError: cannot load net 'n' (TEST, cpu): google.protobuf.text_format.")
    assert "ParseError: 2:9 : " in text
    assert text.endswith('Message type "caffe.LayerParameter" has no field named "nam".')
