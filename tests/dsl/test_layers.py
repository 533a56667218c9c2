"""Layers and losses in the language: shapes, meaning, and each dropout's own draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

import lstmc
from lstmc import (
    Input,
    Param,
    State,
    accuracy,
    argmax,
    cell,
    dims,
    dropout,
    embed,
    euclidean_loss,
    linear,
    mean,
    minimum,
    model,
    scan,
    sigmoid_cross_entropy_loss,
    softmax_loss,
    step_index,
    sum,
)
from lstmc.interp import backward, forward
from lstmc.ir import Graph, Scan
from lstmc.ops import Dropout, IntegerRange
from lstmc.ops import Input as InputOp
from lstmc.weights import check_weights
from tests.dsl.conftest import outputs, random_arrays
from tests.dsl.test_functions import computed

T, N = dims("T N")


def test_embed_takes_rows() -> None:
    @model
    def net(x=Input(3, 2), W=Param(7, 4)):
        return {"y": embed(x, W)}

    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 7, (3, 2)), rng.normal(size=(7, 4))
    assert_array_equal(outputs(net.graph(), {"x": x, "W": w})["y"], w[x])


def test_embed_of_what_is_learned_is_a_product_with_ones() -> None:
    @cell
    def greedy(x=Input(N, 4), y=State(N), *, W=Param(7, 4), V=Param(7, 4)):
        y = argmax(linear(x + embed(y, W), V))
        return y, {"y": y}

    @model
    def net(X=Input(3, 2, 4)):
        return {"y": scan(greedy(), X)[0]}

    graph = net.graph()
    (body,) = [node.op.body for node in graph if isinstance(node.op, Scan)]
    assert "embed" not in {node.op.name for node in body}
    values = {name: random_arrays(graph)[name] for name in ("X", "greedy/W", "greedy/V")}
    y, wanted = np.zeros(2, int), []
    for x in values["X"]:
        y = ((x + values["greedy/W"][y]) @ values["greedy/V"].T).argmax(-1)
        wanted.append(y)
    whole = check_weights({name: values[name] for name in ("greedy/W", "greedy/V")}, graph, "net")
    assert_array_equal(outputs(graph, values | whole)["y"], wanted)


def test_embed_of_the_number_of_the_step_too() -> None:
    """A net of one step has that number as a state, of which a layer may get any value."""

    @cell
    def positional(x=Input(N, 4), *, W=Param(3, 4)):
        return x + embed(minimum(step_index(), 2), W), {}

    @model
    def net(X=Input(4, 2, 4)):
        return {"y": scan(positional(), X)[0]}

    graph = net.graph()
    (body,) = [node.op.body for node in graph if isinstance(node.op, Scan) and node.op.body.name == "positional"]
    assert "embed" not in {node.op.name for node in body}
    X, W = random_arrays(graph)["X"], np.arange(12.0).reshape(3, 4)
    assert_array_equal(outputs(graph, {"X": X, "positional/W": W})["y"], X + W[[0, 1, 2, 2], None])


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x, w: lstmc.conv(x, w), (3, 2, 5, 4, 4)),
        (lambda x, w: lstmc.conv(x, w, stride=2, pad=(1, 0)), (3, 2, 5, 3, 2)),
        (lambda x, w: lstmc.conv(x, w, dilation=[2, 1]), (3, 2, 5, 2, 4)),
        (lambda x, w: lstmc.max_pool(x, 2), (3, 2, 4, 3, 3)),
        (lambda x, w: lstmc.max_pool(x, (3, 2), stride=1, pad=1), (3, 2, 4, 6, 7)),
        (lambda x, w: lstmc.ave_pool(x, size=4), (3, 2, 4, 2, 2)),
    ],
)
def test_images_may_have_axes_of_time_and_batch(function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    @model
    def net(x=Input(3, 2, 4, 6, 6), w=Param(5, 4, 3, 3)):
        return {"y": function(x, w)}

    (output,) = net.graph().outputs
    assert net.graph().type(output.ref).shape == shape


def test_groups() -> None:
    found, (x, w) = computed(lambda x, w: lstmc.conv(x, w, group=2), (1, 4, 1, 1), (2, 2, 1, 1))
    assert_allclose(found.ravel(), [x[0, :2].ravel() @ w[0].ravel(), x[0, 2:].ravel() @ w[1].ravel()], rtol=1e-12)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x: sum(x, axis=1), lambda x: x.sum(axis=1)),
        (lambda x: sum(x, axis=-3), lambda x: x.sum(axis=0)),
        (sum, np.sum),
        (lambda x: mean(x, axis=-1), lambda x: x.mean(axis=2)),
        (mean, np.mean),
    ],
)
def test_sums_and_means(function: Callable[..., Any], wanted: Callable[..., Any]) -> None:
    found, (x,) = computed(function, (2, 3, 4))
    assert_allclose(found, wanted(x), rtol=1e-12)


def test_losses_can_be_added_up() -> None:
    @model
    def net(x=Input(3, 2, 5), y=Input(3, 2), z=Input(3, 2, 5)):
        loss = softmax_loss(x, y) + 0.3 * euclidean_loss(x, z) - sigmoid_cross_entropy_loss(x, z) / 2
        return {"loss": loss, "right": accuracy(x, y, top_k=2)}

    rng = np.random.default_rng(1)
    x, y, z = rng.normal(size=(3, 2, 5)), rng.integers(0, 5, (3, 2)), rng.uniform(size=(3, 2, 5))
    run = forward(net.graph(), {"x": x, "y": y, "z": z})
    entropy = -np.take_along_axis(special.log_softmax(x, axis=2), y[..., None], axis=2).mean()
    p = special.expit(x)
    cross = -(z * np.log(p) + (1 - z) * np.log(1 - p)).mean()
    assert_allclose(run.outputs["loss"], entropy + 0.3 * ((x - z) ** 2).sum() / 6 - cross / 2, rtol=1e-12)
    gradients = backward(run, {"loss": 1.0}).inputs
    softmax = (special.softmax(x, axis=2) - np.eye(5)[y]) / 6
    assert_allclose(gradients["x"], softmax + 0.1 * (x - z) - (p - z) / 60, rtol=1e-12, atol=1e-15)
    assert not gradients["y"].any()


def test_what_labels_and_indices_must_be_is_known_of_the_inputs() -> None:
    @cell
    def word(x=Input(N), h=State(N, 4), *, W=Param(9, 4)):
        h = h + embed(x, W)
        return h, {"h": h}

    @model
    def net(X=Input(T, N), y=Input(N)):
        _, last = scan(word(), X)
        return {"loss": softmax_loss(last["h"], y, ignore_label=-1)}

    graph = net.graph(T=3, N=2)
    found = {node.name: node.op.values for node in graph if isinstance(node.op, InputOp)}
    assert found == {"X": IntegerRange(0, 8), "y": IntegerRange(0, 3, -1)}


def dropouts(graph: Graph) -> list[Dropout]:
    found = []
    for node in graph:
        if isinstance(node.op, Scan):
            found += dropouts(node.op.body)
        elif isinstance(node.op, Dropout):
            found.append(node.op)
    return found


def test_each_dropout_draws_for_itself_and_every_tracing_alike() -> None:
    @cell
    def noisy(x=Input(N, 4), h=State(N, 4)):
        h = dropout(h + x, 0.25)
        return h, {"h": h}

    @model
    def net(X=Input(T, N, 4)):
        y, _ = scan(noisy(), dropout(X))
        z, _ = scan(noisy(), dropout(X))
        return {"y": y, "z": z}

    graph = net.graph(T=3, N=2)
    found = dropouts(graph)
    assert len({op.draw for op in found}) == len(found) == 4
    assert {op.ratio for op in found} == {0.5, 0.25}
    assert net.graph(T=3, N=2) == graph
    arrays = random_arrays(graph)
    assert_array_equal(outputs(graph, arrays)["y"], np.cumsum(arrays["X"], axis=0))
