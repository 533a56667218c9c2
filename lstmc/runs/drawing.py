"""Draw the loss curves of a run during training in a separate process, and those of several runs in one picture.

The process is ``python -m lstmc.runs.drawing RUN``: training need not wait while it draws.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lstmc.errors import DrawingError, LstmcError
from lstmc.files.output import write_files
from lstmc.plugins import need
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
    return write_files(to.parent, {to.name: curves.figure_files(runs, [form])[form]})[0]


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the runs by their names: of the folder, or the path below what all have in common if two are equal."""
    paths = [folder.resolve() for folder in folders]
    short = [path.name for path in paths]
    if len(set(short)) < len(short):
        parent = os.path.commonpath(paths)
        short = [os.path.relpath(path, parent) for path in paths]
    return dict(zip(short, folders, strict=True))


PROGRAM = "lstmc.runs.drawing"
CURVES = ("loss.png", "loss.svg")  # what it writes
ROOT = Path(__file__).parents[2]  # where the package lstmc is


class CurveDrawing:
    """A drawing in a process of its own, one at a time; requests in the meantime wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._last_state = (0, 0)  # what was recorded as the process began

    def start(self) -> None:
        """Begin a drawing unless one is in progress."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._process.communicate()  # closes its pipe
        self._process = self._begin()

    def finish(self) -> str | None:
        """Draw all there is and wait for it; why it could not be drawn, or None. A run does not fail for it.

        Where nothing was recorded since the last drawing began, that drawing has all.
        """
        last = self._process
        stderr = "" if last is None else last.communicate()[1]
        if last is None or self._metrics_state() != self._last_state:
            last = self._begin()
            stderr = last.communicate()[1]
        lines = stderr.strip().splitlines() or [f"exit status {last.returncode}"]
        return f"the loss curve could not be drawn: {lines[-1]}" if last.returncode else None

    def _metrics_state(self) -> tuple[int, int]:
        """Return the length and the time of the metrics' file, which change with each record."""
        try:
            status = (self._folder / METRICS).stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns

    def _begin(self) -> subprocess.Popen[str]:
        # -P: a file of the user's that is called as some module must not be taken for it
        self._last_state = self._metrics_state()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM, str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is not meant for it
        )


def draw(folder: Path) -> list[Path]:
    """Draw the metrics of a run, if there are any, beside them. Raises :class:`DrawingError` without matplotlib."""
    records = read_metrics(folder / METRICS)
    if not records:
        return []
    forms = {name: name.rpartition(".")[2] for name in CURVES}
    curves = need("lstmc.runs.curves", "matplotlib", "plot", DrawingError)
    pictures = curves.figure_files({folder.resolve().name: records}, forms.values())
    return write_files(folder, {name: pictures[form] for name, form in forms.items()})


if __name__ == "__main__":
    try:
        draw(Path(sys.argv[1]))
    except LstmcError as error:
        sys.exit(error.message)
