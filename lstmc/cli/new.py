"""``lstmc new``: the first files of something of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lstmc.cli.console import out, table
from lstmc.files.output import write_files
from lstmc.cli.start_files import start_files


def new_command(
    kind: Annotated[Literal["cell", "model", "plugin"], typer.Argument(help="The kind of the first files.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of lower-case letters, digits and _.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Write the files into this folder. Default: this one, or NAME."
        ),
    ] = None,
) -> None:
    """Write the first files of a cell, a model, or a package with a cell: files to change, with tests that pass.

    No file is overwritten.

    Examples:

    ```console
    lstmc new model tagger
    lstmc new cell my_cell -o cells
    lstmc new plugin my_cells
    ```
    """
    place = folder or (Path(name) if kind == "plugin" else Path())
    wrote = table("wrote", "file", "bytes", key="files")
    for path, content in start_files(kind, name, place).items():
        written = write_files((place / path).parent, {Path(path).name: content})[0]
        wrote.add_row(str(written), len(content))
    out.print(wrote)
    out.print(f"its tests: pip install pytest; python -m pytest {place}", markup=False, soft_wrap=True)
