"""Training in PyTorch: the updates of real Caffe, step by step; runs that stop and go on; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lstmc
from lstmc import (
    Input,
    Param,
    Solver,
    accuracy,
    const,
    dims,
    dropout,
    euclidean_loss,
    linear,
    model,
    scan,
    softmax_loss,
    uniform,
    xavier,
)
from lstmc.api.models import ModelSource
from lstmc.api.options import TrainingOptions
from lstmc.api.training import fit_data, iterations_of_epochs
from lstmc.backend.compiled import Trained, TrainingRequest
from lstmc.cells import gru
from lstmc.dsl.model import Model
from lstmc.errors import BackendError, ModelFileError, TrainingError
from lstmc.pipeline import compile_graph
from lstmc.prepare import training_graph
from lstmc.runs.solver import TYPES
from lstmc.weights import initial_weights
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import CaffeEngine
from lstmc_torch import TorchBackend
from lstmc_torch.trainer import TorchEngine, train
from tests.backends.lstmc_caffe.train.training_nets import NEEDED, Drawn, Told, line, run_of, same

pytestmark = pytest.mark.caffe
torch.set_num_threads(1)  # others wait in loops, which costs most on a busy machine
T, N = dims("T N")


@model
def lined(x=Input(4, 3), t=Input(4, 2), W=Param(2, 3), b=Param(2, lr_mult=2, decay_mult=0)):
    """As the net ``line`` in Caffe's text."""
    return {"loss": 0.5 * euclidean_loss(linear(x, W, b), t)}


def engine(of: Model, solver: Solver, weights: dict[str, Any]) -> TorchEngine:
    return TorchEngine(compile_graph(training_graph(of.graph()), TorchBackend()), weights, solver)


@pytest.mark.parametrize(
    "settings",
    [
        *({"type": kind, **more} for kind in TYPES for more in ({}, {"weight_decay": 0.1, "clip_gradients": 0.5})),
        *({"lr_policy": policy, "momentum": 0.5, **more} for policy, more in NEEDED.items()),
        {"weight_decay": 0.3, "regularization_type": "L1"},
        {"iter_size": 2, "clip_gradients": 0.5, "weight_decay": 0.1},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_update_is_real_caffes(caffe: Runner, tmp_path: Path, settings: dict[str, Any]) -> None:
    net, solver = line(), Solver(**{"base_lr": 0.05, "max_iter": 12, **settings})
    theirs, ours = CaffeEngine(caffe, net, solver, run_of(net, tmp_path)), engine(lined, solver, dict(net.blobs))
    theirs.start(None)
    for iteration in range(12):
        batch = Drawn(net).batch(iteration)
        wanted = theirs.update([batch])  # Caffe reads the same batch for each of iter_size
        found = ours.update([batch] * solver.iter_size)
        assert found.iteration == wanted.iteration
        assert found.loss == pytest.approx(wanted.loss, rel=2e-6)
    blobs = theirs.state((), None).blobs  # type: ignore[arg-type]
    for name, array in ours.net.lstmc_weights().items():
        np.testing.assert_allclose(array, blobs[name], rtol=2e-6, atol=1e-6)
    theirs.end()


@model
def reading(
    X=Input(T, N, 3), label=Input(N, values=lstmc.integers(0, 3)),
    W=Param(3, 4, fill=xavier()), b=Param(3, lr_mult=2, decay_mult=0),
    U=Param(3, 4, fill=uniform(-1, 1), trained=False),
):  # fmt: skip
    _, last = scan(gru(H=4), X, carry=True)
    h = last["h"] * const(np.array([1.0, 0.5, 2.0, 1.0], np.float32))
    scores = linear(h, W, b) + linear(h, U)
    return {"scores": scores, "loss": softmax_loss(scores, label), "accuracy": accuracy(scores, label)}


@model
def dropping(X=Input(T, N, 3), label=Input(N, values=lstmc.integers(0, 3)), W=Param(3, 4, fill=xavier())):
    _, last = scan(gru(H=4), X)
    scores = linear(dropout(last["h"], 0.4), W)
    return {"scores": scores, "loss": softmax_loss(scores, label)}


def data(count: int = 24) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(5, count, 3)), "label": rng.integers(0, 3, count)}


ADAM = {"type": "Adam", "base_lr": 0.02, "max_iter": 12, "clip_gradients": 1, "weight_decay": 0.01, "test_interval": 6}


def test_a_run_is_what_it_is_in_caffe(tmp_path: Path) -> None:
    runs = [
        lstmc.train(reading, data(), N=6, test_data=data(12), solver=ADAM, out=tmp_path / backend, backend=backend)
        for backend in ("caffe", "torch")
    ]
    caffe, ours = runs
    np.testing.assert_allclose(ours.losses, caffe.losses, rtol=1e-5)
    assert [record["scores"] for record in ours.metrics if record["kind"] == "test"] == [
        pytest.approx(record["scores"], rel=1e-5) for record in caffe.metrics if record["kind"] == "test"
    ]
    assert [record.get("rate") for record in ours.metrics] == [record.get("rate") for record in caffe.metrics]
    for name, array in ours.weights.items():
        np.testing.assert_allclose(array, caffe.weights[name], rtol=1e-4, atol=1e-5)
    assert {path.name for path in ours.files} >= {
        "weights.npz",
        "reading_torch.py",
        "reading_torch.pt",
        "metrics.jsonl",
        "command.json",
    }
    x = data(6)["X"]
    trained = lstmc.compile(reading, T=5, N=6, weights=tmp_path / "torch" / "weights.npz", target="flat")
    found = ours.net.run(X=x, on="interpreter")["scores"]
    np.testing.assert_allclose(trained.run(X=x, on="interpreter")["scores"], found, atol=1e-5)


