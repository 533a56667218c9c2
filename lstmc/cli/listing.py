"""``lstmc cells``, ``lstmc targets`` and ``lstmc doctor``: the installed cells, targets and programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated

import typer
from rich.text import Text

import lstmc
from lstmc.cli.commands import argument
from lstmc.cli.console import Form, out, output, table
from lstmc.cli.options import BackendOption, SizesOption, completion, parse_sizes
from lstmc.errors import DslError, PluginError
from lstmc.plugins import CELLS, entry_of, entry_points_of, group_of, library_names, only_entry_point, recorded_targets

WIDEST = 15  # of the names of lstmc's own cells, but lstm_multiplicative
COLUMN = 39  # letters of a cell's entry: two of them on a terminal of 80


def cells_command(
    names: Annotated[
        list[str] | None, argument("[NAME]...", "Show these cells whole.", autocompletion=completion(library_names))
    ] = None,
    sizes: SizesOption = None,
    backend: BackendOption = None,
) -> None:
    """List the library cells that --cell takes; with NAME, show one: paper, shapes, costs, source and graph.

    -v lists the parameters and floating-point operations of one step of one sequence too, at sizes that -D changes, the
    dimensions, and the targets that do not support a cell. To compile a cell, give its dimensions and T, the number of
    steps.

    Examples:

    ```console
    lstmc cells
    lstmc cells gru
    lstmc cells -v -D H=128
    ```
    """
    parsed_sizes = parse_sizes(sizes or [])
    if parsed_sizes:
        lstmc.api.check_sizes(parsed_sizes)
    if output.form is Form.JSON or output.verbose or (parsed_sizes and not names):
        _print_costs(names or library_names(), parsed_sizes, backend)
    elif names:
        for name in names:
            typer.echo(lstmc.api.library_cell(name, parsed_sizes, backend).text)
    else:
        _print_names()


def _print_names() -> None:
    """Print the name, year and summary of each cell: in two columns on a terminal, else in a line each."""
    wide = out.is_terminal and out.width > 2 * COLUMN
    for group, names in groupby(library_names(), key=group_of):
        out.print(group, style="bold")
        listed = [text for name in names if (text := _entry(name))]
        columns = 2 if wide and max(map(len, listed), default=0) <= COLUMN else 1
        rows = -(-len(listed) // columns)
        for row in range(rows):
            line = "".join(f"{text:{COLUMN}}" for text in listed[row::rows])
            out.print(line.rstrip())
    out.print("lstmc cells NAME shows one; -v adds costs, dimensions and targets", style="dim")


def _entry(name: str) -> str:
    """Return a cell's line in the list. For a cell that does not load, print the error and return ""."""
    entry = entry_of(name)
    try:
        only_entry_point(CELLS, name, "cell")
        title = (
            f"{entry.year} {entry.title}" if entry else lstmc.api.installed.cell_summary(lstmc.backend.load_cell(name))
        )
    except PluginError as error:
        out.print(error.message, style="red")
        return ""
    return f" {name:{WIDEST}} {title}"


def _print_costs(names: Iterable[str], sizes: dict[str, int], backend: str | None) -> None:
    """Print the cells with their costs, a table for each group; a cell that is refused is an error line, not a row."""
    columns, refused = ("name", "parameters", "FLOPs", "what it is", "dimensions", "not for"), dict[str, str]()
    for group, grouped in groupby(names, key=group_of):
        rows = table(group, *columns, key="cells")
        for name in grouped:
            try:
                cell = lstmc.api.library_cell(name, sizes, backend)
            except (PluginError, DslError) as error:  # DslError: these sizes do not suit the cell
                out.print(error.message if isinstance(error, PluginError) else f"{name}: {error.message}", style="red")
                refused[name] = error.message
                continue
            summary = cell.summary.replace("``", "")
            rows.add_row(name, cell.parameters, cell.flops, summary, list(cell.sizes), list(cell.not_for))
        if rows:
            out.print(rows)
    output.fact("refused", refused)


def targets_command() -> None:
    """List the targets that nets are written for, with --target and --backend, and the passes that packages add.

    Examples:

    ```console
    lstmc targets
    lstmc targets --json
    ```
    """
    recorded = recorded_targets()
    if recorded is None:
        listed = [(each.backend, each.name, each.purpose or each.fault) for each in lstmc.api.targets()]
    else:
        listed = [(backend, *each) for backend, purposes in recorded.items() for each in purposes.items()]
    out.print(table("", "backend", "target", "for", key="targets", rows=listed))
    added = table("passes of packages", "pass", "where", "what it does", key="passes")
    for name in entry_points_of("lstmc.passes"):
        try:
            insertion = lstmc.backend.load_placed(name)
        except PluginError as error:
            added.add_row(name, "", error.message)
            continue
        added.add_row(name, insertion.place, insertion.step.summary)
    if added:
        out.print(added)


STYLES = {"ok": "green", "missing": "red", "faulty": "red", "no": "yellow"}
INDENT = 9  # of what follows a state


def doctor_command() -> None:
    """Show which Python, packages, Caffe and runtimes are used, and how to install what is missing.

    -v has a line for each of them, with what was tried. Exits with 1 if something that lstmc needs is missing, or a
    package has a faulty part. What is optional, such as a runtime, may be absent.

    Examples:

    ```console
    lstmc doctor
    lstmc doctor -v
    ```
    """
    listed = list(lstmc.api.installed.findings())
    rows = [(_state(finding), finding.subject, finding.detail, finding.fix) for finding in listed]
    table("", "", "component", "status", "fix", key="findings", rows=rows)  # for JSON
    lines: dict[tuple[str, str | int], list[lstmc.backend.Finding]] = {}  # by state, and by group or number
    for number, finding in enumerate(listed):
        alone = output.verbose or finding.fix or finding.faulty or not finding.group
        lines.setdefault((_state(finding), number if alone else finding.group), []).append(finding)
    for (state, group), findings in lines.items():
        if isinstance(group, str):
            _print(state, _together(group, findings), "")
        else:
            _print(state, _line(findings[0]), findings[0].fix)
    if not output.verbose:
        out.print("lstmc doctor -v has a line for each, with the commands that install them", style="dim")
    if any(_state(finding) in ("missing", "faulty") for finding in listed):
        raise typer.Exit(1)


def _state(finding: lstmc.backend.Finding) -> str:
    return "ok" if finding.found else "faulty" if finding.faulty else "missing" if finding.fix else "no"


def _line(finding: lstmc.backend.Finding) -> str:
    return finding.detail if finding.detail.startswith(finding.subject) else f"{finding.subject}: {finding.detail}"


def _together(title: str, group: Sequence[lstmc.backend.Finding]) -> str:
    """Return the findings of a group as one text; missing components are listed by their names alone."""
    if group[0].found:
        details = [finding.detail if finding.version is None else finding.version for finding in group]
        items = [
            detail if detail.startswith(finding.subject) else f"{finding.subject} {detail}".strip()
            for finding, detail in zip(group, details, strict=True)
        ]
    else:
        items = [finding.subject for finding in group]
    whole = [item.replace(" ", "\0") for item in items]  # lines break only between items
    width = max(out.width - INDENT, 40)
    lines = textwrap.wrap(f"{title}: {', '.join(whole)}", width, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{INDENT}}".join(lines).replace("\0", " ")


def _print(state: str, text: str, fix: str) -> None:
    """Print a finding; the command that installs or repairs it is a separate line, unwrapped, to be copied."""
    out.print(Text.assemble((state.ljust(INDENT), STYLES[state]), text))
    if fix:
        out.print(f"{'':{INDENT}}{fix}")
