"""Training in PyTorch by several processes ends with the weights of one; what happens when one of them is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import lstmc
from lstmc import Input, Param, dims, linear, mean, model, uniform
from lstmc.api.models import ModelSource
from lstmc.api.options import TrainingOptions
from lstmc.api.training import fit_data, rank_parts
from lstmc.errors import TrainingError
from lstmc.runs.events import Event, Saved
from lstmc_torch import TorchBackend
from lstmc_torch.ranks import TorchRanks
from tests.backends.lstmc_caffe.train.test_ranks import ADAM, CASES, assert_same, carrying, trained
from tests.backends.lstmc_caffe.train.training_nets import same

pytestmark = pytest.mark.caffe  # g++ is there where Caffe is
torch.set_num_threads(1)  # others wait in loops, which costs most on a busy machine
T, N = dims("T N")


def run(folder: Path, ranks: int, updates: int, **more: Any) -> lstmc.Run:
    """A run of the model with carried states, a dropout and labels that do not count."""
    return trained(carrying, folder, ranks, solver={**ADAM, "max_iter": updates}, backend="torch", **more)


def other_ranks() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "lstmc_torch.ranks" in " ".join(p.cmdline())]


@pytest.mark.faults
def test_a_run_that_goes_on_with_another_number_of_ranks_ends_with_the_weights_of_one(tmp_path: Path) -> None:
    ports: set[str] = set()

    def look(event: Event) -> None:
        for process in [psutil.Process(), *other_ranks()]:
            connections = process.net_connections("tcp")
            ports.update(c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr)

    one = run(tmp_path / "one", 1, 8)
    run(tmp_path / "several", 2, 4, progress=look)
    assert ports == {"127.0.0.1"}
    assert other_ranks() == []
    assert_same(one, run(tmp_path / "several", 1, 8, resume=True))


@pytest.mark.ranks
@pytest.mark.parametrize("case", CASES)
def test_several_ranks_end_with_the_weights_of_one(case: str, tmp_path: Path) -> None:
    net, solver, ranks = CASES[case]
    solver = {**solver, "iter_size": 2}
    one, several = (trained(net, tmp_path / str(count), count, solver=solver, backend="torch") for count in (1, ranks))
    assert_same(one, several)


@pytest.mark.faults
def test_a_rank_that_is_killed_ends_the_run_which_resumes_to_the_last_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 2, 12)
    settings = {**ADAM, "max_iter": 12, "snapshot": 5}

    def kill(event: Event) -> None:
        if isinstance(event, Saved):
            for process in other_ranks():
                process.kill()

    with pytest.raises(TrainingError) as caught:
        trained(carrying, tmp_path / "parts", 2, solver=settings, backend="torch", progress=kill)
    assert caught.value.message == "training carrying after iteration 5: a rank has ended"
    assert caught.value.notes[-1].startswith("the last good snapshot is of iteration 5: ")
    assert other_ranks() == []
    rest = run(tmp_path / "parts", 2, 12, resume=True)
    assert same(rest.weights, whole.weights)  # type: ignore[arg-type]


@model
def noisy(X=Input(T, N, 3), noise=Input(T, N, 3, fill=uniform(-1, 1)), W=Param(1, 3, fill=uniform(-1, 1))):
    return {"loss": mean(linear(X + noise, W))}


def test_what_ranks_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    source, options = ModelSource.from_model(noisy), TrainingOptions(sizes={"T": 4, "N": 6})
    fitted = fit_data(source, {"X": np.ones((4, 12, 3))}, options)
    with pytest.raises(TrainingError) as caught:
        rank_parts(2, source, fitted, None, TorchBackend(), "torch")
    assert caught.value.message == "noisy cannot be trained by several ranks: noise is drawn for a whole batch"
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with pytest.raises(TrainingError) as caught:
        TorchRanks(None)
    assert caught.value.message == (
        "this process is one of 3 of an MPI launcher, and backend torch starts its ranks itself, on one machine: run it"
        " without the launcher, with ranks=3"
    )
