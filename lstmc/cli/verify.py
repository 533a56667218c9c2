"""``lstmc verify``: a written net against the meaning of its model."""

from __future__ import annotations

import typer

from lstmc.api import Verification, compile, widest_phase
from lstmc.cli.compile import print_tuning
from lstmc.cli.console import out, table
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    FileArgument,
    FormOption,
    OutputsOption,
    PlacesOption,
    SeedOption,
    SizesOption,
    StepOption,
    TargetOption,
    TuneOption,
    WeightsOption,
    named_model,
    parse_sizes,
)
from lstmc.differential import Report


def verify_command(
    file: FileArgument = None,
    cell: CellOption = None,
    sizes: SizesOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    backend: BackendOption = "caffe",
    target: TargetOption = None,
    step: StepOption = False,
    outputs: OutputsOption = None,
    form: FormOption = None,
    tuned: TuneOption = False,
    on: PlacesOption = None,
) -> None:
    """Run a compiled net forward and backward, and compare everything with the float64 interpreter.

    Exits with 1 if a difference is past its tolerance.
    """
    net = compile(
        named_model(file, cell),
        target=target,
        backend=backend,
        step=step,
        phase=widest_phase(backend, target, step),
        outputs=outputs,
        weights=weights,
        seed=seed,
        form=form,
        tuned=tuned,
        sizes=parse_sizes(sizes or []),
    )
    if net.tuning is not None:
        print_tuning(net.tuning)
    found = net.verify(on, seed)
    print_verification(found)
    if not found.passed:
        raise typer.Exit(1)


def print_verification(found: Verification) -> None:
    """What was compared in each place, and why it was not in others."""
    for name, reason in found.not_run.items():
        out.print(f"{name}: not run: {reason.splitlines()[0]}")
    for report in found.reports:
        print_report(report)


def print_report(report: Report, against: str = "the float64 interpreter") -> None:
    """Every difference of one place."""
    made = table(
        f"on {report.executor}, against {against}",
        *("what", "name", "blobs", "largest absolute", "relative", "allowed", ""),
        right=("blobs", "largest absolute", "relative", "allowed"),
    )
    for row in report.differences:
        made.add_row(
            *(row.kind, row.name, str(row.count), f"{row.absolute:.1e}", f"{row.relative:.1e}"),
            *(f"{row.tolerance:.0e}", "ok" if row.passed else "[bold red]PAST TOLERANCE[/]"),
        )
    out.print(made)
    if report.not_compared:
        gaps = table("not compared", "what", "name", "blobs", "why", right=("blobs",))
        for gap in report.not_compared:
            gaps.add_row(gap.kind, gap.name, str(gap.count), gap.reason)
        out.print(gaps)
    out.print(f"{report.executor}: {report.verdict()}\n", soft_wrap=True)
