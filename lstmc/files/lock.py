"""A lock of a folder by one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lstmc.errors import LstmcError, OutputError


@contextmanager
def hold_folder(folder: Path, lock: Path, busy: LstmcError, place: str) -> Iterator[None]:
    """Make a folder, and lock it by the file ``lock`` until this process ends in any way. Raises ``busy`` if another
    process has locked it, and OutputError if ``place`` ("into FOLDER") cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(lock, timeout=0, mode=0o644).acquire()
    except Timeout:
        raise busy from None
    except OSError as error:
        raise OutputError(f"cannot write {place}: {error.strerror}") from None
    with file_lock:
        yield
