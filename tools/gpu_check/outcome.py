"""What a check came to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.differential import SCALE_FLOOR
from lstmc.ops import Array


@dataclass(frozen=True)
class Outcome:
    """One check: ``found`` is how far it is off, relative to the largest magnitude, and ``allowed`` how far it may be.

    ``error`` is what happened where nothing could be compared.
    """

    name: str
    found: float
    allowed: float
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and self.found <= self.allowed  # NaN does not pass

    def __str__(self) -> str:
        mark = "ok    " if self.passed else "FAILED"
        return f"{mark} {self.name}: {self.error or f'{self.found:.1e} (allowed {self.allowed:.0e})'}"


def distance(found: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest magnitude of ``wanted``, as the differential check has it."""
    gap = float(np.max(np.abs(np.asarray(found, np.float64).reshape(np.shape(wanted)) - wanted), initial=0.0))
    return gap / max(float(np.max(np.abs(wanted), initial=0.0)), SCALE_FLOOR)
