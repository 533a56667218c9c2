"""The start page and the tutorials: every command and every block of Python in them is run, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "index.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md"))]
BLOCK = re.compile(r"```(console|python)(?: title=\"([^\"]*)\")?\n(.*?)```", re.DOTALL)
# in the page's own process, which has imported lstmc once
COMMANDS = """\
import sys
from pathlib import Path
from lstmc.cli import main

def lstmc_command(*words):
    sys.argv = ["lstmc", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def program(page: Path) -> str:
    """A page as one program: its files written, its commands run, its Python in one namespace."""
    lines = [COMMANDS]
    for kind, title, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if title:
            lines.append(f"Path({title!r}).write_text({text!r})")
        elif kind == "python":
            lines.append(text)
        else:
            for line in text.splitlines():
                assert line.startswith("$ lstmc "), line
                lines.append(f"lstmc_command(*{shlex.split(line)[2:]!r})")
    return "\n".join(lines)


def pages() -> Iterator[object]:
    """The pages, those that train marked as needing real Caffe."""
    for page in PAGES:
        trains = "$ lstmc train" in page.read_text(encoding="utf-8")
        yield pytest.param(page, marks=[pytest.mark.caffe] if trains else [], id=page.stem)


@pytest.mark.parametrize("page", [*pages()])
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
    assert all("lstmc_command(*" in program(page).removeprefix(COMMANDS) for page in PAGES)
