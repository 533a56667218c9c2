"""Arrays of numbers in cells and models: in the weights of the net, not trained, and not asked for in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmc
from lstmc import Input, Param, State, cell, const, linear, model, scan, tanh, uniform
from lstmc.errors import WeightsError
from lstmc.interp import forward
from lstmc.ir import parse_graph, print_graph
from lstmc.weights import check_weights, initial_weights, parameters
from lstmc_caffe.proto.net import RawNet, net_from_text
from tests.dsl.conftest import UserFile

A = np.array([[0.5, -0.25, 0.0], [1 / 3, 0.1, -1.0], [0.0, 0.7, 0.2]])
V = [0.25, -0.5, 1.0]


@cell
def memory(
    x: Any = Input(2, 3),
    h: Any = State(2, 3),
    *,
    W: Any = Param(3, 3, fill=uniform(-1, 1)),
    F: Any = Param(3, 3, fill=A, trained=False),
    s: Any = Param(3, fill=V),
) -> Any:
    h = tanh(linear(h, F) + (linear(x, W) + s) * const(V) + linear(h, const(A.T)) - const(V))
    return h, {"h": h}


@model
def net(x: Any = Input(3, 2, 3)) -> Any:
    return {"y": scan(memory(), x)[0] + const(V)}


def test_the_numbers_are_parameters_that_are_not_trained() -> None:
    found = parameters(net.graph())
    assert {name: (op.fixed, op.lr_mult, op.decay_mult) for name, op in found.items()} == {
        "memory/W": (False, 1, 1),
        "memory/F": (True, 0, 0),
        "memory/s": (False, 1, 1),
        "const": (True, 0, 0),
        "const_2": (True, 0, 0),
    }
    drawn = initial_weights(net.graph())
    np.testing.assert_array_equal(drawn["memory/F"], A)  # all digits of what is fixed
    np.testing.assert_array_equal(drawn["memory/s"], np.float32(V))


def test_what_it_means() -> None:
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 3))
    weights = {**initial_weights(net.graph()), "memory/W": W}
    h, wanted, v = np.zeros((2, 3)), [], np.array(V)
    for step in x:
        h = np.tanh(h @ A.T + (step @ W.T + np.float32(v)) * v + h @ A - v)
        wanted.append(h + v)
    np.testing.assert_allclose(forward(net.graph(), {"x": x}, weights).outputs["y"], wanted, rtol=1e-12)


def test_a_state_starts_at_an_array_and_a_parameter_keeps_its_name_beside_it() -> None:
    @cell
    def c(x: Any = Input(2, 3), h: Any = State(2, 3, fill=V), k: Any = State(2, 3, fill=A[:2]), *, h_0: Any = Param(3)):
        return x * h_0 + h + k, {"h": 2 * h, "k": x}

    @model
    def starts(x: Any = Input(2, 2, 3)) -> Any:
        return {"y": scan(c(), x)[0]}

    graph = starts.graph()
    assert list(parameters(graph)) == ["c/h_first", "c/k_0", "c/h_0"]
    x, h, k = np.ones((2, 2, 3)), np.array(V), A[:2].astype(np.float32).astype(float)
    found = forward(graph, {"x": x}, check_weights({"c/h_0": np.full(3, 0.5)}, graph, "net")).outputs["y"]
    np.testing.assert_allclose(found, [0.5 + h + k, np.tile(1.5 + 2 * h, (2, 1))], rtol=1e-6)


def test_the_text_is_exact() -> None:
    graph = net.graph()
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.caffe
def test_real_caffe_agrees() -> None:
    verification = lstmc.compile(net).verify()
    assert verification, str(verification)


@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_every_target_has_the_numbers_in_its_weights(target: str, tmp_path: Path) -> None:
    compiled = lstmc.compile(net, target=target)
    compiled.save(tmp_path)
    layers = RawNet.FromString((tmp_path / "net.caffemodel").read_bytes()).layer
    stored = np.concatenate([np.frombuffer(blob.data, "<f4") for layer in layers for blob in layer.blobs])
    for array in (A, np.array(V)):  # packed, cut or negated
        assert set(np.abs(array.astype("f4")).ravel()) <= set(np.abs(stored))
    text = net_from_text((tmp_path / "net.prototxt").read_text())
    specs = [spec for layer in text.layer for spec in layer.param]
    assert {(spec.lr_mult, spec.decay_mult) for spec in specs} == {(0, 0), (1, 1)}


def test_weights_from_a_file_need_not_have_them_and_may_not_change_them() -> None:
    graph = net.graph()
    drawn = initial_weights(graph, 1)
    trained = {name: drawn[name] for name in ("memory/W", "memory/s")}
    found = check_weights(trained, graph, "w.npz")
    assert list(found) == list(drawn)
    for name, array in check_weights(drawn, graph, "w.npz").items():
        np.testing.assert_array_equal(array, drawn[name])
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(WeightsError) as raised:
        check_weights(drawn | {"memory/F": A + 1}, graph, "w.npz")
    assert str(raised.value) == (
        "WeightsError: w.npz does not fit net\n  fixed: memory/F has its numbers in the model, found others"
    )


def test_a_cell_is_bound_with_the_numbers_of_a_parameter() -> None:
    bound = memory(W=np.full((3, 3), 0.5), name="memory")

    @model
    def other(x: Any = Input(3, 2, 3)) -> Any:
        return scan(bound, x)[0]

    np.testing.assert_array_equal(initial_weights(other.graph())["memory/W"], np.full((3, 3), 0.5))


BODY = "@model\ndef net(x=Input(N, H){}):\n    return {{'z': x + {}}}\n"


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("", "const(3.0)", "DslError: const takes an array of one axis or more: write a number as it is"),
        ("", "const([1, 'a'])", "DslError: const: expected an array of finite numbers, found no array of numbers"),
        ("", "const([])", "DslError: const: expected an array of finite numbers, found an array without elements"),
        (
            "",
            "const([1, float('nan')])",
            "DslError: const: expected an array of finite numbers, found an element that is no finite float32 number",
        ),
        (", p=Param(H, fill=[1, 2])", "p", "ShapeError: param: the array is f32[2], expected f32[3]"),
        (
            ", p=Param(H, fill=[1, 2, 3], lr_mult=2, trained=False)",
            "p",
            "DslError: a parameter that is not trained takes no lr_mult and no decay_mult",
        ),
        (", p=Param(H, trained=0)", "p", "DslError: parameter trained: expected True or False, found 0"),
        (
            ", p=Input(H, fill=[1, 2, 3])",
            "p",
            "DslError: input fill: expected a filler such as constant(0) or uniform(-0.1, 0.1), found list [1, 2, 3]",
        ),
    ],
)
def test_errors(user: UserFile, parameter: str, value: str, message: str) -> None:
    assert user.refused(BODY.format(parameter, value), N=2, H=3).startswith(f"{message}\n  user.py:")


def test_const_stands_in_a_function_of_a_cell_or_a_model() -> None:
    with pytest.raises(lstmc.errors.DslError, match="const must be called in a"):
        const([1.0])


def test_what_is_exported_for_caffe_train_has_a_caffemodel_to_start_from(tmp_path: Path) -> None:
    @model
    def fitted(x: Any = Input(4, 3), t: Any = Input(4, 2), W: Any = Param(2, 3, fill=uniform(-1, 1))) -> Any:
        y = linear(x * const(V), W)
        return {"y": y, "loss": lstmc.euclidean_loss(y, t)}

    lstmc.export_training(lstmc.compile(fitted), tmp_path)
    layers = RawNet.FromString((tmp_path / "fitted.train.caffemodel").read_bytes()).layer
    blobs = [np.frombuffer(blob.data, "<f4").tolist() for layer in layers for blob in layer.blobs]
    assert V in blobs
