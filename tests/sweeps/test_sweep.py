"""Sweeps: what they leave, what of them is done again, and what fails; jobs run here, and the backend is in NumPy."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstmc.api import training
from lstmc.api.models import model_in
from lstmc.process.pool import JobResult
from lstmc.sweeps import task
from tests.cli.conftest import LSTMC
from tests.cli.conftest import Ended as Said
from tests.cli.test_train import MODEL, SIZES, arrays

WITH_OPTION = MODEL.replace(
    "V=Param(3, 4, fill=uniform(-1, 1)))", "V=Param(3, 4, fill=uniform(-1, 1)), scale=1.0)"
).replace("softmax_loss(scores, label)", "softmax_loss(scores * (scale if scale < 100 else scale * label), label)")


class Here:
    """Stands in for a pool: jobs run one after another in this process. ``jobs`` names those that ran."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.left: list[tuple[str, Callable[[Any], Any], Any]] = []

    @property
    def waiting(self) -> int:
        return len(self.left)

    def submit(self, function: Callable[[Any], Any], argument: Any, name: str) -> None:
        self.left.append((name, function, argument))

    def ended(self, seconds: float) -> list[JobResult]:
        name, function, argument = self.left.pop(0)
        self.jobs.append(name)
        return [JobResult(name, function(argument))]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, interpreter: None) -> Here:
    made = Here()

    @contextmanager
    def pool(scheduler: str | None, workers: int | None) -> Iterator[Here]:
        yield made

    monkeypatch.setattr("lstmc.sweeps.sweeping.pool", pool)
    monkeypatch.setattr("lstmc.sweeps.sweeping.backend_of", training.backend_of)
    monkeypatch.setattr("lstmc.sweeps.task.backend_of", training.backend_of)
    return made


def swept(lstmc: LSTMC, *more: str) -> Said:
    if not Path("net.py").exists():
        Path("net.py").write_text(WITH_OPTION)
        np.savez("data.npz", **arrays(44))
    return lstmc("sweep", "net.py", "--data", "data.npz", *SIZES, "--test-split", "0.3", "-o", "sweep", *more)


def results() -> dict[str, dict[str, str]]:
    with Path("sweep/results.csv").open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


GRID = ("--grid", "solver.base_lr=0.01,0.5", "--grid", "scale=0.5,1")


@pytest.mark.slow
def test_what_a_sweep_leaves(lstmc: LSTMC, here: Here) -> None:
    ended = swept(lstmc, *GRID)
    assert (ended.code, ended.err) == (0, "")
    found = results()
    assert list(found["points/solver.base_lr=0.5,scale=1"].items())[:4] == [
        ("solver.base_lr", "0.5"),
        ("scale", "1"),
        ("state", "finished"),
        ("iteration", "20"),
    ]
    losses = [float(row["loss"]) for row in found.values()]
    assert losses == sorted(losses)  # the best first
    assert f"sweep/{os.readlink('sweep/best')}" == f"sweep/{next(iter(found))}"
    assert Path("sweep/best/weights.npz").is_file()
    for picture in ("sweep.png", "curves.png"):
        assert Path("sweep", picture).read_bytes().startswith(b"\x89PNG")
    assert "solver.base_lr=0.5,scale=1: finished after 20 iterations, loss " in ended.out


def test_its_record_says_how_to_train_the_point_alone(lstmc: LSTMC, here: Here) -> None:
    swept(lstmc, "--grid", "scale=2", "--seed", "3", "--no-shuffle")
    training = task.Training("net.py:net", "data.npz", sizes={"T": 3}, shuffle=False)
    point = {"scale": "2", "seed": "4", "H": "5"}
    assert task.command(task.at_point(training, model_in("net.py:net"), point, 7), Path("r")) == (
        "lstmc.train(model_in('net.py:net').with_options({'scale': '2'}), 'data.npz', out='r',"
        " sizes={'T': 3, 'H': 5}, solver=('max_iter=7',), seed=4, shuffle=False)"
    )
    alone = lstmc(
        *("train", "net.py", "--data", "data.npz", *SIZES, "--test-split", "0.3", "--set", "scale=2"),
        *("--seed", "3", "--no-shuffle", "-o", "alone"),
    )
    assert alone.code == 0
    for name, array in np.load("alone/weights.npz").items():
        assert np.array_equal(array, np.load("sweep/best/weights.npz")[name])


