"""Commands whose help shows a flag as it is typed: newer versions of Typer write ``<bool>`` beside it."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _Flags:
    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, flags without the name of their type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class Command(_Flags, TyperCommand):
    """A command."""


class Group(_Flags, TyperGroup):
    """A command with commands of its own."""
