"""Named arrays from ``.npz`` and HDF5 files: what there is, by their headers, and elements as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import DataError
from lstmc.files.arrays import StoredArray, read_npz
from lstmc.plugins import need

EXPECTED = "an .npz or HDF5 file of named arrays"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# what h5py raises for a damaged file, whichever part of it is damaged; SystemError where it was visiting
DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError, SystemError)


def read_arrays(path: Path) -> dict[str, StoredArray]:
    """Return every array of an ``.npz`` or HDF5 file by its name; one in a group of HDF5 is called ``group/name``.

    What kind of file it is its content says. Elements are read where they are asked for. Raises :class:`DataError`
    for a file that is not there, is no such file, is damaged, holds Python objects, or keeps elements in other files,
    and for HDF5 without the package h5py.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    arrays = _read_hdf5(path) if start == HDF5_SIGNATURE else read_npz(path, DataError, EXPECTED)
    if not arrays:
        raise DataError(f"{path}: expected {EXPECTED}, found no array in it")
    return arrays


def _read_hdf5(path: Path) -> dict[str, StoredArray]:
    h5py = _h5py()
    arrays: dict[str, StoredArray] = {}

    def problem(name: str, item: object) -> str | None:
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
    """Yield every object of a file by its path, once, and links to other files.

    Each is opened from the group that it is in: h5py's own visits look each up from the first group on, which takes
    the square of the time where groups are nested.
    """
    h5py = _h5py()
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
            continue  # a link within the file: what it names is met by its own name
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


def _h5py() -> Any:
    return need("h5py", "h5py", "hdf5", DataError)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGED:
        raise DataError(f"{path}: an HDF5 file that is damaged or not whole") from None
