"""``lstmc lint``: a net's text against the rules of a target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lstmc.api import load
from lstmc.backend import LintReport
from lstmc.cli.console import out, said
from lstmc.cli.options import TargetOption, WriterOption


def lint_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A net as text: a .prototxt, written by lstmc or not.")],
    target: TargetOption = None,
    backend: WriterOption = None,
) -> None:
    """Check a net against a target: each finding with the layer, the rule, its reason and where that is documented.

    Exits with 1 if there is a finding, and with 2 if the file is no net.

    Examples:

    ```console
    lstmc lint net/tagger.prototxt --target flat
    lstmc lint deploy.prototxt --target noslice --json
    ```
    """
    name, report = load(file, backend=backend).lint(target)
    said.fact("target", name)
    said.fact("layers", report.layers)
    said.fact("findings", [asdict(violation) for violation in report.violations])
    said.fact("not_checked", list(report.unknown))
    out.print(report_text(file.name, name, report), markup=False, soft_wrap=True, end="")
    if report.violations:
        raise typer.Exit(1)


def report_text(file: str, target: str, report: LintReport) -> str:
    """A report as people read it: findings under the reason they share."""
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
    count = len(report.violations)
    found = "clean" if not count else f"{count} finding{'s' if count > 1 else ''}"
    lines.append(f"{file}: {report.layers} layers, target {target}: {found}")
    return "\n".join(lines) + "\n"
