"""``lstmc report``: a net as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import compile, widest_phase
from lstmc.cli.console import out
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    FileArgument,
    FormOption,
    PlacesOption,
    SeedOption,
    SizesOption,
    StepOption,
    TargetOption,
    WeightsOption,
    named_model,
    parse_sizes,
)
from lstmc.output import write_files
from lstmc.report import net_page, recipes_beside, run_facts


def report_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    to: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html", help="Where the page goes.")] = Path(
        "report.html"
    ),
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A folder that `lstmc train` wrote: its curves too.")
    ] = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    backend: BackendOption = "caffe",
    target: TargetOption = None,
    step: StepOption = False,
    form: FormOption = None,
    on: PlacesOption = None,
) -> None:
    """Write a page of a net: pictures, source, passes, layers, the text, what verify finds, all linked to each other.

    The page loads nothing from anywhere. Needs `pip install 'lstmc[draw]'`. Exits with 1 if verify finds a difference.
    """
    facts = run_facts(run) if run is not None else None
    if run is not None and weights is None and (run / "weights.npz").is_file():
        weights = run / "weights.npz"
    net = compile(
        named_model(file, cell),
        target=target,
        backend=backend,
        step=step,
        phase=widest_phase(backend, target, step),
        weights=weights,
        seed=seed,
        form=form,
        sizes=parse_sizes(sizes or []),
    )
    verified = net.verify(on, seed)
    recipes = recipes_beside(Path(file.rpartition(":")[0] or file)) if file is not None else None
    page = net_page(net, verified, facts, recipes)
    write_files(to.parent, {to.name: page.encode()})
    out.print(f"wrote {to}", markup=False, soft_wrap=True)
    if not verified.passed:
        raise typer.Exit(1)
