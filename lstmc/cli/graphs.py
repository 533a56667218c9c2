"""``lstmc show``: the graph of a model, after any pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from lstmc.api import explanation, model_graph, pass_names
from lstmc.cli.arguments import GraphArguments, ModelArguments, TargetArguments, compile_options
from lstmc.cli.console import out
from lstmc.cli.options import AfterOption
from lstmc.ir import Stage, print_graph
from lstmc.text import escaped


def show_command(
    *,
    model: ModelArguments,
    target: TargetArguments,
    after: AfterOption = None,
    stage: Annotated[Stage | None, typer.Option("--stage", help="Print the graph at the end of this stage.")] = None,
    graph: GraphArguments,
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
        for number, name in enumerate(pass_names(target.target, target.chosen_backend(), graph.form), 1):
            out.print(f"{number:3} {name}")
        return
    as_written, phase = after is None and stage is None, graph.phase.phase if graph.phase else None
    source, sizes, backend = model.source(), model.sizes, target.chosen_backend()
    options = compile_options(target, sizes, backend=backend, step=graph.step, form=graph.form, phase=phase or "deploy")
    first = replace(options, phase="all") if as_written and phase is None else options
    result = model_graph(source, first, after, stage)
    typer.echo(escaped(print_graph(result)), nl=False)
    if as_written and target.target is not None:
        result = model_graph(source, options, pass_names(target.target, backend, graph.form)[-1])
    lines = explanation(result, backend).splitlines()
    typer.echo("".join(f"# {line}".rstrip() + "\n" for line in lines), nl=False)
