"""``lstmc show`` and ``lstmc draw``: the graph of a model after any pass, as text and as a picture."""

from __future__ import annotations

from dataclasses import replace
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


def draw_command(
    *,
    model: ModelArguments,
    to: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Write this file, which ends in .svg, .png, .pdf or .dot."),
    ] = Path("model.svg"),
    rolled: Annotated[
        bool,
        typer.Option("--rolled/--unrolled", help="Draw the step of a scan once, or every step from left to right."),
    ] = False,
    after: AfterOption = None,
    steps: Annotated[
        int, typer.Option("--frames", help="Draw this number of steps of a long scan: its first and its last.", min=1)
    ] = STEPS,
    target: TargetArguments,
    graph: GraphArguments,
) -> None:
    """Draw a model as a diagram: unrolled for a target, with rolled scans as it was written, or as it is after a pass.

    Parameters are drawn once, with an arrow to each step that shares them. Needs `pip install 'lstmc[draw]'`.

    Examples:

    ```console
    lstmc draw model.py -D T=3 -D N=2 -o net.svg
    lstmc draw model.py -D T=3 -D N=2 --rolled -o cell.png
    lstmc draw --cell gru -D T=50 -D N=1 -D D=4 -D H=4 --frames 4 -o gru.pdf
    ```
    """
    if rolled and after is not None:
        raise DrawingError("expected --rolled or --after PASS, found both")
    backend = target.chosen_backend()
    if after is None and not rolled:  # a target's own layers may hold all steps: no stage is named
        after = pass_names(target.target, backend, graph.form)[-1]
    phase = graph.phase.phase if graph.phase else "all" if rolled else "deploy"
    source = model.source()
    own = {"step": graph.step, "form": graph.form, "time": graph.time}
    options = compile_options(target, model.sizes, backend=backend, phase=phase, **own)
    drawing = Drawing.from_graph(model_graph(source, options, after), steps)
    path = drawing.save(to)
    boxes, arrows = len(drawing.picture.boxes), len(drawing.picture.arrows)
    out.print(f"{path}: {boxes} boxes, {arrows} arrows", markup=False, soft_wrap=True)


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
    python: Annotated[
        bool,
        typer.Option("--python", help="Print a Python file with the graph's cells and model, of these sizes."),
    ] = False,
) -> None:
    """Print a model's graph as text: as it was written, after a pass, or at the end of a stage.

    Later passes are not run. Below the graph stands for each state of a scan whether its recurrence is linear, which
    --time can compute for all steps at once, or why it is not. For --target caffe-fused the plan of the generated code
    follows too: the products for all steps, the operations of each step, and the buffers.

    Examples:

    ```console
    lstmc show model.py -D T=3 -D N=2
    lstmc show model.py -D T=3 -D N=2 --after hoist
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --stage legal
    lstmc show --passes --target flat
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --python
    lstmc show --cell gru -D T=3 -D N=2 -D D=4 -D H=4 --target caffe-fused
    ```
    """
    if passes:
        for number, name in enumerate(pass_names(target.target, target.chosen_backend(), graph.form), 1):
            out.print(f"{number:3} {name}")
        return
    as_written, phase = after is None and stage is None, graph.phase.phase if graph.phase else None
    source, sizes, backend = model.source(), model.sizes, target.chosen_backend()
    own = {"step": graph.step, "form": graph.form, "time": graph.time}
    options = compile_options(target, sizes, backend=backend, phase=phase or "deploy", **own)
    first = replace(options, phase="all") if as_written and phase is None else options
    result = model_graph(source, first, after, stage)
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
