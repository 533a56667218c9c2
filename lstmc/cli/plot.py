"""``lstmc plot``: the curves of runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.cli.console import out, renamed
from lstmc.runs.drawing import plot_runs


def plot_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders that `lstmc train` wrote.")],
    to: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A file that ends in .png, .svg or .pdf.")
    ] = Path("curves.png"),
) -> None:
    """Draw the losses of runs, and each test score below them, in one diagram.

    Examples:

    ```console
    lstmc plot run
    lstmc plot run1 run2 -o curves.svg
    ```
    """
    renamed("plot", "report RUN... -o FILE")
    out.print(f"wrote {plot_runs(runs, to)}", markup=False, soft_wrap=True)
