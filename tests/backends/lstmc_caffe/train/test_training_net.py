"""The net that a model is trained by: its phases, its loss weights, its data, and what real Caffe makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc import (
    Input,
    Param,
    accuracy,
    dims,
    dropout,
    embed,
    euclidean_loss,
    last_valid,
    linear,
    mean,
    model,
    scan,
    sigmoid_cross_entropy_loss,
    softmax,
    softmax_loss,
    uniform,
)
from lstmc.backend import Compiled
from lstmc.backend.compiled import TrainingData
from lstmc.cells import lstm
from lstmc.errors import BackendError
from lstmc.files.output import write_files
from lstmc.interp import backward, forward, named_rng
from lstmc.ir import Graph
from lstmc.ops import Array
from lstmc.pipeline import compile_graph
from lstmc.prepare import training_graph
from lstmc.weights import initial_weights, unpack_weights
from lstmc_caffe import CaffeBackend, Solver
from lstmc_caffe.proto.net import net_from_text
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.net import Source, carried_outputs, training_files, training_net
from tests.backends.lstmc_caffe.in_worker import set_params
from tests.closeness import relative_gap

T, N = dims("T N")
SOLVER = Solver(type="Adam", base_lr=0.01, max_iter=20, snapshot=10, display=5, test_interval=10)
SIZES = {"T": 4, "N": 3}


@model
def reader(
    ids=Input(T, N),
    cont=Input(T, N),
    lengths=Input(N),
    label=Input(N),
    tags=Input(T, N),
    wish=Input(N, 4),
    E=Param(6, 5, fill=uniform(-0.5, 0.5)),
    W=Param(3, 4, fill=uniform(-0.5, 0.5)),
    V=Param(2, 4, fill=uniform(-0.5, 0.5)),
):
    """A label for each sequence, one for each step, and one more loss, weighed."""
    y, last = scan(lstm(H=4), dropout(embed(ids, E), 0.4), cont=cont, carry=True)
    scores, per_step = linear(last_valid(y, lengths), W), linear(y, V)
    return {
        "prob": softmax(scores),
        "loss": softmax_loss(scores, label)
        + 0.3 * softmax_loss(per_step, tags, ignore_label=-1)
        + 0.2 * euclidean_loss(last["c"], wish),
        "other": sigmoid_cross_entropy_loss(last["h"], wish),
        "accuracy": accuracy(scores, label),
        "size": mean(y),
    }


def compiled(target: str = "caffe") -> Compiled:
    return compile_graph(training_graph(reader.graph(**SIZES)), CaffeBackend(), target)


def batch(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random values for every input that is fed."""
    rng = np.random.default_rng(seed)
    found, carried = {}, graph.carried()
    for node in graph:
        op: Any = node.op
        if op.name == "input" and node.name not in carried:
            drawn = op.values.draw(rng, op.shape) if op.values else rng.normal(size=op.shape)
            found[node.name] = drawn.astype(np.float32)
    return found


def layers(sources: dict[str, Source] | None = None) -> dict[str, Any]:
    return {layer.name: layer for layer in training_net(compiled(), sources or {}).layers()}


def phases(layer: Any) -> list[int]:
    return [rule.phase for rule in layer.include]


def test_only_the_loss_weighs_and_scores_are_for_phase_test() -> None:
    found = layers()
    weights = {name: list(layer.loss_weight) for name, layer in found.items() if layer.loss_weight}
    assert weights.pop("loss") == [1]
    assert weights
    assert all(weight == [0] for weight in weights.values())
    assert [phases(found[name]) for name in ("loss", "accuracy", "other", "ids", "label")] == [[], [1], [1], [], []]


