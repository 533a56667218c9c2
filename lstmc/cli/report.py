"""``lstmc report``: a net as one page of HTML, and the curves of several runs as a diagram."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import compile_model, widest_phase
from lstmc.cli.arguments import TargetArguments, WeightArguments, compile_options
from lstmc.cli.console import out
from lstmc.cli.options import CellOption, FormOption, PlacesOption, ProveOption, SizesOption, StepOption, named_model
from lstmc.errors import DataError
from lstmc.files.output import write_files
from lstmc.report import net_page, recipes_beside, run_facts, trained_model
from lstmc.runs.drawing import plot_runs

PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class ReportArguments:
    """The model or the runs of a report, and its file."""

    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE[:MODEL]|RUN...]",
            help="A Python file with a @model, or folders that `lstmc train` wrote.",
        ),
    ] = None
    cell: CellOption = None
    sizes: SizesOption = None
    to: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write this file. Default: report.html, for several runs curves.png."
        ),
    ] = None
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="RUN", help="Show the weights and curves of this folder too, which `lstmc train` wrote."
        ),
    ] = None
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Show the ranges of all values over these arrays, as `lstmc numbers ranges`.",
        ),
    ] = None


def report_command(
    *,
    subject: ReportArguments,
    weights: WeightArguments,
    target: TargetArguments,
    step: StepOption = False,
    form: FormOption = None,
    on: PlacesOption = None,
    prove: ProveOption = False,
) -> None:
    """Write a page about a net: diagrams, source, passes, layers, text and the result of verify, with links.

    For several runs, or a file that ends in .png, .svg or .pdf, it draws their losses and test scores as a diagram.

    For the folder of a run, the model is read from the file that was trained, which is executed. The page needs no
    network. Needs `pip install 'lstmc[draw]'`. Exits with 1 if verify finds a difference.

    Examples:

    ```console
    lstmc report model.py -D T=5 -D N=2 -o net.html
    lstmc report run -o run.html
    lstmc report model.py -D T=5 -D N=2 --data x.npz
    lstmc report run1 run2 -o curves.png
    lstmc report --cell gru -D T=20 -D N=1 -D D=8 -D H=8 --target flat
    ```
    """
    files, to = subject.files or [], subject.to
    runs = [Path(name) for name in files if os.path.isdir(name)]
    if len(files) > 1 or (runs and to is not None and to.suffix in PICTURES):
        path = plot_runs([Path(name) for name in files], to or Path("curves.png"))
        out.print(f"wrote {path}", markup=False, soft_wrap=True)
        return
    to, file, run = to or Path("report.html"), files[0] if files else None, subject.run
    if file is not None and runs:
        if run is not None:
            raise DataError(f"expected the folder of one run, found {file} and {run}")
        run, file = Path(file), None
    facts = run_facts(run) if run is not None else None
    source = named_model(file, subject.cell) if facts is None or file or subject.cell else trained_model(facts)
    backend, name = target.chosen_backend(), target.target
    options = compile_options(target, subject.sizes, weights, backend=backend, step=step, form=form)
    if facts is not None:
        if facts.backend == backend.name:
            name = name or facts.target
        sizes = {**facts.sizes, **options.sizes}
        options = replace(options, target=name, weights=options.weights or facts.weights, sizes=sizes)
    net = compile_model(source, replace(options, phase=widest_phase(backend, name, step)))
    verification = net.verify(on, weights.seed, prove=prove)
    ranges = None if subject.data is None else net.ranges(subject.data)
    page = net_page(net, verification, facts, recipes_beside(source), ranges)
    write_files(to.parent, {to.name: page.encode()})
    out.print(f"wrote {to}", markup=False, soft_wrap=True)
    if not verification.passed:
        raise typer.Exit(1)
