"""Zip files of which every entry is stored as it is: what it has is never larger than the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmc.importers.refusal import SourceError

# All that zipfile raises for a damaged file; a ValueError among them is of a name that is no text, or of a place
# before the file's begin.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise SourceError(f"{path.name}: a damaged zip file: {error}") from None


def entries(path: Path) -> dict[str, int]:
    """The names of a zip file's entries, and how many bytes each says it has."""
    with _opened(path) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def read_entry(path: Path, name: str, limit: int | None = None) -> bytes:
    """One entry, whole. Raises :class:`SourceError` for a compressed one, and for one of more than ``limit`` bytes."""
    with _opened(path) as archive:
        info = archive.getinfo(name)
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        small = info.file_size <= (path.stat().st_size if limit is None else limit)
        content = archive.read(info) if stored and small else b""
    if not stored:
        raise SourceError(f"{path.name}: {name} is compressed: expected entries that are stored as they are")
    if not small:
        raise SourceError(f"{path.name}: {name} should have {info.file_size:,} bytes, which is too much for it")
    return content
