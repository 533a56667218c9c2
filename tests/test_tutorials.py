"""README, the start page, the tutorials and the page of errors are run in their order; an error is what a page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import pytest

pytestmark = pytest.mark.walk

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, DOCS / "index.md", DOCS / "troubleshooting.md"]
PAGES += [*sorted((DOCS / "tutorials").glob("*.md")), *sorted((DOCS / "howto").glob("*.md"))]
INDENTED = re.compile(r"^    lstmc (.*)$", re.MULTILINE)  # a command of the README
BLOCK = re.compile(r"```(console|python|text|c)(?: title=\"([^\"]*)\")?\n(.*?)```", re.DOTALL)
# in the page's own process, which has imported lstmc once
# What a training ends with is not compared.
SHORTER = (("--epochs 10 ", "--epochs 1 "), ("--grid seed=1,2 ", "--grid seed=1 "))
COMMANDS = """\
import contextlib, io, sys
from pathlib import Path
from lstmc.cli import main
from lstmc.importers import SourceError
from lstmc.importers.zoo import recipe_of

def lstmc_command(*words, code=0):
    try:  # a published net can be had with a network, or from the cache
        any(recipe.path() for recipe in map(recipe_of, words) if recipe)
    except SourceError as error:
        assert "without a network: get" in str(error), error
        return
    sys.argv = ["lstmc", *words]
    try:
        main()
    except SystemExit as end:
        assert (end.code or 0) == code, (words, end.code)

def refused(*words, text):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        lstmc_command(*words, code=2)
    assert said.getvalue() == text, said.getvalue()

def printed(*words, text):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        lstmc_command(*words)
    assert said.getvalue() == text, said.getvalue()
"""


def program(page: Path) -> str:
    """A page as one program: its files written, its commands run, its Python in one namespace.

    A block of text after a command is the error that it ends with; lines below a command are what it prints.
    """
    lines = [COMMANDS]
    source = reduce(lambda text, change: text.replace(*change), SHORTER, page.read_text(encoding="utf-8"))
    blocks = BLOCK.findall(INDENTED.sub(r"```console\n$ lstmc \1\n```", source))
    for (kind, title, text), (after, _, error) in zip(blocks, [*blocks[1:], ("", "", "")], strict=True):
        if title:
            lines.append(f"Path({title!r}).write_text({text!r})")
        elif kind == "python":
            lines.append(text)
        elif kind == "console":
            assert text.startswith("$ lstmc "), text
            commands = [each.partition("\n") for each in text.removeprefix("$ ").split("\n$ ")]
            last = shlex.split(commands.pop()[0])[1:] if after == "text" else None
            for command, _, said in commands:
                words = shlex.split(command, comments=True)[1:]
                lines.append(f"printed(*{words!r}, text={said!r})" if said.strip() else f"lstmc_command(*{words!r})")
            lines += [f"refused(*{last!r}, text={error!r})"] if last is not None else []
    return "\n".join(lines)


def pages() -> Iterator[object]:
    """The pages, those that train marked as needing real Caffe, and all but one as slow."""
    for page in PAGES:
        marks = [pytest.mark.caffe] if page == README or "$ lstmc train" in page.read_text() else []
        marks += [pytest.mark.slow] if page.stem != "cell-from-a-paper" else []
        yield pytest.param(page, marks=marks, id=page.stem)


@pytest.mark.slow
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
    if page == README:  # it is read in the clone, of which git ignores out/ alone
        assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_page_has_something_to_run() -> None:
    assert all("lstmc_command(*" in program(page).removeprefix(COMMANDS) for page in PAGES)
