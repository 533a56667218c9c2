"""Steps without an axis: Caffe's slices and concats have one, and the nets mean what the models do all the same."""

from __future__ import annotations

import pytest

from lstmc import Input, Param, State, cell, linear, mean, model, reshape, scan, sigmoid, split, sum, tanh, uniform
from lstmc.dsl import Dim, Model
from lstmc_caffe import CaffeBackend
from lstmc_caffe.legalize.unroll import FAN
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled

BACKEND = CaffeBackend()
T = Dim("T")


@cell
def energy(x=Input(3), h=State(4), *, W=Param(4, 3, fill=uniform(-1, 1))):
    h = tanh(linear(x, W, axis=0) + h * sum(x * x, axis=0))
    return h, {"h": h}


@model
def energies(X=Input(T, 3)):
    y, _ = scan(energy(), X)
    return {"y": y}


@cell
def gated(x=Input(2, 4), k=Input(1), h=State(2, 4)):
    h = tanh(x + h * k)
    return h, {"h": h}


@model
def gates(X=Input(T, 2, 4), K=Input(T, 1)):
    y, _ = scan(gated(), {"x": X, "k": K})
    return {"y": y}


@cell
def tick(x=Input(3), h=State(1)):
    a, b, c = split(x, 3, axis=0)
    h = tanh(h * a + b * c)
    return h, {"h": h}


@model
def ticks(X=Input(T, 3)):
    y, _ = scan(tick(), X)
    return {"y": y}


@cell
def overlap(x=Input(3), h=State(3)):
    product = sum(x * h, axis=0)
    h = tanh(x + h + product)
    return product, {"h": h}


@model
def overlaps(X=Input(T, 3)):
    y, _ = scan(overlap(), X)
    return {"y": y}


@cell
def scaled(x=Input(2, 3), h=State(2, 4), *, W=Param(1, 6, fill=uniform(-1, 1))):
    h = tanh(h + 1) * mean(x) + sigmoid(linear(reshape(x, 1, 6), W))
    return h, {"h": h}


@model
def means(X=Input(T, 2, 3)):
    y, _ = scan(scaled(), X)
    return {"y": y}


@pytest.mark.caffe
@pytest.mark.parametrize("steps", [1, 2, FAN + 1])
@pytest.mark.parametrize("of", [energies, gates, ticks, overlaps, means], ids=lambda of: of.name)
@pytest.mark.parametrize("target", ["caffe", "flat"])
def test_real_caffe_runs_them(caffe: Runner, target: str, of: Model, steps: int) -> None:
    assert_caffe_agrees(caffe, compiled(of, target, T=steps))
