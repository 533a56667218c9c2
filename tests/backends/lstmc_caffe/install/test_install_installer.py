"""Twice, at once, killed, on a full disk: what is left behind. The build itself is replaced by a small one.

Run as a program (``FILE CACHE COUNTER GO``) it installs once, for the tests that need other processes.
"""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
from rich.console import Console

from lstmc_caffe.install import record
from lstmc_caffe.install.__main__ import main
from lstmc_caffe.install.build import Order
from lstmc_caffe.install.errors import InstallError, MissingPackagesError
from lstmc_caffe.install.installer import install, smoke_test
from lstmc_caffe.install.interpreter import Interpreter
from lstmc_caffe.install.progress import Report
from lstmc_caffe.install.recipe import CPU, Platform, Recipe

KEY = CPU.key(Platform.current("3.13"))


def small_build(counter: Path, go: Path | None = None) -> Callable[[Order], None]:
    """A build that notes itself in ``counter``, makes the files that are expected, and waits for ``go`` to exist."""

    def build(order: Order) -> None:
        with counter.open("a") as file:
            file.write("built\n")
        for path in (order.stage / record.BINDING, order.stage / record.PROGRAM):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        while go is not None and not go.exists():
            time.sleep(0.02)

    return build


def run(
    cache: Path, build: Callable[[Order], None], *, force: bool = False, output: TextIO | None = None
) -> record.Installed:
    def prepare(recipe: Recipe, report: Report) -> Interpreter:
        return Interpreter(Path(sys.executable), "3.13", ())

    return install(
        cache,
        console=Console(file=output or io.StringIO()),
        force=force,
        recipe=replace(CPU, needed_mb=0),
        prepare=prepare,
        build=build,
        smoke_test=lambda order: "1.0.0",
    )


@contextmanager
def child(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """This file as a program, killed if it is still there at the end."""
    with subprocess.Popen(
        [sys.executable, "-u", __file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_build(cache: Path, process: subprocess.Popen[str]) -> None:
    while not (cache / "caffe" / f".work-{KEY}" / "stage" / record.PROGRAM).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "caffe").iterdir())


def test_second_run_returns_at_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    first = run(tmp_path, small_build(counter))
    assert first == run(tmp_path, small_build(counter)) == record.installed(tmp_path)
    assert counter.read_text() == "built\n"
    assert names(tmp_path) == [KEY, "install.lock"]


def test_force_builds_anew(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    run(tmp_path, small_build(counter))
    run(tmp_path, small_build(counter), force=True)
    assert counter.read_text() == "built\nbuilt\n"
    assert names(tmp_path) == [KEY, "install.lock"]


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    counter, go = tmp_path / "counter", tmp_path / "go"
    with child(tmp_path, counter, go) as first:
        wait_for_build(tmp_path, first)
        with child(tmp_path, counter, go) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "another process is installing Caffe: waiting for it\n"
            go.touch()
            assert re.fullmatch(rf"Caffe 1\.0\.0 installed in \d+ s\n{KEY}\n", first.communicate(timeout=60)[0])
            assert second.communicate(timeout=60)[0] == f"{KEY}\n"
    assert counter.read_text() == "built\n"


def test_killed_build_leaves_no_record(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with child(tmp_path, counter, tmp_path / "never") as process:
        wait_for_build(tmp_path, process)
        process.kill()
    assert record.installed(tmp_path) is None
    assert names(tmp_path) == [f".work-{KEY}", "install.lock"]
    run(tmp_path, small_build(counter))
    assert names(tmp_path) == [KEY, "install.lock"]


def test_failed_build_leaves_no_record(tmp_path: Path) -> None:
    def build(order: Order) -> None:
        raise InstallError("compiling net.cpp failed (exit code 1)")

    with pytest.raises(InstallError, match=r"compiling net\.cpp failed"):
        run(tmp_path, build)
    assert record.installed(tmp_path) is None


def test_a_build_without_its_files_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(InstallError) as caught:
        run(tmp_path, lambda order: order.stage.mkdir())
    folder = tmp_path / "caffe"
    assert str(caught.value) == (
        f"InstallError: the new build in {folder} is not accepted\n"
        f"  {folder / KEY}: {folder / KEY / record.BINDING} is gone"
    )


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(order: Order) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 7_900_000}))
    with pytest.raises(InstallError) as caught:
        run(tmp_path, build)
    assert str(caught.value) == (
        f"InstallError: no space left on the disk that holds {tmp_path / 'caffe'}: a build needs 0 MB, 7 MB are free\n"
        "  what is compiled already is kept for the next run\n"
        "  give another folder with --cache DIR"
    )


def test_unwritable_cache(tmp_path: Path) -> None:
    def build(order: Order) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(order.stage))

    with pytest.raises(InstallError) as caught:
        run(tmp_path, build)
    assert str(caught.value) == (
        f"InstallError: cannot write to {tmp_path / 'caffe'}: Permission denied\n  give another folder with --cache DIR"
    )


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InstallError) as caught:
        run(file, small_build(tmp_path / "counter"))
    folder = file / "caffe"
    assert str(caught.value) == (
        f"InstallError: installing into {folder} failed: [Errno 20] Not a directory: '{folder}'"
    )


def test_command_line_prints_where_caffe_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = record.Installed(Path("/python"), Path("/path"), Path("/caffe"), "source", "key")
    monkeypatch.setattr("lstmc_caffe.install.__main__.install", lambda *_, **__: done)
    assert main(["--cache", str(tmp_path), "--jobs", "3"]) == 0
    assert capsys.readouterr().out == "python      /python\nPYTHONPATH  /path\ncaffe       /caffe\n"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            MissingPackagesError("g++ is missing", ["g++"], "sudo", notes=["install with: sudo"]),
            2,
            "MissingPackagesError: g++ is missing\n  install with: sudo\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted: what is compiled is kept, run it again to go on\n"),
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


@pytest.mark.caffe
def test_the_installed_caffe_passes_the_smoke_test(tmp_path: Path) -> None:
    found = record.installed()
    assert found is not None, "Caffe is not installed: python -m lstmc_caffe.install"
    interpreter = Interpreter(found.python, "", ())
    order = Order(CPU, interpreter, tmp_path, found.pythonpath.parent, tmp_path, 1, Report(Console(file=io.StringIO())))
    assert smoke_test(order) == "1.0.0"


if __name__ == "__main__":
    cache, counter, go = map(Path, sys.argv[1:])
    print(run(cache, small_build(counter, go), output=sys.stdout).key)
