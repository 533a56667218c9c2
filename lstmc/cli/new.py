"""``lstmc new``: the first files of a cell, a model or a plug-in, from the folder ``templates``; they work at once."""

from __future__ import annotations

import keyword
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import jinja2

from lstmc.cli.commands import argument, option
from lstmc.cli.console import out, print_files
from lstmc.errors import StartError
from lstmc.files.output import write_files
from lstmc.text import did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
STARTS: Mapping[str, Mapping[str, str]] = {
    "cell": {"{name}.py": "cell.py.j2", "test_{name}.py": "test_cell.py.j2"},
    "model": {"{name}.py": "model.py.j2", "test_{name}.py": "test_model.py.j2"},
    "plugin": {
        "pyproject.toml": "pyproject.toml.j2",
        "README.md": "README.md.j2",
        "src/{name}/__init__.py": "cell.py.j2",
        "tests/test_{name}.py": "test_cell.py.j2",
    },
}


def start_files(kind: str, name: str, folder: Path) -> dict[str, bytes]:
    """Return the contents of the first files by their paths in ``folder``. Raises :class:`StartError` for an unknown
    kind, a name that is no identifier of small letters, and an existing file."""
    if kind not in STARTS:
        raise StartError(f"expected one of {', '.join(STARTS)}, found {kind!r}{did_you_mean(kind, list(STARTS))}")
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or name != name.lower():
        raise StartError(f"expected a name of small letters, digits and _, as my_{kind}, found {name!r}")
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    files = {
        path.format(name=name): jinja.get_template(template).render(name=name).encode()
        for path, template in STARTS[kind].items()
    }
    existing = [str(folder / path) for path in files if os.path.exists(folder / path)]
    if existing:
        raise StartError(f"{', '.join(existing)}: exists already, and no file is overwritten")
    return files


def new_command(
    kind: Annotated[Literal["cell", "model", "plugin"], argument("", "The kind of the first files.")],
    name: Annotated[str, argument("NAME", "A name of lower-case letters, digits and _.")],
    folder: Annotated[
        Path | None, option("-o --output DIR", "Write the files into this folder. Default: this one, or NAME.")
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
    files = start_files(kind, name, place)
    print_files(write_files((place / path).parent, {Path(path).name: files[path]})[0] for path in files)
    out.print(f"its tests: pip install pytest; python -m pytest {place}")
