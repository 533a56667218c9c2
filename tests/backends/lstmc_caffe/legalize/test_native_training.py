"""Training the unrolled net and training Caffe's own layers is the same: the same weights after as many updates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstmc import Input, Value, dims, euclidean_loss, model, scan
from lstmc.backend import load_backend, load_cell
from lstmc.backend.compiled import TrainingRequest
from lstmc.dsl import Cell, Model
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import training_graph
from lstmc.runs.solver import Solver
from lstmc.weights import initial_weights
from lstmc_caffe import ops as caffe_ops
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.net import train
from tests.backends.lstmc_caffe.legalize.recurrent_models import elman
from tests.backends.lstmc_caffe.train.training_nets import Told

T, N, D, H = dims("T N D H")
STEPS, BATCH, WIDTH, UNITS, UPDATES = 6, 4, 3, 5, 20
LARGEST = 1e-4  # how far apart a weight may be afterwards
SOLVERS = {
    "sgd": Solver(base_lr=0.1, momentum=0.9, weight_decay=0.01, max_iter=UPDATES),
    "adam": Solver(type="Adam", base_lr=0.02, max_iter=UPDATES),
}


def fitted(step: Cell, cont: bool, carry: bool) -> Model:
    """The cell's outputs, made like those wanted."""

    @model
    def plain(X: Value = Input(T, N, D), wanted: Value = Input(T, N, H)) -> dict[str, Value]:
        y, _ = scan(step(H=H, name="cell"), X, carry=carry)
        return {"y": y, "loss": euclidean_loss(y, wanted)}

    @model
    def with_cont(
        X: Value = Input(T, N, D), wanted: Value = Input(T, N, H), C: Value = Input(T, N)
    ) -> dict[str, Value]:
        y, _ = scan(step(H=H, name="cell"), X, cont=C, carry=carry)
        return {"y": y, "loss": euclidean_loss(y, wanted)}

    return with_cont if cont else plain


class RandomBatches:
    """Standard normal arrays, and indicators of which three of four go on."""

    per_epoch = UPDATES
    fingerprint = "standard normal"

    def __init__(self, cont: bool) -> None:
        self.cont = cont

    def batch(self, iteration: int) -> dict[str, Array]:
        rng = np.random.default_rng(iteration)
        shapes = {"X": (STEPS, BATCH, WIDTH), "wanted": (STEPS, BATCH, UNITS)}
        arrays: dict[str, Array] = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        return arrays | ({"C": (rng.random((STEPS, BATCH)) < 0.75).astype(float)} if self.cont else {})


@pytest.mark.caffe
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("cont", [False, True], ids=["", "cont"])
@pytest.mark.parametrize("carry", [False, True], ids=["", "carry"])
@pytest.mark.parametrize("name", ["lstm", "rnn"])
def test_twenty_updates(caffe: Runner, tmp_path: Path, name: str, carry: bool, cont: bool, solver: str) -> None:
    made = fitted(load_cell("lstm") if name == "lstm" else elman, cont, carry)
    graph = training_graph(made.graph(T=STEPS, N=BATCH, D=WIDTH, H=UNITS))
    weights = initial_weights(graph, 1)
    trained, losses = {}, {}
    for target in ("caffe", "caffe-native"):
        built = compile_graph(graph, load_backend("caffe"), target)
        native = [node for node in built.expanded if isinstance(node.op, caffe_ops.LSTM | caffe_ops.RNN)]
        assert len(native) == (target == "caffe-native")
        told = Told()
        run = TrainingRequest(tmp_path / target, RandomBatches(cont), None, told, lambda: False)
        trained[target] = train(caffe, built, weights, SOLVERS[solver], run).weights
        losses[target] = [loss for _, loss, _ in told.steps]
    np.testing.assert_allclose(losses["caffe-native"], losses["caffe"], rtol=1e-5)
    assert len(losses["caffe"]) == UPDATES
    for parameter, value in weights.items():
        moved = np.abs(trained["caffe"][parameter] - value).max()
        apart = np.abs(trained["caffe-native"][parameter] - trained["caffe"][parameter]).max()
        assert moved > 100 * LARGEST, parameter
        assert apart < LARGEST, parameter
