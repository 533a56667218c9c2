"""Several runs in one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import DrawingError
from lstmc.extras import need
from lstmc.files.output import write_files
from lstmc.runs.metrics import METRICS, read_metrics

FORMATS = ("png", "svg", "pdf")


def plot_runs(folders: Sequence[Path], to: Path) -> Path:
    """Draw the losses and scores of runs, by their folders, into one file, in the form that its suffix names.

    Raises :class:`DrawingError` for a folder without metrics, for another suffix, and without the package matplotlib.
    """
    form = to.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        expected = ", ".join(f".{each}" for each in FORMATS)
        raise DrawingError(f"{to}: expected a file that ends in one of {expected}, found {to.suffix or 'none'}")
    runs = {name: read_metrics(folder / METRICS) for name, folder in _names(folders).items()}
    empty = [str(folder) for folder, records in zip(folders, runs.values(), strict=True) if not records]
    if empty:
        raise DrawingError(f"expected the folder of a run, with {METRICS} in it, found none in {', '.join(empty)}")
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    return write_files(to.parent, {to.name: curves.drawn(runs, [form])[form]})[0]


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the runs by their names: of the folder, or the path below what all have in common if two are equal."""
    paths = [folder.resolve() for folder in folders]
    short = [path.name for path in paths]
    if len(set(short)) < len(short):
        parent = os.path.commonpath(paths)
        short = [os.path.relpath(path, parent) for path in paths]
    return dict(zip(short, folders, strict=True))
