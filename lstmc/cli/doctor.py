"""``lstmc doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import typer

from lstmc.api import findings
from lstmc.cli.console import out, table

STYLES = {"ok": "green", "missing": "red", "no": "yellow"}


def doctor_command() -> None:
    """Show which Python, packages and Caffe are used, for CPU and GPU, and how to install what is missing.

    Exits with 1 if something is missing that a command can install.

    Examples:

    ```console
    lstmc doctor
    lstmc doctor --quiet
    ```
    """
    made = table("lstmc doctor", "", "what", "found", "to mend it", key="findings", styles=STYLES)
    broken = False
    for finding in findings():
        missing = not finding.found and bool(finding.mend)
        broken = broken or missing
        mark = "ok" if finding.found else "missing" if missing else "no"
        made.add_row(mark, finding.subject, finding.detail, finding.mend)
    out.print(made)
    if broken:
        raise typer.Exit(1)
