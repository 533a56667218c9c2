"""``.npz`` files: arrays by name in a zip archive. Headers are read at once, elements as they are wanted."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import LstmcError
from lstmc.stored import StoredArray

NPZ = "an .npz file of named arrays"
SUFFIX = ".npy"
MOST_HEADER = 16384  # bytes; NumPy reads no longer one than 10000
CHUNK = 1 << 20  # bytes that are unpacked at a time
_SINGLE = np.lib.format.MAGIC_PREFIX
# what zipfile, its codecs and NumPy raise for a damaged file, whichever part of it is damaged
_DAMAGED = (
    *(ValueError, EOFError, RuntimeError, TypeError, SyntaxError, OverflowError, KeyError, IndexError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, TokenError),
)


def read_npz(path: Path, error: type[LstmcError], expected: str = NPZ) -> dict[str, StoredArray]:
    """Every array of an ``.npz`` file, its elements still there. Raises ``error`` for a file that is not there, or
    none, or damaged, and for elements that are no numbers but Python objects, as reading those would run code.
    """
    with _readable(path, error, expected):
        with path.open("rb") as file:
            if file.read(len(_SINGLE)) == _SINGLE:
                raise error(f"{path}: expected {expected}, found a single array")
        archive = zipfile.ZipFile(path)
        found: dict[str, StoredArray] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(SUFFIX)
            if name == member.filename:
                raise error(f"{path}: expected {expected}, found {member.filename} in it, which is no {SUFFIX}")
            if name in found:
                raise error(f"{path}: expected {expected}, found {name} twice")
            found[name] = _stored(archive, member, name, path, error, expected)
        return found


def _stored(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, path: Path, error: type[LstmcError], expected: str
) -> StoredArray:
    with archive.open(member) as packed:
        start = io.BytesIO(packed.read(MOST_HEADER))
    if np.lib.format.read_magic(start) == (1, 0):
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(start)
    else:
        start.seek(0)
        if np.lib.format.read_magic(start) != (2, 0):
            raise error(f"{path}: {name} has a header that is not of version 1 or 2 of NumPy's format")
        shape, by_columns, dtype = np.lib.format.read_array_header_2_0(start)
    if dtype.hasobject:
        raise error(f"{path}: {name} holds Python objects: expected numbers")
    offset, count = start.tell(), prod(shape)
    if any(size < 0 for size in shape) or member.file_size != offset + count * dtype.itemsize:
        raise error(
            f"{path}: {name} has {member.file_size - offset} bytes of elements, which do not fit the shape"
            f" {list(shape)}"
        )

    def read() -> NDArray[Any]:
        with _readable(path, error, expected):
            elements = memoryview(bytearray(count * dtype.itemsize))
            with archive.open(member) as packed:
                packed.read(offset)
                for at in range(0, len(elements), CHUNK):
                    part = elements[at : at + CHUNK]
                    part[:] = packed.read(len(part))
                packed.read(1)  # the end, where the archive's checksum is compared
            return np.ndarray(shape, dtype, elements, order="F" if by_columns else "C")

    return StoredArray(name, tuple(shape), dtype, path, error, read)


@contextmanager
def _readable(path: Path, error: type[LstmcError], expected: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except _DAMAGED:
        raise error(f"{path}: expected {expected}, found something else") from None
    except OSError as cause:
        if cause.strerror is None:  # of bz2, for damaged elements
            raise error(f"{path}: expected {expected}, found something else") from None
        raise error(f"{path}: cannot be read: {cause.strerror}") from None


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an ``.npz`` file. Any name will do: NumPy's ``savez`` takes some for its own options."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            array = np.ascontiguousarray(array).reshape(np.shape(array))
            if array.dtype.hasobject:
                raise ValueError(f"{name} holds Python objects: expected numbers")
            with archive.open(zipfile.ZipInfo(f"{name}{SUFFIX}"), "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(array.reshape(-1).view(np.uint8).data)  # write_array would copy 16 MiB at a time
    return content.getvalue()
