"""Finding Caffe, with interpreters that are shell scripts and caffe packages that are empty or broken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lstmc_caffe.install.record import Installed
from lstmc_caffe.processes import process
from lstmc_caffe.processes.process import CaffeLocation, gpu_state
from lstmc_caffe.runtime import locate as locating
from lstmc_caffe.runtime.locate import Attempt, CaffeNotFound, attempt_all, locate
from lstmc_caffe.runtime.runner import Runner
from tests.backends.lstmc_caffe.runtime.pythons import ABORTING, GOOD, NO_CAFFE, caffe_package, script


@pytest.fixture
def nothing_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away the interpreters of this machine."""
    monkeypatch.setattr(locating, "_common_pythons", lambda path: [])


def test_a_setting_comes_first(tmp_path: Path) -> None:
    python = script(tmp_path / "python", GOOD)
    settings = {"LSTMC_CAFFE_PYTHON": str(python), "LSTMC_CAFFE_PYTHONPATH": str(tmp_path)}
    assert locate(settings, tmp_path) == CaffeLocation(python, str(tmp_path), None, "setting")


def test_what_interrupts_lstmc_does_not_reach_a_python_that_is_tried(tmp_path: Path) -> None:
    python = script(tmp_path / "python", f"ps -o sid= -p $$ > {tmp_path}/session\n{GOOD}")
    locate({"LSTMC_CAFFE_PYTHON": str(python)}, tmp_path)
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


def test_a_setting_may_be_a_name_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = script(tmp_path / "pycaffe", GOOD)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert locate({"LSTMC_CAFFE_PYTHON": "pycaffe"}) == CaffeLocation(python, None, None, "setting")


def refusal(settings: dict[str, str], cache: Path) -> str:
    with pytest.raises(CaffeNotFound) as caught:
        locate(settings, cache)
    return str(caught.value)


def test_a_setting_that_names_nothing_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert refusal({"LSTMC_CAFFE_PYTHON": str(absent)}, tmp_path) == (
        "CaffeNotFound: the Caffe that the settings name does not work\n"
        f"  tried LSTMC_CAFFE_PYTHON={absent}: {absent} does not exist\n"
        "  fix: correct or unset LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"
    )


def test_a_setting_that_cannot_be_executed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file cannot be executed\n" in refusal({"LSTMC_CAFFE_PYTHON": f"{tmp_path}/file"}, tmp_path)


def test_a_setting_whose_folder_does_not_exist(tmp_path: Path) -> None:
    python = script(tmp_path / "python", GOOD)
    settings = {"LSTMC_CAFFE_PYTHON": str(python), "LSTMC_CAFFE_PYTHONPATH": "/absent"}
    assert refusal(settings, tmp_path) == (
        "CaffeNotFound: the Caffe that the settings name does not work\n"
        f"  tried LSTMC_CAFFE_PYTHON={python} LSTMC_CAFFE_PYTHONPATH=/absent:"
        " LSTMC_CAFFE_PYTHONPATH names no folder that exists\n"
        "  fix: correct or unset LSTMC_CAFFE_PYTHON and LSTMC_CAFFE_PYTHONPATH"
    )


def test_pypis_placeholder_is_not_taken_for_caffe(tmp_path: Path) -> None:
    folder = caffe_package(tmp_path / "site", "")
    settings = {"LSTMC_CAFFE_PYTHON": sys.executable, "LSTMC_CAFFE_PYTHONPATH": str(folder)}
    assert "its caffe has no Net: PyPI's package of that name is an empty placeholder\n" in refusal(settings, tmp_path)


def test_a_caffe_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    folder = caffe_package(tmp_path / "site", "raise ImportError('libcaffe.so.1: no such file')")
    settings = {"LSTMC_CAFFE_PYTHON": sys.executable, "LSTMC_CAFFE_PYTHONPATH": str(folder)}
    assert ": import caffe fails: ImportError: libcaffe.so.1: no such file\n" in refusal(settings, tmp_path)


def test_a_caffe_that_aborts_when_imported(tmp_path: Path) -> None:
    python = script(tmp_path / "python", ABORTING % "Check failed: x")
    text = refusal({"LSTMC_CAFFE_PYTHON": str(python)}, tmp_path)
    assert ": import caffe fails: SIGABRT: common.cpp:70] Check failed: x\n" in text


def test_a_python_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROBE_SECONDS", 0.3)
    python = script(tmp_path / "python", "exec sleep 60")
    text = refusal({"LSTMC_CAFFE_PYTHON": str(python)}, tmp_path)
    assert ": import caffe takes longer than 0.3 s\n" in text


