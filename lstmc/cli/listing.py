"""``lstmc cells`` and ``lstmc backends``: what is installed."""

from __future__ import annotations

from lstmc.backend import find_backends, find_cells, load_backend, load_cell
from lstmc.cli.console import out, table
from lstmc.dsl.dims import shape_text
from lstmc.errors import PluginError


def cells_command() -> None:
    """List the library cells that --cell takes, with their dimensions."""
    made = table("cells", "name", "inputs", "states", "parameters", "what it is")
    for name in find_cells():
        try:
            cell = load_cell(name)
        except PluginError as error:  # one broken plug-in must not hide the others
            made.add_row(name, "", "", "", f"[red]{error.message}[/]")
            continue
        kinds = (cell.inputs, cell.states, cell.params)
        shapes = ["\n".join(f"{n} {shape_text(d.shape)}" for n, d in kind.items()) for kind in kinds]
        made.add_row(name, *(text.replace("[", r"\[") for text in shapes), (cell.__doc__ or "").split("\n")[0])
        made.add_section()
    out.print(made)


def backends_command() -> None:
    """List the backends and the targets they write for."""
    made = table("backends", "backend", "target", "for")
    for name in find_backends():
        try:
            backend = load_backend(name)
        except PluginError as error:
            made.add_row(name, "", f"[red]{error.message}[/]")
            continue
        for target, purpose in backend.targets.items():
            made.add_row(name, target, purpose)
    out.print(made)
