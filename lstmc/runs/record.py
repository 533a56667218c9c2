"""``command.json``: what a run was made of, for people who come back to it."""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import Any

import numpy as np

from lstmc.data import Dataset
from lstmc.version import __version__

RECORD = "command.json"


def about_data(data: Dataset, name: str) -> dict[str, Any]:
    """What data are: the file, how many examples or batches, and a hash that other data would not have."""
    return {"file": name, data.of: data.rows, "sha256": data.fingerprint}


def record(command: str, settings: object, **facts: Any) -> dict[str, Any]:
    """The command and what it was given, the settings of its solver, and the versions of what it ran with."""
    is_typed = dataclasses.is_dataclass(settings) and not isinstance(settings, type)
    return {
        "command": command,
        **facts,
        "settings": dataclasses.asdict(settings) if is_typed else repr(settings),  # type: ignore[call-overload]
        "versions": {"lstmc": __version__, "python": platform.python_version(), "numpy": np.__version__},
    }


def record_file(facts: dict[str, Any]) -> dict[str, bytes]:
    """What :func:`record` made, as a file's name and content."""
    return {RECORD: (json.dumps(facts, indent=2, default=str) + "\n").encode()}
