"""A Python with Caffe: where it is, a probe of its import and of its GPU, and a worker process in it. This is lstmc's
side of the pipe to ``worker.py``, which describes the frames; it runs on another Python, so no code is shared."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from lstmc.errors import BackendError
from lstmc_caffe.worker import PROBE

# How a program for ``python -c`` begins: it imports nothing of the current folder, as with -P, which is new in 3.11.
NOT_HERE = "import sys; sys.path[:] = [entry for entry in sys.path if entry]"
CAFFE = "Caffe"
Array = NDArray[Any]
Groups = Mapping[str, Mapping[str, Array]]
Reply = tuple[dict[str, Any], dict[str, dict[str, Array]]]
_FATAL = re.compile(r"F\d{4,8} \d\d:\d\d:\d\d\.\d+ +\d+ (.*)")
INSTALL = "python -m lstmc_caffe.install"
INSTALL_CUDA = f"{INSTALL} --cuda"
PROBE_SECONDS = 60.0
CPU_ONLY = "CPU-only"  # what Caffe says as it ends, asked for a GPU that it was not built for
Origin = Literal["setting", "installed", "found"]
# the variables by which a process finds its modules and libraries, and which GPUs it sees
_ENVIRONMENT = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
_CACHE: dict[tuple[object, ...], subprocess.CompletedProcess[str]] = {}


class CaffeError(BackendError):
    """A failure of real Caffe, in its own process."""


class CaffeTimeout(CaffeError):
    """A request whose deadline passed. The worker was ended; the next request starts a new one."""

    def __init__(self, action: str, seconds: float, program: str = CAFFE) -> None:
        super().__init__(f"{program} did not {action} within {seconds:g} s; its process was ended")


class CaffeStopped(CaffeError):
    """A request that was given up because a process that works on it is stopped. The next one starts a new worker."""

    def __init__(self, action: str, pids: Sequence[int], program: str = CAFFE) -> None:
        stopped = f"a signal has stopped it (process id {', '.join(map(str, pids))})"
        super().__init__(f"{program} did not {action}: {stopped}; its process was ended")


class CaffeAborted(CaffeError):
    """A request during which the worker ended: a failed CHECK, a crash, or a kill from outside. ``checks`` are Caffe's
    own fatal lines, from the file's name on; ``status`` is the process's return code, negative for a signal."""

    def __init__(self, action: str, status: int, log: str, program: str = CAFFE) -> None:
        self.status = status
        self.checks = fatal_lines(log)
        notes = list(self.checks)
        if any("Not Implemented Yet" in check for check in self.checks):
            notes.append(
                "a layer has no Backward in Caffe: write undifferentiated = (0,) in the class of its op, with the"
                " operands that no gradient may be asked of, and None for each in vjp (docs/write-an-op.md)"
            )
        if status == -signal.SIGKILL:
            notes.append("it was killed from outside, as a system does that runs out of memory")
        elif not notes:
            notes = [f"last on stderr: {line[:300]}" for line in log.strip().splitlines()[-5:]]
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        super().__init__(f"{program}'s process ended ({how}) when asked to {action}", notes=notes)


class CaffeRequestError(CaffeError):
    """A request that was refused, or that raised a Python exception in the worker, which still runs. ``kind`` is the
    name of the exception's class, ``traceback`` its traceback."""

    def __init__(self, action: str, message: str, *, kind: str = "RequestError", traceback: str = "") -> None:
        super().__init__(f"cannot {action}: {message.removeprefix('RequestError: ')}")
        self.kind = kind
        self.traceback = traceback
        if traceback and kind != "RequestError":
            self.add_note("In the worker:\n" + traceback.rstrip())


def fatal_lines(log: str) -> tuple[str, ...]:
    """Return glog's fatal messages in a log, without severity, date and thread: ``net.cpp:70] Check failed: ...``."""
    lines: list[str] = []
    continued = False
    for line in log.splitlines():
        if match := _FATAL.fullmatch(line):
            lines.append(match[1].rstrip())
            continued = True
        elif line.startswith("*** "):
            continued = False
        elif continued and line.strip():
            lines[-1] += f" {line.strip()}"
    return tuple(lines)


