"""Packages that only some imports need."""

from __future__ import annotations

import importlib
from typing import Any

from lstmc.importers.refusal import SourceError


def need(module: str, what: str, extra: str) -> Any:
    """A package that may not be installed. Raises :class:`SourceError` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceError(
            f"{what} is needed for this and cannot be imported ({error}): python -m pip install 'lstmc[{extra}]'"
        ) from None
