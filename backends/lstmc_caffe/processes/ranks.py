"""Ranks: workers that train together by MPI, started by this process, or each by an lstmc under an MPI launcher."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from lstmc.errors import TrainingError
from lstmc.process.status import launched_processes
from lstmc_caffe.processes.process import NOT_HERE, CaffeError, CaffeLocation, WorkerProcess
from lstmc_caffe.worker import RANK

SAME_MPI = (
    "the launcher must be of the MPI that its mpi4py uses; srun takes --mpi=pmix for Open MPI, --mpi=pmi2 for MPICH"
)
LAUNCHERS = ("mpirun", "mpiexec")
PACKAGES = ("openmpi-bin", "python3-mpi4py")  # of Debian and Ubuntu
_INSTALL = f"apt-get install {' '.join(PACKAGES)}"
CONNECT_SECONDS = 120.0
JOIN_SECONDS = 600.0  # for the ranks of all machines to start: Python from a file system that they share is slow
END_SECONDS = 5.0
# without starting MPI, which leaves files of shared memory behind
IMPORTS = f"{NOT_HERE}; import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI"
PREFIX = "lstmc-ranks-"
SHARED = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where ranks on one machine exchange messages
# What Open MPI and this file write goes into one folder, which is removed in the end.
FOLDERS = ("TMPDIR", "OMPI_MCA_btl_sm_backing_directory", "OMPI_MCA_btl_vader_backing_directory")
# Open MPI asks for these where it is run by root, starts more processes than cores, or has a rank wait: settings of
# Open MPI 5 (PRTE_MCA), of 4 (OMPI_MCA), which other launchers do not read.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    # a process may not read another one's memory in a container
    "OMPI_MCA_smsc": "^cma",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}


def missing_for_ranks(location: CaffeLocation) -> str | None:
    """Return what training by several ranks lacks here, with the install command; None if nothing is missing."""
    if launcher() is None:
        return f"there is no {' and no '.join(LAUNCHERS)}: {_INSTALL}"
    return missing_for_mpi(location)


def missing_for_mpi(location: CaffeLocation) -> str | None:
    """Return a message on what a rank that a launcher has started lacks here, or None if nothing is missing."""
    process = subprocess.run(
        [str(location.python), "-c", IMPORTS], env=location.environment(), capture_output=True, text=True
    )
    if process.returncode:
        return f"{location.python} cannot import mpi4py.MPI: {_INSTALL}"
    return None


def launcher() -> str | None:
    return next(filter(None, map(shutil.which, LAUNCHERS)), None)


class Rank(WorkerProcess):
    """A worker that is asked to end before it is killed, so that it can notify the other ranks."""

    def end(self) -> None:
        """Wait for the ranks to end by themselves, for a few seconds; kill them otherwise."""
        family = self._family()
        self._input.close()
        if not self._stopped():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        super().end()
        for process in family:  # a rank that is stopped does not see that its launcher has ended
            with suppress(psutil.NoSuchProcess):
                process.kill()


class LaunchedRank(Rank):
    """The worker of this process, which an MPI launcher has started with others: ``rank`` of ``size``, as MPI says.
    Raises TrainingError where it cannot find the others."""

    def __init__(self, location: CaffeLocation) -> None:
        if missing := missing_for_mpi(location):
            raise TrainingError(f"cannot train by the {launched_processes()} processes of the launcher: {missing}")
        # the socket by which MPICH's launcher speaks to its processes
        descriptors = [int(os.environ[name]) for name in ("PMI_FD",) if os.environ.get(name, "").isdecimal()]
        super().__init__([str(location.python), "-u", str(RANK)], location.environment(), descriptors=descriptors)
        try:
            reply, _ = self.ask("find the other ranks", {"request": "rank"}, {}, JOIN_SECONDS)
            self.rank, self.size = int(reply["rank"]), int(reply["size"])
            if self.size == 1:
                started = f"a launcher has started {launched_processes()} processes"
                raise TrainingError(f"{started}, but by the MPI of {location.python} each is alone", notes=[SAME_MPI])
        except BaseException:
            self.end()
            raise

    def work(self) -> NoReturn:
        """Serve rank 0 until it ends, then end this process. Signals are left to rank 0."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        status = self._process.wait()
        if status:
            sys.stderr.write(self._read_log())
        self.end()
        raise SystemExit(int(status != 0))


class RanksProcess(Rank):
    """Workers under an MPI launcher, whose process id is ``pid``."""

    def __init__(self, location: CaffeLocation, ranks: int) -> None:
        """Start an MPI launcher with this number of ranks, and two named pipes to rank 0."""
        if missing := missing_for_ranks(location):
            raise TrainingError(f"cannot train by {ranks} ranks: {missing}")
        _remove_stale_folders()
        self._folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=SHARED)
        incoming, outgoing = (str(Path(self._folder) / name) for name in ("in", "out"))
        os.mkfifo(incoming)
        os.mkfifo(outgoing)
        self._pipes = incoming, outgoing
        start = [str(launcher()), "-n", str(ranks), str(location.python), "-u", str(RANK), incoming, outgoing]
        environment = {**SETTINGS, **location.environment(), **dict.fromkeys(FOLDERS, self._folder)}
        # so that the launcher ends with this process, however it ends
        guard = shutil.which("setpriv")
        super().__init__([guard, "--pdeathsig", "KILL", *start] if guard else start, environment)

    def _connect(self) -> None:
        """Open the pipes to rank 0 in place of those to the launcher. Raise CaffeError if rank 0 does not start."""
        incoming, outgoing = self._pipes
        reading = os.open(outgoing, os.O_RDONLY | os.O_NONBLOCK)
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                writing = os.open(incoming, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # rank 0 has not opened the pipe yet
                status = self._process.poll()
                if status is not None or time.monotonic() > until:
                    os.close(reading)
                    log = self._read_log()
                    self.end()
                    last = [f"last on stderr: {line[:300]}" for line in log.strip().splitlines() if line.strip()][-5:]
                    raise CaffeError("the ranks could not be started", notes=last) from None
                time.sleep(0.02)
        for pipe in (self._input, self._output):
            pipe.close()
        self._input = os.fdopen(writing, "wb", buffering=0)
        self._output = os.fdopen(reading, "rb", buffering=0)
        for path in self._pipes:
            os.unlink(path)

    def end(self) -> None:
        super().end()
        shutil.rmtree(self._folder, ignore_errors=True)


def _remove_stale_folders() -> None:
    for path in Path(SHARED or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
