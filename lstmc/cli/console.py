"""Where the command line prints: tables and results to standard output, errors to standard error."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 120


class _Output(Console):
    """Standard output. When nobody reads it any more (``| head``), the work goes on: its files are what matters."""

    def on_broken_pipe(self) -> None:
        silence(sys.stdout.fileno())


def silence(*descriptors: int) -> None:
    """Send what is written there to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


out = _Output(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False)
err = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False)


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table with a title and columns, those in ``right`` aligned to the right."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
