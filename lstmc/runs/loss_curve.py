"""The loss curve of a run as ``loss.png`` and ``loss.svg``, drawn from its metrics.

It is a program of its own, ``python -m lstmc.runs.loss_curve RUN``: training need not wait while it draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lstmc.errors import DrawingError, LstmcError
from lstmc.files.output import write_files
from lstmc.plugins import need
from lstmc.runs.drawing import CURVES
from lstmc.runs.metrics import METRICS, read_metrics


def draw(folder: Path) -> list[Path]:
    """Draw the metrics of a run, if there are any, beside them. Raises :class:`DrawingError` without matplotlib."""
    records = read_metrics(folder / METRICS)
    if not records:
        return []
    forms = {name: name.rpartition(".")[2] for name in CURVES}
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    made = curves.drawn({folder.resolve().name: records}, forms.values())
    return write_files(folder, {name: made[form] for name, form in forms.items()})


if __name__ == "__main__":
    try:
        draw(Path(sys.argv[1]))
    except LstmcError as error:
        sys.exit(error.message)
