"""The Python environments of runtimes, created by uv in the user's cache folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import distributions, requires
from pathlib import Path
from typing import Protocol

import platformdirs

from lstmc.errors import BackendError
from lstmc.files.cache import check_private, private_folder
from lstmc_caffe.readers.known import Environment, Reader

RECORD = "environment.json"


def readers_folder() -> Path:
    """Return the folder of all environments."""
    return platformdirs.user_cache_path("lstmc") / "readers"


def interpreter(environment: Environment | None) -> Path | None:
    """Return the interpreter of an installed, current environment, or None; for ``environment`` None that of lstmc."""
    if environment is None:
        return Path(sys.executable)
    folder = readers_folder() / environment.name
    check_private(folder / RECORD)
    try:
        is_current = (folder / RECORD).read_text(encoding="utf-8") == _record(environment)
    except OSError:
        return None
    return folder / "bin" / "python" if is_current else None


class BusyReport(Protocol):
    """The progress report of a long action, as the installer's ``Report`` is one."""

    def busy(self, text: str) -> AbstractContextManager[None]: ...


def make(reader: Reader, report: BusyReport) -> None:
    """Make the environments of a reader that are not there; install its extra of lstmc into lstmc's own environment.

    Raises :class:`BackendError` that says what failed.
    """
    for environment in reader.environments:
        if interpreter(environment) is None:
            with report.busy(f"installing {', '.join(environment.requires)} for {reader.title}"):
                _make(environment)
    missing = _missing(reader.extra)
    if missing:
        with report.busy(f"installing {', '.join(missing)} for {reader.title}"):
            command = ("uv", "pip", "install", "--quiet", "--python", sys.executable, *missing)
            _run(f"the extra {reader.extra} cannot be installed", *command)


def _missing(extra: str) -> list[str]:
    """The requirements of an extra of lstmc of which no version is installed here."""
    parts = [each.partition(";") for each in requires("lstmc") or ()]
    required = [each.strip() for each, _, marker in parts if re.fullmatch(rf""" *extra *== *['"]{extra}['"]""", marker)]
    installed = {_canonical(dist.name) for dist in distributions()}
    return [each for each in required if _canonical(re.split(r"[^\w.-]", each)[0]) not in installed]


def _canonical(name: str) -> str:
    """The name of a distribution as indices compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _make(environment: Environment) -> None:
    folder = private_folder(readers_folder()) / environment.name
    shutil.rmtree(folder, ignore_errors=True)
    failed = f"environment {environment.name} cannot be made"
    _run(failed, "uv", "venv", "--quiet", "--python", str(_python(environment)), str(folder))
    python = folder / "bin" / "python"
    _run(failed, "uv", "pip", "install", "--quiet", "--python", str(python), *environment.requires)
    if environment.setup is not None:
        # without its folder, where modules are called alike
        _run(failed, str(python), "-I", str(environment.setup))
    (folder / RECORD).write_text(_record(environment), encoding="utf-8")


def _record(environment: Environment) -> str:
    setup = environment.setup.read_text(encoding="utf-8") if environment.setup is not None else ""
    return json.dumps({**asdict(environment), "setup": setup}) + "\n"


def _python(environment: Environment) -> Path:
    """Return an interpreter of the environment's version: on the path, or one of pyenv's or uv's."""
    for path in _candidates(environment.python):
        ran = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if ran.returncode == 0 and ran.stdout.startswith(f"Python {environment.python}."):
            return path
    raise BackendError(
        f"environment {environment.name} needs Python {environment.python}, and there is none on the path:"
        f" uv python install {environment.python}, or pyenv install {environment.python}"
    )


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    on_path = shutil.which(name)
    if on_path is not None:
        yield Path(on_path)
    roots = (os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), platformdirs.user_data_path("uv") / "python")
    for root, folder in zip(roots, ("versions", "."), strict=True):
        yield from sorted(Path(root, folder).glob(f"*{version}.*/bin/{name}"))


def _run(failed: str, *command: str) -> None:
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise BackendError(f"{command[0]} is needed for this: python -m pip install 'lstmc[readers]'")
    ran = subprocess.run([program, *command[1:]], capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode != 0:
        lines = [line.strip() for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        title = " ".join(command[:3])
        raise BackendError(f"{failed}: {title} failed", notes=lines[-6:])
