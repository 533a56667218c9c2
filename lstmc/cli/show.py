"""``lstmc show``: the graph of a model, after any pass."""

from __future__ import annotations

from typing import Annotated

import typer

from lstmc.api import graph_after, pass_names
from lstmc.cli.console import out
from lstmc.cli.options import (
    AfterOption,
    BackendOption,
    CellOption,
    ChoicesOption,
    FileArgument,
    FormOption,
    PhaseOption,
    SizesOption,
    StepOption,
    TargetOption,
    chosen_backend,
    named_model,
    parse_sizes,
)
from lstmc.ir import Stage, print_graph


def show_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    backend: BackendOption = "caffe",
    choices: ChoicesOption = None,
    target: TargetOption = None,
    after: AfterOption = None,
    stage: Annotated[Stage | None, typer.Option("--stage", help="The graph as it leaves this stage.")] = None,
    step: StepOption = False,
    form: FormOption = None,
    phase: PhaseOption = None,
    passes: Annotated[bool, typer.Option("--passes", help="List the passes instead, by the names of --after.")] = False,
) -> None:
    """Print a model's graph as text: as it was written, after a pass, or at the end of a stage.

    Passes after the one asked for are not run.

    Examples:

    ```console
    lstmc show model.py -D T=3 -D N=2
    lstmc show model.py -D T=3 -D N=2 --after hoist
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --stage legal
    lstmc show --passes --target flat
    ```
    """
    if passes:
        for number, name in enumerate(pass_names(target, chosen_backend(backend, choices), form), 1):
            out.print(f"{number:3} {name}")
        return
    as_written = after is None and stage is None
    graph = graph_after(
        named_model(file, cell),
        after,
        stage=stage,
        phase=phase.phase if phase else "all" if as_written else "deploy",
        step=step,
        target=target,
        backend=chosen_backend(backend, choices),
        form=form,
        sizes=parse_sizes(sizes or []),
    )
    typer.echo(print_graph(graph), nl=False)
