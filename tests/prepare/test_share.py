"""The losses of the parts of a batch add up to the loss of the batch, as do their gradients; what mixes is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import (
    Input,
    Model,
    Param,
    dims,
    euclidean_loss,
    linear,
    max,
    mean,
    model,
    scan,
    sigmoid_cross_entropy_loss,
    softmax,
    softmax_loss,
    sum,
    uniform,
)
from lstmc.cells import gru
from lstmc.errors import TrainingError
from lstmc.interp import backward, forward
from lstmc.ops import Input as InputOp
from lstmc.prepare import share_of_loss, training_graph
from lstmc.weights import initial_weights

T, N = dims("T N")
W = uniform(-1, 1)


def with_loss(loss: Callable[..., Any]) -> Model:
    @model
    def net(X=Input(T, N, 3), label=Input(T, N), target=Input(N, 4), V=Param(4, 4, fill=W)):
        y, last = scan(gru(H=4), X)
        return {"y": y, "loss": loss(linear(y, V), linear(last["h"], V), label, target, V)}

    return net


LOSSES: dict[str, Callable[..., Any]] = {
    "valid": lambda y, h, label, target, V: softmax_loss(y, label),
    "left out": lambda y, h, label, target, V: softmax_loss(y, label, ignore_label=1),
    "batch_size": lambda y, h, label, target, V: softmax_loss(y, label, normalization="batch_size"),
    "none": lambda y, h, label, target, V: softmax_loss(y, label, normalization="none"),
    "sigmoid": lambda y, h, label, target, V: 3 * sigmoid_cross_entropy_loss(h, target) + 1,
    "over N": lambda y, h, label, target, V: euclidean_loss(h, target),
    "over T": lambda y, h, label, target, V: euclidean_loss(y, y * 0.5),
    "many": lambda y, h, label, target, V: (
        euclidean_loss(h, target) - 0.5 * mean(y) + sum(y * y) * mean(V * V) + sum(V) * 0.01
    ),
    "left out and more": lambda y, h, label, target, V: (
        softmax_loss(y, label, ignore_label=0) + 0.1 * softmax_loss(y, label, ignore_label=2) + mean(V * V)
    ),
}
SIZES = {"T": 3, "N": 5}


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "X": rng.normal(size=(3, 5, 3)),
        "label": rng.integers(0, 4, (3, 5)).astype(float),
        "target": rng.uniform(size=(5, 4)),
    }


AXES = {"X": 1, "label": 1, "target": 0}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("cuts", [(0, 3, 5), (0, 1, 2, 5)])
def test_parts_add_up(name: str, cuts: tuple[int, ...]) -> None:
    net = with_loss(LOSSES[name])
    whole = training_graph(net.graph(**SIZES))
    weights = initial_weights(whole)
    given = {key: array for key, array in arrays().items() if key in whole}
    wanted = gradients(whole, given, weights)
    loss, found = 0.0, {key: np.zeros(array.shape) for key, array in weights.items()}
    for start, stop in pairwise(cuts):
        size = stop - start
        share = share_of_loss(whole, training_graph(net.graph(T=3, N=size)), size / 5)
        part = {key: np.take(array, range(start, stop), AXES[key]) for key, array in given.items()}
        for key, counted in share.counted.items():
            own, all_of_them = ((a[counted.labels] != counted.ignored).sum() for a in (part, given))
            part[key] = np.array(np.maximum(own, 1) / np.maximum(all_of_them, 1))
        more, parts = gradients(share.graph, part, weights)
        loss += more
        for key, array in parts.items():
            found[key] += array
    assert_allclose(loss, wanted[0], rtol=1e-9)
    for key, array in wanted[1].items():
        assert_allclose(found[key], array, rtol=1e-8, atol=1e-12)


def gradients(graph: Any, given: dict[str, Any], weights: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    fed = {node.name: given[node.name] for node in graph if isinstance(node.op, InputOp)}
    run = forward(graph, fed, weights)
    return float(run.outputs["loss"]), backward(run, {"loss": np.ones(())}).params


MIXING: dict[str, tuple[Callable[..., Any], str]] = {
    "the largest": (
        lambda y, h, label, target, V: sum(max(h, axis=0)),
        "is no sum and no mean over the examples of a batch",
    ),
    "softmax over examples": (
        lambda y, h, label, target, V: sum(softmax(h, axis=0) * target),
        "mixes the examples of a batch",
    ),
    "less the mean": (
        lambda y, h, label, target, V: sum((h - mean(h, 0)) * target),
        "gives each example something of the others",
    ),
    "products of examples with one another": (  # as a contrastive loss has them
        lambda y, h, label, target, V: softmax_loss(linear(h, h), label[0]),
        "mixes the examples of a batch",
    ),
    "a product of computed values": (
        lambda y, h, label, target, V: softmax_loss(h @ h.T, label[0]),
        "pairs the examples of a batch with one another",
    ),
    "differences of examples": (
        lambda y, h, label, target, V: sum((h[:, None] - target[None]) ** 2),
        "pairs the examples of a batch with one another",
    ),
    "a quotient": (
        lambda y, h, label, target, V: sum(h) / sum(target),
        "is no sum and no mean over the examples of a batch",
    ),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_examples_is_refused(name: str) -> None:
    loss, why = MIXING[name]
    net = with_loss(loss)
    graphs = [training_graph(net.graph(T=3, N=size)) for size in (5, 2)]
    with pytest.raises(TrainingError) as error:
        share_of_loss(*graphs, 0.4)
    assert error.value.message.startswith("net cannot be trained by several ranks: %")
    assert error.value.message.endswith(why)
