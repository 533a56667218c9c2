"""Finds the Python that has pycaffe: by setting, by the installer's record, or by trying.

Each place is tried by importing caffe in a process of its own (about half a second).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lstmc_caffe.install.record import Installed, installed, installed_with_cuda, refusals
from lstmc_caffe.protocol import CaffeError, fatal_lines

PYTHON = "LSTMC_CAFFE_PYTHON"
PYTHONPATH = "LSTMC_CAFFE_PYTHONPATH"
INSTALL = "python -m lstmc_caffe.install"
INSTALL_CUDA = f"{INSTALL} --cuda"
TRIAL = Path(__file__).with_name("trial.py")
TRIAL_SECONDS = 60.0

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
class Attempt:
    """One place that was looked at: what came of it is ``location``, or ``reason`` why it was not taken."""

    place: str
    reason: str | None = None
    location: CaffeLocation | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason or 'has real Caffe'}"


@dataclass(frozen=True)
class GpuState:
    """What Caffe can do with a GPU: whether it was built for one, whether one can be used, and why not.

    ``mend`` is the command that mends it, empty where there is none for this machine.
    """

    built: bool
    usable: bool
    reason: str
    mend: str = ""


class CaffeNotFound(CaffeError):
    """No interpreter has real Caffe, or the settings name one that has not. ``attempts`` were made."""

    def __init__(self, message: str, attempts: tuple[Attempt, ...], mend: str = INSTALL) -> None:
        mend = f"correct or unset {PYTHON} and {PYTHONPATH}" if _is_setting(attempts) else mend
        super().__init__(message, notes=[*(f"tried {attempt}" for attempt in attempts), f"to mend it: {mend}"])
        self.attempts = attempts


def locate(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> CaffeLocation:
    """The first place that has real Caffe. CaffeNotFound says everything that was tried.

    ``settings`` are environment variables, by default the process's own; ``cache`` is the installer's folder.
    A setting that does not work is an error: nothing else is taken in its place.
    """
    attempts: list[Attempt] = []
    for attempt in attempt_all(settings, cache):
        if attempt.location is not None:
            return attempt.location
        attempts.append(attempt)
    broken = _is_setting(tuple(attempts))
    message = "the Caffe that the settings name does not work" if broken else "real Caffe was not found"
    raise CaffeNotFound(message, tuple(attempts))


def attempt_all(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> Iterator[Attempt]:
    """Every place in the order in which it is preferred, each tried when it is asked for."""
    settings = os.environ if settings is None else settings
    if settings.get(PYTHON) or settings.get(PYTHONPATH):
        yield _attempt_setting(settings.get(PYTHON), settings.get(PYTHONPATH))
        return
    yield from _attempt_installed(cache)
    for python in _usual_pythons(settings.get("PATH")):
        yield _attempt(str(python), CaffeLocation(python, None, None, "found"))


def locate_for_gpu(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> CaffeLocation:
    """The Caffe for work on a GPU: the one that is set, else the installer's with CUDA, else what ``locate`` finds.

    The last may be built for the CPU only, which :func:`gpu_state` says. CaffeNotFound where the build with CUDA
    cannot be imported, or nothing is found.
    """
    environment = os.environ if settings is None else settings
    record = installed_with_cuda(cache)
    if environment.get(PYTHON) or environment.get(PYTHONPATH) or record is None:
        return locate(settings, cache)
    attempt = _attempt_record(record)
    if attempt.location is None:
        message = "the Caffe that was built with CUDA does not work"
        raise CaffeNotFound(message, (attempt,), f"{INSTALL_CUDA} --force")
    return attempt.location


def gpu_state(location: CaffeLocation) -> GpuState:
    """Tries to use a GPU, in a process that Caffe may abort. Takes half a second, or a few where there is one."""
    ended = _run_trial(location, "--gpu")
    if isinstance(ended, str):
        return GpuState(True, False, ended)
    reason = str(_last_json(ended.stdout).get("reason", ""))
    if "CPU-only" in ended.stderr:
        without = "this Caffe was built without CUDA"
        if reason:
            return GpuState(False, False, f"{without}, and {reason}; where there is a GPU: {INSTALL_CUDA}")
        return GpuState(False, False, without, INSTALL_CUDA)
    if ended.returncode == 0 and not reason:
        return GpuState(True, True, "")
    return GpuState(True, False, reason or _why_it_failed(ended))


def _is_setting(attempts: tuple[Attempt, ...]) -> bool:
    return any(attempt.place.startswith(PYTHON) for attempt in attempts)


def _attempt_setting(python: str | None, pythonpath: str | None) -> Attempt:
    names = ((PYTHON, python), (PYTHONPATH, pythonpath))
    place = " ".join(f"{name}={value}" for name, value in names if value)
    if pythonpath and not any(Path(entry).is_dir() for entry in pythonpath.split(os.pathsep)):
        return Attempt(place, f"{PYTHONPATH} names no folder that exists")
    found = shutil.which(python) if python else sys.executable
    if found is None:
        reason = "cannot be executed" if Path(python or "").exists() else "does not exist"
        return Attempt(place, f"{python} {reason}")
    return _attempt(place, CaffeLocation(Path(found), pythonpath or None, None, "setting"))


def _attempt_installed(cache: Path | None) -> Iterator[Attempt]:
    yield from (Attempt("the installer's cache", refusal) for refusal in refusals(cache))
    record = installed(cache) or installed_with_cuda(cache)  # the second can do what the first can, more slowly
    if record is None:
        yield Attempt("the installer's record", "nothing is installed")
        return
    yield _attempt_record(record)


def _attempt_record(record: Installed) -> Attempt:
    location = CaffeLocation(record.python, str(record.pythonpath), record.caffe_binary, "installed")
    return _attempt(f"the installer's record ({record.key})", location)


def _usual_pythons(path: str | None) -> list[Path]:
    """The running interpreter and those that people put pycaffe into."""
    names = (sys.executable, "/usr/bin/python3", "python3", "python2")
    found = (shutil.which(name, path=path) for name in names)
    return list(dict.fromkeys(Path(python) for python in found if python))


def _attempt(place: str, location: CaffeLocation) -> Attempt:
    ended = _run_trial(location)
    if isinstance(ended, str):
        return Attempt(place, ended)
    said = _last_json(ended.stdout)
    if ended.returncode != 0 or not said:
        return Attempt(place, f"import caffe fails: {_why_it_failed(ended)}")
    if "reason" in said:
        return Attempt(place, str(said["reason"]))
    return Attempt(place, location=location)


def _run_trial(location: CaffeLocation, *arguments: str) -> subprocess.CompletedProcess[str] | str:
    """trial.py as run by that interpreter, or the reason why it could not be run."""
    try:
        return subprocess.run(
            [location.python, TRIAL, *arguments],
            env=location.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TRIAL_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C is not meant for it: it would look like a Caffe that is broken
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"import caffe takes longer than {TRIAL_SECONDS:g} s"


def _last_json(text: str) -> dict[str, Any]:
    """The JSON object in the last line; empty where there is none. What a module prints comes before it."""
    try:
        value = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
    return value if isinstance(value, dict) else {}


def _why_it_failed(ended: subprocess.CompletedProcess[str]) -> str:
    lines = fatal_lines(ended.stderr) or ended.stderr.strip().splitlines()
    how = f"exit status {ended.returncode}"
    if ended.returncode < 0:
        how = signal.Signals(-ended.returncode).name
    return f"{how}: {lines[-1].strip()}" if lines else how


def _environment(pythonpath: str | None) -> dict[str, str]:
    # PYTHONHOME names this interpreter's own library: no other one can start with it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    return environment if pythonpath is None else {**environment, "PYTHONPATH": pythonpath}
