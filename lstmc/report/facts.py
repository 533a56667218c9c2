"""What stands beside a model and in the folder of a run, for the page to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lstmc.errors import DataError
from lstmc.json_file import NotExpected, read_json
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.runs.record import RECORD

IMPORTED = "import.json"


@dataclass(frozen=True)
class RunFacts:
    """What the page tells of a training run: its command, its settings by name, and its curve as PNG."""

    command: str
    settings: Mapping[str, Any]
    curve: bytes


@dataclass(frozen=True)
class _Recorded:
    command: str
    settings: dict[str, Any] | str


@dataclass(frozen=True)
class _Recipe:
    recipe: str


@dataclass(frozen=True)
class _Imported:
    parameters: dict[str, _Recipe]


def run_facts(folder: Path) -> RunFacts:
    """What a run's folder says. Raises :class:`DataError` where there is no run, or none that measured anything."""
    path = folder / RECORD
    try:
        recorded = read_json(path, _Recorded)
    except OSError:
        raise DataError(f"expected the folder of a run, with {RECORD} in it, found {folder}") from None
    except NotExpected as wrong:
        raise DataError(f"{path} does not say what run it is: {wrong}") from None
    records = read_metrics(folder / METRICS)
    if not records:
        raise DataError(f"the run in {folder} has measured nothing: no line in {METRICS}")
    curves = import_module("lstmc.runs.curves")  # matplotlib takes longer to import than all of lstmc
    settings = recorded.settings if isinstance(recorded.settings, dict) else {"solver": recorded.settings}
    return RunFacts(recorded.command, settings, curves.drawn({folder.resolve().name: records}, ["png"])["png"])


def recipes_beside(model: Path) -> dict[str, str]:
    """What each parameter of an imported model is made of; none where no import stands beside the file."""
    path = model.parent / IMPORTED
    if not path.is_file():
        return {}
    try:
        return {name: made.recipe for name, made in read_json(path, _Imported).parameters.items()}
    except (OSError, NotExpected) as wrong:
        raise DataError(f"{path} is no record of an import: {wrong}") from None
