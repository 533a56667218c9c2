"""``lstmc.train``: what a run gives, how it is told, stopped and resumed; in NumPy, and once in real Caffe."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import lstmc
from lstmc import Solver
from lstmc.errors import DataError, ModelFileError
from lstmc.runs.events import Event, Saved, Scored, Started, Updated
from tests.api.test_compile import trained
from tests.cli.interpreter_backend import InterpreterBackend
from tests.cli.test_train import Undrawn

SIZES = {"T": 3, "N": 4}


@pytest.fixture
def run_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains in NumPy, without drawing."""
    monkeypatch.setattr("lstmc.api.training.CurveDrawing", Undrawn)

    def run(name: str, **more: Any) -> lstmc.Run:
        return lstmc.train(trained, data(), out=tmp_path / name, backend=InterpreterBackend(), **SIZES, **more)

    return run


def data(examples: int = 22) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    label = np.arange(examples) % 4
    return {"X": rng.normal(size=(3, examples, 3)) + label[None, :, None], "label": label}


def test_a_run_has_its_metrics_and_its_weights(run_in: Any) -> None:
    events: list[Event] = []
    run = run_in("run", solver={"max_iter": 20, "base_lr": 0.1}, test_data=data(9), progress=events.append)
    assert isinstance(run, lstmc.Run)
    assert (run.ended, run.iteration, len(run.losses)) == ("finished", 20, 20)
    assert events[0] == Started(20, 22, "examples", 4, True, 9, "examples", 4)
    assert [type(event) for event in events].count(Updated) == 20
    assert {type(event) for event in events} == {Started, Updated, Scored, Saved}
    assert [e.loss for e in events if isinstance(e, Updated)] == run.losses
    assert set(run.scores) == {"loss"}
    assert run.net.outputs == {"prob": (4, 4)}
    assert_array_equal(run.net.weights["step/W"], run.weights["step/W"])
    assert {"weights.npz", "metrics.jsonl", "command.json"} <= {path.name for path in run.files}
    assert str(run) == f"trained in {run.folder}: finished after 20 iterations, loss {run.scores['loss']:.4g}"


def test_progress_that_says_true_stops_the_run_and_it_goes_on_to_the_same_end(run_in: Any) -> None:
    stopped = run_in("run", progress=lambda event: isinstance(event, Updated) and event.iteration == 8)
    assert (stopped.ended, stopped.iteration) == ("stopped", 8)
    resumed, whole = run_in("run", resume=True), run_in("whole")
    assert resumed.ended == "finished"
    assert_array_equal(resumed.weights["step/W"], whole.weights["step/W"])
    assert resumed.losses == whole.losses


def test_ctrl_c_leaves_a_snapshot_and_interrupts(run_in: Any) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a parent had it ignored
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            run_in("run", solver=["interrupt=8"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped after 8 iterations" in str(caught.value)
    assert "resume=True continues from " in str(caught.value)
    assert run_in("run", resume=True).ended == "finished"


def test_ctrl_c_is_the_caller_s_where_it_says_when_to_stop(run_in: Any) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            run_in("run", stop=lambda: False, progress=lambda event: os.kill(os.getpid(), signal.SIGINT))
        assert str(caught.value) == ""
    finally:
        signal.signal(signal.SIGINT, before)


def test_data_that_do_not_fit(run_in: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        lstmc.train(trained, data(3), out=tmp_path / "run", backend=InterpreterBackend(), **SIZES)
    assert str(caught.value) == (
        "DataError: the data does not fit trained\n"
        "  too few examples: found 3, a batch has N = 4: make it smaller with N=SIZE"
    )
    with pytest.raises(DataError) as caught:
        run_in("run", test_split=0.1)
    assert str(caught.value) == "DataError: test_split=0.1 makes 20 and 2 examples: a batch has 4"
    assert not (tmp_path / "run").exists()


@pytest.mark.caffe
def test_real_caffe_trains_and_the_curve_is_drawn(caffe: object, tmp_path: Path) -> None:
    solver = Solver(max_iter=30, base_lr=0.05, clip_gradients=5.0)
    run = lstmc.train(trained, data(), out=tmp_path / "run", solver=solver, **SIZES)
    assert (run.ended, run.not_drawn) == ("finished", None)
    assert {"loss.png", "trained.prototxt"} <= {path.name for path in run.files}
    found = run.net.run(X=data(4)["X"].astype(np.float32))["prob"]
    assert_array_equal(found, lstmc.load(tmp_path / "run" / "trained.prototxt").run(X=data(4)["X"])["prob"])


def test_the_files_for_caffe_train(tmp_path: Path) -> None:
    net = lstmc.compile(trained, **SIZES)
    paths = lstmc.export_training(net, tmp_path, data=data(), solver={"base_lr": 0.5, "stepvalue": [5, 9]} | STEPS)
    assert {path.name for path in paths} >= {"trained.prototxt", "trained.train.prototxt", "trained.train.txt"}
    assert (tmp_path / "trained.train.h5").is_file()
    assert "stepvalue: 9" in (tmp_path / "trained.solver.prototxt").read_text()


STEPS = {"lr_policy": "multistep", "gamma": 0.1}


@pytest.mark.parametrize(
    ("compiled", "text"),
    [
        ({"step": True}, "step=True makes a net that is not trained"),
        ({"outputs": ["prob"]}, "outputs= makes a net that is not trained"),
        ({"target": "flat"}, "nets for target flat are not trained: those for caffe, caffe-native, caffe-fused are"),
    ],
)
def test_nets_that_are_not_trained(tmp_path: Path, compiled: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        lstmc.export_training(lstmc.compile(trained, **SIZES, **compiled), tmp_path)
    assert str(caught.value) == f"ModelFileError: there is no training net: {text}"
