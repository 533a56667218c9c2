"""Errors of the library speak of arguments; the command line makes options of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lstmc.cli.console import error_text, option
from lstmc.errors import Argument, DataError, PassError, size_argument, sizes_argument

ROOT = Path(__file__).parents[2]
# A word that is an option: --name, -D, -o, but for those of other commands that errors name, and a linker's.
OPTION = re.compile(r"(?<![\w,-])(--(?!force|cuda|mpi=)[a-z][a-z-]+|-D|-o)(?![\w.])")
# Commands speak of their own options.
PROGRAMS = ("lstmc/cli/", "backends/lstmc_caffe/install/", "backends/lstmc_caffe/layers.py")
LIBRARY = [
    path
    for folder in ("lstmc", "backends")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.relative_to(ROOT).as_posix().startswith(PROGRAMS)
]


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (Argument("test_split", "0.5"), "--test-split 0.5"),
        (Argument("test_data"), "--test-data"),
        (Argument("resume", "True"), "--resume"),
        (Argument("step", "True"), "--step"),
        (Argument("out"), "-o"),
        (Argument("outputs", "y"), "--keep y"),
        (size_argument("T"), "-D T=SIZE"),
        (sizes_argument({"T": 20, "N": 1}), "-D T=20 -D N=1"),
    ],
)
def test_an_argument_is_an_option(argument: Argument, text: str) -> None:
    assert option(argument) == text


def test_an_error_with_what_was_added_to_it() -> None:
    argument = Argument("batch", "B")
    error = DataError(f"{argument}: no such axis", notes=["see docs"])
    error.add_note("while running pass cse, after: none")
    text = "DataError: --batch B: no such axis\n  see docs"
    assert error_text(error) == text
    assert error_text(error, verbose=True) == f"{text}\nwhile running pass cse, after: none"
    fault = PassError("pass cse failed")
    fault.add_note("at %x")
    assert error_text(fault) == "PassError: pass cse failed\nat %x"


def texts(path: Path) -> Iterator[str]:
    """What is said: every text of a file that is no docstring, and no word alone that a program is called with."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    pieces = {piece for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node in docstrings:
            continue
        if node in pieces or not re.fullmatch(r"-\S+", node.value):
            yield node.value


def test_the_library_speaks_no_options() -> None:
    said = {path: [text for text in texts(path) if OPTION.search(text)] for path in LIBRARY}
    wrong = {path.relative_to(ROOT).as_posix(): found for path, found in said.items() if found}
    assert not wrong, f"an error of the library speaks of arguments, as errors.Argument: {wrong}"


# What does the work; a command asks the library's functions for it.
WORK = ("interp", "ir.graph", "ops.", "passes", "patterns", "pipeline", "prepare", "training", "weights")


@pytest.mark.parametrize("path", sorted((ROOT / "lstmc" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_a_command_holds_no_work_of_its_own(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith(tuple(f"lstmc.{part}" for part in WORK))]
