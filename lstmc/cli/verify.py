"""``lstmc verify``: a written net against the meaning of its model."""

from __future__ import annotations

import typer

from lstmc.api import Verification, compile, widest_phase
from lstmc.cli.compile import print_tuning
from lstmc.cli.console import out, said, table
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    ChoicesOption,
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
    chosen_backend,
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
    choices: ChoicesOption = None,
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
        backend=chosen_backend(backend, choices),
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
    said.fact("not_run", dict(found.not_run))
    for name, reason in found.not_run.items():
        out.print(f"{name}: not run: {reason.splitlines()[0]}", markup=False, soft_wrap=True)
    for report in found.reports:
        print_report(report)


def print_report(report: Report, against: str = "the float64 interpreter") -> None:
    """One line for a place where all agrees; every difference with ``-v`` and where one is off."""
    made = table(
        f"on {report.executor}, against {against}",
        *("what", "name", "blobs", "largest absolute", "relative", "allowed", ""),
        key=report.executor,
        texts={"largest absolute": ".1e", "relative": ".1e", "allowed": ".0e"},
        styles={"PAST TOLERANCE": "bold red"},
    )
    for row in report.differences:
        made.add_row(
            *(row.kind, row.name, row.count, row.absolute, row.relative, row.tolerance),
            "ok" if row.passed else "PAST TOLERANCE",
        )
    gaps = table("not compared", "what", "name", "blobs", "why", key=f"{report.executor} not compared")
    for gap in report.not_compared:
        gaps.add_row(gap.kind, gap.name, gap.count, gap.reason)
    if said.verbose or not report.passed:
        out.print(made)
        if report.not_compared:
            out.print(gaps)
    out.print(f"{report.executor}: {report.verdict()}", markup=False, soft_wrap=True)
