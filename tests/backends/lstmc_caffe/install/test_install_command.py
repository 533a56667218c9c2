"""Programs that fail, and what is then said."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path

import pytest

from lstmc_caffe.install.system import InstallError, run


def test_output_of_both_streams(tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['A'], os.getcwd(), flush=True); print('b', file=sys.stderr)"
    assert run([sys.executable, "-c", script], "asking", cwd=tmp_path, env={"A": "a"}) == f"a {tmp_path}\nb\n"


def test_failure_shows_the_command_and_the_last_lines(tmp_path: Path) -> None:
    script = "import sys; [print('line', i) for i in range(30)]; sys.exit(3)"
    command = [sys.executable, "-c", script]
    with pytest.raises(InstallError) as caught:
        run(command, "compiling src/caffe/net.cpp", cwd=tmp_path)
    shown = "\n".join(f"    line {i}" for i in range(10, 30))
    assert str(caught.value) == (
        "InstallError: compiling src/caffe/net.cpp failed (exit code 3)\n"
        f"  command: {shlex.join(command)}\n"
        f"  run in: {tmp_path}\n"
        "  its last lines:\n"
        f"{shown}"
    )


def test_killed_program() -> None:
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    with pytest.raises(InstallError) as caught:
        run(command, "compiling net.cpp")
    assert str(caught.value) == (
        "InstallError: compiling net.cpp failed (ended by signal 9)\n"
        f"  command: {shlex.join(command)}\n"
        "  it printed nothing\n"
        "  a compiler that is killed has often run out of memory: try --jobs 1"
    )


def test_absent_program() -> None:
    with pytest.raises(InstallError) as caught:
        run(["no-such-compiler", "-c"], "compiling net.cpp")
    assert str(caught.value) == ("InstallError: compiling net.cpp failed: the program no-such-compiler was not found")


def test_full_disk_is_an_os_error() -> None:
    script = "import sys; sys.exit('fatal error: error writing to net.s: No space left on device')"
    with pytest.raises(OSError, match="No space left") as caught:
        run([sys.executable, "-c", script], "compiling net.cpp")
    assert caught.value.errno == errno.ENOSPC