class Batches:
    """Batches that are a function of their number."""

    per_epoch, fingerprint = 3, "drawn"

    def batch(self, iteration: int) -> dict[str, Any]:
        rng = np.random.default_rng(iteration)
        return {"X": rng.normal(size=(5, 6, 3)), "label": rng.integers(0, 3, 6)}


def trained(of: Model, folder: Path, settings: dict[str, Any], **changes: Any) -> tuple[Trained, Told]:
    """A run of a model on drawn batches, without a record of it."""
    compiled, told = compile_graph(training_graph(of.graph(T=5, N=6)), TorchBackend()), Told()
    request = TrainingRequest(folder, Batches(), None, told, **{"stop": lambda: len(told.steps) == 5, **changes})
    return train(compiled, initial_weights(compiled.model, 1), Solver(**settings), request), told


@pytest.mark.parametrize("of", [dropping, reading], ids=["dropping", "carrying"])
def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(tmp_path: Path, of: Model) -> None:
    settings = {"type": "Adam", "base_lr": 0.02, "max_iter": 12, "iter_size": 2}
    whole, steps = trained(of, tmp_path / "whole", settings, stop=lambda: False)
    torch.manual_seed(7)  # a run has random numbers of its own, and leaves those of its process alone
    before = torch.random.get_rng_state()
    part, first = trained(of, tmp_path / "parts", settings)
    assert (part.iteration, part.ended) == (5, "stopped")
    names = ["carried.npz", "snapshot.json", "solver.npz", "weights.npz"]
    assert sorted(path.name for path in part.snapshot.iterdir()) == names
    rest, others = trained(of, tmp_path / "parts", settings, resume=True, stop=lambda: False)
    assert [*first.steps, *others.steps] == steps.steps
    assert same(rest.weights, whole.weights)  # type: ignore[arg-type]
    assert torch.equal(torch.random.get_rng_state(), before)
    (rest.snapshot / "solver.npz").write_bytes(b"")
    again, others = trained(of, tmp_path / "parts", {**settings, "max_iter": 14}, resume=True, stop=lambda: False)
    assert (again.iteration, others.steps[:7]) == (14, steps.steps[5:])  # from the snapshot before the damaged one
    with pytest.raises(TrainingError, match="setting type: started with Adam, now AdaGrad"):
        trained(of, tmp_path / "parts", {**settings, "type": "AdaGrad", "base_lr": 0.02}, resume=True)


@pytest.mark.parametrize(("told", "enough", "during"), [(False, None, 1), (True, None, 2), (False, 0, 2)])
def test_a_small_net_is_trained_by_one_thread(
    told: bool, enough: float | None, during: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless OMP_NUM_THREADS says otherwise; the process has as many as before afterwards."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if enough is not None:
        monkeypatch.setattr("lstmc_torch.trainer.ENOUGH", enough)
    found: list[int] = []
    torch.set_num_threads(2)
    try:
        trained(reading, tmp_path, {"max_iter": 2}, stop=lambda: found.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(found) == {during}


def test_epochs_count_the_batches_of_an_update() -> None:
    fitted = fit_data(ModelSource.from_model(reading), data(), TrainingOptions(sizes={"N": 6}))
    assert [iterations_of_epochs(4, None, fitted.run_data, iter_size) for iter_size in (1, 3, 4)] == [16, 6, 4]


@model
def logs(X=Input(T, N, 3), label=Input(N, values=lstmc.integers(0, 3)), W=Param(1, 3, fill=lstmc.constant(0))):
    return {"loss": lstmc.mean(lstmc.log(abs(linear(X, W)))) - lstmc.mean(label)}


@model
def scored(X=Input(4, 3), label=Input(4, values=lstmc.integers(0, 3)), W=Param(3, 3)):
    return {"scores": linear(X, W), "loss": accuracy(linear(X, W), label)}


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        trained(reading, tmp_path / "a", {}, gpu=True)
    assert caught.value.message == "cannot train reading on a GPU: backend torch trains on the CPU"
    with pytest.raises(BackendError, match="scored cannot be trained: its loss has no gradient"):
        engine(scored, Solver(), {"W": np.zeros((3, 3), np.float32)})
    with pytest.raises(TrainingError) as caught:
        trained(reading, tmp_path / "b", {"base_lr": 1e30})
    assert "diverges" in caught.value.message
    assert caught.value.notes[-2:] == (
        "try base_lr below 1e+30, clip_gradients=5, or smaller initial weights",
        "there is no snapshot yet",
    )
    with pytest.raises(TrainingError) as caught:
        trained(logs, tmp_path / "c", {})
    assert caught.value.message == "the loss of iteration 1 is -inf"
    assert caught.value.loc is not None
    assert caught.value.notes[0] == f"lstmc.log at {caught.value.loc.short} is not finite: -inf where its operand is 0"
    with pytest.raises(ModelFileError) as refused:
        lstmc.export_training(lstmc.compile(reading, T=5, N=6, backend="torch"), tmp_path / "d")
    assert refused.value.message == "there is no training net: backend torch trains by lstmc alone: use lstmc train"
