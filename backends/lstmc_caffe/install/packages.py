"""System packages: which are missing, and installing them where that is allowed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

from lstmc_caffe.install.system import InstallError, MissingPackagesError, Report, failure

_OWN_CAFFE = "or use a Caffe of your own: set LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"


class PackageSystem(Protocol):
    """What is asked of a distribution's package manager."""

    def available(self) -> bool:
        """Whether this machine has one."""

    def may_install(self) -> bool:
        """Whether this process may install packages."""

    def installed(self, names: Sequence[str]) -> frozenset[str]:
        """Those of ``names`` that are installed."""

    def update(self) -> tuple[int, str]:
        """Fetches the list of packages; gives the exit code and the output."""

    def install(self, names: Sequence[str]) -> tuple[int, str]:
        """Installs ``names``; gives the exit code and the output."""


class Apt:
    """Debian's and Ubuntu's."""

    # Another apt may be running, in a fresh machine's own set-up for one: wait for it, in seconds.
    _OPTIONS = ("-o", "DPkg::Lock::Timeout=300")

    def available(self) -> bool:
        return all(shutil.which(program) for program in ("apt-get", "dpkg-query"))

    def may_install(self) -> bool:
        return os.geteuid() == 0

    def installed(self, names: Sequence[str]) -> frozenset[str]:
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n", *names]
        # It exits with 1 when any name is unknown, and still lists the others.
        listed = subprocess.run(query, capture_output=True, text=True).stdout
        rows = (line.split() for line in listed.splitlines())
        return frozenset(row[1] for row in rows if len(row) == 2 and row[0] == "installed")

    def update(self) -> tuple[int, str]:
        return self._apt_get("update")

    def install(self, names: Sequence[str]) -> tuple[int, str]:
        return self._apt_get("install", "--yes", "--no-install-recommends", *names)

    def _apt_get(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["apt-get", *self._OPTIONS, *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        return done.returncode, done.stdout


def missing(packages: Sequence[str], system: PackageSystem) -> tuple[str, ...]:
    """Those of ``packages`` that are not installed, in the same order."""
    there = system.installed(packages)
    return tuple(name for name in packages if name not in there)


def install_command(packages: Sequence[str]) -> str:
    """What a user types to install ``packages``."""
    return shlex.join(["sudo", "apt-get", "install", "--no-install-recommends", *packages])


def require(
    packages: Sequence[str],
    report: Report,
    system: PackageSystem,
    what: str = "building Caffe",
    otherwise: str = _OWN_CAFFE,
) -> None:
    """Makes sure that ``packages``, which ``what`` needs, are installed, installing them where this process may.

    Raises MissingPackagesError where it may not or where there is no apt-get, InstallError when apt-get fails.
    """
    if not system.available():
        raise MissingPackagesError(
            f"{what} needs system packages, and this system has no apt-get to look for them with",
            packages,
            None,
            notes=(f"expected Debian or Ubuntu with these packages: {' '.join(packages)}", otherwise),
        )
    absent = missing(packages, system)
    if not absent:
        return
    if not system.may_install():
        count = "1 system package that is" if len(absent) == 1 else f"{len(absent)} system packages that are"
        raise MissingPackagesError(
            f"{what} needs {count} not installed: {', '.join(absent)}",
            absent,
            install_command(absent),
            notes=(f"install with: {install_command(absent)}", otherwise),
        )
    with report.busy(f"installing system packages: {' '.join(absent)}"):
        _install(absent, system)


def _install(packages: Sequence[str], system: PackageSystem) -> None:
    returncode, output = system.install(packages)
    if returncode != 0:
        # Most often the list of packages was never fetched, or is out of date.
        system.update()
        returncode, output = system.install(packages)
    if returncode != 0:
        error = failure("installing system packages", ["apt-get", "install", *packages], returncode, output)
        raise error
    absent = missing(packages, system)
    if absent:
        raise InstallError(f"apt-get install succeeded, but these are still not installed: {', '.join(absent)}")
