"""``lstmc verify``: a written net against the meaning of its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import Verification, compile_model, widest_phase
from lstmc.backend import Backend, HasReaders, require
from lstmc.cli.arguments import ModelArguments, TargetArguments, VariantArguments, WeightArguments, compile_options
from lstmc.cli.compile import print_tuning
from lstmc.cli.console import out, output, table
from lstmc.cli.options import ADVANCED, PlacesOption
from lstmc.errors import BackendError
from lstmc.verification.differential import Report

InputsOption = Annotated[
    Path | None,
    typer.Option(
        "--inputs", metavar="FILE", help="Feed these arrays (.npz or HDF5), by the inputs' names; draw the others."
    ),
]
FillersOption = Annotated[
    bool,
    typer.Option(
        "--fillers", help="Take parameters that are drawn by their own initializers.", rich_help_panel=ADVANCED
    ),
]


def verify_command(
    *,
    model: ModelArguments,
    weights: WeightArguments,
    target: TargetArguments,
    variant: VariantArguments,
    on: PlacesOption = None,
    inputs: InputsOption = None,
    fillers: FillersOption = False,
) -> None:
    """Run a compiled net forward and backward, and compare everything with the float64 interpreter.

    Parameters are random and not zero, unless --weights or --fillers is given. Exits with 1 if a difference is larger
    than its tolerance.

    Examples:

    ```console
    lstmc verify model.py -D T=5 -D N=2
    lstmc verify model.py -D T=5 -D N=2 --on opencv
    lstmc verify --cell lstm -D T=5 -D N=2 -D D=8 -D H=8 --target flat -v
    lstmc verify model.py -D T=5 -D N=2 --on interpreter --json
    ```
    """
    backend = target.chosen_backend()
    name = target.target or _target_of(backend, on or [])
    phase = widest_phase(backend, name, variant.step)
    source = model.source()
    options = compile_options(target, model.sizes, weights, variant, backend=backend, target=name, phase=phase)
    net = compile_model(source, options)
    if net.tuning is not None:
        print_tuning(net.tuning)
    verification = net.verify(on, weights.seed, inputs=inputs, fillers=fillers)
    print_verification(verification)
    if not verification.passed:
        raise typer.Exit(1)


def _target_of(backend: Backend, runtimes: list[str]) -> str | None:
    """Return the target that nets for these runtimes are compiled for; None if they have none of their own."""
    readers = backend.readers if isinstance(backend, HasReaders) else ()
    targets = {name: require(backend, HasReaders).reader(name).target for name in runtimes if name in readers}
    if len(set(targets.values())) > 1:
        each = ", ".join(f"{target} for {name}" for name, target in targets.items())
        raise BackendError(f"these runtimes have targets of their own ({each}): choose one with --target")
    return next(iter(targets.values()), None)


def print_verification(verification: Verification) -> None:
    """Print the comparison in each runtime, and the reasons why others were not run."""
    output.fact("not_run", dict(verification.not_run))
    for name, reason in verification.not_run.items():
        if name in verification.no_hardware and not output.verbose:
            continue
        out.print(f"{name}: not run: {reason.splitlines()[0]}", markup=False, soft_wrap=True)
    for report in verification.reports:
        print_report(report)
    output.fact("remarks", list(verification.remarks))
    for remark in verification.remarks:
        out.print(remark, markup=False, soft_wrap=True)


def print_report(report: Report, against: str = "the float64 interpreter") -> None:
    """Print one line for a runtime that agrees; every difference with ``-v``, or if one is too large."""
    rows = table(
        f"on {report.place}, against {against}",
        *("what", "name", "blobs", "largest absolute", "relative", "allowed", ""),
        key=report.executor,
        texts={"largest absolute": ".1e", "relative": ".1e", "allowed": ".0e"},
        styles={"PAST TOLERANCE": "bold red"},
    )
    for row in report.differences:
        rows.add_row(
            *(row.kind, row.name, row.count, row.absolute, row.relative, row.tolerance),
            "ok" if row.passed else "PAST TOLERANCE",
        )
    gaps = table("not compared", "what", "name", "blobs", "why", key=f"{report.executor}_not_compared")
    for gap in report.not_compared:
        gaps.add_row(gap.kind, gap.name, gap.count, gap.reason)
    if report.device:
        output.fact(f"{report.executor}_device", report.device)
    if output.verbose or not report.passed:
        out.print(rows)
        if report.not_compared:
            out.print(gaps)
    out.print(f"{report.place}: {report.verdict()}", markup=False, soft_wrap=True)
