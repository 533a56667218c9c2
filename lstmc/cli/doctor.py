"""``lstmc doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import typer

from lstmc.backend import Diagnoses, Finding, find_backends, load_backend, plugin_faults
from lstmc.cli.console import out, table
from lstmc.errors import PluginError
from lstmc.version import __version__

STYLES = {"ok": "green", "missing": "red", "no": "yellow"}


def doctor_command() -> None:
    """Say which Python, which packages and which Caffe are used, CPU or GPU, and how to mend what is missing.

    Exits with 1 if something is missing that a command can mend.
    """
    made = table("lstmc doctor", "", "what", "found", "to mend it", key="findings", styles=STYLES)
    broken = False
    for finding in _findings():
        missing = not finding.found and bool(finding.mend)
        broken = broken or missing
        mark = "ok" if finding.found else "missing" if missing else "no"
        made.add_row(mark, finding.subject, finding.detail, finding.mend)
    out.print(made)
    if broken:
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    yield Finding("lstmc", True, __version__)
    yield Finding("Python", True, f"{platform.python_version()} at {sys.executable}")
    yield from _packages()
    for name in find_backends():
        try:
            backend = load_backend(name)
        except PluginError as error:
            yield Finding(f"backend {name}", False, error.message)
            continue
        if isinstance(backend, Diagnoses):
            yield from backend.doctor()
        else:
            yield Finding(f"backend {name}", True, backend.summary)
    yield from plugin_faults()


def _packages() -> Iterator[Finding]:
    for requirement in requires("lstmc") or []:
        if ";" in requirement:  # an extra's
            continue
        name = requirement.split("<")[0].split(">")[0].split("=")[0].strip()
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, f"expected {requirement}", f"{sys.executable} -m pip install '{requirement}'")
