"""Packages that only some uses need: an extra of lstmc brings each."""

from __future__ import annotations

import importlib
from typing import Any

from lstmc.errors import LstmcError


def need(module: str, what: str, extra: str, error: type[LstmcError]) -> Any:
    """A package that may not be installed, or a module of ours that imports one at its top.

    Raises ``error`` with the command that installs it; ``what`` is its name for people.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise error(
            f"{what} is needed for this and cannot be imported ({missing}): python -m pip install 'lstmc[{extra}]'"
        ) from None
