"""Arrays by name, from files that people give: reading them, and saying what is wrong with one."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

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
    """The content of an ``.npz`` file. Any name will do: NumPy's ``savez`` takes some for its own options."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return content.getvalue()


def element_problem(name: str, array: NDArray[Any]) -> str | None:
    """Why an array cannot go into a net: its elements are no numbers, not finite, or too large for float32."""
    real = np.issubdtype(array.dtype, np.number) and not np.issubdtype(array.dtype, np.complexfloating)
    if not real and array.dtype != np.bool_:
        return f"not numbers: {name} has dtype {array.dtype}"
    if (bad := ~np.isfinite(array)).any():
        return f"not finite: {name} has {places(bad)} NaN or infinite{first_place(bad)}"
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(np.float32))
    return f"too large for float32: {name} has {places(bad)} that are{first_place(bad)}" if bad.any() else None


class Values(Protocol):
    """What elements must be, beyond being numbers; its text says it."""

    def holds(self, array: NDArray[Any]) -> NDArray[np.bool_]: ...


def value_problem(name: str, array: NDArray[Any], values: Values | None) -> str | None:
    """What is wrong with an array's elements: no numbers, not finite, or not the ``values`` that ops read."""
    problem = element_problem(name, array)
    if problem is None and values is not None and (bad := ~values.holds(array)).any():
        found = f"{places(bad)} that are not{first_place(bad)}: {array[bad][0]:g}"
        return f"outside: {name} must be {values}, has {found}"
    return problem


def places(bad: NDArray[np.bool_]) -> str:
    """How many elements are meant: ``2 of 8 elements``."""
    return f"{np.count_nonzero(bad)} of {bad.size} elements"


def first_place(bad: NDArray[np.bool_]) -> str:
    """Where the first of them is: ``, the first at [0, 3]``."""
    return f", the first at {[int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape)]}" if bad.ndim else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the name that is nearest to one that was not expected, or nothing."""
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_lower, 1)
    return f": did you mean {by_lower[near[0]]}?" if near else ""
