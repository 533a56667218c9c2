"""A sweep in real Caffe, by a Dask scheduler and four workers that are processes here, one of which is killed."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from lstmc.errors import SweepError
from lstmc.pool import pool
from tests.cli.test_train import MODEL, SIZES, arrays
from tests.dask_cluster import cluster

GRID = ("--grid", "solver.base_lr=0.01,0.02", "--grid", "seed=0,1")
LSTMC = [sys.executable, "-m", "lstmc"]


def prepared(folder: Path) -> tuple[str, ...]:
    (folder / "net.py").write_text(MODEL)
    np.savez(folder / "data.npz", **arrays(44))
    return (
        "sweep",
        "net.py",
        "--data",
        "data.npz",
        *SIZES,
        "--solver",
        "max_iter=100",
        "--solver",
        "snapshot=20",
        *GRID,
    )


@pytest.mark.slow
@pytest.mark.caffe
def test_workers_of_a_scheduler_train_all_points_though_one_is_killed(tmp_path: Path, caffe: object) -> None:
    command = prepared(tmp_path)
    with cluster(tmp_path, workers=4) as there:
        at = ("--scheduler", there.address, "-o", "sweep")
        running = subprocess.Popen(
            [*LSTMC, *command, *at], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while not (busy := there.busy()) and running.poll() is None:
            time.sleep(0.05)
        if busy:
            busy[0].kill()
        out, err = running.communicate()
        assert (err, running.returncode) == ("", 0), out
    with (tmp_path / "sweep" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["state"], row["iteration"]) for row in rows] == [("finished", "100")] * 4
    assert (tmp_path / "sweep" / "best" / "weights.npz").is_file()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_where_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("lstmc.pool.CONNECT_SECONDS", 0.2)
    with pytest.raises(SweepError) as error, pool(address):
        pass
    expected = f"scheduler={address}: expected the address of a Dask scheduler, as tcp://HOST:8786, found none that"
    assert error.value.message.startswith(expected)