def test_no_caffe_at_all_says_what_was_tried_and_the_command_that_mends_it(tmp_path: Path) -> None:
    python3 = script(tmp_path / "bin" / "python3", NO_CAFFE)
    python2 = script(tmp_path / "bin" / "python2", "exit 127")
    attempts = list(attempt_all({"PATH": str(tmp_path / "bin")}, tmp_path))
    places = [attempt.place for attempt in attempts]
    assert places[:2] == ["lstmc_caffe.install", sys.executable]
    assert places[-2:] == [str(python3), str(python2)]
    chosen = (attempts[0], *attempts[-2:])
    assert str(CaffeNotFound("Caffe was not found", chosen)) == (
        "CaffeNotFound: Caffe was not found\n"
        "  tried lstmc_caffe.install: nothing is installed\n"
        f"  tried {python3}: import caffe fails: ImportError: No module named caffe\n"
        f"  tried {python2}: import caffe fails: exit status 127\n"
        "  fix: python -m lstmc_caffe.install"
    )


@pytest.mark.usefixtures("nothing_usual")
def test_a_runner_without_caffe_raises_when_it_is_first_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSTMC_CAFFE_PYTHON", raising=False)
    monkeypatch.delenv("LSTMC_CAFFE_PYTHONPATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Runner() as runner, pytest.raises(CaffeNotFound) as caught:
        runner.load("")
    assert str(caught.value) == (
        "CaffeNotFound: Caffe was not found\n"
        "  tried lstmc_caffe.install: nothing is installed\n"
        "  fix: python -m lstmc_caffe.install"
    )


def test_the_installers_record_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = script(tmp_path / "python", GOOD)
    record = Installed(python, tmp_path / "site", tmp_path / "caffe", "source==1", "key")
    monkeypatch.setattr(locating, "installed", lambda cache: record)
    location = CaffeLocation(python, str(tmp_path / "site"), tmp_path / "caffe", "installed")
    assert locate({}, tmp_path) == location
    first = next(attempt_all({}, tmp_path))
    assert first == Attempt("lstmc_caffe.install (key)", location=location)
    assert str(first) == "lstmc_caffe.install (key): has Caffe"


def test_an_installed_caffe_that_broke_is_named_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, working = script(tmp_path / "broken", "exit 1"), script(tmp_path / "works", GOOD)
    record = Installed(broken, tmp_path, tmp_path / "caffe", "source==1", "key")
    monkeypatch.setattr(locating, "installed", lambda cache: record)
    monkeypatch.setattr(locating, "_common_pythons", lambda path: [working])
    attempts = list(attempt_all({}, tmp_path))
    assert str(attempts[0]) == "lstmc_caffe.install (key): import caffe fails: exit status 1"
    assert locate({}, tmp_path) == CaffeLocation(working, None, None, "found")


def test_the_environment_of_caffe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/of/this/interpreter")
    monkeypatch.setenv("PYTHONPATH", "/mine")
    given = CaffeLocation(Path("python"), "/caffe", None, "setting").environment()
    assert (given["PYTHONPATH"], given["GLOG_minloglevel"]) == ("/caffe", "2")
    assert "PYTHONHOME" not in given
    assert CaffeLocation(Path("python"), None, None, "found").environment()["PYTHONPATH"] == "/mine"


@pytest.mark.caffe
def test_real_caffe_is_found_and_used(caffe: Runner) -> None:
    location = caffe.location
    if location.origin == "installed":
        assert location.caffe_binary is not None
        assert location.caffe_binary.is_file()
    settings = {"LSTMC_CAFFE_PYTHON": str(location.python), "LSTMC_CAFFE_PYTHONPATH": location.pythonpath or ""}
    assert locate(settings) == CaffeLocation(location.python, location.pythonpath, None, "setting")
    assert caffe.gpu == gpu_state(location)


def test_a_caffe_that_is_there_is_tried_once_and_one_that_is_not_each_time(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    python = script(tmp_path / "python", f"echo >> {tries}\n{ABORTING % 'Check failed: x'}")
    settings = {"LSTMC_CAFFE_PYTHON": str(python)}
    for _ in range(2):
        refusal(settings, tmp_path)
    assert tries.read_text() == "\n\n"
    script(python, f"echo >> {tries}\n{GOOD}")  # it was mended
    for _ in range(2):
        assert locate(settings, tmp_path).python == python
    assert tries.read_text() == "\n\n\n"
