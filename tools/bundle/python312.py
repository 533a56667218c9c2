"""The Python 3.12 that the bundle's pycaffe is for: found, and given what pycaffe is compiled and tried with."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lstmc_caffe.install.system import InstallError, Interpreter, describe, run

VERSION = "3.12"


@dataclass(frozen=True)
class Python312:
    """``executable`` runs in an environment with NumPy and protobuf; ``interpreter`` has the headers."""

    executable: Path
    interpreter: Interpreter


def candidates() -> list[Path]:
    """Where a Python 3.12 may be: on the PATH, or among pyenv's."""
    found = shutil.which("python3.12")
    known = sorted((Path.home() / ".pyenv/versions").glob("3.12*/bin/python3.12"))
    return ([Path(found)] if found else []) + known


def find(given: str | None, known: Iterable[Path]) -> Path:
    """``given``, or the first of ``known`` that runs and is a Python 3.12. Raises InstallError where there is none."""
    for python in [Path(given)] if given else known:
        version = _version(python)
        if version == VERSION:
            return python
        if given:
            raise InstallError(f"--python {given}: expected a Python {VERSION}, found {version or 'none that runs'}")
    raise InstallError(
        f"the bundle is for Python {VERSION}, and there is none here",
        notes=["give the path of one, with its headers: --python /path/to/python3.12"],
    )


def prepare(python: Path, folder: Path) -> Python312:
    """An environment in ``folder`` with NumPy and protobuf. Raises InstallError where pip fails, or headers lack."""
    run([str(python), "-m", "venv", str(folder)], f"making an environment of {python}")
    own = folder / "bin/python"
    packages = ["numpy>=2,<3", "protobuf>=5.26,<8"]
    run(
        [str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
        "fetching NumPy and protobuf",
    )
    found = describe(str(own))
    if not any((Path(include) / "Python.h").is_file() for include in found.includes):
        raise InstallError(f"{python} has no headers: expected Python.h in {found.includes[0]}")
    return Python312(own, found)


def _version(python: Path) -> str | None:
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        ended = subprocess.run([python, "-c", ask], capture_output=True, text=True, errors="replace")
    except OSError:
        return None
    return ended.stdout.strip() if ended.returncode == 0 else None