def test_what_caffe_would_show_is_the_loss_and_in_phase_test_the_scores(caffe: Runner) -> None:
    text = CaffeBackend().emit_training(compiled(), SOLVER, None)["reader.train.prototxt"].decode()
    with caffe.load(text, phase="TRAIN") as net:
        assert net.outputs == ("loss",)
    with caffe.load(text, phase="TEST") as net:
        assert sorted(net.outputs) == ["accuracy", "loss", "other", "size"]


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe"])
def test_the_gradients_of_the_training_net_are_the_model_s(caffe: Runner, target: str) -> None:
    """Loss and gradients of all parameters, in phase TEST, where dropout keeps everything."""
    graph = training_graph(reader.graph(**SIZES))
    net = training_net(compile_graph(graph, CaffeBackend(), target), {})
    text = CaffeBackend().emit_training(compiled(target), SOLVER, None)["reader.train.prototxt"].decode()
    weights, arrays = initial_weights(graph, 1), batch(graph)
    carried = {name: np.zeros((3, 4), np.float32) for name in ("lstm/h_0", "lstm/c_0")}
    run = forward(graph, arrays | carried, weights)
    wanted = backward(run, {"loss": 1.0}).params
    with caffe.load(text, phase="TEST") as loaded:
        set_params(caffe, loaded, forward(net.weights, params=weights, dtype=np.float32).outputs)
        found = loaded.run(arrays, want=["loss", "other", "size", "accuracy"], backward={}, want_param_diffs=True)
    for name in ("loss", "other", "size", "accuracy"):
        assert relative_gap(found.blobs[name], run.outputs[name]) < 1e-5, name
    for name, gradient in unpack_weights(net.weights, found.param_diffs).items():
        assert relative_gap(gradient, wanted[name]) < 1e-4, name


def test_states_that_are_carried_are_pairs_of_blobs() -> None:
    assert carried_outputs(compiled()) == {"lstm/h_T": "lstm/h_0", "lstm/c_T": "lstm/c_0"}


def test_without_a_loss_weight_of_its_own_a_loss_of_the_user_s_own_making_is_trained(caffe: Runner) -> None:
    @model
    def squares(X=Input(N, 3), W=Param(2, 3, fill=uniform(-1, 1))):
        y = linear(X, W)
        return {"y": y, "loss": mean(y * y)}

    graph = training_graph(squares.graph(N=4))
    made = compile_graph(graph, CaffeBackend())
    text = CaffeBackend().emit_training(made, SOLVER, None)["squares.train.prototxt"].decode()
    weights, arrays = initial_weights(graph), batch(graph)
    wanted = backward(forward(graph, arrays, weights), {"loss": 1.0}).params
    with caffe.load(text, phase="TRAIN") as net:
        set_params(caffe, net, weights)
        found = net.run(arrays, backward={}, want_param_diffs=True)
    assert relative_gap(found.param_diffs["W"], wanted["W"]) < 1e-5


@dataclass(frozen=True)
class Drawn:
    """Batches of a graph's inputs."""

    graph: Graph
    per_epoch: int
    fingerprint: str = "drawn"

    def batch(self, iteration: int) -> dict[str, Array]:
        return batch(self.graph, iteration)


def run_caffe(caffe: Runner, folder: Path, arguments: Sequence[str]) -> str:
    """What the program that was built with pycaffe says; it must end well."""
    program = caffe.location.caffe_binary
    assert program is not None
    environment = caffe.location.environment() | {"GLOG_minloglevel": "0"}
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.caffe
@pytest.mark.parametrize("target", ["caffe"])
def test_caffe_trains_the_files_as_they_are(caffe: Runner, tmp_path: Path, target: str) -> None:
    made = compiled(target)
    data = TrainingData(Drawn(made.model, 5), Drawn(made.model, 2))
    write_files(tmp_path, training_files(made, SOLVER, data))
    said = run_caffe(caffe, tmp_path, ["train", "--solver=reader.solver.prototxt"])
    assert "Iteration 20, Testing net (#0)" in said
    for score in ("loss", "accuracy", "other", "size"):
        assert f": {score} = " in said
    assert "Optimization Done." in said
    trained, missing = CaffeBackend().read_weights(
        tmp_path / "reader_iter_20.caffemodel", tmp_path / "reader.train.manifest.json"
    )
    first = initial_weights(made.model)
    assert missing == []
    assert {name: array.shape for name, array in trained.items()} == {n: a.shape for n, a in first.items()}
    said = run_caffe(caffe, tmp_path, ["time", "--model=reader.train.prototxt", "--iterations=2"])
    assert "Average Forward-Backward" in said


