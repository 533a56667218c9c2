"""The help of each command: what it shows, and that its examples are commands that lstmc takes."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from lstmc.cli import app
from tests.cli.conftest import LSTMC

WIDTH = 80 - 4  # of a terminal, less the margins of help


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command by what is typed for it, a group too."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


ROOT: Any = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT))
WITHOUT_EXAMPLES = {"weights"}  # a group that does nothing itself


def examples(command: Any) -> list[str]:
    found = re.search(r"Examples:\n\n```console\n(.*?)```", inspect.cleandoc(command.help or ""), re.DOTALL)
    return found[1].splitlines() if found else []


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT_EXAMPLES))
def test_help_has_examples_of_the_command_that_fit_a_terminal(name: str) -> None:
    lines = examples(COMMANDS[name])
    assert len(lines) >= 2
    assert [line for line in lines if not line.startswith(f"lstmc {name}".rstrip()) or len(line) > WIDTH] == []


@pytest.mark.parametrize("line", [line for command in COMMANDS.values() for line in examples(command)])
def test_an_example_is_taken(line: str) -> None:
    command, words, context = ROOT, shlex.split(line)[1:], None
    while words and words[0] in getattr(command, "commands", {}):
        command, context = (
            command.commands[words[0]],
            command.make_context(words[0], [], parent=context, resilient_parsing=True),
        )
        words = words[1:]
    command.make_context(words and words[0], words, parent=context)  # raises for what it does not take


def test_help_shows_what_is_in_brackets(lstmc: LSTMC) -> None:
    told = " ".join(lstmc("report", "--help").out.split())
    assert "Needs pip install 'lstmc[draw]'." in told
    assert "Examples: lstmc report model.py -D T=5 -D N=2 -o net.html" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_flags_as_they_are_typed(lstmc: LSTMC, name: str) -> None:
    told = lstmc(*name.split(), "--help").out
    assert "--help" in told
    assert "bool" not in told
