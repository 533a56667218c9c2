"""``lstmc draw``: a model as a picture."""

from __future__ import annotations

from pathlib import Path
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
from lstmc.drawing import STEPS, Drawing
from lstmc.errors import DrawingError


def draw_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
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
    backend: BackendOption = None,
    choices: ChoicesOption = None,
    target: TargetOption = None,
    step: StepOption = False,
    form: FormOption = None,
    phase: PhaseOption = None,
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
    loaded = chosen_backend(backend, target, choices)
    if after is None and not rolled:
        after = pass_names(target, loaded, form)[-1]  # a target's own layers may hold all steps: no stage is named
    graph = graph_after(
        named_model(file, cell),
        after,
        phase=phase.phase if phase else "all" if rolled else "deploy",
        step=step,
        target=target,
        backend=loaded,
        form=form,
        sizes=parse_sizes(sizes or []),
    )
    drawing = Drawing.of(graph, steps)
    path = drawing.save(to)
    drawn = drawing.picture
    out.print(f"{path}: {len(drawn.boxes)} boxes, {len(drawn.arrows)} arrows", markup=False, soft_wrap=True)
