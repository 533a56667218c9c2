"""Facts for the page, from files beside a model and in the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lstmc.api.models import ModelSource, model_in
from lstmc.errors import Argument, DataError, DrawingError
from lstmc.files.json_file import Count, NotExpected, read_json
from lstmc.plugins import need
from lstmc.runs.events import RECORD
from lstmc.runs.metrics import METRICS, read_metrics
from lstmc.source import resolve

IMPORTED = "import.json"


@dataclass(frozen=True)
class RunFacts:
    """Facts of a training run for the page: its command, its settings by name, and its curve as PNG.

    ``model`` is what was trained, as FILE:MODEL or ``cell NAME``, with its ``options`` and the ``sizes``, and for the
    ``target`` and the ``backend`` that it was compiled for.
    """

    command: str
    settings: Mapping[str, Any]
    curve: bytes
    model: str
    sizes: Mapping[str, int]
    target: str
    backend: str
    folder: Path
    options: Mapping[str, str]

    @property
    def weights(self) -> Path | None:
        """The trained weights, if the run has ended."""
        path = self.folder / "weights.npz"
        return path if os.path.isfile(path) else None


@dataclass(frozen=True)
class _Recorded:
    command: str
    settings: dict[str, Any] | str
    model: str
    sizes: dict[str, Count]
    target: str
    backend: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Recipe:
    recipe: str


@dataclass(frozen=True)
class _Imported:
    parameters: dict[str, _Recipe]


def run_facts(folder: Path) -> RunFacts:
    """Return the facts in a run's folder. Raises :class:`DataError` where there is no run, or none that measured
    anything, and :class:`DrawingError` without matplotlib."""
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
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    settings = recorded.settings if isinstance(recorded.settings, dict) else {"solver": recorded.settings}
    curve = curves.figure_files({folder.resolve().name: records}, ["png"])["png"]
    own = {**vars(recorded), "settings": settings, "backend": recorded.backend.partition(":")[0]}
    return RunFacts(curve=curve, folder=folder, **own)


def trained_model(facts: RunFacts) -> ModelSource:
    """Return the model that a run trained: its file, which is executed, is where it was when the run began.

    Raises :class:`DataError` where it is not.
    """
    file = Path(facts.model.rpartition(":")[0])
    if not os.path.isfile(file):
        raise DataError(
            f"the run in {facts.folder} trained {facts.model}, and there is no such file here",
            notes=[
                f"make the page where that file is, or name the model too, with {Argument('run', str(facts.folder))}"
            ],
        )
    return model_in(facts.model).with_options(facts.options)


def recipes_beside(model: ModelSource) -> dict[str, str]:
    """Return the recipe of each parameter of an imported model; empty without an import beside the model's file."""
    if model.model.loc is None:
        return {}
    path = Path(resolve(model.model.loc.file)).parent / IMPORTED
    if not os.path.isfile(path):
        return {}
    try:
        return {name: parameter.recipe for name, parameter in read_json(path, _Imported).parameters.items()}
    except (OSError, NotExpected) as wrong:
        raise DataError(f"{path} is no record of an import: {wrong}") from None
