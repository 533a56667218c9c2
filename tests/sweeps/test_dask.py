"""A sweep in real Caffe, by a Dask scheduler and two workers that are processes here, one of which is killed."""

from __future__ import annotations

import csv
import gc
import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import distributed
import numpy as np
import psutil
import pytest

from lstmc.errors import SweepError
from lstmc.process.pool import pool
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
        "max_iter=60",
        "--solver",
        "snapshot=20",
        *GRID,
    )


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.caffe
def test_workers_of_a_scheduler_train_all_points_though_one_is_killed(tmp_path: Path, caffe: object) -> None:
    command = prepared(tmp_path)
    with cluster(tmp_path, workers=2) as there:
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
    assert [(row["state"], row["iteration"]) for row in rows] == [("finished", "60")] * 4
    assert (tmp_path / "sweep" / "best" / "weights.npz").is_file()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_where_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("lstmc.process.pool.CONNECT_SECONDS", 0.2)
    with pytest.raises(SweepError) as error, pool(address):
        pass
    expected = f"scheduler={address}: expected the address of a Dask scheduler, as tcp://HOST:8786, found none that"
    assert error.value.message.startswith(expected)
    left = [each for each in gc.get_objects() if issubclass(type(each), distributed.Client) and each.status != "closed"]
    assert left == []  # Dask would close it where the garbage collector runs, which may wait forever


PAGES = ("/", "/info/main/workers.html", "/json/counts.json", "/metrics", "/health", "/status", "/proxy/80/127.0.0.1/")


def listening() -> list[int]:
    """The ports that this process and its children listen at, for anybody on this machine."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [each for process in family for each in process.net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in found} <= {"127.0.0.1"}
    return [each.laddr.port for each in found]


def is_let_in(port: int, secret: distributed.Security | None = None) -> bool:
    """Whether a Dask process talks to one who has this secret, or none: it greets first whom it takes commands from."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as plain:
            if secret is None:
                return bool(plain.recv(1))
            context = secret.get_connection_args("client")["ssl_context"]
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who attacks does not look
            with context.wrap_socket(plain) as encrypted:
                return bool(encrypted.recv(1))
    except OSError:  # closed, or no answer in time; what ssl raises is one too
        return False


def pages(port: int) -> list[str]:
    """The pages that are served there."""
    found = []
    for page in PAGES:
        server = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
        try:
            server.request("GET", page)
            if server.getresponse().status != 404:
                found.append(page)
        except (OSError, http.client.HTTPException):  # none that talks HTTP without TLS
            continue
        finally:
            server.close()
    return found


@pytest.mark.slow
def test_who_has_no_secret_has_nothing_run_by_workers_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.LocalCluster(n_workers=0, protocol="tcp://", host="127.0.0.1", dashboard_address="127.0.0.1:0"):
        assert any(is_let_in(port) for port in listening())  # what is not locked is open to such attacks
        assert any(pages(port) for port in listening())
    secret, other = distributed.Security.temporary(), distributed.Security.temporary()
    monkeypatch.setattr(distributed.Security, "temporary", lambda: secret)
    with pool(workers=1) as workers:
        workers.submit(os.path.basename, "of/a job", "one")
        assert [(ended.result, ended.problem) for ended in workers.ended(60)] == [("a job", "")]
        ports = listening()
        assert sum(is_let_in(port, secret) for port in ports) == 3  # the scheduler, the worker and its nanny
        with ThreadPoolExecutor(len(ports)) as threads:  # most of them say nothing, until time is up
            open_to_all = threads.map(lambda port: is_let_in(port) or is_let_in(port, other) or pages(port), ports)
        assert not any(open_to_all)


PID = "__import__('os').getpid()"


@pytest.mark.faults
@pytest.mark.posix
@pytest.mark.parametrize("stopped", ["a worker", "its child", "a worker of a scheduler"])
def test_a_process_that_a_signal_has_stopped_is_named_and_not_waited_for(tmp_path: Path, stopped: str) -> None:
    with ExitStack() as outer, ExitStack() as stack:
        elsewhere = outer.enter_context(cluster(tmp_path, workers=1)).address if "scheduler" in stopped else None
        workers = stack.enter_context(pool(elsewhere, workers=1))
        workers.submit(eval, PID, "pid")
        (pid,) = [ended.result for ended in workers.ended(60)]
        (address,) = workers._client.nthreads()
        process = psutil.Process(pid)
        workers.submit(subprocess.call, [sys.executable, "-c", "import time; time.sleep(600)"], "job")
        while not (children := process.children()):
            time.sleep(0.05)
        process = children[0] if stopped == "its child" else process
        process.suspend()
        with pytest.raises(SweepError) as error:
            stack.close()
        silent = "did not answer for 5 s"
        said = {
            "a worker": f"worker process {pid} {silent}, and has been killed",
            "its child": f"process {process.pid} of a worker was stopped, and has been killed",
            "a worker of a scheduler": f"the worker at {address} {silent}: it ends its job when it answers again",
        }[stopped]
        assert error.value.message == f"{said}; finished points are kept: run the command again to continue"
        assert process.is_running() == (elsewhere is not None)  # what others have started is theirs