@pytest.mark.slow
def test_what_has_finished_is_not_trained_again(lstmc: LSTMC, here: Here) -> None:
    first = swept(lstmc, *GRID)
    before, here.jobs = results(), []
    again = swept(lstmc, *GRID)
    assert (again.code, here.jobs) == (first.code, [])
    assert results() == before
    lost = Path("sweep/points/solver.base_lr=0.01,scale=1/outcome_000020.json")
    lost.unlink()  # as after a kill between the end of a run and its last word
    assert swept(lstmc, *GRID).code == 0
    assert here.jobs == ["solver.base_lr=0.01,scale=1"]
    again_in = "points/solver.base_lr=0.01,scale=1"  # this backend begins anew
    assert {**results(), again_in: {**results()[again_in], "seconds": before[again_in]["seconds"]}} == before


@pytest.mark.slow
def test_a_point_that_fails_is_a_row_with_its_reason_and_stays_so(lstmc: LSTMC, here: Here) -> None:
    ended = swept(lstmc, "--grid", "scale=1,100")
    assert ended.code == 1
    row = results()["points/scale=100"]
    assert (row["state"], row["reason"]) == (
        "failed",
        "mul: shapes do not fit: x is f32[4,3], y is f32[4]; a sum, mean or max keeps its axis, with one element, by"
        " keepdims=True; x is scores: f32[4,3], made at net.py:16",
    )
    here.jobs = []
    assert swept(lstmc, "--grid", "scale=1,100").code == 1
    assert here.jobs == []


def test_a_value_that_its_name_does_not_take_is_refused_before_any_point_is_trained(lstmc: LSTMC, here: Here) -> None:
    ended = swept(lstmc, "--grid", "scale=1,none")
    assert (ended.code, ended.err) == (2, "ModelFileError: option scale: expected a number, found 'none'\n")
    assert not Path("sweep").exists()


CELLS = """
from lstmc import *

N, T, D, H = dims("N T D H")

@cell
def mine(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=uniform(-1, 1)), U=Param(H, H, fill=uniform(-1, 1))):
    h = tanh(linear(x, W) + linear(h, U))
    return h, {"h": h}

@cell
def gru(x=Input(N, D), h=State(N, H), *, W=Param(H, D, fill=uniform(-1, 1))):
    h = tanh(linear(x, W) + h)
    return h, {"h": h}

@model
def net(X=Input(T, N, 2), label=Input(N), cell=mine, V=Param(3, 4, fill=uniform(-1, 1))):
    y, last = scan(cell(H=4), X)
    scores = linear(y[-1], V)
    return {"scores": scores, "loss": softmax_loss(scores, label)}
"""


@pytest.mark.slow
def test_cells_of_the_models_own_file_are_swept_beside_installed_ones(lstmc: LSTMC, here: Here) -> None:
    Path("net.py").write_text(CELLS)
    np.savez("data.npz", **arrays(44))
    ended = swept(lstmc, "--grid", "cell=mine,gru,lstm")
    assert (ended.code, ended.err) == (0, "cell gru is that of net.py, not the installed one\n")
    parameters = {name: sorted(np.load(f"sweep/points/cell={name}/weights.npz")) for name in ("mine", "gru", "lstm")}
    assert parameters == {
        "mine": ["V", "mine/U", "mine/W"],
        "gru": ["V", "gru/W"],
        "lstm": ["V", "lstm/W_h", "lstm/W_x", "lstm/b"],
    }


def test_an_unknown_cell_is_refused_once_before_any_point_is_trained(lstmc: LSTMC, here: Here) -> None:
    Path("net.py").write_text(CELLS)
    np.savez("data.npz", **arrays(44))
    ended = swept(lstmc, "--grid", "cell=lstm,mien")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "ModelFileError: option cell: unknown cell 'mien': did you mean mine?\n"
    ended = swept(lstmc, "--set", "cell=transformer", "--grid", "seed=1,2")
    assert ended.err.startswith("ModelFileError: option cell: unknown cell 'transformer': available mine, gru, ")
    assert ended.err.count("lstm_peephole") == 1
    assert not Path("sweep").exists()


