"""Drawing the loss curve of a run while it goes on, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lstmc.runs.metrics import METRICS

PROGRAM = "lstmc.runs.loss_curve"
CURVES = ("loss.png", "loss.svg")  # what it writes
ROOT = Path(__file__).parents[2]  # where the package lstmc is


class CurveDrawing:
    """Draws when told to, one drawing at a time: what is asked for meanwhile waits for the next time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._drawn = (0, 0)  # what was recorded as the process began

    def start(self) -> None:
        """Begin a drawing unless one is being made."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._begin()

    def finish(self) -> str | None:
        """Draw all there is and wait for it; why it could not be drawn, or None. A run does not fail for it.

        Where nothing was recorded since the last drawing began, that drawing has all.
        """
        last = self._process
        said = "" if last is None else last.communicate()[1]
        if last is None or self._recorded() != self._drawn:
            last = self._begin()
            said = last.communicate()[1]
        lines = said.strip().splitlines() or [f"exit status {last.returncode}"]
        return f"the loss curve could not be drawn: {lines[-1]}" if last.returncode else None

    def _recorded(self) -> tuple[int, int]:
        """The length of the metrics and when they were written: what tells whether there are more."""
        try:
            found = (self._folder / METRICS).stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _begin(self) -> subprocess.Popen[str]:
        # -P: a file of the user's that is called as some module must not be taken for it
        self._drawn = self._recorded()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", PROGRAM, str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is not meant for it
        )
