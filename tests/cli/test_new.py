"""``lstmc new``: what it writes works as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import LSTMC

pytestmark = pytest.mark.walk

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "files", "tests"),
    [
        ("cell", ["mine.py", "test_mine.py"], 1),
        ("model", ["mine.py", "test_mine.py"], 2),
        (
            "plugin",
            ["mine/README.md", "mine/pyproject.toml", "mine/src/mine/__init__.py", "mine/tests/test_mine.py"],
            1,
        ),
    ],
)
def test_the_tests_of_a_start_pass(lstmc: LSTMC, tmp_path: Path, kind: str, files: list[str], tests: int) -> None:
    ended = lstmc("new", kind, "mine")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == files
    folder = "mine" if kind == "plugin" else "."
    assert ended.out.splitlines()[-1] == f"its tests: pip install pytest; python -m pytest {folder}"
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path / folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{tests} passed" in done.stdout, done.stdout + done.stderr


def test_the_commands_in_the_text_of_a_model_work(lstmc: LSTMC, tmp_path: Path) -> None:
    lstmc("new", "model", "mine")
    assert lstmc("verify", "mine.py", "-D", "T=3", "-D", "N=2", "--on", "interpreter").code == 0


def test_nothing_is_written_over(lstmc: LSTMC, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("mine")
    ended = lstmc("new", "cell", "mine")
    assert (ended.code, ended.err) == (2, "StartError: mine.py: exists already, and no file is overwritten\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize("name", ["My", "class", "a-b", "1a", "ä"])
def test_a_name_that_is_none(lstmc: LSTMC, name: str) -> None:
    ended = lstmc("new", "cell", name)
    assert ended.code == 2
    assert ended.err == f"StartError: expected a name of small letters, digits and _, as my_cell, found {name!r}\n"
