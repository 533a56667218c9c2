"""``lstmc train`` with real Caffe: it learns, its files can be used, and a killed run goes on to the same end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lstmc.interp import forward
from lstmc.prepare import deploy_graph
from lstmc.runs.metrics import read_metrics
from tests.cli.conftest import LSTMC
from tests.cli.test_train import MODEL, SIZES, arrays
from tests.cli.test_train_refusals import CARRYING
from tests.processes import family_with, without_progress

GIVEN = ("train", "net.py", "--data", "data.npz", *SIZES, "--solver", "type=Adam", "--solver", "base_lr=0.02")


def prepared(folder: Path = Path()) -> None:
    (folder / "net.py").write_text(MODEL)
    np.savez(folder / "data.npz", **arrays(44))
    np.savez(folder / "test.npz", **arrays(20))


def saved(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return dict(found)


@pytest.mark.caffe
def test_it_learns_and_its_net_gives_what_the_model_means(lstmc: LSTMC, caffe: object) -> None:
    prepared()
    solver = ("--solver", "max_iter=200", "--solver", "test_interval=100", "--solver", "snapshot=100")
    ended = lstmc(*GIVEN, "--test-data", "test.npz", *solver, "-o", "run")
    assert (ended.code, ended.err) == (0, "")
    tests = [record for record in read_metrics(Path("run/metrics.jsonl")) if record["kind"] == "test"]
    assert [record["iteration"] for record in tests] == [100, 200]
    assert tests[-1]["scores"]["accuracy"] == 1
    namespace: dict[str, Any] = {}
    exec(compile(MODEL, "net.py", "exec"), namespace)
    graph = namespace["net"].graph(T=3, N=4)
    X = arrays(20)["X"][:, :4]
    np.savez("x.npz", X=X)
    ran = lstmc("run", "run/net.prototxt", "--inputs", "x.npz", "-o", "out.npz")
    assert (ran.code, ran.err) == (0, "")
    weights = saved(Path("run/weights.npz"))
    assert_allclose(
        saved(Path("out.npz"))["p"], forward(deploy_graph(graph), {"X": X}, weights).outputs["p"], atol=1e-5
    )
    scored = forward(graph, {"X": X, "label": arrays(20)["label"][:4]}, weights).outputs
    assert scored["accuracy"] == 1
    assert scored["loss"] < 0.1
    taken = lstmc("run", "run/net.prototxt", "--save-weights", "again.npz")
    assert taken.code == 0
    for name, array in saved(Path("again.npz")).items():
        assert_array_equal(array, weights[name])


@pytest.mark.caffe
def test_scores_are_losses_and_scores_alone(lstmc: LSTMC, caffe: object) -> None:
    prepared()
    Path("net.py").write_text(CARRYING)
    solver = ("--solver", "max_iter=4", "--solver", "test_interval=2")
    ended = lstmc(*GIVEN, "--test-data", "test.npz", *solver, "-o", "run")
    assert (ended.code, ended.err) == (0, "")
    tests = [record for record in read_metrics(Path("run/metrics.jsonl")) if record["kind"] == "test"]
    assert [set(record["scores"]) for record in tests] == [{"loss", "accuracy"}] * 2


DIVERGING = """\
import numpy as np
from lstmc import *
from lstmc import Solver

N, H = dims("N H")


@cell
def rooted(x=Input(N, 2), h=State(N, H), *, W=Param(H, 2, fill=uniform(-1, 1))):
    a = tanh(linear(x, W))
    h = h + PLANTED
    return h, {"h": h}


@model(solver=Solver(max_iter=40))
def net(X=Input(4, N, 2), t=Input(N, 3)):
    y, last = scan(rooted(H=3), X, carry=CARRY)
    return {"y": y[-1], "loss": euclidean_loss(y[-1], t)}
