"""``lstmc doctor``: what this machine has, what is missing, and the commands that install it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import typer
from rich.text import Text

from lstmc.api.installed import findings
from lstmc.backend import Finding
from lstmc.cli.console import out, said, table

STYLES = {"ok": "green", "missing": "red", "no": "yellow"}
INDENT = 9  # of what follows a state


def doctor_command() -> None:
    """Show which Python, packages, Caffe and runtimes are used, and how to install what is missing.

    -v has a line for each of them, with what was tried. Exits with 1 if something is missing that a command can
    install.

    Examples:

    ```console
    lstmc doctor
    lstmc doctor -v
    ```
    """
    found = list(findings())
    rows = table("", "", "component", "status", "fix", key="findings")
    for finding in found:
        rows.add_row(_state(finding), finding.subject, finding.detail, finding.fix)
    shared: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        alone = said.verbose or finding.fix or not finding.group
        shared.setdefault((_state(finding), "" if alone else finding.group), []).append(finding)
    for finding in found:
        state = _state(finding)
        group = shared.get((state, finding.group)) if finding.group else None
        if group is None or finding not in group:
            _print(state, f"{finding.subject}: {finding.detail}", finding.fix)
        elif finding is group[0]:
            _print(state, _together(finding.group, group), "")
    if not said.verbose:
        out.print("lstmc doctor -v has a line for each, with the commands that install them", style="dim")
    if any(_state(finding) == "missing" for finding in found):
        raise typer.Exit(1)


def _state(finding: Finding) -> str:
    return "ok" if finding.found else "missing" if finding.fix else "no"


def _together(title: str, group: Sequence[Finding]) -> str:
    """Return the findings of a group as one text: with their versions, or the names of those that are not there."""
    if group[0].found:
        items = [f"{finding.subject} {finding.detail}" for finding in group]
    else:
        items = [finding.subject for finding in group]
    whole = [item.replace(" ", "\0") for item in items]  # a line ends between two of them
    width = max(out.width - INDENT, 40)
    lines = textwrap.wrap(f"{title}: {', '.join(whole)}", width, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{INDENT}}".join(lines).replace("\0", " ")


def _print(state: str, text: str, fix: str) -> None:
    """Print a finding, its command on a line of its own: whole, so that it can be copied."""
    out.print(Text.assemble((state.ljust(INDENT), STYLES[state]), text), soft_wrap=True)
    if fix:
        out.print(f"{'':{INDENT}}{fix}", markup=False, soft_wrap=True)
