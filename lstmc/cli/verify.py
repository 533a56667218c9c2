"""``lstmc verify``: a written net against the meaning of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from lstmc.backend import Executes, Executor
from lstmc.cli.compile import build
from lstmc.cli.console import out, table
from lstmc.cli.options import (
    BackendOption,
    CellOption,
    FileArgument,
    OutputsOption,
    SeedOption,
    SizesOption,
    StepOption,
    TargetOption,
    TuneOption,
    WeightsOption,
)
from lstmc.differential import InterpreterExecutor, Report, check
from lstmc.errors import BackendError


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
    tuned: TuneOption = False,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", metavar="PLACE", help="interpreter, caffe-cpu or caffe-gpu. Default: every one found."),
    ] = None,
) -> None:
    """Run a compiled net forward and backward, and compare everything with the float64 interpreter.

    Exits with 1 if a difference is past its tolerance.
    """
    built = build(file, cell, sizes, weights, seed, backend, target, None, step, outputs, tuned, losses=True)
    executors: list[Executor] = [InterpreterExecutor()]
    if isinstance(built.backend, Executes):
        executors += built.backend.executors()
    try:
        passed = True
        for executor in _chosen(executors, on):
            report = check(built.compiled, built.artifact, built.weights, executor, seed)
            _print(report)
            passed = passed and report.passed
    finally:
        for executor in executors:
            executor.close()
    if not passed:
        raise typer.Exit(1)


def _chosen(executors: Sequence[Executor], names: list[str] | None) -> list[Executor]:
    """The executors asked for, which must all be usable; without a wish every usable one, the others with a reason."""
    known = {executor.name: executor for executor in executors}
    for name in names or []:
        if name not in known:
            raise BackendError(f"--on takes one of {', '.join(known)}, found {name!r}")
    chosen = []
    for executor in [known[name] for name in dict.fromkeys(names)] if names else executors:
        reason = executor.unavailable()
        if reason is None:
            chosen.append(executor)
        elif names:
            raise BackendError(f"{executor.name} cannot be used here", notes=reason.splitlines())
        else:
            out.print(f"{executor.name}: not run: {reason.splitlines()[0]}")
    return chosen


def _print(report: Report) -> None:
    made = table(
        f"on {report.executor}, against the float64 interpreter",
        *("what", "name", "blobs", "largest absolute", "relative", "allowed", ""),
        right=("blobs", "largest absolute", "relative", "allowed"),
    )
    for row in report.differences:
        made.add_row(
            *(row.kind, row.name, str(row.count), f"{row.absolute:.1e}", f"{row.relative:.1e}"),
            *(f"{row.tolerance:.0e}", "ok" if row.passed else "[bold red]PAST TOLERANCE[/]"),
        )
    out.print(made)
    failed = sum(not row.passed for row in report.differences)
    verdict = f"{failed} of {len(report.differences)} differ" if failed else f"all {len(report.differences)} agree"
    out.print(f"{report.executor}: {verdict}\n")
