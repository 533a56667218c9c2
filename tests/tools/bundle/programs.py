"""Programs that only pretend, in front of the system's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Programs:
    """A folder that comes first on the PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def add(self, name: str, body: str) -> Path:
        """A shell script of that name."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path