@pytest.mark.slow
def test_what_is_interrupted_is_tried_again_and_goes_on_later(
    lstmc: LSTMC, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(seconds: float) -> list[JobResult]:
        name, _, _ = here.left.pop(0)
        here.jobs.append(name)
        return [JobResult(name, problem="its worker ended")]

    with monkeypatch.context() as patch:
        patch.setattr(here, "ended", lost)
        assert swept(lstmc, "--grid", "scale=1").code == 1
    row = results()["points/scale=1"]
    assert (row["state"], row["reason"], here.jobs) == ("interrupted", "its worker ended", ["scale=1"] * 3)
    assert swept(lstmc, "--grid", "scale=1").code == 0
    assert results()["points/scale=1"]["state"] == "finished"


@pytest.mark.slow
def test_halving_lets_the_best_go_on(lstmc: LSTMC, here: Here) -> None:
    more = ("--grid", "solver.base_lr=0.0001,0.001,0.01,0.5", "--halving", "2")
    ended = swept(lstmc, *more)
    assert (ended.code, ended.err) == (0, "")
    found = {row["solver.base_lr"]: (row["state"], row["iteration"]) for row in results().values()}
    assert found == {
        "0.5": ("finished", "20"),
        "0.01": ("dropped", "10"),
        "0.001": ("dropped", "5"),
        "0.0001": ("dropped", "5"),
    }
    before, here.jobs = results(), []
    assert swept(lstmc, *more).code == 0
    assert (results(), here.jobs) == (before, [])


def test_another_sweep_in_the_folder_is_refused(lstmc: LSTMC, here: Here) -> None:
    swept(lstmc, "--grid", "scale=1")
    ended = swept(lstmc, "--grid", "scale=1,2", "--seed", "1")
    assert ended.code == 2
    folder = Path("sweep").absolute()
    assert ended.err == (
        f"SweepError: {folder} has another sweep: it was started with different settings\n"
        "  seed: started with 0, now 1\n"
        "  the points are others\n"
        "  begin again in this folder with --overwrite\n"
        "  choose another folder with -o\n"
    )
    Path("net.py").write_text(WITH_OPTION + "\n# changed\n")
    ended = swept(lstmc, "--grid", "scale=1")
    assert f"  {Path('net.py').absolute()} has changed\n" in ended.err


def test_another_goal_trains_nothing_again(lstmc: LSTMC, here: Here) -> None:
    swept(lstmc, "--grid", "scale=1,2")
    assert here.jobs == ["scale=1", "scale=2"]
    ended = swept(lstmc, "--grid", "scale=1,2", "--highest", "accuracy")
    assert (ended.code, ended.err, here.jobs) == (0, "", ["scale=1", "scale=2"])
    assert json.loads(Path("sweep/sweep.json").read_text())["goal"] == "the highest accuracy"
    best = max(results().values(), key=lambda row: float(row["accuracy"]))
    assert results()[os.readlink("sweep/best")]["accuracy"] == best["accuracy"]


def test_the_goal_decides_which_points_of_a_halved_sweep_continue(lstmc: LSTMC, here: Here) -> None:
    more = ("--grid", "scale=1,2", "--halving", "2")
    swept(lstmc, *more)
    ended = swept(lstmc, *more, "--highest", "accuracy")
    assert ended.code == 2
    assert "  goal: started with the lowest loss, now the highest accuracy\n" in ended.err


def test_a_goal_that_is_not_measured_is_an_error_before_any_point_trains(lstmc: LSTMC, here: Here) -> None:
    ended = swept(lstmc, "--grid", "scale=1,2", "--highest", "acuracy")
    assert (ended.code, ended.err) == (
        2,
        "SweepError: the highest acuracy: a run of net measures no acuracy: did you mean accuracy?\n",
    )
    untested = ("sweep", "net.py", "--data", "data.npz", *SIZES, "-o", "sweep", "--grid", "scale=1,2")
    ended = lstmc(*untested, "--highest", "accuracy")
    assert (ended.code, ended.err) == (
        2,
        "SweepError: the highest accuracy: a run of net measures no accuracy: it measures loss\n"
        "  without tests only the loss is measured: --test-data or --test-split gives the data of tests\n",
    )
    assert (here.jobs, Path("sweep").exists()) == ([], False)


def test_what_is_asked_for_wrongly(lstmc: LSTMC, here: Here) -> None:
    for more, error in (
        (("--grid", "scale=1", "--halving", "1"), "SweepError: halving: expected an integer from 2 on, found 1\n"),
        (
            ("--grid", "scale=1", "--lowest", "loss", "--highest", "accuracy"),
            "SweepError: --lowest loss and --highest accuracy both define the best point: expected one of them\n",
        ),
        (
            ("--grid", "solver.max_iter=4,5", "--halving", "2"),
            "SweepError: halving compares points after the same number of updates: solver.max_iter cannot vary\n",
        ),
        (
            ("--grid", "H=x"),
            "SweepError: H: expected integers, as for a dimension, found 'x': options of net are scale;"
            " a setting of the solver is solver.H\n",
        ),
        (
            ("--grid", "scael=a,b"),
            "SweepError: scael: expected integers, as for a dimension, found 'a': did you mean scale?\n",
        ),
        ((), "SweepError: a sweep varies something: expected values for some name, found none\n"),
        (("--grid", "scale"), "SweepError: --grid scale: expected NAME=VALUE,VALUE, found 'scale'\n"),
        (
            ("--set", "scale", "--grid", "H=1"),
            "ModelFileError: --set takes NAME=VALUE, as in --set cell=gru, found 'scale'\n",
        ),
    ):
        assert swept(lstmc, *more).err == error
    assert not Path("sweep").exists()


def test_an_option_that_the_model_does_not_have(lstmc: LSTMC, here: Here) -> None:
    Path("net.py").write_text(MODEL)
    np.savez("data.npz", **arrays(44))
    ended = lstmc("train", "net.py", "--data", "data.npz", *SIZES, "-o", "run", "--set", "cell=gru")
    assert ended.code == 2
    assert ended.err.startswith("DslError: model 'net' has no option cell: it has none\n")


@pytest.mark.slow
def test_results_have_the_costs_of_each_run_and_means_over_seeds(lstmc: LSTMC, here: Here) -> None:
    Path("net.py").write_text(CELLS)
    np.savez("data.npz", **arrays(44))
    data = ("sweep", "net.py", "--data", "data.npz", "--test-split", "0.3", "-o", "sweep")
    grid = ("--grid", "cell=mine,gru", "--grid", "seed=1,2")
    ended = lstmc(*data, *grid, "-D", "N=4", "--epochs", "2", "--tensorboard")  # T is that of the data
    assert ended.code == 0
    found = results()
    row = found["points/cell=mine,seed=2"]
    assert row["iteration"] == "16"  # 31 examples twice, in batches of 4
    assert row["parameters"] == str(4 * 2 + 4 * 4 + 3 * 4)
    # of one example: in each step two products, a sum of 4 and 4 tanh, and in the end a product
    assert row["flops"] == str(3 * (2 * 4 * 2 + 2 * 4 * 4 + 4 + 4) + 2 * 3 * 4)
    assert float(row["seconds"]) > 0
    assert list(Path("sweep/points/cell=mine,seed=2/tensorboard").iterdir())
    with Path("sweep/summary.csv").open() as file:
        summary = {line["cell"]: line for line in csv.DictReader(file)}
    assert set(summary) == {"mine", "gru"}
    losses = [float(found[f"points/cell=gru,seed={seed}"]["loss"]) for seed in (1, 2)]
    assert summary["gru"]["runs"] == "2"
    assert float(summary["gru"]["loss mean"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(summary["gru"]["loss std"]) == pytest.approx(np.std(losses, ddof=1), rel=1e-3)
    assert "means and standard deviations over seeds" in ended.out
    changed = lstmc(*data, "--grid", "seed=3", "-D", "N=4", "--epochs", "1", "--overwrite")
    assert (changed.code, list(results())) == (0, ["points/seed=3"])
    assert "earlier sweeps are in sweep/previous\n" in changed.out
    assert not Path("sweep/summary.csv").exists()
    assert Path("sweep/previous/1/points/cell=gru,seed=1/weights.npz").is_file()
    assert Path("sweep/previous/1/sweep.json").is_file()


def test_what_is_wrong_for_all_points_is_said_once_before_any_is_trained(lstmc: LSTMC, here: Here) -> None:
    Path("net.py").write_text(CELLS)
    np.savez("data.npz", **arrays(44))
    data = ("sweep", "net.py", "--data", "data.npz", "--grid", "cell=mine,gru,lstm", "-o", "sweep")
    ended = lstmc(*data)
    assert (ended.code, ended.err.count("dimension N of input X"), here.jobs) == (2, 1, [])
    ended = lstmc(*data, "-D", "N=100")
    assert "too few examples: found 44, a batch has N = 100" in ended.err
    assert not Path("sweep").exists()
