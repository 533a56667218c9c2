"""Every order in which four gates can be packed becomes LSTMUnit, by the layer's equations and by the model's."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from lstmc import Input, Param, State, Value, cell, dims, linear, sigmoid, split, tanh, uniform
from lstmc.backend import load_backend
from lstmc.dsl import Cell, CellModel
from lstmc.interp import backward, forward, named_rng
from lstmc.ops import Input as CoreInput
from lstmc.ops import Param as CoreParam
from lstmc.pipeline import compile_graph
from lstmc.weights import unpack_weights
from lstmc_caffe import ops as caffe
from lstmc_caffe.write.artifact import written_net
from tests.quick_sample import one_in

N, D, H = dims("N D H")
FILL = uniform(-0.5, 0.5)


def in_order(order: str) -> Cell:
    @cell
    def lstm(
        x: Value = Input(N, D),
        h: Value = State(N, H),
        c: Value = State(N, H),
        *,
        W_x: Value = Param(4 * H, D, fill=FILL),
        b: Value = Param(4 * H, fill=FILL),
        W_h: Value = Param(4 * H, H, fill=FILL),
    ) -> tuple[Value, dict[str, Value]]:
        gates = dict(zip(order, split(linear(x, W_x) + linear(h, W_h, b), 4), strict=True))
        c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * tanh(gates["g"])
        h = sigmoid(gates["o"]) * tanh(c)
        return h, {"h": h, "c": c}

    return lstm


@pytest.mark.parametrize("order", one_in(5, ("".join(p) for p in permutations("ifog"))))
@pytest.mark.parametrize("target", ["caffe", "caffe-native"])
def test_order(order: str, target: str) -> None:
    whole = CellModel(in_order(order)).graph(T=3, N=2, D=3, H=4)
    graph = whole.returning([o.name for o in whole.outputs if o.name != "c_T"])
    built = compile_graph(graph, load_backend("caffe"), target)
    layers = [node for node in built.expanded if isinstance(node.op, caffe.LSTMUnit | caffe.LSTM)]
    assert len(layers) == (3 if target == "caffe" else 1)

    def leaves(kind: type) -> dict[str, np.ndarray]:
        found = [node for node in graph if isinstance(node.op, kind)]
        return {n.name: named_rng(0, n.name).uniform(-1, 1, n.types[0].shape) for n in found}

    inputs, params = leaves(CoreInput), leaves(CoreParam)
    runs = [forward(g, inputs, params) for g in (graph, built.expanded)]
    ct = {name: named_rng(1, name).uniform(-1, 1, value.shape) for name, value in runs[0].outputs.items()}
    wanted, found = (backward(run, ct) for run in runs)
    for name, value in runs[0].outputs.items():
        assert_allclose(runs[1].outputs[name], value, rtol=1e-12, atol=1e-12)
    for name, value in (wanted.inputs | wanted.params).items():
        assert_allclose((found.inputs | found.params)[name], value, rtol=1e-11, atol=1e-11, err_msg=name)
    # and the user's parameters are read back from the re-ordered blobs, exactly
    weights = written_net(built).weights
    again = unpack_weights(weights, forward(weights, params=params).outputs)
    assert list(again)
    assert all(np.array_equal(again[name], params[name]) for name in again)
