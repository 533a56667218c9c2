"""Arrays in files: stored arrays, ``.npz`` and HDF5 files, and checks of arrays from users. A stored array reads its
header at once and its elements on access."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import DataError, LstmcError
from lstmc.files.reading import reading, regular
from lstmc.ops import Domain
from lstmc.plugins import need
from lstmc.process import memory
from lstmc.text import did_you_mean

COPIES = 3  # that are made of an array while it is checked and converted
NPZ = "an .npz file of named arrays"
SUFFIX = ".npy"
MOST_HEADER = 16384  # bytes; NumPy reads headers of at most 10000
CHUNK = 1 << 20  # bytes that are unpacked at a time
_SINGLE = np.lib.format.MAGIC_PREFIX
# what zipfile, its codecs and NumPy raise for a damaged file, whichever part of it is damaged
_DAMAGED = (
    *(ValueError, EOFError, RuntimeError, TypeError, SyntaxError, OverflowError, KeyError, IndexError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, TokenError),
)
EXPECTED = "an .npz or HDF5 file of named arrays"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# what h5py raises for a damaged file, whichever part of it is damaged; SystemError where it was visiting
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, SystemError)
SAVE = "write the arrays by their names with NumPy, as np.savez('data.npz', X=X, label=label)"


@dataclass(frozen=True)
class StoredArray:
    """An array of a file: its shape and type at once, its elements by ``np.asarray``. Its elements are read once, by
    ``read``. Raises ``error`` if they need more memory than is free."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    path: Path
    error: type[LstmcError]
    read: Callable[[], NDArray[Any]]
    read_part: Callable[[tuple[slice, ...]], NDArray[Any]] | None = None  # None: all are read at once

    def part(self, axis: int, start: int, stop: int) -> NDArray[Any]:
        """Return the elements from ``start`` up to ``stop`` along an axis; only these are read where possible."""
        place = (slice(None),) * axis + (slice(start, stop),)
        return self._elements[place] if self.read_part is None else self.read_part(place)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def _elements(self) -> NDArray[Any]:
        """Read the elements. Raise ``error`` if there is not enough memory."""
        size, array = prod(self.shape) * self.dtype.itemsize, f"{self.path}: {self.name} {list(self.shape)}"
        if problem := memory_problem(size):
            raise self.error(f"{array} {problem}")
        try:
            return self.read()
        except MemoryError:
            raise self.error(f"{array} takes {_size_text(size)}: there is not so much memory") from None

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> NDArray[Any]:
        elements = self._elements
        return elements.astype(dtype, copy=bool(copy)) if dtype is not None or copy else elements


AnyArray = NDArray[Any] | StoredArray


def memory_problem(size: float, copies: int = COPIES) -> str | None:
    """Return why arrays of ``size`` bytes are too large, or None if ``copies`` of them fit into free memory."""
    budget, part = memory.free_memory() // copies, "a third of " if copies > 1 else ""
    if size <= budget:
        return None
    return f"takes {_size_text(size)}: expected at most {_size_text(budget)}, {part}the memory that is free"


