"""The logarithm of a softmax by the layers of each target: scores 200 apart, of few classes and of many."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import special

import lstmc
from lstmc import Input, dims, log_softmax, max, model, sum
from lstmc.verification.differential import InterpreterExecutor, check
from lstmc_caffe.backend import CaffeBackend
from lstmc_caffe.ops import CaffeOp
from lstmc_caffe.readers.executor import ReaderExecutor
from lstmc_caffe.rows.narrow import MOST_COLUMNS
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled, emitted

K = dims("K")
TARGETS = sorted(CaffeBackend.targets)
MANY = 2 * MOST_COLUMNS + 3


@model
def scores(X=Input(3, 2, K)):
    return {"y": log_softmax(100 * X)}


@model
def reduced(X=Input(3, 2, K)):
    return {"sum": sum(X, axis=-1), "max": max(X, axis=-1)}


@pytest.mark.parametrize("target", TARGETS)
def test_the_layers_of_a_target_compute_it_in_float32(target: str) -> None:
    net = compiled(scores, target, K=5)
    assert check(net, *emitted(net), InterpreterExecutor()).passed


@pytest.mark.parametrize("made", [scores, reduced])
def test_readers_agree(opencv: ReaderExecutor, mnn: ReaderExecutor, made: lstmc.Model) -> None:
    for reader, target in ((opencv, "opencv"), (mnn, "mnn")):
        for count in (5, MANY):
            net = compiled(made, target, K=count)
            assert check(net, *emitted(net), reader).passed, (target, count)


@pytest.mark.caffe
def test_real_caffe_agrees_with_gradients(caffe: Runner) -> None:
    for target, count in (("caffe", 5), ("flat", MANY), ("caffe", MANY)):
        assert_caffe_agrees(caffe, compiled(scores, target, K=count))


@pytest.mark.parametrize("backend", ["onnx", "torch", "c"])
def test_other_backends_agree(backend: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (3, 2, 5)).astype(np.float32)
    y = lstmc.compile(scores, K=5, backend=backend).run(X=x)["y"]
    np.testing.assert_allclose(y, special.log_softmax(100.0 * x, -1), rtol=1e-5, atol=1e-5)


def test_a_sum_of_many_columns_is_of_halves() -> None:
    layers: dict[int, Counter[str]] = {}
    for count in (MOST_COLUMNS, MANY, 1001):
        net = compiled(reduced, "flat", K=count)
        layers[count] = Counter(node.op.layer_type for node in net.expanded if isinstance(node.op, CaffeOp))
        assert check(net, *emitted(net), InterpreterExecutor()).passed
    assert layers[MOST_COLUMNS]["Eltwise"] == 2 * (MOST_COLUMNS - 1)
    assert layers[1001]["Eltwise"] < 2 * (MOST_COLUMNS + 10)
