"""``lstmc draw``: a model as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import model_graph, pass_names
from lstmc.cli.arguments import GraphArguments, ModelArguments, TargetArguments, compile_options
from lstmc.cli.console import out
from lstmc.cli.options import AfterOption
from lstmc.drawing import STEPS, Drawing
from lstmc.errors import DrawingError


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
    options = compile_options(target, model.sizes, backend=backend, step=graph.step, form=graph.form, phase=phase)
    drawing = Drawing.of(model_graph(source, options, after), steps)
    path = drawing.save(to)
    boxes, arrows = len(drawing.picture.boxes), len(drawing.picture.arrows)
    out.print(f"{path}: {boxes} boxes, {arrows} arrows", markup=False, soft_wrap=True)
