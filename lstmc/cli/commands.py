"""Commands of the command line: their help, their completion, and names that they had or that other tools use.

Newer versions of Typer write ``<bool>`` beside a flag: here help shows a flag as it is typed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

_UsageError: Any = typer.BadParameter.__mro__[1]  # whatever Click Typer is made of

# options that were called otherwise before, for all commands that have the new one
OLD_OPTIONS: Mapping[str, str] = {
    "--read": "--keep",
    "--reader": "--on",
    "--option": "--backend-option",
    "--steps": "--frames",
    "--set": "--constant",
}
# what other tools call it, and what it is here
ELSEWHERE: Mapping[str, str] = {
    "export": "lstmc compile",
    "build": "lstmc compile",
    "init": "lstmc new",
    "fit": "lstmc train",
    "predict": "lstmc run",
    "infer": "lstmc run",
    "test": "lstmc verify",
    "check": "lstmc verify",
    "summary": "lstmc report",
    "visualize": "lstmc draw",
    "list": "lstmc cells",
    "models": "lstmc cells",
    "info": "lstmc doctor",
}


def one_line(description: str) -> str:
    """A description for a shell, shortened to the width of the terminal.

    Typer wraps a longer one, and fish takes its second line for one more name to offer.
    """
    return shorten(description, Console().width, placeholder=" ...")


class _Flags:
    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, flags without the name of their type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What a shell is offered: options and commands, each described in one line."""
        items: list[Any] = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        for item in items:
            item.help = one_line(item.help) if item.help else None
        return items


class Command(_Flags, TyperCommand):
    """A command. It takes old spellings of its options, with a line on standard error that says the new one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, old options replaced by new ones."""
        known = {name for param in self.get_params(ctx) for name in param.opts}
        words = []
        for i, word in enumerate(args):
            option, equals, value = word.partition("=")
            new = OLD_OPTIONS.get(option)
            if new is None or option in known or new not in known or "--" in args[:i]:
                words.append(word)
                continue
            print(f"{option} is now {new}", file=sys.stderr)
            words.append(f"{new}{equals}{value}")
        rest: list[str] = super().parse_args(ctx, words)
        return rest


class Group(_Flags, TyperGroup):
    """A command with commands of its own."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; for what other tools call one, say its name here."""
        if args and self.get_command(ctx, args[0]) is None and args[0] in ELSEWHERE:
            raise _UsageError(f"lstmc has no command {args[0]}: use `{ELSEWHERE[args[0]]}`", ctx)
        return super().resolve_command(ctx, args)
