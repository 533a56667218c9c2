"""Changes for low precision: the meaning stays, the state's own factor is 1, and no op is added."""

from __future__ import annotations

import numpy as np
import pytest

import lstmc
import lstmc.cells
from lstmc import Input, Param, State, Value, cell, dims, linear, sigmoid, split, tanh
from lstmc.backend import load_backend
from lstmc.dsl import CellModel
from lstmc.errors import PluginError
from lstmc.interp import forward
from lstmc.ir import Graph, Ref, Scan
from lstmc.passes import Dead, PassList, convex_updates, with_convex_updates
from lstmc.pipeline import all_passes
from lstmc.weights import parameters

FACTORED = ("mgu", "min_gru", "para_gru")
NEGATED = ("gru", "gru_reset_after", "lstm_cifg", "qrnn", "ugrnn")
N = dims("N")
SIZES = {"D": 3, "H": 4}


def changed(graph: Graph) -> tuple[Graph, dict[str, int]]:
    done = convex_updates.run(graph)
    return Dead().run(done.graph).graph, done.counts


def model_of(name: str) -> Graph:
    sizes = {dim: size for dim, size in SIZES.items() if dim in getattr(lstmc.cells, name).dims}
    return lstmc.compile(name, T=3, N=2, target="flat", **sizes).compiled.model


@pytest.mark.parametrize("name", [*FACTORED, *NEGATED])
def test_outputs_stay(name: str) -> None:
    graph = model_of(name)
    after, counts = changed(graph)
    assert counts == ({"factored": 1} if name in FACTORED else {"negated": 1})
    rng = np.random.default_rng(0)
    inputs = {node.name: rng.standard_normal(node.types[0].shape) for node in graph if node.op.name == "input"}
    weights = {key: rng.standard_normal(op.shape) for key, op in parameters(graph).items()}
    for key, array in forward(graph, inputs, weights).outputs.items():
        assert np.abs(forward(after, inputs, weights).outputs[key] - array).max() < 1e-14
    assert not convex_updates.run(after).modified


@pytest.mark.parametrize("name", [*FACTORED, *NEGATED])
def test_the_written_net_has_no_more_layers_and_its_state_the_factor_one(name: str) -> None:
    sizes = {dim: size for dim, size in SIZES.items() if dim in getattr(lstmc.cells, name).dims}
    options = {"T": 1, "N": 1, "target": "tpu-mlir", "step": True, **sizes}
    plain = lstmc.compile(name, **options)  # type: ignore[arg-type]
    after = lstmc.compile(name, **options, passes=with_convex_updates)  # type: ignore[arg-type]
    assert after.artifact.layers <= plain.artifact.layers
    graph = after.compiled.expanded
    assert after.compiled.states is not None
    moved = 0
    for pair in after.compiled.states:
        ref = next(output.ref for output in graph.outputs if output.name == pair.after)
        while graph.node(ref.node).op.name in ("host.view", "caffe.Scale"):
            ref = graph.args(ref.node)[0]
        moved += Ref(pair.before) in graph.args(ref.node)
    assert moved == 1


def test_a_gate_that_is_no_sigmoid_of_products_is_complemented() -> None:
    graph = model_of("sru")
    assert changed(graph)[1] == {"by_complement": 1}


def test_the_change_is_proved() -> None:
    net = lstmc.compile("gru", T=2, N=1, D=2, H=2, target="flat", passes=with_convex_updates)
    report = net.verify(on=["interpreter"], prove=True)
    assert report.passed
    assert report.proof is not None
    assert report.proof.proved


def test_a_product_of_one_gate_is_negated_whole() -> None:
    @cell
    def leaky(
        x: Value = Input(N, 3),
        h: Value = State(N, 4),
        *,
        W: Value = Param(4, 3),
        V: Value = Param(4, 3),
    ) -> tuple[Value, dict[str, Value]]:
        n = tanh(linear(x, V))
        h = n + sigmoid(linear(x, W)) * (h - n)
        return h, {"h": h}

    after, counts = changed(CellModel(leaky).graph(T=2, N=1))
    assert counts == {"negated": 1}
    (body,) = [node.op.body for node in after if isinstance(node.op, Scan)]
    assert not {node.op.name for node in body} & {"split", "concat"}


def test_a_gate_that_others_read_stays() -> None:
    """h = n + z (h - n), of which z is an output too: 1 - z would be an op more."""

    @cell
    def shared(
        x: Value = Input(N, 3),
        h: Value = State(N, 4),
        *,
        W: Value = Param(8, 3),
    ) -> tuple[Value, dict[str, Value]]:
        a, b = split(linear(x, W), 2)
        z, n = sigmoid(a), tanh(b)
        h = n + z * (h - n)
        return h + z, {"h": h}

    assert not changed(CellModel(shared).graph(T=2, N=1))[1]


@pytest.mark.parametrize(("target", "before"), [("flat", "fuse_linears"), ("noslice", "precompute"), (None, None)])
def test_updates_are_searched_where_products_are_packed(target: str | None, before: str | None) -> None:
    passes = with_convex_updates(all_passes(load_backend("caffe"), target) if target else PassList())
    places = [None, *passes.names]
    assert places[places.index("convex_updates") - 1] == before


def test_a_net_for_the_numbers_of_a_device_is_one_for_its_target() -> None:
    sizes = {"T": 1, "N": 1, "D": 2, "H": 3}
    assert lstmc.compile("gru", numbers="rknn-int8", **sizes).options.target == "rknn"
    with pytest.raises(PluginError, match="target rknn is one of backend caffe"):
        lstmc.compile("gru", backend="torch", numbers="rknn-int8", **sizes)
