"""One Python that has Caffe: how it is started, and what it is worth."""

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

FoundBy = Literal["setting", "installed", "found"]


@dataclass(frozen=True)
class CaffeLocation:
    """Where pycaffe is: an interpreter, and the PYTHONPATH it needs (None: the one that lstmc itself has).

    ``caffe_binary`` is the command-line tool of the same build, None where it is not known.
    """

    python: Path
    pythonpath: str | None
    caffe_binary: Path | None
    found_by: FoundBy

    def environment(self) -> dict[str, str]:
        """The environment variables for a process that is to import caffe."""
        environment = _environment(self.pythonpath)
        environment["GLOG_minloglevel"] = "2"  # errors and failed checks only
        # products of one step are small: several threads cost more than they give, most of all on a busy machine
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        return environment


@dataclass(frozen=True)
class GpuState:
    """What Caffe can do with a GPU: whether it was built for one, whether one can be used, and why not.

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
    """Tries to use a GPU, in a process that Caffe may abort. Takes half a second, or a few where there is one."""
    ended = tried(location, "--gpu")
    if isinstance(ended, str):
        return GpuState(True, False, ended)
    said = last_json(ended.stdout)
    reason = str(said.get("reason", ""))
    if CPU_ONLY in ended.stderr:
        without = "this Caffe was built without CUDA"
        if reason:
            return GpuState(False, False, f"{without}, and {reason}; where there is a GPU: {INSTALL_CUDA}")
        return GpuState(False, False, without, INSTALL_CUDA)
    if ended.returncode == 0 and not reason:
        return GpuState(True, True, "", "", str(said.get("device", "")), bool(said.get("emulated")))
    return GpuState(True, False, reason or why_it_failed(ended))


# the variables by which a process finds its modules and libraries, and which GPUs it sees
_LOOKED_AT = ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
_LASTING: dict[tuple[object, ...], subprocess.CompletedProcess[str]] = {}


def tried(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """As :func:`run_probe`, but once in this process for what lasts: a Caffe that can be used, and one without CUDA.

    What was refused otherwise is tried again each time: it may have been mended.
    """
    try:
        modified = location.python.stat().st_mtime_ns
    except OSError:
        modified = -1
    environment = location.environment()
    asked = (location, modified, arguments, *map(environment.get, _LOOKED_AT))
    if asked in _LASTING:
        return _LASTING[asked]
    ended = run_probe(location, *arguments)
    if not isinstance(ended, str):
        said = last_json(ended.stdout)
        if CPU_ONLY in ended.stderr or (ended.returncode == 0 and said and "reason" not in said):
            _LASTING[asked] = ended
    return ended


def run_probe(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """probe.py as run by that interpreter, or the reason why it could not be run."""
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
    """The JSON object in the last line; empty where there is none. What a module prints comes before it."""
    try:
        value = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return value if isinstance(value, dict) else {}


def why_it_failed(ended: subprocess.CompletedProcess[str]) -> str:
    lines = fatal_lines(ended.stderr) or ended.stderr.strip().splitlines()
    how = f"exit status {ended.returncode}"
    if ended.returncode < 0:
        how = signal.Signals(-ended.returncode).name
    return f"{how}: {lines[-1].strip()}" if lines else how


def _environment(pythonpath: str | None) -> dict[str, str]:
    # PYTHONHOME names this interpreter's own library: no other one can start with it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return environment if pythonpath is None else {**environment, "PYTHONPATH": pythonpath}
