"""Models as ONNX, imported again: the same cells, and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from lstmc.errors import PassError
from lstmc.importers.importer import from_onnx
from lstmc.interp import forward, named_rng
from lstmc.ir import Graph, Scan
from lstmc.ops import Array, Input
from lstmc.patterns import GRU, LSTM, RNN, recognise
from lstmc.pipeline import compile_graph
from lstmc.prepare import deploy_graph
from lstmc.testing import SeededDraw
from lstmc.verification.differential import random_inputs
from lstmc.weights import initial_weights
from lstmc_onnx import OnnxBackend
from tests.alike import structure
from tests.backends.lstmc_onnx.test_layers import layered
from tests.backends.lstmc_onnx.test_models import CELLS, LAYERS
from tests.cells.scanned import cell_graph, drawn, with_all_ops
from tests.importers.imported import Imported, imported
from tests.quick_sample import one_in
from tests.random_models.models import RandomModel, seeded_model

BACKEND = OnnxBackend()


def again(graph: Graph, weights: Mapping[str, Array], inputs: Mapping[str, Array], form: str | None) -> Imported:
    """A model written and imported; its numbers are the model's own."""
    artifact = BACKEND.emit(compile_graph(graph, BACKEND, form=form), weights)
    made = imported(from_onnx(onnx.load_model_from_string(artifact.files[artifact.net])).described)
    found = made.interpreted({name.replace("/", "_"): array for name, array in inputs.items()})
    wanted = forward(graph, inputs, weights).outputs
    for (name, array), other in zip(wanted.items(), found.values(), strict=True):
        np.testing.assert_allclose(other, array, rtol=1e-5, atol=1e-6, err_msg=name)
    return made


def kinds(graph: Graph) -> list[tuple[object, ...]]:
    """What the scans of a graph compute, as equations without the names of weights; of both directions of one in any
    order."""
    found = [recognise(graph, node.name) for node in graph if isinstance(node.op, Scan)]
    return sorted((equations(f) for f in found if isinstance(f, LSTM | GRU | RNN)), key=repr)


def equations(found: LSTM | GRU | RNN) -> tuple[object, ...]:
    """Biases are added up, so it counts whether a gate has some."""
    gates = {
        name: (gate.activation, len(gate.entering), len(gate.recurrent), bool(gate.biases), gate.peephole is not None)
        for name, gate in found.gates().items()
    }
    more = (found.reset_after,) if isinstance(found, GRU) else (found.activation,) if isinstance(found, LSTM) else ()
    read = tuple(result.of for result in found.results if result.read)
    masks = (found.reset is not None, found.valid is not None and found.valid.lengths is not None)
    return type(found), found.units, found.steps, found.reverse, gates, more, read, masks


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_as_the_cell_that_it_was(name: str) -> None:
    graph = cell_graph(name, (3, 2))
    values = drawn(name, graph)
    made = again(graph, values.weights, values.inputs, "lstm-op")
    if name != "lstm_cifg":  # of coupled gates there is f alone in ours, and i alone in ONNX's
        assert kinds(made.graph) == kinds(graph)
    assert len(kinds(made.graph)) == 1


def coupled(found: LSTM | GRU | RNN) -> bool:
    """Of coupled gates there is f alone in some of ours, and i alone in ONNX's; of a GRU z may be of what is new."""
    return (isinstance(found, LSTM) and found.i is None) or (isinstance(found, GRU) and found.update_new)


def of_layers(seed: int) -> tuple[int, int]:
    """How many scans of a random model of layers come back as they were, of how many."""
    model, _ = layered(SeededDraw(seed))
    graph = model.graph()
    inputs = random_inputs(compile_graph(graph, BACKEND), seed)
    made = again(graph, initial_weights(graph, seed), inputs, "lstm-op")
    scans = [recognise(graph, node.name) for node in graph if isinstance(node.op, Scan)]
    own = [found for found in scans if isinstance(found, LSTM | GRU | RNN)]
    found, wanted = kinds(made.graph), kinds(graph)
    assert len(found) == len(wanted)
    if any(map(coupled, own)):
        return 0, len(own)
    assert found == wanted
    return len(own), len(own)


@pytest.mark.slow
def test_random_layers_come_back_with_the_same_equations_and_numbers() -> None:
    same, every = map(sum, zip(*map(of_layers, range(6)), strict=True))
    assert same >= every // 2


# These have a product less or a reshape more: one product for two, a bias of an image, a weight that is stored turned;
# or less that is computed from weights alone, which the file has as numbers.
OTHERWISE = (
    *("antisymmetric", "clockwork", "conv_gru", "conv_lstm", "linoss", "lmu", "mamba", "pointer"),
    *("gru_blocks", "lru", "lstm_blocks", "mamba2", "retnet", "rwkv6", "rwkv7", "s5", "slstm_heads"),
)


def sampled_cells() -> Iterator[Any]:
    """One cell in four, and some that have all ops of cells; the others are in ``make exhaustive``."""
    sampled = {*CELLS[::4], *with_all_ops(CELLS)}
    for name in CELLS:
        yield pytest.param(name, marks=pytest.mark.slow if name in sampled else pytest.mark.exhaustive)


@pytest.mark.parametrize("name", [*sampled_cells()])
def test_a_cell_comes_back_as_the_same_graph(name: str) -> None:
    """Names aside: as it is after the passes that both went through."""
    graph = cell_graph(name, (3, 2))
    values = drawn(name, graph)
    made = again(graph, values.weights, values.inputs, "scan")
    found, wanted = (structure(compile_graph(each, BACKEND, form="scan").expanded) for each in (made.graph, graph))
    assert (found == wanted) is (name not in OTHERWISE)


@pytest.mark.parametrize("name", one_in(3, CELLS[::3]))
def test_cells_come_back_as_loops_and_step_by_step(name: str) -> None:
    assert_comes_back(name, ("scan", "unrolled")[CELLS.index(name) % 2])


@pytest.mark.parametrize(
    ("name", "form"), [("clockwork", "scan"), ("phased_lstm", "scan"), ("phased_lstm", "unrolled")]
)
def test_cells_that_round_and_read_one_number_a_step_come_back(name: str, form: str) -> None:
    assert_comes_back(name, form)


def assert_comes_back(name: str, form: str) -> None:
    graph = cell_graph(name, (3, 2))
    values = drawn(name, graph)
    again(graph, values.weights, values.inputs, form)


def random_round_trip(model: RandomModel) -> str:
    try:
        graph = deploy_graph(model.graph())
    except PassError:
        return "for training alone"
    inputs = random_inputs(compile_graph(graph, BACKEND, form="unrolled"), model.seed)
    for node in graph:
        if isinstance(node.op, Input) and node.name not in inputs:
            assert node.op.fill is not None
            inputs[node.name] = node.op.fill.draw(named_rng(0, node.name), node.op.shape)
    again(graph, initial_weights(graph, model.seed), inputs, "unrolled")
    return "same"


@pytest.mark.slow
def test_random_models_come_back_with_the_same_numbers() -> None:
    found = Counter(random_round_trip(seeded_model(seed)) for seed in range(10))
    assert found["same"] >= 7, found
