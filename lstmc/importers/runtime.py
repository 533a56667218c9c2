"""The interface of a program that runs a trained model: the source's framework, or another reader of its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lstmc.ops import Array


class Runtime(Protocol):
    """``name`` is the program with its version; inputs and outputs go by the described net's names, axes as there."""

    name: str

    def unavailable(self) -> str | None:
        """Return the reason why it cannot run the model here, or None."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs for inputs. Raises :class:`~lstmc.importers.refusal.SourceError`."""
        ...
