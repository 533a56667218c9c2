"""``lstmc cells`` and ``lstmc backends``: what is installed."""

from __future__ import annotations

from typing import Annotated

import typer

from lstmc.api import check_sizes, library_cell, library_names, targets
from lstmc.cli import completion
from lstmc.cli.console import out, said, table
from lstmc.cli.flags import Command, Group
from lstmc.cli.options import BackendOption, SizesOption, parse_sizes
from lstmc.cli.output_options import speaking
from lstmc.errors import DslError, PluginError

cells_app = typer.Typer(cls=Group, invoke_without_command=True)


def cells_command(context: typer.Context, sizes: SizesOption = None, backend: BackendOption = "caffe") -> None:
    """List the library cells that --cell takes: their groups, the cost of a step, and the targets that do not
    support them.

    Parameters and floating-point operations are those of one step of one sequence, at sizes that -D changes. To compile
    a cell, give its dimensions and T, the number of steps.

    Examples:

    ```console
    lstmc cells
    lstmc cells -D H=128 --json
    lstmc cells show gru
    ```
    """
    if context.invoked_subcommand is not None:
        return
    given = parse_sizes(sizes or [])
    check_sizes(given)
    made, last, refused = None, None, dict[str, str]()
    for name in library_names():
        try:
            cell = library_cell(name, given, backend)
        except PluginError as error:  # one broken plug-in must not hide the others
            out.print(error.message, markup=False, style="red")
            refused[name] = error.message
            continue
        except DslError as error:  # nor one that these sizes do not suit
            out.print(f"{name}: {error.message}", markup=False, style="red")
            refused[name] = error.message
            continue
        if made is None or cell.group != last:
            if made is not None:
                out.print(made)
            made, last = (
                table(cell.group, "name", "parameters", "FLOPs", "what it is", "dimensions", "not for", key="cells"),
                cell.group,
            )
        summary = cell.summary.replace("``", "")
        made.add_row(name, cell.parameters, cell.flops, summary, list(cell.sizes), list(cell.not_for))
    if made is not None:
        out.print(made)
    said.fact("refused", refused)


@cells_app.command("show", cls=Command)
def cell_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `lstmc cells`.", autocompletion=completion.cells)],
    sizes: SizesOption = None,
    backend: BackendOption = "caffe",
) -> None:
    """Print a library cell: the paper, shapes and costs, its source, and the graph of one step.

    Examples:

    ```console
    lstmc cells show gru
    lstmc cells show mamba -D D=8
    ```
    """
    given = parse_sizes(sizes or [])
    check_sizes(given)
    typer.echo(library_cell(name, given, backend).text)


cells_app.callback()(speaking(cells_command))


def backends_command() -> None:
    """List the backends and the targets they write for.

    Examples:

    ```console
    lstmc backends
    lstmc backends --json
    ```
    """
    made = table("backends", "backend", "target", "for", key="backends")
    for target in targets():
        made.add_row(target.backend, target.name, target.purpose or target.fault)
    out.print(made)
