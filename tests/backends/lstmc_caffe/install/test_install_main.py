"""``python -m lstmc_caffe.install``: what it is asked, what it prints, how it ends."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from lstmc_caffe.install import record
from lstmc_caffe.install.__main__ import main
from lstmc_caffe.install.recipe import CPU, Recipe, cuda_recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import MissingPackagesError


def test_command_line_prints_where_caffe_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = record.Installed(Path("/python"), Path("/path"), Path("/caffe"), "source", "key")
    monkeypatch.setattr("lstmc_caffe.install.__main__.install", lambda *_, **__: done)
    assert main(["--cache", str(tmp_path), "--jobs", "3"]) == 0
    assert capsys.readouterr().out == "python      /python\nPYTHONPATH  /path\ncaffe       /caffe\n"


@pytest.mark.parametrize(("arguments", "said"), [([], "compiling\n"), (["--quiet"], "")])
def test_what_is_done_is_told_on_standard_error_unless_it_is_to_be_quiet(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(cache: Path | None, jobs: int | None, console: Console, **_: object) -> record.Installed:
        Report(console).step("compiling")
        return record.Installed(Path("/python"), Path("/path"), Path("/caffe"), "source", "key")

    monkeypatch.setattr("lstmc_caffe.install.__main__.install", install)
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert (printed.out.splitlines()[0], printed.err) == ("python      /python", said)


def test_a_terminal_sees_how_much_is_compiled() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Report(console).counted("compiling Caffe", 4) as compiled:
        compiled()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "1/4" in shown
    assert " 25%" in shown


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            MissingPackagesError("g++ is missing", notes=["install with: sudo"]),
            2,
            "MissingPackagesError: g++ is missing\n  install with: sudo\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted: compiled files are kept, run it again to continue\n"),
    ],
)
def test_command_line_errors(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lstmc_caffe.install.__main__.install", fail)
    assert main([]) == code
    assert capsys.readouterr().err == text


def test_command_line_refuses_no_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--jobs", "0"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: argument --jobs: expected at least 1, found 0\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--arch", "sm_90"], "InstallError: --arch names GPUs to compile for, and is for --cuda: found no --cuda\n"),
        (["--cuda", "--arch", "sm_61"], "InstallError: --arch sm_61: CUDA 13 compiles for sm_75 and later only\n"),
        (
            ["--cuda", "--arch", "sm_90,emulated"],
            "InstallError: --arch takes GPUs; the build for a device that the CPU emulates is made in a clone of"
            " lstmc's repository: python -m tools.emulated_cuda\n",
        ),
        (["--cuda", "--arch="], "InstallError: --arch takes architectures of GPUs as in sm_80,sm_90: found ''\n"),
    ],
)
def test_command_line_refuses_architectures(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--cache", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], ()),
        (["--cuda"], ("sm_75", "sm_80", "sm_90")),
        (["--cuda", "--arch", "sm_120,sm_90"], ("sm_90", "sm_120")),
    ],
)
def test_command_line_asks_for_architectures(
    arguments: list[str], asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def install(*_: object, recipe: Recipe, **__: object) -> record.Installed:
        assert recipe == (cuda_recipe(asked) if asked else CPU)
        return record.Installed(Path("/python"), Path("/path"), Path("/caffe"), "source", "key", asked)

    monkeypatch.setattr("lstmc_caffe.install.__main__.install", install)
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3:] == ([f"GPUs        {', '.join(asked)} and later"] if asked else [])
