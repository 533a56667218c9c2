"""Twice, at once, killed, on a full disk: what is left behind. The build itself is replaced by a small one.

Run as a program (``FILE CACHE COUNTER GO``) it installs once, for the tests that need other processes.
"""

from __future__ import annotations

import errno
import io
import json
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
from lstmc_caffe.install.build import Order
from lstmc_caffe.install.installer import REQUIRED_LAYERS, Steps, install, smoke_test
from lstmc_caffe.install.recipe import CPU, Platform, Recipe, cuda_recipe
from lstmc_caffe.install.report import Report
from lstmc_caffe.install.system import InstallError, Interpreter

KEY = CPU.key(Platform.current("3.13"))


def small_build(counter: Path, go: Path | None = None) -> Callable[[Order], None]:
    """A build that notes itself in ``counter``, makes the files that are expected, and waits for ``go`` to exist."""

    def build(order: Order) -> None:
        with counter.open("a") as file:
            file.write("built\n")
        for path in (order.stage / record.LIBRARY, order.stage / record.BINDING, order.stage / record.PROGRAM):
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
        steps=Steps(prepare, build, lambda order: "1.0.0"),
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        "  compiled files are kept for the next run\n"
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


def gpu_order(tmp_path: Path, said: str, output: TextIO) -> Order:
    """A build with CUDA that is done, and whose pycaffe says ``said`` of GPUs."""
    stage = tmp_path / "stage"
    for name, body in (
        ("bin/caffe", ""),
        ("python3", f'test "$2" = --gpu && {{ {said}; }}\necho \'{{"caffe": "1.0.0", "layers": {layers()}}}\''),
    ):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(f"#!/bin/sh\n{body}\n")
        (stage / name).chmod(0o755)
    python = Interpreter(stage / "python3", "3.13", ())
    return Order(cuda_recipe(("sm_90",)), python, tmp_path, stage, tmp_path, 1, Report(Console(file=output, width=200)))


def layers() -> str:
    return json.dumps(list(REQUIRED_LAYERS))


def test_a_new_build_with_cuda_says_what_it_does_with_a_gpu(tmp_path: Path) -> None:
    output = io.StringIO()
    assert smoke_test(gpu_order(tmp_path, """echo '{"device": "a GPU"}'; exit 0""", output)) == "1.0.0"
    said = """echo '{"reason": "there is no NVIDIA driver"}'; kill -ABRT $$"""
    assert smoke_test(gpu_order(tmp_path, said, output)) == "1.0.0"
    assert output.getvalue() == "it computes on a GPU\nit was not tried on a GPU: there is no NVIDIA driver\n"


def test_a_new_build_with_cuda_that_cannot_use_gpus_is_refused(tmp_path: Path) -> None:
    said = """echo '{"reason": ""}'; echo "Cannot use GPU in CPU-only Caffe: check mode." >&2; exit 1"""
    with pytest.raises(InstallError) as caught:
        smoke_test(gpu_order(tmp_path, said, io.StringIO()))
    assert str(caught.value) == "InstallError: the new pycaffe cannot use GPUs: this Caffe was built without CUDA"


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
