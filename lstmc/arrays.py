"""Arrays by name, from files that people give: reading them, and saying what is wrong with one."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmc.errors import LstmcError

NPZ = "an .npz file of named arrays"


def read_npz(path: Path, error: type[LstmcError], expected: str = NPZ) -> dict[str, NDArray[Any]]:
    """Every array of an ``.npz`` file. Raises ``error`` for a file that is not there, or none, or damaged.

    Python objects are never read, as that would run code of the file's.
    """
    name = None
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise error(f"{path}: expected {expected}, found a single array")
            found = {}
            with archive:
                for name in archive.files:
                    found[name] = archive[name]
            return found
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as cause:  # of zipfile and NumPy
        if name is not None and "Object arrays" in str(cause):
            raise error(f"{path}: {name} holds Python objects: expected numbers") from None
        raise error(f"{path}: expected {expected}, found something else") from None
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror}") from None


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an ``.npz`` file."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return content.getvalue()


def is_real(array: NDArray[Any]) -> bool:
    """Whether the elements are whole or floating-point numbers."""
    return np.issubdtype(array.dtype, np.number) and not np.issubdtype(array.dtype, np.complexfloating)


def not_finite(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Which elements are not finite in Caffe's precision, float32."""
    with np.errstate(over="ignore"):
        return ~np.isfinite(array.astype(np.float32))
