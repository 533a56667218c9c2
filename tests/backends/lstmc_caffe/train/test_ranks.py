"""Training by several ranks ends with the weights of one, whatever the model does with its examples."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import lstmc
from lstmc import (
    Input,
    Model,
    Param,
    accuracy,
    dims,
    dropout,
    euclidean_loss,
    linear,
    mean,
    model,
    scan,
    sigmoid_cross_entropy_loss,
    softmax_loss,
    sum,
    uniform,
)
from lstmc.cells import gru, lstm
from lstmc.errors import TrainingError
from lstmc.runs.events import Saved
from tests.processes import family_with

T, N = dims("T N")
SIZES = {"T": 4, "N": 5}  # of which two ranks have 3 and 2, and three 2, 2 and 1
W, B = uniform(-0.5, 0.5), uniform(-0.1, 0.1)
PER_EPOCH = 30


@model
def plain(X=Input(T, N, 3), label=Input(N), W=Param(3, 6, fill=W), b=Param(3, fill=B)):
    _, last = scan(lstm(H=6), X)
    scores = linear(last["h"], W, b)
    return {"p": scores, "loss": softmax_loss(scores, label), "accuracy": accuracy(scores, label)}


@model
def carrying(X=Input(T, N, 3), label=Input(T, N), cont=Input(T, N), W=Param(3, 6, fill=W), b=Param(3, fill=B)):
    y, _ = scan(gru(H=6), X, cont=cont, carry=True)
    scores = linear(dropout(y, 0.4), W, b)
    return {"p": scores, "loss": softmax_loss(scores, label, ignore_label=2)}


@model
def lengthy(X=Input(T, N, 3), target=Input(T, N, 6), lengths=Input(N), V=Param(6, 6, fill=W)):
    y, _ = scan(lstm(H=6), dropout(X, 0.2), lengths=lengths)
    penalty = 0.01 * mean(V * V)
    off = euclidean_loss(linear(y, V), target) - 0.1 * mean(y)  # the one is summed over N, the other a mean
    return {"y": y, "loss": off + penalty + 0.001 * sum(y * y)}


@model
def binary(X=Input(T, N, 3), target=Input(N, 2), W=Param(2, 6, fill=W)):
    _, last = scan(gru(H=6), X)
    scores = linear(last["h"], W)
    return {"p": scores, "loss": 2 * sigmoid_cross_entropy_loss(scores, target, normalization="batch_size")}


def data() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    cont = (rng.uniform(size=(4, PER_EPOCH)) > 0.2).astype(np.float32)
    return {
        "X": rng.normal(size=(4, PER_EPOCH, 3)),
        "cont": cont,
        "lengths": rng.integers(1, 5, PER_EPOCH),
        "plain/label": rng.integers(0, 3, PER_EPOCH),
        "carrying/label": rng.integers(0, 3, (4, PER_EPOCH)),
        "lengthy/target": rng.normal(size=(4, PER_EPOCH, 6)),
        "binary/target": rng.integers(0, 2, (PER_EPOCH, 2)),
    }


def data_of(net: Model) -> dict[str, Any]:
    arrays = data()
    return {name: arrays.get(f"{net.name}/{name}", arrays.get(name)) for name in net.inputs}


def trained(net: Model, folder: Path, ranks: int, **more: Any) -> lstmc.Run:
    solver = {"max_iter": 50, "snapshot": 20, **more.pop("solver", {})}
    return lstmc.train(net, data_of(net), out=folder, sizes=SIZES, ranks=ranks, solver=solver, **more)


def assert_same(one: lstmc.Run, several: lstmc.Run) -> None:
    for name, array in one.weights.items():
        np.testing.assert_allclose(several.weights[name], array, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(several.losses, one.losses, rtol=1e-4, atol=1e-5)


ADAM = {"type": "Adam", "base_lr": 0.01}
CASES = {
    "sgd, clipped": (plain, {"base_lr": 0.1, "clip_gradients": 0.5}, 2),
    "adam, cont, carry, dropout, labels left out": (carrying, ADAM, 2),
    "adam, lengths, sums, a penalty, dropout, three ranks": (lengthy, ADAM, 3),
    "nesterov, decay": (binary, {"type": "Nesterov", "base_lr": 0.05, "weight_decay": 0.01}, 2),
}


@pytest.mark.ranks
@pytest.mark.caffe
def test_a_run_that_goes_on_with_another_number_of_ranks_ends_with_the_weights_of_one(
    caffe: object, tmp_path: Path
) -> None:
    one = trained(carrying, tmp_path / "one", 1, solver={**ADAM, "max_iter": 16})
    trained(carrying, tmp_path / "several", 2, solver={**ADAM, "max_iter": 8})
    several = trained(carrying, tmp_path / "several", 3, solver={**ADAM, "max_iter": 16}, resume=True)
    assert_same(one, several)


@pytest.mark.ranks
@pytest.mark.caffe
@pytest.mark.parametrize("case", CASES)
def test_several_ranks_end_with_the_weights_of_one(case: str, caffe: object, tmp_path: Path) -> None:
    net, solver, ranks = CASES[case]
    one, several = (trained(net, tmp_path / str(count), count, solver=solver) for count in (1, ranks))
    assert_same(one, several)


@pytest.mark.ranks
@pytest.mark.caffe
def test_ranks_that_share_one_gpu_end_with_the_weights_of_one(caffe: object, tmp_path: Path) -> None:
    """Or one device that the CPU emulates. Without dropout, which a GPU draws otherwise."""
    net, solver, _ = CASES["sgd, clipped"]
    solver = {**solver, "max_iter": 6}
    one = trained(net, tmp_path / "one", 1, solver=solver)
    assert_same(one, trained(net, tmp_path / "several", 2, solver=solver, gpu=True))


class Killing:
    """Kills or stops a process of a training as soon as there is a snapshot: told of events, as ``progress``."""

    def __init__(self, which: str, number: int = signal.SIGKILL) -> None:
        self.which, self.number, self.killed = which, number, 0

    def __call__(self, event: object) -> None:
        if not isinstance(event, Saved) or self.killed:
            return
        ranks = [p for p in family_with(os.getpid(), "rank.py") if "python" in p.name()]
        family = psutil.Process().children(recursive=True)
        launchers = [p for p in family if p.name() in ("prterun", "mpirun", "mpiexec")]
        found = {"rank 0": ranks[0], "rank 1": ranks[1], "launcher": launchers[0]}[self.which]
        self.killed = found.pid
        found.send_signal(self.number)


@pytest.mark.ranks
@pytest.mark.caffe
@pytest.mark.parametrize("which", ["rank 0", "rank 1", "launcher"])
def test_a_rank_that_ends_ends_the_run_which_then_goes_on(which: str, caffe: object, tmp_path: Path) -> None:
    one = trained(carrying, tmp_path / "one", 1, solver=ADAM)
    killing = Killing(which)
    with pytest.raises(TrainingError) as error:
        trained(carrying, tmp_path / "several", 2, solver=ADAM, progress=killing)
    assert killing.killed
    assert any(note.startswith("the last good snapshot is of iteration ") for note in error.value.notes)
    left = [p for p in psutil.process_iter(["cmdline"]) if "rank.py" in " ".join(p.info["cmdline"] or [])]
    assert [p for p in left if p.parents() and psutil.Process() in p.parents()] == []
    assert_same(one, trained(carrying, tmp_path / "several", 2, solver=ADAM, resume=True))


@pytest.mark.ranks
@pytest.mark.faults
@pytest.mark.caffe
@pytest.mark.parametrize("which", ["rank 0", "rank 1"])
def test_a_rank_that_is_stopped_ends_a_run_that_is_to_stop(which: str, caffe: object, tmp_path: Path) -> None:
    one = trained(carrying, tmp_path / "one", 1, solver=ADAM)
    stopping = Killing(which, signal.SIGSTOP)
    stop = {"progress": stopping, "stop": lambda: bool(stopping.killed)}
    with pytest.raises(TrainingError) as error:
        trained(carrying, tmp_path / "several", 2, solver=ADAM, **stop)
    assert error.value.message.endswith(
        f": a signal has stopped it (process id {stopping.killed}); its process was ended"
    )
    assert not psutil.pid_exists(stopping.killed) or psutil.Process(stopping.killed).status() == psutil.STATUS_ZOMBIE
    assert_same(one, trained(carrying, tmp_path / "several", 2, solver=ADAM, resume=True))


@pytest.mark.caffe  # which is found before batches are looked at
@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (0, "ranks=0: expected at least one"),
        (6, "ranks=6: a batch has 5 examples, expected at least one for each rank"),
    ],
)
def test_batches_that_cannot_be_divided(ranks: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        trained(plain, tmp_path / "run", ranks)
    assert error.value.message == message
    assert not (tmp_path / "run").exists()


@model
def fixed(X=Input(2, 3), label=Input(2), W=Param(3, 3, fill=W)):
    return {"p": X, "loss": softmax_loss(linear(X, W), label)}


@pytest.mark.caffe
def test_a_batch_of_a_fixed_size_is_not_divided(tmp_path: Path) -> None:
    arrays = {"X": np.ones((4, 2, 3)), "label": np.zeros((4, 2))}
    with pytest.raises(TrainingError) as error:
        lstmc.train(fixed, arrays, out=tmp_path / "run", ranks=2)
    assert error.value.message == (
        "ranks=2: expected a batch that can be divided, by a size of N that is given: fixed has no input with such an"
        " axis"
    )