def _size_text(size: float) -> str:
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = min((int(size).bit_length() - 1) // 10, len(units) - 1) if size >= 1 else 0
    return f"{size / 1024**power:.3g} {units[power]}"


def element_problem(name: str, stored: AnyArray) -> str | None:
    """Return why an array cannot be fed to a net (not numbers, not finite, too large for float32), or None."""
    real = np.issubdtype(stored.dtype, np.number) and not np.issubdtype(stored.dtype, np.complexfloating)
    if not real and stored.dtype != np.bool_:
        return f"not numbers: {name} has dtype {stored.dtype}"
    array = np.asarray(stored)
    if (bad := ~np.isfinite(array)).any():
        return f"not finite: {name} has {places(bad)} NaN or infinite{first_place(bad)}"
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    return f"too large for float32: {name} has {places(bad)} that are{first_place(bad)}" if bad.any() else None


def value_problem(name: str, stored: AnyArray, values: Domain | None) -> str | None:
    """Return the problem of an array (no numbers, not finite, or outside of the domain ``values``) or None."""
    problem = element_problem(name, stored)
    if problem is not None or values is None:
        return problem
    array = np.asarray(stored)
    if (bad := ~values.holds(array)).any():
        actual = f"{places(bad)} that are not{first_place(bad)}: {array[bad][0]:g}"
        return f"outside: {name} must be {values}, has {actual}"
    return problem


def places(bad: NDArray[np.bool_]) -> str:
    """Return the number of marked elements: ``2 of 8 elements``."""
    return f"{np.count_nonzero(bad)} of {bad.size} elements"


def first_place(bad: NDArray[np.bool_]) -> str:
    """Return the position of the first marked element: ``, the first at [0, 3]``."""
    return f", the first at {[int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)]}" if bad.ndim else ""


def wrong_names(
    expected: Mapping[str, object],
    shapes: Mapping[str, tuple[int, ...]],
    optional: Collection[str] = (),
    why_extra: Mapping[str, str] = {},
) -> list[str]:
    """Return a line for each missing array that is not optional, and for each extra one, with a reason or near name."""
    absent = [name for name in expected if name not in shapes]
    extra = {name: shape for name, shape in shapes.items() if name not in expected}
    return [
        *(f"missing: {name} {expected[name]}" for name in absent if name not in optional),
        *(f"extra: {n} {list(shape)}{why_extra.get(n) or did_you_mean(n, absent)}" for n, shape in extra.items()),
    ]


def read_npz(path: Path, error: type[LstmcError], expected: str = NPZ) -> dict[str, StoredArray]:
    """Return every array of an ``.npz`` file by name; the elements are read on access. Raises ``error`` for a file that
    is missing, damaged or of another kind, and for elements that are Python objects, whose reading would run code."""
    with _readable(path, error, expected):
        with regular(path).open("rb") as file:
            if file.read(len(_SINGLE)) == _SINGLE:
                raise error(f"{path}: expected {expected}, found a single array")
        archive = zipfile.ZipFile(path)
        arrays: dict[str, StoredArray] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(SUFFIX)
            if name == member.filename:
                raise error(f"{path}: expected {expected}, found {member.filename} in it, which is no {SUFFIX}")
            if name in arrays:
                raise error(f"{path}: expected {expected}, found {name} twice")
            arrays[name] = _stored_array(archive, member, name, path, error, expected)
        return arrays


def _stored_array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, path: Path, error: type[LstmcError], expected: str
) -> StoredArray:
    """Return an array of an ``.npz`` file, with shape and type from its header. The elements are read on access."""
    with archive.open(member) as packed:
        start = io.BytesIO(packed.read(MOST_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in ((1, 0), (2, 0)):
        raise error(f"{path}: {name} has a header that is not of version 1 or 2 of NumPy's format")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read_header(start)
    if dtype.hasobject:
        raise error(f"{path}: {name} holds Python objects: expected numbers")
    offset, count = start.tell(), prod(shape)
    if any(size < 0 for size in shape) or member.file_size != offset + count * dtype.itemsize:
        size = member.file_size - offset
        raise error(f"{path}: {name} has {size} bytes of elements, which do not fit the shape {list(shape)}")

    def read() -> NDArray[Any]:
        """Return the elements, unpacked piece by piece. At the end the archive's checksum is compared."""
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
    """Raise ``error`` if the block cannot read the file at ``path``, or the file is damaged or not as ``expected``."""
    with reading(path, error):
        try:
            yield
        except (*_DAMAGED, OSError) as cause:
            if isinstance(cause, OSError) and cause.strerror is not None:  # else an error of bz2, for damaged elements
                raise
            raise error(f"{path}: expected {expected}, found something else") from None


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of an ``.npz`` file. NumPy's ``savez`` is not used: it takes some names as its options."""
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


def read_arrays(path: Path) -> dict[str, StoredArray]:
    """Return every array of an ``.npz`` or HDF5 file by its name; an array in a group of HDF5 is called ``group/name``.
    The content decides the kind of file. Elements are read on access. Raises DataError for a file that is missing, of
    another kind, damaged, has Python objects, or keeps elements in other files, and for HDF5 without h5py."""
    with reading(path, DataError), regular(path).open("rb") as file:
        start = file.read(len(HDF5_SIGNATURE))
    if not start.startswith((HDF5_SIGNATURE, b"PK", b"\x93NUMPY")):
        raise DataError(f"{path}: expected {EXPECTED}, found something else", notes=[SAVE])
    arrays = _read_hdf5(path) if start == HDF5_SIGNATURE else read_npz(path, DataError, EXPECTED)
    if not arrays:
        raise DataError(f"{path}: expected {EXPECTED}, found no array in it")
    return arrays


def _read_hdf5(path: Path) -> dict[str, StoredArray]:
    """Return the arrays of an HDF5 file by their paths. Raises :class:`DataError` for links and objects."""
    h5py = h5py_package()
    arrays: dict[str, StoredArray] = {}

    def problem(name: str, item: object) -> str | None:
        """Return why an object of the file is refused, or None. An array is entered in ``arrays``."""
        if isinstance(item, h5py.ExternalLink):
            return f"{name} is a link to another file: expected the array itself"
        if not isinstance(item, h5py.Dataset):
            return None
        if item.is_virtual or item.external:
            return f"{name} keeps its elements in other files: expected them in this one"
        if item.shape is None or item.dtype.hasobject:  # objects: texts, or arrays of different lengths
            return f"{name} holds {'nothing' if item.shape is None else 'Python objects'}: expected numbers"
        read_part = partial(_elements, path, name)
        arrays[name] = StoredArray(name, item.shape, item.dtype, path, DataError, read_part, read_part)
        return None

    with _opened(path) as file:
        first = next(filter(None, (problem(name, item) for name, item in _items(file))), None)
    if first is not None:
        raise DataError(f"{path}: {first}")
    return arrays


def _items(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield each object of an HDF5 file once, with its path, and links to other files. Each object is opened from its
    own group: h5py's visitors look up each object from the root, which takes quadratic time for nested groups."""
    h5py = h5py_package()
    seen, open_groups = {h5py.h5o.get_info(file.id).addr}, [("", file, iter(sorted(file)))]
    while open_groups:
        prefix, group, names = open_groups[-1]
        name = next(names, None)
        if name is None:
            open_groups.pop()
            continue
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            yield prefix + name, link
        if not isinstance(link, h5py.HardLink):
            continue  # a link within the file: its target is found by its own name
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        yield prefix + name, item
        if isinstance(item, h5py.Group):
            open_groups.append((f"{prefix}{name}/", item, iter(sorted(item))))


def _elements(path: Path, name: str, place: tuple[slice, ...] = ()) -> NDArray[Any]:
    with _opened(path) as file:
        return np.asarray(file[name][place])


def h5py_package() -> Any:
    """Return the package for HDF5 files. Raises :class:`DataError` if it is not installed."""
    return need("h5py", "h5py", "hdf5", DataError)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for the duration of the block. Raise DataError if the file is damaged."""
    try:
        with h5py_package().File(regular(path), "r") as file:
            yield file
    except DAMAGED:
        raise DataError(f"{path}: an HDF5 file that is damaged or not whole") from None
