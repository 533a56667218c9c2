"""Locate the Python that has pycaffe, by settings, the installer's record, or trial; doctor's entries on Caffe. A
candidate is probed once, by importing caffe in its own process (about half a second)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lstmc.backend import Finding
from lstmc_caffe.install.layer_compiler import library
from lstmc_caffe.install.record import Installed, installed, installed_emulated, installed_with_cuda, refusals
from lstmc_caffe.processes import process
from lstmc_caffe.processes.process import INSTALL, INSTALL_CUDA, CaffeError, CaffeLocation, gpu_state
from lstmc_caffe.processes.ranks import launcher, missing_for_ranks
from lstmc_caffe.write.artifact import read_sources

PYTHON = "LSTMC_CAFFE_PYTHON"
PYTHONPATH = "LSTMC_CAFFE_PYTHONPATH"


@dataclass(frozen=True)
class Attempt:
    """A candidate for a Python with Caffe: its ``location`` if it has Caffe, else the ``reason`` for its rejection."""

    place: str
    reason: str | None = None
    location: CaffeLocation | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason or 'has Caffe'}"


class CaffeNotFound(CaffeError):
    """No interpreter has real Caffe, or the settings name an interpreter without it. ``attempts`` were made."""

    def __init__(self, message: str, attempts: tuple[Attempt, ...], mend: str = INSTALL) -> None:
        mend = f"correct or unset {PYTHON} and {PYTHONPATH}" if _is_setting(attempts) else mend
        super().__init__(message, notes=[*(f"tried {attempt}" for attempt in attempts), f"fix: {mend}"])
        self.attempts = attempts


def locate(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> CaffeLocation:
    """Return the first location with real Caffe. CaffeNotFound lists all attempts. ``settings`` are environment
    variables, by default the process's own; ``cache`` is the installer's folder. A setting that does not work is an
    error: no other candidate replaces it."""
    attempts: list[Attempt] = []
    for attempt in attempt_all(settings, cache):
        if attempt.location is not None:
            return attempt.location
        attempts.append(attempt)
    broken = _is_setting(tuple(attempts))
    message = "the Caffe that the settings name does not work" if broken else "Caffe was not found"
    raise CaffeNotFound(message, tuple(attempts))


def attempt_all(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> Iterator[Attempt]:
    """Yield an attempt for each candidate in order of preference; it is probed only when the caller asks for it."""
    settings = os.environ if settings is None else settings
    if settings.get(PYTHON) or settings.get(PYTHONPATH):
        yield _attempt_setting(settings.get(PYTHON), settings.get(PYTHONPATH))
        return
    yield from _attempt_installed(cache)
    for python in _common_pythons(settings.get("PATH")):
        yield _attempt(str(python), CaffeLocation(python, None, None, "found"))


def locate_for_gpu(settings: Mapping[str, str] | None = None, cache: Path | None = None) -> CaffeLocation:
    """Return the Caffe for a GPU: from the settings, the installer's build with CUDA, or the result of ``locate``,
    which may be built for the CPU only (see :func:`gpu_state`). If the build with CUDA finds no GPU, the build for an
    emulated device is used. Raises CaffeNotFound if the build with CUDA cannot be imported, or there is no Caffe."""
    environment = os.environ if settings is None else settings
    records = [record for record in (installed_with_cuda(cache), installed_emulated(cache)) if record is not None]
    if environment.get(PYTHON) or environment.get(PYTHONPATH) or not records:
        return locate(settings, cache)
    if len(records) > 1 and not gpu_state(_location(records[0])).usable:
        records.reverse()
    attempt = _attempt_record(records[0])
    if attempt.location is None:
        mend = f"{INSTALL_CUDA} --force"
        raise CaffeNotFound("the Caffe that was built with CUDA does not work", (attempt,), mend)
    return attempt.location


def _is_setting(attempts: tuple[Attempt, ...]) -> bool:
    return any(attempt.place.startswith(PYTHON) for attempt in attempts)


def _attempt_setting(python: str | None, pythonpath: str | None) -> Attempt:
    """Return the attempt with the Python and PYTHONPATH that environment variables name."""
    names = ((PYTHON, python), (PYTHONPATH, pythonpath))
    place = " ".join(f"{name}={value}" for name, value in names if value)
    if pythonpath and not any(Path(entry).is_dir() for entry in pythonpath.split(os.pathsep)):
        return Attempt(place, f"{PYTHONPATH} names no folder that exists")
    program = shutil.which(python) if python else sys.executable
    if program is None:
        return Attempt(place, f"{python} {'cannot be executed' if Path(python or '').exists() else 'does not exist'}")
    return _attempt(place, CaffeLocation(Path(program), pythonpath or None, None, "setting"))


def _attempt_installed(cache: Path | None) -> Iterator[Attempt]:
    """Yield a refusal for each build of the installer that cannot be used, then an attempt with the one in use."""
    yield from (Attempt("the installer's cache", refusal) for refusal in refusals(cache))
    record = installed(cache) or installed_with_cuda(cache)  # the second can do what the first can, more slowly
    yield _attempt_record(record) if record else Attempt("lstmc_caffe.install", "nothing is installed")


def _attempt_record(record: Installed) -> Attempt:
    return _attempt(f"lstmc_caffe.install ({record.key})", _location(record))


def _location(record: Installed) -> CaffeLocation:
    return CaffeLocation(record.python, str(record.pythonpath), record.caffe_binary, "installed")


def _common_pythons(path: str | None) -> list[Path]:
    """Return the running interpreter, and interpreters in which pycaffe is commonly installed."""
    names = (sys.executable, "/usr/bin/python3", "python3", "python2")
    paths = (shutil.which(name, path=path) for name in names)
    return list(dict.fromkeys(Path(python) for python in paths if python))


def _attempt(place: str, location: CaffeLocation) -> Attempt:
    """Probe a location and return the attempt, with the reason if it has no Caffe."""
    probe = process.cached_probe(location)
    if isinstance(probe, str):
        return Attempt(place, probe)
    report = process.last_json(probe.stdout)
    if probe.returncode != 0 or not report:
        return Attempt(place, f"import caffe fails: {process.failure_reason(probe)}")
    if "reason" in report:
        return Attempt(place, str(report["reason"]))
    return Attempt(place, location=location)


def findings() -> Iterator[Finding]:
    """Yield a finding for each place searched for Caffe, up to the first that has it, and for its capabilities."""
    for attempt in attempt_all():
        if location := attempt.location:
            break
        yield Finding(attempt.place, False, attempt.reason or "", group="no Caffe in")
    else:
        yield Finding("Caffe", False, "not found", INSTALL)
        return
    yield Finding("Caffe in use", True, f"{location.python} ({location.origin})")
    yield Finding("caffe program", location.caffe_binary is not None, str(location.caffe_binary or "not known"))
    missing = missing_for_ranks(location)
    yield Finding("MPI, for several ranks", missing is None, missing or str(launcher()))
    yield from _gpu()


def _gpu() -> Iterator[Finding]:
    """Yield findings on the Caffe for GPUs, and on the GPU."""
    try:
        location = locate_for_gpu()
    except CaffeNotFound as error:
        reasons = ", ".join(str(attempt.reason) for attempt in error.attempts)
        yield Finding("GPU", False, f"{error.message}: {reasons}", f"{INSTALL_CUDA} --force")
        return
    gpu = gpu_state(location)
    if gpu.built:
        yield Finding("Caffe for GPUs", True, f"{location.python} {location.pythonpath or ''}".rstrip())
    usable = "none; the CPU emulates one" if gpu.emulated else f"usable: {gpu.device}"
    yield Finding("GPU", gpu.usable, gpu.reason or usable, gpu.mend)


def libraries(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return ``NAME.layers.so`` for each ``NAME.layers.cpp`` among ``files``, compiled for the located Caffe. Raises
    BackendError without a Caffe, a compiler or headers, with the remedy."""
    sources = read_sources(files)
    return {f"{name}.layers.so": library(source, locate()).read_bytes() for name, source in sources.items()}