def test_data_come_in_the_inputs_own_shapes() -> None:
    net = training_net(compiled(), {"TRAIN": Source("a.txt", 3), "TEST": Source("b.txt", 1)})
    found = {layer.name: layer for layer in net.layers()}
    assert [found["data/train"].hdf5_data_param.source, found["data/test"].hdf5_data_param.source] == ["a.txt", "b.txt"]
    tops = ["ids_batch", "cont_batch", "lengths_batch", "label_batch", "tags_batch", "wish_batch"]
    assert [list(found["data/train"].top), phases(found["data/train"])] == [tops, [0]]
    assert [list(found["ids"].bottom), list(found["ids"].reshape_param.shape.dim)] == [["ids_batch"], [4, 3]]
    assert not [layer for layer in found.values() if layer.type == "Input"]


def test_the_text_parses_back_and_the_same_input_gives_the_same_bytes() -> None:
    files = [CaffeBackend().emit_training(compiled(), SOLVER, None) for _ in range(2)]
    assert files[0] == files[1]
    assert sorted(files[0]) == ["reader.solver.prototxt", "reader.train.manifest.json", "reader.train.prototxt"]
    parsed = net_from_text(files[0]["reader.train.prototxt"].decode())
    assert list(parsed.layer) == list(training_net(compiled(), {}).layers())


def test_dropout_is_there_in_training_alone(caffe: Runner) -> None:
    text = CaffeBackend().emit_training(compiled(), SOLVER, None)["reader.train.prototxt"].decode()
    arrays = batch(training_graph(reader.graph(**SIZES)))
    drawn = {}
    for phase in ("TRAIN", "TEST"):
        with caffe.load(text, phase=phase) as net:
            rng = named_rng(0, "E")
            set_params(caffe, net, {"E": rng.uniform(0.1, 1, (6, 5)).astype(np.float32)})
            drawn[phase] = net.run(arrays, want=["dropout_E"]).blobs["dropout_E"]
    assert np.all(drawn["TEST"] > 0)
    assert 0 < np.count_nonzero(drawn["TRAIN"]) < drawn["TRAIN"].size


@pytest.mark.parametrize("term", ["loss + accuracy", "accuracy alone"])
def test_a_loss_without_a_gradient_is_refused(term: str) -> None:
    @model
    def wrong(X=Input(N, 3), label=Input(N), W=Param(2, 3)):
        scores = linear(X, W)
        error = 1 - accuracy(scores, label)
        return {"y": scores, "loss": error + softmax_loss(scores, label) if term == "loss + accuracy" else error}

    made = compile_graph(training_graph(wrong.graph(N=4)), CaffeBackend())
    with pytest.raises(BackendError) as caught:
        training_net(made, {})
    assert caught.value.message == (
        "wrong cannot be trained: its loss has no gradient, as a score such as accuracy has none"
    )


def test_a_loss_that_no_parameter_goes_into_is_refused() -> None:
    @model
    def fixed(X=Input(N, 3), target=Input(N, 3), W=Param(2, 3)):
        return {"y": linear(X, W), "loss": euclidean_loss(0.5 * X, target)}

    with pytest.raises(BackendError) as caught:
        training_net(compile_graph(training_graph(fixed.graph(N=4)), CaffeBackend()), {})
    assert caught.value.message == "fixed cannot be trained: no parameter goes into its loss"
