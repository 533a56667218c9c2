"""Where nothing is trained no gradient is stopped, and the check knows it."""

from __future__ import annotations

import pytest

from lstmc import Input, Param, State, cell, gaussian, linear, model, scan, stop_gradient, tanh
from lstmc.backend import load_backend
from lstmc.ir import Graph, print_graph
from lstmc.ops import StopGradient
from lstmc.pipeline import compile_graph
from lstmc.prepare import without
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc.weights import initial_weights


@cell
def stopping(x=Input(2, 3), h=State(2, 3), *, W=Param(3, 3, fill=gaussian(0, 0.4))):
    h = tanh(x + linear(stop_gradient(h), W))
    return h, {"h": h}


CELL = stopping(name="stopping")


@model
def net(X=Input(4, 2, 3), h0=Input(2, 3)):
    y, _ = scan(CELL, X, init={"h": h0})
    return stop_gradient(y) * X


def stops(graph: Graph) -> int:
    return print_graph(graph).count("= stop_gradient(")


def test_the_model_and_the_bodies_of_its_scans_lose_them() -> None:
    assert stops(net.graph()) == 2
    assert stops(without(net.graph(), StopGradient)) == 0


@pytest.mark.parametrize("target", ["caffe", "flat", "noslice"])
def test_what_is_compared_backward_is_what_the_net_computes(target: str) -> None:
    backend = load_backend("caffe")
    compiled = compile_graph(net.graph(), backend, target)
    assert stops(compiled.model) == (2 if target == "caffe" else 0)
    weights = initial_weights(compiled.model)
    report = check(compiled, backend.emit(compiled, weights), weights, InterpreterExecutor())
    assert report.passed, report.verdict()
    assert {"X", "h0"} <= {one.name for one in report.differences if one.kind == "gradient"}
