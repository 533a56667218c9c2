"""A Dask scheduler and its workers as processes of this machine, at a loopback address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.processes import family_with

ROOT = Path(__file__).parents[1]
DASK = Path(sys.executable).with_name("dask")


@dataclass
class Cluster:
    """``address`` is the scheduler's."""

    scheduler: subprocess.Popen[str]
    workers: subprocess.Popen[str]
    address: str

    def busy(self) -> list[psutil.Process]:
        """The worker processes that have a Caffe."""
        found = []
        for caffe in family_with(self.workers.pid, "worker.py"):
            with suppress(psutil.NoSuchProcess):
                found.append(caffe.parent())
        return [parent for parent in found if parent is not None]


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A scheduler and so many workers, which end with the block, whatever was done to them. ``folder`` is theirs."""
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True, "cwd": folder}
    quiet["env"] = {**os.environ, "PYTHONPATH": str(ROOT)}  # what tests have workers do is imported
    address = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    scheduler = subprocess.Popen([DASK, "scheduler", *address], **quiet)  # type: ignore[call-overload]
    counts = ["--nworkers", str(workers), "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    them = subprocess.Popen(  # type: ignore[call-overload]
        [DASK, "worker", "--scheduler-file", file, *counts, "--death-timeout", "60", "--local-directory", folder],
        **quiet,
    )
    try:
        while not file.exists() or not file.read_text().strip():
            assert scheduler.poll() is None
            time.sleep(0.05)
        yield Cluster(scheduler, them, json.loads(file.read_text())["address"])
    finally:
        left = [child for process in (scheduler, them) for child in _family(process.pid)]
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        for started in (scheduler, them):
            started.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []
