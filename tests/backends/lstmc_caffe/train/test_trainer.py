"""Training in real Caffe: its updates are the papers', what is told and saved on the way, what stops it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.runs.solver import TYPES, Solver
from lstmc_caffe.runtime.runner import Runner
from lstmc_caffe.train import trainer
from tests.backends.lstmc_caffe.train.solver_math import trained_line
from tests.backends.lstmc_caffe.train.training_nets import (
    Array,
    Drawn,
    Told,
    carrying,
    dropping,
    line,
    refused,
    same,
    train,
)

pytestmark = pytest.mark.caffe

SHORT = Solver(max_iter=6, snapshot=2)


class TestUpdates:
    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize("regularized", [{}, {"weight_decay": 0.1, "clip_gradients": 0.5}])
    def test_every_type_is_what_its_paper_says(
        self, caffe: Runner, tmp_path: Path, kind: str, regularized: dict[str, float]
    ) -> None:
        self.check(caffe, tmp_path, Solver(type=kind, base_lr=0.05, max_iter=12, **regularized))

    @pytest.mark.parametrize(
        "policy",
        [
            {"lr_policy": "step", "gamma": 0.5, "stepsize": 3},
            {"lr_policy": "exp", "gamma": 0.8},
            {"lr_policy": "inv", "gamma": 0.3, "power": 0.75},
            {"lr_policy": "multistep", "gamma": 0.5, "stepvalue": (2, 3, 9)},
            {"lr_policy": "poly", "power": 2},
            {"lr_policy": "sigmoid", "gamma": -0.5, "stepsize": 6},
        ],
        ids=lambda policy: policy["lr_policy"],
    )
    def test_every_policy_has_the_rate_that_is_told(
        self, caffe: Runner, tmp_path: Path, policy: dict[str, Any]
    ) -> None:
        self.check(caffe, tmp_path, Solver(base_lr=0.1, momentum=0.0, max_iter=12, **policy))

    def test_the_other_regularization(self, caffe: Runner, tmp_path: Path) -> None:
        self.check(caffe, tmp_path, Solver(max_iter=12, weight_decay=0.3, regularization_type="L1"))

    def check(self, caffe: Runner, folder: Path, solver: Solver) -> None:
        net, told = line(), Told()
        ended = train(caffe, net, solver, folder / "run", callbacks=told)
        expected, losses = trained_line(solver, Drawn(net), net.blobs)
        assert ended[:2] == (12, "finished")
        for name, array in expected.items():
            np.testing.assert_allclose(ended.blobs[name], array, rtol=2e-5, atol=2e-6)
        assert [step[0] for step in told.steps] == list(range(1, 13))
        np.testing.assert_allclose([step[1] for step in told.steps], losses, rtol=1e-5)
        np.testing.assert_allclose([step[2] for step in told.steps], [solver.rate(i) for i in range(12)])


class TestState:
    def test_it_is_carried_from_batch_to_batch(self, caffe: Runner, tmp_path: Path) -> None:
        net, told = carrying(), Told()
        frozen = Solver(base_lr=1e-30, max_iter=4, momentum=0.0, test_interval=2)
        train(caffe, net, frozen, tmp_path / "run", callbacks=told, test_batches=Drawn(net))
        losses, h = [], np.zeros((4, 5))
        for i in range(4):
            batch = Drawn(net).batch(i)
            h = np.tanh(batch["x"] @ net.blobs["W"].T + h @ net.blobs["U"].T)
            losses.append(np.sum((h - batch["t"]) ** 2) / 8)
        np.testing.assert_allclose([step[1] for step in told.steps], losses, rtol=1e-5)
        # tests start from zeros, each time, on the first three batches
        assert told.tests == [(i, {"loss": pytest.approx(np.mean(losses[:3]), rel=1e-5)}) for i in (2, 4)]

    def test_dropout_depends_on_the_seed_and_the_iteration_alone(self, caffe: Runner, tmp_path: Path) -> None:
        net = dropping()

        class Same(Drawn):
            def batch(self, iteration: int) -> dict[str, Array]:
                return super().batch(0)

        def losses(seed: int, folder: str, **changes: object) -> list[float]:
            told = Told()
            solver = Solver(base_lr=1e-30, max_iter=5, random_seed=seed)
            train(caffe, net, solver, tmp_path / folder, batches=Same(net), callbacks=told, **changes)
            return [step[1] for step in told.steps]

        first = losses(1, "a")
        assert len(set(first)) == 5
        assert losses(1, "b", test_batches=Drawn(net)) == first
        assert set(losses(2, "c")).isdisjoint(first)


class TestProgress:
    def test_what_is_told(self, caffe: Runner, tmp_path: Path) -> None:
        net, told, folder = dropping(), Told(), tmp_path / "run"
        solver = Solver(max_iter=7, snapshot=3, test_interval=4, test_iter=2, test_initialization=True)
        ended = train(caffe, net, solver, folder, callbacks=told, test_batches=Drawn(net))
        assert [iteration for iteration, _ in told.tests] == [0, 4, 7]
        assert all(scores["loss"] == scores["score"] for _, scores in told.tests)
        assert told.saves == [(i, folder / "snapshots" / f"{i:06d}") for i in (3, 6, 7)]
        assert ended.snapshot == told.saves[-1][1]

    def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_was_not(self, caffe: Runner, tmp_path: Path) -> None:
        net, told = dropping(), Told()
        solver = Solver(type="Adam", max_iter=9)
        whole = train(caffe, net, solver, tmp_path / "whole")
        folder = tmp_path / "parts"
        part = train(caffe, net, solver, folder, callbacks=told, stop=lambda: len(told.steps) == 4)
        assert part[:2] == (4, "stopped")
        assert part.snapshot == folder / "snapshots" / "000004"
        rest = train(caffe, net, solver, folder, callbacks=told, resume=True)
        assert rest[:2] == (9, "finished")
        assert [step[0] for step in told.steps] == list(range(1, 10))
        assert same(rest.blobs, whole.blobs)
        unread = Drawn(net, change=lambda *_: pytest.fail("a batch was read"))
        again = train(caffe, net, solver, folder, resume=True, batches=unread)
        assert again[:2] == (9, "finished")
        assert same(again.blobs, whole.blobs)
        longer = train(caffe, net, Solver(type="Adam", max_iter=11), folder, resume=True)
        assert same(longer.blobs, train(caffe, net, Solver(type="Adam", max_iter=11), tmp_path / "longer").blobs)

    def test_it_goes_on_from_an_older_snapshot_where_the_last_is_damaged(self, caffe: Runner, tmp_path: Path) -> None:
        net, told = carrying(), Told()
        whole = train(caffe, net, SHORT, tmp_path / "run")
        weights = whole.snapshot / "weights.caffemodel"
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        again = train(caffe, net, SHORT, tmp_path / "run", resume=True, callbacks=told)
        assert [step[0] for step in told.steps] == [5, 6]
        assert same(again.blobs, whole.blobs)

    def test_a_run_killed_before_its_first_snapshot_starts_again(self, caffe: Runner, tmp_path: Path) -> None:
        net, told = line(), Told()
        train(caffe, net, SHORT, tmp_path / "run", stop=lambda: True)
        for path in (tmp_path / "run" / "snapshots" / "000001").iterdir():
            path.unlink()
        train(caffe, net, SHORT, tmp_path / "run", resume=True, callbacks=told)
        assert [step[0] for step in told.steps] == [1, 2, 3, 4, 5, 6]


class TestDivergence:
    def test_a_loss_that_is_no_number(self, caffe: Runner, tmp_path: Path) -> None:
        def hole(iteration: int, batch: dict[str, Array]) -> None:
            if iteration == 4:
                batch["x"][1, 2] = np.nan

        told = Told()
        message = refused(caffe, line(), SHORT, tmp_path, batches=Drawn(line(), change=hole), callbacks=told)
        assert message == (
            "TrainingError: the loss of iteration 5 is nan\n"
            "  its batch has NaN or infinity in x: check the data\n"
            f"  the last good snapshot is of iteration 4: {tmp_path}/snapshots/000004"
        )
        assert len(told.steps) == 4

    def test_a_loss_that_runs_away(self, caffe: Runner, tmp_path: Path) -> None:
        message = refused(caffe, line(), Solver(base_lr=100), tmp_path)
        head, *notes = message.splitlines()
        assert head.startswith("TrainingError: the loss of iteration 3 is ")
        assert ": it diverges: the mean of the first 2 is " in head
        assert notes == [
            "  try base_lr below 100, clip_gradients=5, or smaller initial weights",
            "  there is no snapshot yet",
        ]

    def test_no_snapshot_is_made_of_weights_that_are_not_finite(self, caffe: Runner, tmp_path: Path) -> None:
        net = replace(line(), blobs={"W": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32)})
        huge = Drawn(net, change=lambda i, batch: batch.update(x=batch["x"] * 1e25, t=batch["t"] * 1e15))
        solver = Solver(snapshot=1, clip_gradients=1)
        assert refused(caffe, net, solver, tmp_path, batches=huge) == (
            "TrainingError: after iteration 1 W has values that are NaN or infinite\n"
            "  try base_lr below 0.01, clip_gradients below 1, or smaller initial weights\n"
            "  there is no snapshot yet"
        )
        assert list(tmp_path.glob("snapshots/*")) == []


class TestWorker:
    def test_one_that_is_killed(self, caffe: Runner, tmp_path: Path) -> None:
        net, told = carrying(), Told()
        with Runner(caffe.location) as runner:
            whole = train(runner, net, SHORT, tmp_path / "whole")

            def kill() -> bool:
                if len(told.steps) == 5:
                    os.kill(runner.pid, signal.SIGKILL)
                return False

            folder = tmp_path / "killed"
            assert refused(runner, net, SHORT, folder, callbacks=told, stop=kill) == (
                "TrainingError: training carrying after iteration 5: Caffe's process ended (SIGKILL)"
                " when asked to call step of training.py\n"
                "  it was killed from outside, as a system does that runs out of memory\n"
                f"  the last good snapshot is of iteration 4: {folder}/snapshots/000004\n"
                "  resume the run"
            )
            assert same(train(runner, net, SHORT, folder, resume=True).blobs, whole.blobs)

    def test_one_that_does_not_answer(self, caffe: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trainer, "SECONDS", 0.2)
        with Runner(caffe.location) as runner:
            os.kill(runner.pid, signal.SIGSTOP)  # so that it cannot answer in time, however slow or fast the machine
            assert refused(runner, line(), SHORT, tmp_path) == (
                "TrainingError: training line after iteration 0: Caffe did not call start of training.py"
                " within 0.2 s; its process was ended\n"
                "  there is no snapshot yet\n"
                "  resume the run"
            )

    def test_what_the_run_is_stands_in_its_folder(self, caffe: Runner, tmp_path: Path) -> None:
        train(caffe, line(), SHORT, tmp_path)
        about = json.loads((tmp_path / "run.json").read_text())
        assert about["data"] == "the data"
        assert about["settings"]["momentum"] == SHORT.momentum
        assert "max_iter" not in about["settings"]
