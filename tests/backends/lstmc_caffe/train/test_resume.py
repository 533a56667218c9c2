"""A run that is killed, again and again, ends with the weights of one that was not."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lstmc.errors import TrainingError
from lstmc.runs.folder import SNAPSHOTS
from lstmc.runs.solver import Solver, parse_overrides
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train.trainer import last_state
from tests.backends.lstmc_caffe.train.killing import train_and_kill
from tests.backends.lstmc_caffe.train.training_nets import Told, carrying, dropping, same, train

pytestmark = [pytest.mark.caffe, pytest.mark.faults]

SETTINGS = ["type=Adam", "base_lr=0.01", "max_iter=140", "snapshot=7"]


def test_lstmc_is_killed(caffe: Runner, tmp_path: Path) -> None:
    solver = parse_overrides(SETTINGS)
    whole = train(caffe, dropping(), replace(solver, snapshot=0), tmp_path / "whole")
    folder, rng, statuses, steps = tmp_path / "killed", random.Random(0), [], 0
    while not statuses or statuses[-1] != 0:
        resume = bool(statuses)
        status, done, err = train_and_kill(folder, SETTINGS, resume, rng.randint(40, 60), rng.uniform(0, 0.01))
        assert status in (0, -signal.SIGKILL), err
        statuses.append(status)
        steps += done
        assert len(statuses) < 20
    assert len(statuses) > 2
    assert steps >= solver.max_iter
    snapshots = folder / SNAPSHOTS
    last = last_state(snapshots)
    assert last is not None
    assert last[0] == snapshots / "000140"
    assert same(last[1].blobs, whole.blobs)
    assert sorted(path.name for path in snapshots.iterdir()) == ["000126", "000133", "000140"]


class Killing(Told):
    """Kills the worker a random time after a random iteration, so within any of its requests."""

    def __init__(self, runner: Runner, rng: random.Random) -> None:
        super().__init__()
        self.pid, self.left = runner.pid, rng.randint(20, 60)
        self.timer = threading.Timer(rng.uniform(0, 0.003), self.kill)

    def stepped(self, iteration: int, loss: float, rate: float) -> None:
        super().stepped(iteration, loss, rate)
        self.left -= 1
        if self.left == 0:
            self.timer.start()
        elif self.left == -5:
            self.timer.join()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may be done by then
            os.kill(self.pid, signal.SIGKILL)


def test_the_worker_is_killed(caffe: Runner, tmp_path: Path) -> None:
    policy = {"lr_policy": "multistep", "gamma": 0.5, "stepvalue": (50, 120)}
    solver = Solver(type="Nesterov", max_iter=200, snapshot=3, **policy)
    whole = train(caffe, carrying(), replace(solver, snapshot=0), tmp_path / "whole")
    rng = random.Random(1)
    errors: list[str] = []
    with Runner(caffe.location) as runner:
        while len(errors) < 20:
            told = Killing(runner, rng)
            try:
                ended = train(runner, carrying(), solver, tmp_path / "killed", callbacks=told, resume=bool(errors))
                break
            except TrainingError as error:
                errors.append(error.message)
    assert len(errors) > 2
    assert all("Caffe's process ended (SIGKILL)" in message for message in errors)
    assert same(ended.blobs, whole.blobs)


def test_the_weights_do_change_to_the_end(caffe: Runner, tmp_path: Path) -> None:
    """So that equal ones above mean something."""
    solver = replace(parse_overrides(SETTINGS), snapshot=0)
    first = train(caffe, dropping(), solver, tmp_path / "a")
    other = train(caffe, dropping(), replace(solver, max_iter=solver.max_iter - 1), tmp_path / "b")
    assert not any((first.blobs[name] == other.blobs[name]).all() for name in first.blobs)
