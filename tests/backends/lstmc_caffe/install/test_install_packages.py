"""System packages: what is said and done when some are missing."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError, MissingPackagesError, require

WANTED = ("g++", "libgflags-dev", "python3-numpy")


class FakeSystem:
    """A machine where ``there`` is installed, and where installing works unless ``outcomes`` says otherwise."""

    def __init__(self, there: Sequence[str] = (), *, apt: bool = True, root: bool = False) -> None:
        self.there = set(there)
        self.apt = apt
        self.root = root
        self.outcomes: list[tuple[int, str]] = []
        self.calls: list[tuple[str, ...]] = []

    def available(self) -> bool:
        return self.apt

    def may_install(self) -> bool:
        return self.root

    def installed(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset(self.there & set(names))

    def update(self) -> tuple[int, str]:
        self.calls.append(("update",))
        return 0, ""

    def install(self, names: Sequence[str]) -> tuple[int, str]:
        self.calls.append(("install", *names))
        outcome = self.outcomes.pop(0) if self.outcomes else (0, "")
        if outcome[0] == 0:
            self.there |= set(names)
        return outcome


@pytest.fixture
def report() -> Report:
    return Report(Console(file=io.StringIO()))


def test_nothing_missing(report: Report) -> None:
    system = FakeSystem(WANTED)
    require(WANTED, report, system)
    assert system.calls == []


def test_missing_and_not_root(report: Report) -> None:
    with pytest.raises(MissingPackagesError) as caught:
        require(WANTED, report, FakeSystem(["g++"]))
    assert str(caught.value) == (
        "MissingPackagesError: building Caffe needs 2 system packages that are not installed: "
        "libgflags-dev, python3-numpy\n"
        "  install with: sudo apt-get install --no-install-recommends libgflags-dev python3-numpy\n"
        "  or use a Caffe of your own: set LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"
    )


def test_one_missing_and_not_root(report: Report) -> None:
    with pytest.raises(MissingPackagesError) as caught:
        require(WANTED, report, FakeSystem(WANTED[1:]))
    assert caught.value.message == "building Caffe needs 1 system package that is not installed: g++"


def test_no_apt(report: Report) -> None:
    with pytest.raises(MissingPackagesError) as caught:
        require(WANTED, report, FakeSystem(apt=False, root=True))
    assert str(caught.value) == (
        "MissingPackagesError: building Caffe needs system packages, and this system has no apt-get to look for them "
        "with\n"
        "  expected Debian or Ubuntu with these packages: g++ libgflags-dev python3-numpy\n"
        "  or use a Caffe of your own: set LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"
    )


def test_root_installs_what_is_missing(report: Report) -> None:
    system = FakeSystem(["g++"], root=True)
    require(WANTED, report, system)
    assert system.calls == [("install", "libgflags-dev", "python3-numpy")]


def test_root_updates_once_where_installing_fails(report: Report) -> None:
    system = FakeSystem(WANTED[1:], root=True)
    system.outcomes = [(100, "E: Unable to locate package g++")]
    require(WANTED, report, system)
    assert system.calls == [("install", "g++"), ("update",), ("install", "g++")]


def test_root_and_apt_fails(report: Report) -> None:
    system = FakeSystem(WANTED[1:], root=True)
    system.outcomes = [(100, "E: first"), (100, "Reading package lists...\nE: Unable to locate package g++\n")]
    with pytest.raises(InstallError) as caught:
        require(WANTED, report, system)
    assert str(caught.value) == (
        "InstallError: installing system packages failed (exit code 100)\n"
        "  command: apt-get install g++\n"
        "  its last lines:\n"
        "    Reading package lists...\n"
        "    E: Unable to locate package g++"
    )
