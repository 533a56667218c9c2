"""The folder of compiled layers: what was used last stays, what is beyond a number and a size of files goes, and what
is not as it was kept is not found again."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

MOST_FILES = 400
MOST_BYTES = 100_000_000
_DIGEST = hashlib.sha256().digest_size
RECENT = 3600.0  # seconds: another process may be about to open what was used since


def used(path: Path) -> bool:
    """Whether a file is there as it was kept; it counts as used now."""
    try:
        content = path.read_bytes()
        if not content or content[-_DIGEST:] != _digest(content[:-_DIGEST]):
            return False  # a full disk, or a machine that stopped
        os.utime(path)
    except OSError:
        return False
    return True


def keep(made: Path, path: Path) -> None:
    """Have a file that was made in the same folder be ``path``, with its digest behind it: what follows an ELF file's
    own bytes nobody reads."""
    with made.open("ab") as file:
        file.write(_digest(made.read_bytes()))
    made.chmod(0o600)  # whatever the umask: what others could write is not loaded
    made.rename(path)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


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
