"""Files of users: only regular files that fit into memory are read: a device or a pipe may have no end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL, EISDIR, ENOMEM
from pathlib import Path

from lstmc.errors import LstmcError
from lstmc.process import memory

FEW = 2**24  # bytes; there is always the memory for so many


def regular(path: Path) -> Path:
    """Return the path of a regular file. Raises OSError for others, as a device or a pipe, which may have no end."""
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise OSError(EINVAL, "its name has a NUL character", str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(EINVAL, "expected a file, found a device or a pipe", str(path))
    return path


def read_file(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError, also for more bytes than the free memory."""
    size = os.path.getsize(regular(path))
    if size > FEW and size > (free := memory.free_memory()):
        raise OSError(ENOMEM, f"it has {size:,} bytes, and {free:,} bytes of memory are free", str(path))
    return path.read_bytes()


@contextmanager
def reading(path: object, error: type[LstmcError]) -> Iterator[None]:
    """Turn an OSError of the block, which reads ``path``, into an ``error`` that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror}") from None
