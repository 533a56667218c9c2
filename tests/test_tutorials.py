"""The start page and the tutorials: every command and every block of Python in them is run, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
BLOCK = re.compile(r"```(console|python)\n(.*?)```", re.DOTALL)


def program(page: Path) -> str:
    """A page as one program: its commands run as such, its Python in one namespace."""
    lines = ["import subprocess, sys"]
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            lines.append(text)
            continue
        for line in text.splitlines():
            assert line.startswith("$ lstmc "), line
            lines.append(f"subprocess.run([sys.executable, '-m', *{shlex.split(line)[1:]!r}], check=True)")
    return "\n".join(lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_works(page: Path, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "backends")])
    done = subprocess.run(
        [sys.executable, "-c", program(page)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_has_something_to_run() -> None:
    assert all("subprocess.run(" in program(page) for page in PAGES)
