"""The constant arrays of a net in C: in its source, or in a file of their own, in float32, float16 or integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc_c.code import PANEL
from lstmc_c.elements import number

_PER_LINE = 8  # numbers
# float16 has no type in C99: its bits are integers
TYPES = {"f4": "float", "f2": "uint16_t", "i1": "int8_t", "i2": "int16_t", "i4": "int32_t", "u1": "uint8_t"}


@dataclass(frozen=True)
class Constant:
    """A constant array of C."""

    name: str
    values: Array
    comment: str

    @property
    def type(self) -> str:
        return TYPES[self.values.dtype.str[1:]]

    @property
    def size(self) -> int:
        return int(self.values.size)

    @property
    def lines(self) -> list[str]:
        values = self.values.view(np.uint16) if self.values.dtype == np.float16 else self.values
        texts = [number(value) if self.type == "float" else str(value) for value in values.tolist()]
        return [", ".join(texts[i : i + _PER_LINE]) + "," for i in range(0, len(texts), _PER_LINE)]


def in_panels(matrix: Array) -> Array:
    """Return a matrix [out, in] as products read it: by panels of ``PANEL`` rows, each column by column."""
    return np.concatenate([matrix[row : row + PANEL].T.ravel() for row in range(0, len(matrix), PANEL)])


def finite(name: str, array: Array, dtype: type[np.generic]) -> Array:
    """Return weights in float32 or float16. Raises :class:`BackendError` for what is no finite number there."""
    with np.errstate(over="ignore"):
        stored = np.asarray(array).astype(dtype)
    if not np.isfinite(stored).all():
        raise BackendError(f"weight {name} is not finite in {np.dtype(dtype).name}: C has no constant for it")
    return stored


def by_size(constants: Sequence[Constant]) -> list[Constant]:
    """Return constants in the order of a struct without gaps: those of the widest elements first."""
    return sorted(constants, key=lambda constant: -constant.values.dtype.itemsize)


def layout(constants: Sequence[Constant]) -> int:
    """Return the checksum of the names, types and sizes of a file's arrays."""
    return crc32("".join(f"{each.type} {each.name}[{each.size}];" for each in constants).encode())


def weights_file(constants: Sequence[Constant]) -> bytes:
    """Return the content of a file of weights: the checksum of its layout, that of its arrays, the arrays, and zeros
    up to a multiple of four bytes. Numbers are little-endian."""
    arrays = b"".join(each.values.astype(each.values.dtype.newbyteorder("<")).tobytes() for each in constants)
    arrays += bytes(-len(arrays) % 4)
    return np.array([layout(constants), crc32(arrays)], "<u4").tobytes() + arrays