def encode(header: Mapping[str, Any], groups: Groups) -> list[bytes | memoryview]:
    """Return the parts of a frame, a message to the worker: the header's length, the header, each array's memory."""
    items: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for group, arrays in groups.items():
        for name, array in arrays.items():
            flat = array.reshape(-1)
            flat = np.ascontiguousarray(flat, dtype=flat.dtype.newbyteorder("<"))
            items.append({"group": group, "name": name, "dtype": flat.dtype.str, "shape": array.shape})
            if flat.size:
                parts.append(flat.view(np.uint8).data)
    text = json.dumps({**header, "arrays": items}).encode()
    return [struct.pack(">I", len(text)), text, *parts]


class WorkerProcess:
    """One running worker.py. ``ask`` sends a request and waits for the reply; ``end`` leaves nothing behind.
    ``program`` is its name in errors. It inherits ``descriptors``, and no other open file."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        program: str = CAFFE,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start the worker by a command, with pipes to it and a file for its log."""
        self._program = program
        # A file, as a pipe that nobody reads would block the worker; without a name, as it must not be left behind.
        with contextlib.ExitStack() as stack:
            handle, name = tempfile.mkstemp()
            os.close(handle)
            self._log = stack.enter_context(open(name, "a+b"))
            os.unlink(name)
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                pass_fds=descriptors,
                start_new_session=True,  # so that Ctrl-C reaches lstmc alone, and ``end`` all that it started
            )
            stack.pop_all()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[bytes] = self._process.stdin
        self._output: IO[bytes] = self._process.stdout
        self._connect()
        for pipe in (self._input, self._output):
            os.set_blocking(pipe.fileno(), False)

    def _connect(self) -> None:
        """Connect the channel of requests and replies; by default it is the process's stdin and stdout."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self,
        action: str,
        header: Mapping[str, Any],
        groups: Groups,
        seconds: float,
        stop: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Send a request; return the reply's header and its arrays by group. ``action`` completes "Caffe did not ...".
        If a process of the worker is stopped, as by SIGSTOP, the call still waits, unless ``stop`` returns True. Raises
        CaffeTimeout, CaffeStopped and CaffeAborted, after which the worker is gone, and CaffeRequestError."""
        deadline = time.monotonic() + seconds

        def look() -> None:
            if (stopped := self._stopped()) and stop():
                raise CaffeStopped(action, stopped, self._program)

        try:
            self._send(encode(header, groups), deadline, look)
            reply, arrays = self._receive(deadline, look)
            os.ftruncate(self._log.fileno(), 0)  # drop the log of a request that succeeded
        except TimeoutError:
            raise CaffeTimeout(action, seconds, self._program) from None
        except (BrokenPipeError, EOFError):
            raise CaffeAborted(action, self._wait(), self._read_log(), self._program) from None
        if reply["kind"] == "error":
            raise CaffeRequestError(action, reply["message"], kind=reply["type"], traceback=reply["traceback"])
        return reply, arrays

    def _stopped(self) -> list[int]:
        """Return the process ids of the stopped processes among the worker and its children, such as ranks."""
        stopped = []
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                stopped += [process.pid] if process.status() == psutil.STATUS_STOPPED else []
        return stopped

    def _family(self) -> list[psutil.Process]:
        """Return the running processes among the worker and its children."""
        try:
            worker = psutil.Process(self._process.pid)
            return [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        """Kill the worker and its child processes, and close all files. It may be called again."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._input, self._output, self._log):
            file.close()

    def _wait(self) -> int:
        """Return the return code of a worker that has closed its pipe, and so is ending."""
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _read_log(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        length = min(size, 1 << 18)
        return os.pread(self._log.fileno(), length, size - length).decode(errors="replace")

    def _send(self, parts: Sequence[bytes | memoryview], deadline: float, look: Callable[[], None]) -> None:
        """Write a frame to the worker's pipe; TimeoutError at the deadline."""
        descriptor = self._input.fileno()
        for part in parts:
            view = memoryview(part)
            while view:
                try:
                    view = view[os.write(descriptor, view) :]
                except BlockingIOError:
                    _wait_until_ready(descriptor, select.POLLOUT, deadline, look)

    def _receive(self, deadline: float, look: Callable[[], None]) -> Reply:
        """Read a frame from the worker's pipe: the reply's header, and its arrays by group."""
        length = bytearray(4)
        self._fill(memoryview(length), deadline, look)
        text = bytearray(struct.unpack(">I", length)[0])
        self._fill(memoryview(text), deadline, look)
        reply = json.loads(text)
        groups: dict[str, dict[str, Array]] = {}
        for item in reply.pop("arrays"):
            array = np.empty(item["shape"], item["dtype"])
            if array.size:
                self._fill(array.reshape(-1).view(np.uint8).data, deadline, look)
            groups.setdefault(item["group"], {})[item["name"]] = array
        return reply, groups

    def _fill(self, view: memoryview, deadline: float, look: Callable[[], None]) -> None:
        """Read bytes until ``view`` is full. Raise EOFError if the pipe closes before."""
        descriptor = self._output.fileno()
        while view:
            try:
                count = os.readv(descriptor, [view])
            except BlockingIOError:
                _wait_until_ready(descriptor, select.POLLIN, deadline, look)
                continue
            if count == 0:
                raise EOFError
            view = view[count:]


def _wait_until_ready(descriptor: int, event: int, deadline: float, look: Callable[[], None]) -> None:
    """Return when the pipe can be used or has closed; TimeoutError at the deadline. Calls ``look`` each second."""
    poller = select.poll()
    poller.register(descriptor, event)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        # At most a second at a time, so that Ctrl-C is noticed even if another thread got the signal.
        if poller.poll(min(left, 1.0) * 1000):
            return
        look()


@dataclass(frozen=True)
class CaffeLocation:
    """The location of pycaffe: an interpreter, and the PYTHONPATH that it needs (None: the PYTHONPATH of lstmc).
    ``caffe_binary`` is the command-line tool of the same build, None if unknown."""

    python: Path
    pythonpath: str | None
    caffe_binary: Path | None
    origin: Origin

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that imports caffe."""
        # PYTHONHOME names this interpreter's own library: no other one can start with it.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
        if self.pythonpath is not None:
            environment["PYTHONPATH"] = self.pythonpath
        environment["GLOG_minloglevel"] = "2"  # errors and failed checks only
        # products of one step are small: several threads cost more than they give, most of all on a busy machine
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        return environment


@dataclass(frozen=True)
class GpuState:
    """The state of Caffe on a GPU: whether it was built for one, whether one is usable, and the reason if not. ``mend``
    is the command that repairs it, empty if there is none for this machine; ``device`` is the name of the usable GPU,
    ``emulated`` if the CPU emulates it."""

    built: bool
    usable: bool
    reason: str
    mend: str = ""
    device: str = ""
    emulated: bool = False


def gpu_state(location: CaffeLocation) -> GpuState:
    """Return the state of Caffe on a GPU, by a process, as Caffe may abort: it takes half a second or more."""
    probe = cached_probe(location, "--gpu")
    if isinstance(probe, str):
        return GpuState(True, False, probe)
    report = last_json(probe.stdout)
    reason = str(report.get("reason", ""))
    if CPU_ONLY in probe.stderr:
        cause = "this Caffe was built without CUDA"
        if reason:
            return GpuState(False, False, f"{cause}, and {reason}; where there is a GPU: {INSTALL_CUDA}")
        return GpuState(False, False, cause, INSTALL_CUDA)
    if probe.returncode == 0 and not reason:
        return GpuState(True, True, "", "", str(report.get("device", "")), bool(report.get("emulated")))
    return GpuState(True, False, reason or failure_reason(probe))


def cached_probe(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """Return :func:`run_probe` with permanent results cached: a usable Caffe, and one without CUDA. Other failures are
    probed again each time, as they may have been corrected."""
    try:
        modified = location.python.stat().st_mtime_ns
    except OSError:
        modified = -1
    key = (location, modified, arguments, *map(location.environment().get, _ENVIRONMENT))
    if key in _CACHE:
        return _CACHE[key]
    probe = run_probe(location, *arguments)
    if not isinstance(probe, str):
        report = last_json(probe.stdout)
        if CPU_ONLY in probe.stderr or (probe.returncode == 0 and report and "reason" not in report):
            _CACHE[key] = probe
    return probe


def run_probe(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """Run probe.py by an interpreter; return the finished process, or the reason why it did not run."""
    try:
        return subprocess.run(
            [location.python, PROBE, *arguments],
            env=location.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C must not end the probe: Caffe would seem broken
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"import caffe takes longer than {PROBE_SECONDS:g} s"


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON object in the last line of an output, or an empty one."""
    try:
        value = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return value if isinstance(value, dict) else {}


def failure_reason(process: subprocess.CompletedProcess[str]) -> str:
    """Return how a process ended, and its last fatal line or last line on stderr."""
    lines = fatal_lines(process.stderr) or process.stderr.strip().splitlines()
    code = process.returncode
    status = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
    return f"{status}: {lines[-1].strip()}" if lines else status
