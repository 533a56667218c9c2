"""The system of a build: commands with readable failures, the interpreter, and distribution packages."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstmc.errors import BackendError
from lstmc.process.commands import call
from lstmc_caffe.processes.process import NOT_HERE

if TYPE_CHECKING:
    from lstmc_caffe.install.report import Report


class InstallError(BackendError):
    """Caffe could not be installed. Nothing that looks installed is left behind."""


class MissingPackagesError(InstallError):
    """System packages are missing and cannot be installed from here. The notes have the command that installs them."""


def run(command: Sequence[str], what: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output, stdout and stderr together. ``what`` names the action in an error; ``env``
    is added to the environment. Raises InstallError with the command and the last lines of its output, and OSError
    (ENOSPC) when the output says the disk is full."""
    try:
        process = call(command, cwd=cwd, **(env or {}))
    except FileNotFoundError as error:
        raise InstallError(f"{what} failed: the program {command[0]} was not found") from error
    except PermissionError as error:
        raise InstallError(f"{what} failed: the program {command[0]} may not be run by this user") from error
    if process.returncode != 0:
        raise failure(what, command, process.returncode, process.stdout, cwd)
    return process.stdout


def failure(
    what: str, command: Sequence[str], returncode: int, output: str, cwd: Path | None = None
) -> InstallError | OSError:
    """Return the error for a program that ended with ``returncode`` (negative: a signal); OSError for a full disk."""
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    ending = f"exit code {returncode}" if returncode >= 0 else f"ended by signal {-returncode}"
    lines = output.rstrip().splitlines()
    notes = [f"command: {shlex.join(command)}"]
    if cwd is not None:
        notes.append(f"run in: {cwd}")
    notes.append("its last lines:" if lines else "it printed nothing")
    notes += [f"  {line}" for line in lines[-20:]]
    if returncode < 0 or "Killed signal terminated program" in output:
        notes.append("a compiler that is killed has often run out of memory: try --jobs 1")
    return InstallError(f"{what} failed ({ending})", notes=notes)


_ASK = f"""{NOT_HERE}
import json, os, sysconfig
import numpy
paths = [sysconfig.get_paths()["include"], numpy.get_include()]
version = "%d.%d" % sys.version_info[:2]
print(json.dumps({{"executable": os.path.realpath(sys.executable), "version": version, "includes": paths}}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter and what compiling against it needs. ``executable`` is its path with all links followed, so that
    it stays this version; ``version`` is as in ``3.13``; ``includes`` are the header folders of Python and NumPy."""

    executable: Path
    version: str
    includes: tuple[str, ...]


def describe(executable: str) -> Interpreter:
    """Return an interpreter with its version and headers. Raises InstallError if it or its NumPy does not run."""
    # -E and -s: a user's PYTHONPATH or ~/.local must not bring in another NumPy than the distribution's.
    answer = run([executable, "-E", "-s", "-c", _ASK], f"asking {executable} for its version and NumPy")
    try:
        fields: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return Interpreter(Path(fields["executable"]), fields["version"], tuple(fields["includes"]))
    except (ValueError, KeyError, IndexError) as error:
        raise InstallError(f"{executable} should describe itself as JSON; it printed {answer!r}") from error


_OWN_CAFFE = "or use a Caffe of your own: set LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"


class Apt:
    """The packages of Debian and Ubuntu. Updates and installations return the exit code and the output."""

    # Another apt may be running, in a fresh machine's own set-up for one: wait for it, in seconds.
    _OPTIONS = ("-o", "DPkg::Lock::Timeout=300")

    def available(self) -> bool:
        return all(shutil.which(program) for program in ("apt-get", "dpkg-query"))

    def may_install(self) -> bool:
        return os.geteuid() == 0

    def installed(self, names: Sequence[str]) -> frozenset[str]:
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n", *names]
        # dpkg-query exits with 1 when any name is unknown, and still lists the packages that it knows.
        listed = subprocess.run(query, capture_output=True, text=True).stdout
        rows = (line.split() for line in listed.splitlines())
        return frozenset(row[1] for row in rows if len(row) == 2 and row[0] == "installed")

    def update(self) -> tuple[int, str]:
        return self._apt_get("update")

    def install(self, names: Sequence[str]) -> tuple[int, str]:
        return self._apt_get("install", "--yes", "--no-install-recommends", *names)

    def _apt_get(self, *arguments: str) -> tuple[int, str]:
        process = call(["apt-get", *self._OPTIONS, *arguments], DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
        return process.returncode, process.stdout


def missing(packages: Sequence[str], system: Apt) -> tuple[str, ...]:
    """Return those of ``packages`` that are not installed, in the same order."""
    present = system.installed(packages)
    return tuple(name for name in packages if name not in present)


def require(
    packages: Sequence[str], report: Report, system: Apt, what: str = "building Caffe", otherwise: str = _OWN_CAFFE
) -> None:
    """Make sure that ``packages``, which ``what`` needs, are installed. Raises MissingPackagesError if some are missing
    and this process may not install, or there is no apt-get; InstallError if apt-get fails."""
    if not system.available():
        message = f"{what} needs system packages, and this system has no apt-get to look for them with"
        expected = f"expected Debian or Ubuntu with these packages: {' '.join(packages)}"
        raise MissingPackagesError(message, notes=(expected, otherwise))
    absent = missing(packages, system)
    if not absent:
        return
    if not system.may_install():
        count = "1 system package that is" if len(absent) == 1 else f"{len(absent)} system packages that are"
        mend = f"install with: {shlex.join(['sudo', 'apt-get', 'install', '--no-install-recommends', *absent])}"
        message = f"{what} needs {count} not installed: {', '.join(absent)}"
        raise MissingPackagesError(message, notes=(mend, otherwise))
    with report.busy(f"installing system packages: {' '.join(absent)}"):
        _install(absent, system)


def _install(packages: Sequence[str], system: Apt) -> None:
    """Install packages; if this fails, update apt's lists and try once more. Raise InstallError if some are missing."""
    returncode, output = system.install(packages)
    if returncode != 0:
        # Most often the list of packages was never fetched, or is out of date.
        system.update()
        returncode, output = system.install(packages)
    if returncode != 0:
        raise failure("installing system packages", ["apt-get", "install", *packages], returncode, output)
    absent = missing(packages, system)
    if absent:
        raise InstallError(f"apt-get install succeeded, but these are still not installed: {', '.join(absent)}")