"""


@pytest.mark.caffe
@pytest.mark.parametrize(
    ("planted", "carry", "expected"),
    [
        (
            "sqrt(1 - a * a)",
            False,
            "TrainingError: after iteration 3 rooted/W has values that are NaN or infinite\n"
            "  net.py:11:13\n"
            "    h = h + sqrt(1 - a * a)\n"
            "            ^^^^^^^^^^^^^^^\n"
            "  the gradient of sqrt at net.py:11, step 2 of rooted, is not finite: inf where its operand is 0\n",
        ),
        (
            "exp(50 * relu(x - 3)) @ const(np.eye(2, 3))",
            True,
            "TrainingError: the loss of iteration 3 is nan\n"
            "  net.py:11:13\n"
            "    h = h + exp(50 * relu(x - 3)) @ const(np.eye(2, 3))\n"
            "            ^^^^^^^^^^^^^^^^^^^^^\n"
            "  exp at net.py:11, step 2 of rooted, is not finite: inf where its operand is 100\n",
        ),
    ],
)
def test_a_run_that_diverges_names_the_first_value_that_is_not_finite(
    planted: str, carry: bool, expected: str, lstmc: LSTMC, caffe: object
) -> None:
    X = np.full((4, 40, 2), 0.1)
    X[2, 11] = 500 if not carry else 5  # of the third batch
    np.savez("data.npz", X=X, t=np.ones((40, 3)))
    Path("net.py").write_text(DIVERGING.replace("PLANTED", planted).replace("CARRY", str(carry)))
    ended = lstmc("train", "net.py", "--data", "data.npz", "-D", "N=4", "--no-shuffle", "-o", "run")
    assert ended.code == 2
    assert ended.err == expected + (
        "  keep its operand in range, as with maximum(x, 1e-6) or clip(x, -50, 50)\n  there is no snapshot yet\n"
    )


ENDLESS = 10**9  # iterations of a run that is ended by a signal, whenever that comes
# Handlers are inherited: what is started in the background ignores SIGINT, and SIGHUP under nohup. The curve, which
# nobody looks at here, would be drawn at every snapshot, which takes far longer than the updates between two.
DEFAULT_SIGNALS = """\
import signal, sys
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from lstmc.cli import main
from lstmc.runs.metrics import CurveDrawing
CurveDrawing.start = CurveDrawing.finish = lambda drawing: None
sys.argv[0] = "lstmc"
main()
"""


def started(folder: Path, run: str, *more: str, iterations: int = 200) -> subprocess.Popen[str]:
    solver = ("--solver", f"max_iter={iterations}", "--solver", "snapshot=30")
    return subprocess.Popen(
        [sys.executable, "-c", DEFAULT_SIGNALS, *GIVEN, *solver, "-o", run, *more],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_updates(process: subprocess.Popen[str], metrics: Path, count: int) -> None:
    while process.poll() is None and (not metrics.is_file() or metrics.read_bytes().count(b"\n") < count):
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.caffe
def test_however_it_is_ended_it_goes_on_to_the_same_weights(tmp_path: Path, caffe: object) -> None:
    prepared(tmp_path)
    metrics, done = tmp_path / "run" / "metrics.jsonl", 0
    ends = ((signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, 143))
    for (number, code), updates in zip(ends, np.random.default_rng(0).integers(5, 50, 3), strict=True):
        process = started(tmp_path, "run", *(("--resume",) if done else ()), iterations=ENDLESS)
        wait_for_updates(process, metrics, done + int(updates))  # more than there were: this process's own
        process.send_signal(number)
        out, err = process.communicate()
        assert (process.returncode, err) == (code, "")
        assert ("\nresume with: lstmc train " in out) == (code > 0)
        done = metrics.read_bytes().count(b"\n")
    enough = done + 30
    for run, *more in (("run", "--resume"), ("whole",)):
        process = started(tmp_path, run, *more, iterations=enough)
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    found, wanted = (saved(tmp_path / run / "weights.npz") for run in ("run", "whole"))
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        assert_array_equal(found[name], array)
    lines = [read_metrics(tmp_path / run / "metrics.jsonl") for run in ("run", "whole")]
    lines = [[(record["iteration"], record["loss"]) for record in records] for records in lines]
    assert lines[0] == lines[1]


@pytest.mark.faults
@pytest.mark.caffe
def test_the_first_signal_ends_a_run_whose_worker_is_stopped(tmp_path: Path, caffe: object) -> None:
    prepared(tmp_path)
    process = started(tmp_path, "run", iterations=ENDLESS)
    wait_for_updates(process, tmp_path / "run" / "metrics.jsonl", 40)  # behind a snapshot
    (worker,) = family_with(process.pid, "worker.py")
    worker.suspend()
    with pytest.raises(subprocess.TimeoutExpired):  # whoever stops it may continue it
        process.wait(3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert re.fullmatch(
        r"TrainingError: training net after iteration \d+: Caffe did not call (step|snapshot) of training\.py:"
        rf" a signal has stopped it \(process id {worker.pid}\); its process was ended\n"
        r"  the last good snapshot is of iteration \d+: \S+\n  resume it with --resume\n",
        err,
    ), err
    assert not worker.is_running()
    again = started(tmp_path, "run", "--resume", iterations=60)
    assert again.communicate()[1] == ""
    assert again.returncode == 0


@pytest.mark.faults
@pytest.mark.caffe
def test_a_run_whose_worker_was_stopped_and_continued_goes_on(tmp_path: Path, caffe: object) -> None:
    prepared(tmp_path)
    process = started(tmp_path, "run", iterations=ENDLESS)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for_updates(process, metrics, 5)
    (worker,) = family_with(process.pid, "worker.py")
    for stopped in (worker, psutil.Process(process.pid)):
        stopped.suspend()
        time.sleep(1.5)
        stopped.resume()
        wait_for_updates(process, metrics, metrics.read_bytes().count(b"\n") + 5)
    process.send_signal(signal.SIGTERM)
    assert without_progress(process.communicate()[1]) == ""
    assert process.returncode == 143


@pytest.mark.faults
@pytest.mark.caffe
@pytest.mark.parametrize("which", ["run", "worker"])
def test_what_is_killed_while_it_is_stopped_leaves_nothing(tmp_path: Path, caffe: object, which: str) -> None:
    prepared(tmp_path)
    process = started(tmp_path, "run", iterations=ENDLESS)
    wait_for_updates(process, tmp_path / "run" / "metrics.jsonl", 5)
    (worker,) = family_with(process.pid, "worker.py")
    killed = worker if which == "worker" else psutil.Process(process.pid)
    worker.suspend()
    killed.suspend()
    killed.kill()
    _, err = process.communicate(timeout=30)
    assert process.returncode == (2 if which == "worker" else -signal.SIGKILL)
    assert ("Caffe's process ended (SIGKILL)" in err) == (which == "worker")
    assert not psutil.wait_procs([worker], 20)[1]


@pytest.mark.caffe
def test_a_folder_with_another_run_is_refused(lstmc: LSTMC, caffe: object) -> None:
    prepared()
    short = ("--solver", "max_iter=3", "-o", "run")
    assert lstmc(*GIVEN, *short).code == 0
    before = Path("run/metrics.jsonl").read_bytes()
    again = lstmc(*GIVEN, *short)
    assert again.code == 2
    assert again.err == (
        "TrainingError: run has a run already\n  resume it with --resume\n"
        "  begin again in this folder with --overwrite\n  choose another folder with -o\n"
    )
    other = lstmc(*GIVEN, *short, "--resume", "--seed", "1")
    assert other.code == 2
    assert other.err.startswith("TrainingError: cannot resume the run in run: it was started with different settings\n")
    assert "the data is other data, or comes in another order" in other.err
    assert Path("run/metrics.jsonl").read_bytes() == before


@pytest.mark.caffe
def test_a_run_that_nobody_reads_any_more_goes_on(tmp_path: Path, caffe: object) -> None:
    prepared(tmp_path)
    with started(tmp_path, "run", "--solver", "test_interval=2") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("training on ")
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 0)
    assert (tmp_path / "run" / "weights.npz").is_file()


@pytest.mark.caffe
def test_a_closed_terminal_stops_a_run_with_a_snapshot(tmp_path: Path, caffe: object) -> None:
    prepared(tmp_path)
    process = started(tmp_path, "run", iterations=ENDLESS)
    wait_for_updates(process, tmp_path / "run" / "metrics.jsonl", 5)
    process.send_signal(signal.SIGHUP)
    assert (process.communicate()[1], process.returncode) == ("", 129)
    assert len(list((tmp_path / "run" / "snapshots").iterdir())) >= 1
