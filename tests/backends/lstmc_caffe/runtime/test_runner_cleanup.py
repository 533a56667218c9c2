"""Processes, files, memory and threads around the worker: nothing is left behind, nothing is lost."""

from __future__ import annotations

import gc
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lstmc_caffe.processes.process import CaffeAborted, CaffeTimeout
from lstmc_caffe.runtime.runner import Runner

FUNCTIONS = """
import subprocess, time

def sleep(args, arrays):
    time.sleep(args)

def leave_child(args, arrays):
    return subprocess.Popen(["sleep", "1000"]).pid, {}

def hello(args, arrays):
    return "hello", {}
"""

GOOD = """
name: "good"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "y" type: "Power" bottom: "x" top: "y" }
"""
BAD = 'layer { name: "y" type: "Power" bottom: "x" top: "y" }'


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("functions") / "functions.py"
    path.write_text(FUNCTIONS)
    return path


def alive(pid: int) -> bool:
    """Whether a process is there, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 120
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.caffe
class TestNothingIsLeft:
    def test_closing_ends_the_worker_and_what_it_started(self, caffe: Runner, functions: Path) -> None:
        with Runner(caffe.location) as runner:
            pid, child = runner.pid, runner.call(functions, "leave_child").value
        assert not alive(pid)
        state = Path(f"/proc/{child}/stat")  # of a child of nobody, a zombie may be left to the system
        assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX"

    def test_a_runner_that_is_dropped_ends_its_worker(self, caffe: Runner) -> None:
        runner = Runner(caffe.location)
        pid = runner.pid
        del runner
        gc.collect()
        assert not alive(pid)

    def test_no_files_and_no_descriptors(
        self, caffe: Runner, functions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
        before = len(os.listdir("/proc/self/fd"))
        with Runner(caffe.location) as runner:
            for _ in range(3):
                runner.load(GOOD)
                with pytest.raises(CaffeAborted):
                    runner.load(BAD)
            with pytest.raises(CaffeTimeout):
                runner.call(functions, "sleep", 1000, timeout=0.1)
        assert list(tmp_path.iterdir()) == []
        assert len(os.listdir("/proc/self/fd")) == before

    def test_memory_of_unloaded_nets_is_freed(self, caffe: Runner) -> None:
        text = GOOD.replace("dim: 2 dim: 3", "dim: 1000 dim: 1000")  # 8 MB as data, as much as gradients
        sizes = []
        for _ in range(30):
            with caffe.load(text) as net:
                net.run({"x": [[1.0] * 1000] * 1000})
            status = Path(f"/proc/{caffe.pid}/status").read_text()
            sizes.append(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]))
        assert sizes[-1] - sizes[4] < 20_000

    @pytest.mark.faults
    @pytest.mark.parametrize("busy", [True, False], ids=["computing", "waiting"])
    def test_it_ends_with_a_parent_that_is_killed(self, caffe: Runner, functions: Path, busy: bool) -> None:
        program = (
            "import sys; from pathlib import Path\n"
            "from lstmc_caffe.processes.process import CaffeLocation; from lstmc_caffe.runtime.runner import Runner\n"
            f"runner = Runner(CaffeLocation(Path({str(caffe.location.python)!r}),"
            f" {caffe.location.pythonpath!r}, None, 'setting'))\n"
            "print(runner.pid, flush=True)\n"
            f"runner.call(Path({str(functions)!r}), 'sleep', 1000) if {busy} else sys.stdin.read()\n"
        )
        path = os.pathsep.join(sys.path)
        parent = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert alive(pid)
            parent.kill()
        assert wait_until_gone(pid)


@pytest.mark.caffe
class TestThreads:
    def test_a_worker_outlives_the_thread_that_started_it(self, caffe: Runner, functions: Path) -> None:
        with Runner(caffe.location) as runner:
            pids: list[int] = []
            thread = threading.Thread(target=lambda: pids.append(runner.pid))
            thread.start()
            thread.join()
            time.sleep(0.2)
            assert runner.call(functions, "hello").value == "hello"
            assert pids == [runner.pid]

    def test_requests_of_threads_wait_for_each_other(self, caffe: Runner) -> None:
        with caffe.load(GOOD) as net:
            results: dict[int, float] = {}

            def run(number: int) -> None:
                for _ in range(20):
                    blob = net.run({"x": [[number] * 3] * 2}).blobs["y"]
                    results[number] = blob.min() if blob.min() == blob.max() else math.nan

            threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert results == {number: number for number in range(4)}
