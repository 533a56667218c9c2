"""Functions of keras.ops with each setting, alone and at each step inside of TimeDistributed, against Keras."""

from __future__ import annotations

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import pytest

from lstmc.importers.frontends.keras_calls import Settings
from lstmc.importers.frontends.keras_ops import HANDLERS, Operation
from lstmc.importers.frontends.layers import Layers
from lstmc.importers.ir.net import NetBuilder
from lstmc.importers.refusal import Refused
from lstmc.interp import forward
from lstmc.ops import Array

X = np.random.default_rng(4).normal(size=(2, 3, 4, 6)).astype(np.float32).astype(np.float64)  # [N, T, 4, 6]
WHOLE = slice(None)
# The function in keras.ops, its arguments after x, its settings.
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    *((name, [], {"axis": axis, "keepdims": keep}) for name in ("Mean", "Sum", "Max", "Min", "Amax", "Amin")
      for axis in (1, -1, [1, 2]) for keep in (False, True)),
    *((name, [], {"axis": axis, "keepdims": keep}) for name in ("Argmax", "Argmin") for axis in (1, -1)
      for keep in (False, True)),
    *((name, [], {"axis": axis}) for name in ("Softmax", "LogSoftmax") for axis in (1, 2, -1)),
    *(("GetItem", [key], {}) for key in (
        [WHOLE, 1], [WHOLE, slice(1, 3)], [Ellipsis, -1], [WHOLE, None, slice(0, 2)], [Ellipsis, slice(None, None, 2)],
        [WHOLE, -2, 3], [WHOLE, Ellipsis, None], [WHOLE, slice(None), slice(5, 0, -2)])),
    *(("Split", [], {"indices_or_sections": parts, "axis": axis}) for parts, axis in (
        (2, 1), (3, -1), ([1, 3], 1), ([5], 2), (4, 1))),
    *(("ExpandDims", [], {"axis": axis}) for axis in (1, 2, -1)),
    *(("Transpose", [], {"axes": axes}) for axes in ([0, 2, 1], [0, 1, 2])),
    *(("Reshape", [], {"newshape": shape}) for shape in ((-1, 24), (-1, 8, 3))),
    *(("Einsum", [], {"subscripts": text}) for text in ("nab,nab->na", "nab, nab -> nba", "nab,ncb->nac")),
    ("Matmul", [], {}),
    *(("Round", [], {"decimals": decimals}) for decimals in (0, 1)),
    *(("Gelu", [], {"approximate": approximate}) for approximate in (True, False)),
    *(("Cast", [], {"dtype": dtype}) for dtype in ("float32", "float64")),
    *((name, [], {}) for name in ("ZerosLike", "OnesLike")),
    *((name, [], {}) for name in ("Tan", "Sinh", "Cosh", "Arcsinh")),
    *((name, [2], {}) for name in ("Power", "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum")),
]  # fmt: skip
NAMES = {"LogSoftmax": "log_softmax", "ExpandDims": "expand_dims", "ZerosLike": "zeros_like", "OnesLike": "ones_like"}


def by_keras(name: str, x: Array, args: list[Any], config: dict[str, Any]) -> list[Array]:
    if name == "GetItem":
        return [x[tuple(args[0])]]
    function: Any = getattr(keras.ops, NAMES.get(name, name.lower()))
    if name == "Einsum":
        found = function(config["subscripts"], x, x)
    elif name == "Matmul":
        found = function(x, np.swapaxes(x, -1, -2))
    else:
        settings = {key: tuple(one) if isinstance(one, list) and key == "axis" else one for key, one in config.items()}
        found = function(x, *args, **settings)
    return [one.detach().numpy() for one in (found if isinstance(found, list | tuple) else [found])]


def read(name: str, x: Array, args: list[Any], config: dict[str, Any], lead: int) -> list[Array]:
    layers = Layers(NetBuilder("net", "a test"))
    layers.at("step", "a node")
    layers.builder.input("x", x.shape)
    operands: list[Any] = ["x", *args]
    if name == "Einsum":
        operands = ["x", "x"]
    if name == "Matmul":
        operands = ["x", layers.turned("x")]
    values = HANDLERS[name](layers, Operation(Settings(config), operands, lead))
    for at, value in enumerate([values] if isinstance(values, str) else values):
        layers.builder.outputs[f"out{at}"] = layers.value(value)
    net = layers.builder.finish(every_input=True)
    weights = {title: weight.array() for title, weight in net.params.items()}
    found = forward(net.graph, {"x": x}, weights).outputs
    return [found[title] for title in layers.builder.outputs]


@pytest.mark.parametrize("name", [f"{at} {case[0]}" for at, case in enumerate(CASES)])
def test_an_operation_alone_and_at_each_step(name: str) -> None:
    function, args, config = CASES[int(name.partition(" ")[0])]
    at_steps = [by_keras(function, X[:, t], args, config) for t in range(X.shape[1])]
    for found, wanted in zip(read(function, X[:, 0], args, config, 1), at_steps[0], strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for found, *steps in zip(read(function, X, args, config, 2), *at_steps, strict=True):
        np.testing.assert_allclose(found, np.stack(steps, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "args", "config"), [
    ("Mean", [], {"axis": 0}), ("Mean", [], {}), ("Argmax", [], {}), ("Softmax", [], {"axis": 0}),
    ("GetItem", [[0]], {}), ("GetItem", [[slice(0, 1), 1]], {}), ("Transpose", [], {"axes": [1, 0, 2]}),
    ("Transpose", [], {}), ("ExpandDims", [], {"axis": 0}), ("Squeeze", [], {}),
    ("Split", [], {"indices_or_sections": 2}),
    ("Einsum", [], {"subscripts": "nab,mab->nm"}), ("Einsum", [], {"subscripts": "Zab,Zab->Z"}),
])  # fmt: skip
def test_an_axis_that_is_the_batchs_at_each_step_is_refused(name: str, args: list[Any], config: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="each step is a batch of its own"):
        read(name, X, args, config, 2)


def test_a_split_is_along_the_first_axis_by_default() -> None:
    x = X[:, 0]
    found = read("Split", x, [], {"indices_or_sections": 2}, 1)
    np.testing.assert_allclose(found, np.split(x, 2), rtol=1e-6)


@pytest.mark.parametrize(("name", "args", "config"), [
    ("Split", [], {"indices_or_sections": 5, "axis": 1}), ("Split", [], {"indices_or_sections": 0, "axis": 1}),
    ("Power", ["x"], {}), ("Power", [], {}), ("GetItem", [["x"]], {}), ("GetItem", [[np.ones(2)]], {}),
    ("Argmax", [], {"axis": [1]}), ("Transpose", [], {"axes": 1}),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(name: str, args: list[Any], config: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read(name, X[:, 0], args, config, 1)
