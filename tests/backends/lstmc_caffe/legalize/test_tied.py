"""A parameter that is a matrix as it is and transposed: one blob for both where it is trained."""

from __future__ import annotations

from typing import Any

import pytest

import lstmc
from lstmc import Input, Param, State, cell, dims, linear, model, scan, tanh, xavier
from tests.backends.lstmc_caffe.nets import legalised

T, N, D, H = dims("T N D H")


@cell
def autoassociative(x: Any = Input(N, D), h: Any = State(N, D), *, W: Any = Param(H, D, fill=xavier())) -> Any:
    z = tanh(linear(x + h, W))
    return z, {"h": linear(z, W.T)}


@model
def tied(X: Any = Input(T, N, 4), W: Any = Param(3, 4, fill=xavier()), b: Any = Param(4), v: Any = Input(4)) -> Any:
    y, last = scan(autoassociative(H=3), X)
    codes = tanh(linear(last["h"], W))
    return {"y": y, "decoded": linear(codes, W.T, b), "again": linear(codes, W.T, v)}


def blobs(target: str) -> dict[str, set[bool]]:
    """For each blob of a matrix, whether layers have it transposed."""
    net = lstmc.compile(tied, T=3, N=2, target=target)
    found: dict[str, set[bool]] = {}
    for layer in net.layers:
        if layer.type == "InnerProduct":
            text = net.prototxt.split(f'name: "{layer.name}"', 1)[1].split("\nlayer {", 1)[0]
            blob = text.split("param {", 1)[1].split('name: "', 1)[1].split('"', 1)[0]
            found.setdefault(blob, set()).add("transpose: true" in text)
    return found


def test_layers_that_are_trained_share_the_blob() -> None:
    assert blobs("caffe") == {"autoassociative/W": {False, True}, "W": {False, True}}


def test_layers_that_are_not_have_a_transposed_one_of_their_own() -> None:
    found = blobs("flat")
    assert all(transposed == {False} for transposed in found.values())
    assert len(found) == 4


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
@pytest.mark.parametrize("steps", [1, 3])
def test_real_caffe_agrees_forward_and_backward(target: str, steps: int) -> None:
    verification = lstmc.compile(tied, T=steps, N=2, target=target).verify()
    assert verification, str(verification)


@cell
def valued(x: Any = Input(D, D), h: Any = State(D, D), *, W: Any = Param(D, D, fill=xavier())) -> Any:
    return h, {"h": linear(tanh(x), W.T) + linear(h, W.T) * W.T}


@model
def valued_outside(X: Any = Input(T, N, 4), W: Any = Param(4, 3, fill=xavier())) -> Any:
    return {"y": X @ W, "v": tanh(W.T), "w": W.T}


@model
def also_an_output(X: Any = Input(T, N, 4), W: Any = Param(4, 3, fill=xavier())) -> Any:
    return {"y": X @ W, "w": W.T}


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_a_transposed_parameter_may_be_a_matrix_and_a_value(target: str) -> None:
    outside = {"T": 2, "N": 3}
    for made, sizes in ((valued, {"T": 2, "D": 3}), (valued_outside, outside), (also_an_output, outside)):
        verification = lstmc.compile(made, target=target, **sizes).verify(["interpreter", "caffe-cpu"])
        assert verification, str(verification)


def test_a_second_run_makes_no_layers_of_the_transposed_parameter_that_the_first_left_unread() -> None:
    @model
    def product(X: Any = Input(2, 3), W: Any = Param(3, 4, fill=xavier())) -> Any:
        return {"y": X @ W}

    legal = legalised(product.graph())
    assert legal.counts == {"input_to_layer": 1, "linear_to_inner_product": 1}
    assert not legalised(legal.graph).modified
