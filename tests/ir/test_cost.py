"""What a graph costs, whatever form it has: with a loop, step by step, or with one layer for all steps."""

from __future__ import annotations

import pytest

import lstmc
from lstmc import Input, model, scan
from lstmc.cells import lstm
from lstmc.ir import graph_work

T, N, D, H = 3, 2, 5, 7
ELEMENTS = T * N * H
PRODUCTS = ELEMENTS * 4 * (2 * D + 2 * H)


@model
def from_inputs(x=Input(T, N, D), h=Input(N, H), c=Input(N, H)):
    return scan(lstm(H=H), x, init={"h": h, "c": c})[0]


@model
def from_zeros(x=Input(T, N, D)):
    return scan(lstm(H=H), x)[0]


@pytest.mark.parametrize("target", ["flat", "caffe", "caffe-fused"])
def test_an_lstm_costs_as_much_in_every_form(target: str) -> None:
    net = lstmc.compile(from_inputs, target=target)
    # for each unit: the four sums of the two products; then three gates, two tanh, three products and a sum
    assert graph_work(net.compiled.model).flops == PRODUCTS + ELEMENTS * (4 + 9)
    assert graph_work(net.compiled.expanded).flops == PRODUCTS + ELEMENTS * (4 + 9)


@pytest.mark.parametrize(("backend", "target"), [("caffe", "caffe-native"), ("onnx", None)])
def test_a_layer_for_all_steps_costs_what_it_does_in_a_step(backend: str, target: str | None) -> None:
    net = lstmc.compile(from_zeros, target=target, backend=backend)
    assert graph_work(net.compiled.expanded).flops == PRODUCTS + ELEMENTS * (4 + 9)
