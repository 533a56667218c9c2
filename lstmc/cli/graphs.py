"""``lstmc show``: the graph of a model after any pass, as text or as a diagram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import explanation, model_graph, pass_names, scan_lines
from lstmc.cli.arguments import GraphArguments, ModelArguments, TargetArguments, compile_options
from lstmc.cli.console import out
from lstmc.cli.options import AfterOption
from lstmc.drawing import STEPS, Drawing
from lstmc.dsl import print_python
from lstmc.errors import DrawingError
from lstmc.ir import Stage, print_graph
from lstmc.text import escaped


@dataclass(frozen=True)
class DrawingArguments:
    """The file of a diagram, and which steps it shows."""

    to: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Draw the graph into this file, which ends in .svg, .png, .pdf or .dot.",
        ),
    ] = None
    rolled: Annotated[
        bool | None,
        typer.Option(
            "--rolled/--unrolled",
            help="Show the step of a scan once, as it was written, or every step after all passes. Default: rolled.",
        ),
    ] = None
    steps: Annotated[
        int, typer.Option("--frames", help="Draw this number of steps of a long scan: its first and its last.", min=1)
    ] = STEPS


def show_command(
    *,
    model: ModelArguments,
    target: TargetArguments,
    drawing: DrawingArguments,
    after: AfterOption = None,
    stage: Annotated[Stage | None, typer.Option("--stage", help="Show the graph at the end of this stage.")] = None,
    graph: GraphArguments,
    passes: Annotated[
        bool, typer.Option("--passes", help="List the passes instead, by the names that --after takes.")
    ] = False,
    python: Annotated[
        bool,
        typer.Option("--python", help="Print a Python file with the graph's cells and model, of these sizes."),
    ] = False,
) -> None:
    """Print a model's graph as text, or draw it: as it was written, after a pass, or at the end of a stage.

    Later passes are not run. Below the text stands for each state of a scan whether its recurrence is linear, which
    --time can compute for all steps at once, or why it is not. For --target caffe-fused the plan of the generated code
    follows too: the products for all steps, the operations of each step, and the buffers.

    A diagram shows parameters once, with an arrow to each step that shares them. It needs
    `pip install 'lstmc[draw]'`.

    Examples:

    ```console
    lstmc show model.py -D T=3 -D N=2
    lstmc show model.py -D T=3 -D N=2 --after hoist
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --stage legal
    lstmc show model.py -D T=3 -D N=2 -o cell.svg
    lstmc show --cell gru -D T=50 -D N=1 -D D=4 -D H=4 --unrolled -o gru.pdf
    lstmc show --passes --target flat
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --python
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --target caffe-fused
    ```
    """
    to, rolled = drawing.to, drawing.rolled
    if rolled and after is not None:
        raise DrawingError("expected --rolled or --after PASS, found both")
    if to is not None and (passes or python):
        raise DrawingError(f"-o writes a diagram: found --{'passes' if passes else 'python'} too")
    backend = target.chosen_backend()
    names = pass_names(target.target, backend, graph.form) if passes or rolled is False else []
    if passes:
        for number, name in enumerate(names, 1):
            out.print(f"{number:3} {name}")
        return
    if rolled is False and after is None and stage is None:
        after = names[-1]  # a target's own layers may hold all steps: no stage is named
    as_written, phase = after is None and stage is None, graph.phase.phase if graph.phase else None
    own = {"step": graph.step, "form": graph.form, "time": graph.time}
    options = compile_options(target, model.sizes, backend=backend, phase=phase or "deploy", **own)
    first = replace(options, phase="all") if as_written and phase is None else options
    source = model.source()
    result = model_graph(source, first, after, stage)
    if to is not None:
        drawn = Drawing.from_graph(result, drawing.steps)
        boxes, arrows = len(drawn.picture.boxes), len(drawn.picture.arrows)
        out.print(f"{drawn.save(to)}: {boxes} boxes, {arrows} arrows", markup=False, soft_wrap=True)
        return
    if python:
        typer.echo(print_python(result), nl=False)
        return
    typer.echo(escaped(print_graph(result)), nl=False)
    states = scan_lines(result)
    if as_written and target.target is not None:
        result = model_graph(source, options, pass_names(target.target, backend, graph.form)[-1])
    lines = explanation(result, backend).splitlines()
    lines += [f"state {state} of %{scan}: {text}" for scan, state, text in states]
    typer.echo("".join(f"# {line}".rstrip() + "\n" for line in lines), nl=False)
