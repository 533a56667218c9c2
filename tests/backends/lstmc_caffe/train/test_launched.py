"""``mpirun -n R lstmc train``: the processes of a launcher are the ranks, and the first of them writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from lstmc.errors import TrainingError
from lstmc.process.status import SIZES, launched_processes
from lstmc.runs.metrics import read_metrics
from lstmc_caffe.processes.ranks import launcher
from lstmc_caffe.runtime.locate import locate
from lstmc_caffe.train.net import CaffeRanks
from tests.cli.test_train import MODEL, arrays
from tests.processes import family_with, without_progress

TRAIN = (sys.executable, "-m", "lstmc", "train", "net.py", "--data", "data.npz", "-D", "T=3", "-D", "N=5")
SOLVER = ("--solver", "type=Adam", "--solver", "snapshot=20")
ENDLESS = "1000000"
END_SECONDS = 60.0  # a job of a launcher that was killed ends by itself


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MODEL)
    np.savez(tmp_path / "data.npz", **arrays(40))
    return tmp_path


@contextmanager
def started(folder: Path, ranks: int, iterations: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A training under a launcher; under none for one rank. It ends with the block."""
    by = [str(launcher()), "-n", str(ranks), "--oversubscribe", "--allow-run-as-root"] if ranks > 1 else []
    command = [*by, *TRAIN, *SOLVER, "--solver", f"max_iter={iterations}", "-o", "run", *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def weights(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    with np.load(folder / "run" / "weights.npz") as found:
        return dict(found)


@pytest.mark.ranks
@pytest.mark.caffe
def test_the_processes_of_a_launcher_are_the_ranks(folder: Path, caffe: object) -> None:
    found = {}
    for ranks in (1, 2):
        with started(folder, ranks, "50", "--test-split", "0.25") as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.count("finished after 50 iterations") == 1
        records = read_metrics(folder / "run" / "metrics.jsonl")
        assert [record["iteration"] for record in records if record["kind"] == "train"] == list(range(1, 51))
        found[ranks] = weights(folder)
        (folder / "run").rename(folder / f"run of {ranks}")
    for name, array in found[1].items():
        np.testing.assert_allclose(found[2][name], array, rtol=0, atol=1e-5, err_msg=name)


def wait_for_a_snapshot(folder: Path, process: subprocess.Popen[str]) -> None:
    while not list((folder / "run").glob("snapshots/0*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.ranks
@pytest.mark.caffe
@pytest.mark.parametrize("which", ["one's lstmc", "the other's lstmc", "a rank", "launcher"])
def test_what_is_killed_of_them_ends_all_and_the_run_goes_on(which: str, folder: Path, caffe: object) -> None:
    with started(folder, 2, ENDLESS) as process:
        wait_for_a_snapshot(folder, process)
        family = psutil.Process(process.pid).children(recursive=True)
        ranks = family_with(process.pid, "rank.py")
        assert len(ranks) == 2
        killed = {"one's lstmc": ranks[0].parent(), "the other's lstmc": ranks[1].parent(), "a rank": ranks[1]}.get(
            which
        )
        (killed or psutil.Process(process.pid)).kill()
        process.communicate()
        assert process.returncode != 0
        assert psutil.wait_procs(family, END_SECONDS)[1] == []
    last = int(max(path.name for path in (folder / "run" / "snapshots").glob("0*")))
    with started(folder, 1, str(last + 5), "--resume") as again:
        out, err = again.communicate()
    assert (again.returncode, without_progress(err)) == (0, "")
    assert f"finished after {last + 5} iterations" in out


@pytest.mark.ranks
@pytest.mark.caffe
def test_a_launcher_of_another_mpi(folder: Path, caffe: object) -> None:
    command = [*TRAIN, *SOLVER, "-o", "run"]
    environment = {**os.environ, "PMI_SIZE": "4"}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"TrainingError: a launcher has started 4 processes, but by the MPI of {locate().python} each is alone\n"
        "  the launcher must be of the MPI that its mpi4py uses; srun takes --mpi=pmix for Open MPI, --mpi=pmi2 for"
        " MPICH\n"
    )
    assert not (folder / "run").exists()


def test_ranks_of_its_own_in_a_process_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(TrainingError) as error:
        CaffeRanks(2, gpu=False)
    assert error.value.message == (
        "ranks=2 starts processes, but this one was started by an MPI launcher as one of 4, which are the ranks: leave"
        " it out"
    )


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("", 1), ("many", 1)])
def test_how_many_a_launcher_has_started(value: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    assert launched_processes() == 1
    monkeypatch.setenv("PMI_SIZE", value)
    assert launched_processes() == count
