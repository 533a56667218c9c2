"""What a check came to."""

from __future__ import annotations

from dataclasses import dataclass


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
