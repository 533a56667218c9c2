"""Commands whose help shows a flag as it is typed, and whose completion describes each option in one line.

Newer versions of Typer write ``<bool>`` beside a flag.
"""

from __future__ import annotations

from textwrap import shorten
from typing import Any

from rich.console import Console
from typer.core import TyperCommand, TyperGroup


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
    """A command."""


class Group(_Flags, TyperGroup):
    """A command with commands of its own."""
