"""The folder of compiled layers: what was used last stays, what is beyond a number and a size of files goes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

MOST_FILES = 400
MOST_BYTES = 100_000_000
RECENT = 3600.0  # seconds: another process may be about to open what was used since


def used(path: Path) -> bool:
    """Whether a file is there; it counts as used now."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def prune(folder: Path, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Remove what was used longest ago, while there are more ``files`` than so many, or more bytes than ``size``."""
    found = []
    for path in folder.iterdir():
        with suppress(OSError):  # another process removes too
            state = path.stat()
            if path.suffix in (".so", ".o"):
                found.append((state.st_mtime, state.st_size, path))
    count, total, now = 0, 0, time.time()
    for at, length, path in sorted(found, reverse=True):
        count, total = count + 1, total + length
        if (count > files or total > size) and now - at > RECENT:
            with suppress(OSError):
                path.unlink()
