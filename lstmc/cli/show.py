"""``lstmc show``: the graph of a model, after any pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from lstmc.backend import load_backend
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    FileArgument,
    SizesOption,
    TargetOption,
    named_model,
    parse_sizes,
)
from lstmc.errors import PassError
from lstmc.ir import Stage, print_graph
from lstmc.passes import Snapshot
from lstmc.pipeline import compile_graph


def show_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    backend: BackendOption = "caffe",
    target: TargetOption = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PASS", help="A pass by name (its last run) or number.")
    ] = None,
    stage: Annotated[Stage | None, typer.Option("--stage", help="The graph as it leaves this stage.")] = None,
) -> None:
    """Print a model's graph as text: as it was written, after a pass, or at the end of a stage."""
    source = named_model(file, cell)
    graph = source.graph(parse_sizes(sizes or []))
    if after is None and stage is None:
        typer.echo(print_graph(graph), nl=False)
        return
    compiled = compile_graph(graph, load_backend(backend), target, source.name)
    typer.echo(print_graph(_chosen(compiled.history, after, stage).graph), nl=False)


def _chosen(history: Sequence[Snapshot], after: str | None, stage: Stage | None) -> Snapshot:
    for number, snapshot in reversed(list(enumerate(history))):
        if (after is None or after in (snapshot.pass_name, str(number))) and stage in (None, snapshot.stage):
            return snapshot
    passes = ", ".join(f"{number} {snapshot.pass_name}" for number, snapshot in enumerate(history))
    asked = " ".join([*(["--after", after] if after else []), *(["--stage", stage.value] if stage else [])])
    raise PassError(f"nothing is {asked}: expected one of {passes}")
