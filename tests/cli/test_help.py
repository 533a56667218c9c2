"""The help of each command: what it shows, and that its examples are commands that lstmc takes."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from lstmc.cli import app
from lstmc.cli.console import elsewhere
from tests.cli.conftest import LSTMC

WIDTH = 80 - 4  # of a terminal, less the margins of help


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command by what is typed for it, a group too."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


ROOT: Any = typer.main.get_command(app)
COMMANDS = dict(commands(ROOT))
WITHOUT_EXAMPLES = {"numbers"}  # a group that does nothing itself


def examples(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "")
    found = re.search(r"Examples:\n\n```console\n(.*?)```", text, re.DOTALL)
    return found[1].splitlines() if found else re.findall(r"^ +(lstmc .*)$", text, re.MULTILINE)


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


LISTED = [
    *("new", "cells", "targets", "doctor", "compile", "inspect", "convert", "verify", "numbers"),
    *("train", "sweep", "run", "show", "report"),
]


def test_all_commands_are_listed_in_the_order_of_use(lstmc: LSTMC) -> None:
    told = lstmc("--help").out
    names = re.findall(r"^  ([a-z]+)  +[A-Z]", told, re.MULTILINE)
    assert names == LISTED
    assert {command for command in COMMANDS if command and " " not in command} == {*LISTED}


def test_the_list_of_commands_fits_one_screen(lstmc: LSTMC) -> None:
    lines = lstmc("--help").out.splitlines()
    assert len(lines) <= 24 - 1  # and the prompt after it
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {""}))
def test_the_help_of_an_option_is_a_sentence(name: str) -> None:
    for parameter in COMMANDS[name].params:
        words = (parameter.help or "").split()
        assert words, f"{name} {parameter.name}"
        assert words[0][0].isupper(), parameter.help
        assert words[-1][-1] in ".)", parameter.help
        assert words[0] not in ("Of", "Or", "Where", "What", "How", "Also"), parameter.help


@pytest.mark.parametrize("option", ["--form", "--tune", "--keep", "--batch", "--dump-dir", "--backend-option"])
def test_rare_options_are_in_a_panel_of_their_own(lstmc: LSTMC, option: str) -> None:
    common, _, advanced = lstmc("compile", "--help").out.partition("─ Advanced ─")
    assert f"│ {option} " in advanced
    assert f"│ {option} " not in common


def test_a_reader_without_numbers_is_a_runtime(lstmc: LSTMC, model_file: Path) -> None:
    ended = lstmc("verify", "net.py", "-D", "T=2", "-D", "N=1", "--reader", "opencv")
    assert (ended.code, ended.err.endswith("expected --numbers NAME too; to run the net as it is: --on opencv\n")) == (
        2,
        True,
    )


def test_what_other_tools_call_a_command_is_answered(lstmc: LSTMC) -> None:
    for name, here in elsewhere("commands").items():
        ended = lstmc(*name.split())
        assert (ended.code, ended.err.splitlines()[-1]) == (2, f"Error: lstmc has no command {name}: use `{here}`")
        assert here.split()[1] in LISTED
    assert lstmc("-V").out == lstmc("--version").out != ""


@pytest.mark.parametrize("old", ["read", "option"])
def test_an_old_option_is_answered_by_its_name_of_today(lstmc: LSTMC, old: str) -> None:
    ended = lstmc("compile", "--cell", "lstm", f"--{old}", "x")
    said = f"Error: No such option: --{old}: it is now {elsewhere('options')[old]}"
    assert (ended.code, ended.err.splitlines()[-1]) == (2, said)


@pytest.mark.parametrize("option", [("--on", "opencv"), ("-D", "T=2"), ("--prove",)])
def test_a_net_file_is_checked_by_rules_alone(lstmc: LSTMC, option: tuple[str, ...]) -> None:
    Path("net.prototxt").write_text('layer { name: "x" type: "Input" top: "x" }')
    ended = lstmc("verify", "net.prototxt", *option)
    assert (ended.code, ended.err) == (
        2,
        "BackendError: net.prototxt is a net, which is checked by a target's rules: expected --target, --all and"
        f" --backend with it, found {option[0]}; to run it on arrays: `lstmc run net.prototxt --inputs FILE`\n",
    )
    ended = lstmc("verify", "net.py", "--all")
    assert (ended.code, ended.err) == (
        2,
        "BackendError: --all checks a net file for every target: expected NAME.prototxt or NAME.onnx\n",
    )
