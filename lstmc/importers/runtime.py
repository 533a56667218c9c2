"""What runs a trained model as its source has it: the framework that wrote it, or a program that reads its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lstmc.ops import Array


class Runtime(Protocol):
    """``name`` is the program with its version; inputs and outputs go by the described net's names, axes as there."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot run the model here, or None."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs for some inputs. Raises :class:`~lstmc.importers.refusal.SourceError` where it cannot."""
        ...
