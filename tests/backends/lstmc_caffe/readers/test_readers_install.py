"""``python -m lstmc_caffe.readers install READER``: what it says while an environment is made."""

from __future__ import annotations

import sys

import pytest

from lstmc.errors import BackendError
from lstmc_caffe.readers import executor
from lstmc_caffe.readers.__main__ import main
from lstmc_caffe.readers.known import TVM, Environment


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_installed_is_told_on_standard_error(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(made: Environment) -> None:
        raise BackendError("stopped here")

    monkeypatch.setattr(executor, "interpreter", lambda made: None)
    monkeypatch.setattr(executor, "_make", fail)
    assert main(["install", "tvm", *(["--quiet"] if quiet else [])]) == 2
    printed = capsys.readouterr()
    (made,) = TVM.environments
    said = "" if quiet else f"installing {', '.join(made.requires)} for TVM relay\n"
    assert (printed.out, printed.err) == ("", f"{said}BackendError: stopped here\n")


def test_a_reader_that_is_an_extra_is_installed_beside_lstmc(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(executor, "_run_command", lambda failed, *command: commands.append((failed, *command)))
    assert main(["install", "opencv"]) == 0  # it is here
    assert commands == []
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(executor, "distributions", list)
    assert main(["install", "opencv"]) == 0
    failed = "the extra opencv cannot be installed"
    ((*command, requirement),) = commands
    assert command == [failed, "uv", "pip", "install", "--quiet", "--python", sys.executable]
    assert requirement.startswith("opencv-python-headless")
    assert capsys.readouterr().err == f"installing {requirement} for OpenCV 4 DNN\n"
