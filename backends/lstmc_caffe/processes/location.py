"""The location of a Python with Caffe: its environment, a probe of its import, and the state of its GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstmc_caffe.processes.worker import fatal_lines
from lstmc_caffe.worker import PROBE

INSTALL = "python -m lstmc_caffe.install"
INSTALL_CUDA = f"{INSTALL} --cuda"
PROBE_SECONDS = 60.0
CPU_ONLY = "CPU-only"  # what Caffe says as it ends, asked for a GPU that it was not built for

Origin = Literal["setting", "installed", "found"]


@dataclass(frozen=True)
class CaffeLocation:
    """The location of pycaffe: an interpreter, and the PYTHONPATH it needs (None: that of lstmc itself).

    ``caffe_binary`` is the command-line tool of the same build, None if unknown.
    """

    python: Path
    pythonpath: str | None
    caffe_binary: Path | None
    origin: Origin

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a process that imports caffe."""
        environment = _environment(self.pythonpath)
        environment["GLOG_minloglevel"] = "2"  # errors and failed checks only
        # products of one step are small: several threads cost more than they give, most of all on a busy machine
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        return environment


@dataclass(frozen=True)
class GpuState:
    """The state of Caffe on a GPU: whether it was built for one, whether one is usable, and the reason if not.

    ``mend`` is the command that mends it, empty where there is none for this machine. ``device`` is the name of the GPU
    that can be used, and ``emulated`` says that it is none, but emulated by the CPU.
    """

    built: bool
    usable: bool
    reason: str
    mend: str = ""
    device: str = ""
    emulated: bool = False


def gpu_state(location: CaffeLocation) -> GpuState:
    """Probe a GPU in another process, which Caffe may abort. Takes half a second, or a few with a GPU."""
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


# the variables by which a process finds its modules and libraries, and which GPUs it sees
_ENVIRONMENT = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
_CACHE: dict[tuple[object, ...], subprocess.CompletedProcess[str]] = {}


def cached_probe(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """Return :func:`run_probe` with permanent results cached: a usable Caffe, and one without CUDA.

    Other failures are probed again each time, as they may have been corrected.
    """
    try:
        modified = location.python.stat().st_mtime_ns
    except OSError:
        modified = -1
    environment = location.environment()
    key = (location, modified, arguments, *map(environment.get, _ENVIRONMENT))
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
            start_new_session=True,  # Ctrl-C is not meant for it: it would look like a Caffe that is broken
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
    lines = fatal_lines(process.stderr) or process.stderr.strip().splitlines()
    status = f"exit status {process.returncode}"
    if process.returncode < 0:
        status = signal.Signals(-process.returncode).name
    return f"{status}: {lines[-1].strip()}" if lines else status


def _environment(pythonpath: str | None) -> dict[str, str]:
    # PYTHONHOME names this interpreter's own library: no other one can start with it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return environment if pythonpath is None else {**environment, "PYTHONPATH": pythonpath}
