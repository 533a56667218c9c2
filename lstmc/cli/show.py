"""``lstmc show``: the graph of a model, after any pass."""

from __future__ import annotations

from typing import Annotated

import typer

from lstmc.api import Phase, explanation, graph_after, pass_names
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
from lstmc.ir import Graph, Stage, print_graph
from lstmc.text import escaped


def show_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    backend: BackendOption = None,
    choices: ChoicesOption = None,
    target: TargetOption = None,
    after: AfterOption = None,
    stage: Annotated[Stage | None, typer.Option("--stage", help="Print the graph at the end of this stage.")] = None,
    step: StepOption = False,
    form: FormOption = None,
    phase: PhaseOption = None,
    passes: Annotated[
        bool, typer.Option("--passes", help="List the passes instead, by the names that --after takes.")
    ] = False,
) -> None:
    """Print a model's graph as text: as it was written, after a pass, or at the end of a stage.

    Later passes are not run. For --target caffe-fused the plan of the generated code follows the graph: the products
    for all steps, the operations of each step, and the buffers.

    Examples:

    ```console
    lstmc show model.py -D T=3 -D N=2
    lstmc show model.py -D T=3 -D N=2 --after hoist
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --stage legal
    lstmc show --passes --target flat
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --target caffe-fused
    ```
    """
    if passes:
        for number, name in enumerate(pass_names(target, chosen_backend(backend, target, choices), form), 1):
            out.print(f"{number:3} {name}")
        return
    as_written = after is None and stage is None
    model, given, used = named_model(file, cell), parse_sizes(sizes or []), chosen_backend(backend, target, choices)

    def shown(name: str | None, of: Phase) -> Graph:
        return graph_after(
            model, name, stage=stage, phase=of, step=step, target=target, backend=used, form=form, sizes=given
        )

    graph = shown(after, phase.phase if phase else "all" if as_written else "deploy")
    typer.echo(escaped(print_graph(graph)), nl=False)
    if as_written and target is not None:
        graph = shown(pass_names(target, used, form)[-1], phase.phase if phase else "deploy")
    lines = explanation(graph, used).splitlines()
    typer.echo("".join(f"# {line}".rstrip() + "\n" for line in lines), nl=False)
