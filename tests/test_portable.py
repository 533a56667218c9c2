"""What needs no Caffe works on any system: nothing at import is of POSIX alone, and texts have their encoding said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.walk

ROOT = Path(__file__).parents[1]
FILES = ("tests/cli/test_show.py", "tests/runs/test_metrics.py")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_line_works_where_posix_is_hidden() -> None:
    plugin = ("-p", "tests.without_posix", "-p", "no:cacheprovider", "-n", "0")
    done = run("-m", "pytest", "-q", *plugin, "-m", "not caffe and not slow", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_what_is_hidden_is_not_there() -> None:
    hide = "import tests.without_posix\n"
    done = run("-c", f"{hide}import fcntl")
    assert "hidden by tests/without_posix.py" in done.stderr
    assert "AttributeError" in run("-c", f"{hide}import signal; signal.SIGHUP").stderr


@pytest.mark.slow
def test_every_text_file_is_read_and_written_with_an_encoding(tmp_path: Path) -> None:
    """PEP 597: an encoding that is left to the system is a warning, here an error."""
    model = tmp_path / "mine.py"
    assert run("-m", "lstmc", "new", "model", "mine", "-o", str(tmp_path)).returncode == 0
    options = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-m", "lstmc")
    done = run(
        *options,
        "report",
        str(model),
        "-D",
        "T=3",
        "-D",
        "N=2",
        "--on",
        "interpreter",
        "-o",
        str(tmp_path / "net.html"),
    )
    assert (done.returncode, done.stderr) == (0, "")
