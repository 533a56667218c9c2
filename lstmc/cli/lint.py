"""``lstmc lint``: a net's text against the rules of a target."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import SavedNet, load
from lstmc.backend import LintReport
from lstmc.cli.console import out, output, table
from lstmc.cli.options import TargetOption, WriterOption
from lstmc.errors import BackendError


def lint_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A net as text: a .prototxt, written by lstmc or not.")],
    target: TargetOption = None,
    backend: WriterOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Check against every target, and list why some refuse the net.")
    ] = False,
) -> None:
    """Check a net against a target: each finding with the layer, the rule, its reason and where that is documented.

    A warning describes a mistake that some version of a reader makes without an error.

    Exits with 1 if there is a finding, with --all if no target accepts the net, and with 2 if the file is not a net.

    Examples:

    ```console
    lstmc lint net/tagger.prototxt --target flat
    lstmc lint deploy.prototxt --target noslice --json
    lstmc lint deploy.prototxt --all
    ```
    """
    if file.suffix == ".py":
        raise BackendError(
            f"{file} is a model file, and lint checks a written net: write one with `lstmc compile {file} -o net`"
        )
    net = load(file, backend=backend)
    if every:
        if target is not None:
            raise BackendError("--all is for every target: found --target too")
        _lint_all(net)
        return
    name, report = net.lint(target)
    output.fact("target", name)
    output.fact("layers", report.layers)
    output.fact("findings", [asdict(violation) for violation in report.violations])
    output.fact("not_checked", list(report.unknown))
    output.fact("warnings", [asdict(warning) for warning in report.warnings])
    out.print(report_text(file.name, name, report), markup=False, soft_wrap=True, end="")
    if report.violations:
        raise typer.Exit(1)


def _lint_all(net: SavedNet) -> None:
    """Print a line for each target: whether it accepts the net, and the most frequent reasons against it."""
    rows = table(f"{net.path.name} against every target", "target", "findings", "what stops it", key="targets")
    accepted = False
    for name in net.backend.targets:
        _, report = net.lint(name)
        reasons = Counter(f"{violation.type}: {violation.reason}" for violation in report.violations)
        accepted = accepted or not reasons
        unknown = [f"not checked, as shapes could not be found: {len(report.unknown)} layers"] if report.unknown else []
        listed = [reason for reason, _ in reasons.most_common()]
        rows.add_row(name, len(report.violations), [*listed, *unknown, *map(str, report.warnings)])
    out.print(rows)
    if not accepted:
        raise typer.Exit(1)


def report_text(file: str, target: str, report: LintReport) -> str:
    """Return a report as text: findings grouped by their reason."""
    lines = []
    for reason in dict.fromkeys((v.reason, v.source) for v in report.violations):
        lines += [reason[0], f"    documented in: {reason[1]}"]
        lines += [
            f"    {v.layer} ({v.type}): found {v.found}; expected {v.expected}"
            for v in report.violations
            if (v.reason, v.source) == reason
        ]
    if report.unknown:
        lines.append("not checked, as shapes could not be found:")
        lines += [f"    {unknown}" for unknown in report.unknown]
    for warning in report.warnings:
        more = f", and {len(warning.layers) - 1} more" if len(warning.layers) > 1 else ""
        lines += [str(warning), f"    documented in: {warning.source}", f"    {warning.layers[0]}{more}"]
    counts = [(len(report.violations), "finding"), (len(report.warnings), "warning")]
    summary = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count) or "clean"
    lines.append(f"{file}: {report.layers} layers, target {target}: {summary}")
    return "\n".join(lines) + "\n"
