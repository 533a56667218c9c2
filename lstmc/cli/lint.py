"""``lstmc lint``: a net's text against the rules of a target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmc.backend import LintReport, Lints, load_backend, require, target_of
from lstmc.cli.options import BackendOption, TargetOption
from lstmc.errors import BackendError, ModelFileError


def lint_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A net as text: a .prototxt, written by lstmc or not.")],
    target: TargetOption = None,
    backend: BackendOption = "caffe",
) -> None:
    """Check a net against a target: each finding with the layer, the rule, its reason and where that is documented.

    Exits with 1 if there is a finding, and with 2 if the file is no net.
    """
    loaded = load_backend(backend)
    name = target_of(loaded, target)
    try:
        report = require(loaded, Lints).lint(_text(file), name)
    except BackendError as error:
        raise BackendError(f"{file}: {error.message}", notes=error.notes, mends=error.mends) from None
    typer.echo(report_text(file.name, name, report), nl=False)
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


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelFileError(f"no such file: {file}") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{file}: expected a net as text, found a file that is not UTF-8") from None
    except OSError as error:
        raise ModelFileError(f"{file}: cannot be read: {error.strerror}") from None
