"""Activations, and one of two values: by PyTorch, forward and backward, and in real Caffe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import lstmc
from lstmc import Input, Model, Param, State, cell, linear, model, scan, tanh, uniform
from lstmc.interp import backward, forward
from lstmc.weights import random_weights
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.nets import assert_caffe_agrees, compiled
from tests.dsl.conftest import UserFile

N, D, H = 3, 4, 5
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "leaky_relu": (lambda a, b: lstmc.leaky_relu(a, 0.1), lambda a, b: functional.leaky_relu(a, 0.1)),
    "clip": (lambda a, b: lstmc.clip(a, -0.7, high=0.4), lambda a, b: torch.clamp(a, -0.7, 0.4)),
    "hard_sigmoid": (lambda a, b: lstmc.hard_sigmoid(a), lambda a, b: torch.clamp(0.2 * a + 0.5, 0, 1)),
    "hard_sigmoid of PyTorch": (lambda a, b: lstmc.hard_sigmoid(a, 1 / 6), lambda a, b: functional.hardsigmoid(a)),
    "hard_tanh": (lambda a, b: lstmc.hard_tanh(a), lambda a, b: functional.hardtanh(a)),
    "log_sigmoid": (lambda a, b: lstmc.log_sigmoid(a), lambda a, b: functional.logsigmoid(a)),
    "softsign": (lambda a, b: lstmc.softsign(a), lambda a, b: functional.softsign(a)),
    "sqrt": (lambda a, b: lstmc.sqrt(1.5 + lstmc.tanh(a)), lambda a, b: torch.sqrt(1.5 + torch.tanh(a))),
    "rsqrt": (lambda a, b: lstmc.rsqrt(1.5 + lstmc.tanh(a)), lambda a, b: torch.rsqrt(1.5 + torch.tanh(a))),
    "square": (lambda a, b: lstmc.square(a), lambda a, b: torch.square(a)),
    "silu": (lambda a, b: lstmc.silu(a), lambda a, b: functional.silu(a)),
    "gelu": (lambda a, b: lstmc.gelu(a), lambda a, b: functional.gelu(a, approximate="tanh")),
    "stop_gradient": (lambda a, b: lstmc.stop_gradient(a) * b, lambda a, b: a.detach() * b),
    "step": (lambda a, b: lstmc.step(a) * b, lambda a, b: (a > 0) * b),
    "maximum": (lstmc.maximum, torch.maximum),
    "maximum of a row": (lambda a, b: lstmc.maximum(_row(b), a), lambda a, b: torch.maximum(a, b.flatten()[:H])),
    "maximum and a number": (lambda a, b: lstmc.maximum(0.3, a), lambda a, b: torch.clamp(a, min=0.3)),
    "minimum": (lstmc.minimum, torch.minimum),
    "minimum and a number": (lambda a, b: lstmc.minimum(a, 0.3), lambda a, b: torch.clamp(a, max=0.3)),
    "where": (lambda a, b: lstmc.where(_mask(a), a, b), lambda a, b: torch.where(a > 0.6, a, b)),
    "where one is a number": (lambda a, b: lstmc.where(_mask(a), 2, b), lambda a, b: torch.where(a > 0.6, 2.0, b)),
    "where both are": (lambda a, b: b * lstmc.where(_mask(a), 2, -1), lambda a, b: b * torch.where(a > 0.6, 2, -1)),
}


def _row(b: Any) -> Any:
    return lstmc.split(lstmc.reshape(b, N * H), [H, (N - 1) * H])[0]


def _mask(a: Any) -> Any:
    """1 where a is above 0.6, as far as arithmetic can say it."""
    return lstmc.clip((a - 0.6) * 1e6, 0, 1)


def model_of(function: Callable[..., Any]) -> Model:
    @model
    def net(a: Any = Input(N, H), b: Any = Input(N, H)) -> Any:
        return {"y": function(a, b)}

    return net


@pytest.mark.parametrize(
    ("ours", "theirs", "bound"),
    [
        (lambda a, b: lstmc.erf(a), torch.erf, 1.5e-7),
        (lambda a, b: lstmc.gelu(a, approximate=False), functional.gelu, 1e-6),
    ],
)
def test_the_error_function_is_as_near_as_it_says(ours, theirs, bound) -> None:  # type: ignore[no-untyped-def]
    a = np.linspace(-6, 6, N * H).reshape(N, H)
    found = forward(model_of(ours).graph(), {"a": a, "b": a}).outputs["y"]
    np.testing.assert_allclose(found, theirs(torch.tensor(a)).numpy(), rtol=0, atol=bound)


@pytest.mark.parametrize("name", CASES)
def test_functions_and_their_gradients_are_those_of_pytorch(name: str) -> None:
    ours, theirs = CASES[name]
    rng = np.random.default_rng(len(name))
    arrays = {name: rng.uniform(-2, 2, (N, H)) for name in "ab"}
    arrays["a"][0, 0], arrays["b"][0, 0] = 5.0, -5.0
    seed = rng.uniform(-1, 1, (N, H))
    run = forward(model_of(ours).graph(), arrays)
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    expected = theirs(tensors["a"], tensors["b"])
    (expected * torch.tensor(seed)).sum().backward()
    np.testing.assert_allclose(run.outputs["y"], expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    found = backward(run, {"y": seed})
    for name, tensor in tensors.items():
        wanted = np.zeros((N, H)) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(found.inputs[name], wanted, rtol=1e-7, atol=1e-12)  # PyTorch's 1 / 6 is a float32


def test_where_two_values_are_equal_the_gradient_of_their_maximum_is_the_second_ones() -> None:
    arrays = {"a": np.ones((N, H)), "b": np.ones((N, H))}
    found = backward(forward(model_of(lstmc.maximum).graph(), arrays), {"y": np.full((N, H), 2.0)})
    np.testing.assert_array_equal(found.inputs["a"], np.zeros((N, H)))
    np.testing.assert_array_equal(found.inputs["b"], np.full((N, H), 2.0))


def scanned(name: str) -> Model:
    """A cell with the function in it, on a state and on a product."""
    function = CASES[name][0] if "row" not in name and "where" not in name else _IN_CELLS[name]
    fill = uniform(-0.9, 0.9)

    @cell
    def gate(
        x: Any = Input(N, D), h: Any = State(N, H), *, W: Any = Param(H, D, fill=fill), p: Any = Param(H, fill=fill)
    ) -> Any:
        z = linear(x, W) + 0.3
        h = tanh(z + p * function(z, h + p))
        return h, {"h": h}

    @model
    def net(x: Any = Input(3, N, D)) -> Any:
        return scan(gate(), x)[0]

    return net


_IN_CELLS = {
    "maximum of a row": lambda z, h: lstmc.maximum(z, lstmc.split(lstmc.reshape(h, N * H), [H, (N - 1) * H])[0]),
    "where": lambda z, h: lstmc.where(lstmc.sigmoid(z), h, z),
    "where one is a number": lambda z, h: lstmc.where(lstmc.sigmoid(z), 2, h),
    "where both are": lambda z, h: h * lstmc.where(lstmc.sigmoid(z), 2, -1),
}


@pytest.mark.caffe
@pytest.mark.parametrize("name", CASES)
def test_real_caffe_agrees_forward_and_backward(caffe: Runner, name: str) -> None:
    net = compiled(scanned(name))
    assert_caffe_agrees(caffe, net, random_weights(net.model, 0))


BODY = '@model\ndef net(x=Input(N, H), y=Input(N, H)):\n    return {{"z": {}}}\n'


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("maximum(1, 2)", "DslError: maximum takes a Value and another one or a number, found two numbers"),
        ("minimum(x, 'y')", "DslError: minimum takes Values, found str 'y'"),
        ("clip(x, 1, 0)", "DslError: clip: expected low <= high, found low 1.0 and high 0.0"),
        ("clip(x, 0, y)", "DslError: clip: high must be a number, found a Value"),
        ("where(1, x, y)", "DslError: where takes Values, found int 1"),
        ("where(x, None, y)", "DslError: where takes Values, found None"),
        ("silu(3)", "DslError: silu takes Values, found int 3"),
        ("hard_sigmoid(x, y)", "DslError: hard_sigmoid: slope must be a number, found a Value"),
    ],
)
def test_errors(user: UserFile, call: str, message: str) -> None:
    assert user.refused(BODY.format(call), N=2, H=3).startswith(f"{message}\n  user.py:7:")


def test_a_formula_is_called_by_the_name_that_it_is_assigned_to(user: UserFile) -> None:
    graph = user.graph("@model\ndef net(x=Input(N, H)):\n    y = gelu(x)\n    return y\n", N=2, H=3)
    assert [output.ref.node for output in graph.outputs] == ["y"]


def test_minus_infinity_is_a_number_whose_exp_is_zero_beside_any_other() -> None:
    @model
    def net(X: Any = Input(N, H), mask: Any = Input(N, H)) -> Any:
        masked = lstmc.exp(lstmc.where(mask, X, -math.inf)) + lstmc.exp(lstmc.full((N, H), -math.inf))
        return {"masked": masked, "small": lstmc.where(mask, 0.5, -math.inf)}

    X, mask = np.random.default_rng(0).normal(size=(N, H)), np.arange(N * H).reshape(N, H) % 2
    found = forward(net.graph(), {"X": X, "mask": mask}).outputs
    np.testing.assert_array_equal(found["masked"], np.where(mask, np.exp(X), 0))
    np.testing.assert_array_equal(found["small"], np.where(mask, 0.5, -1e30))
