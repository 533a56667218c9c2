"""The constant arrays of a net in C: in its source, or in a file of their own, in float32, float16 or integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from lstmc.errors import BackendError
from lstmc.ops import Array
from lstmc_c.code import PANEL
from lstmc_c.elements import Names, number

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


class Constants:
    """The constant arrays of a net, each once. ``in_file``: the source reads them from a struct."""

    def __init__(self, names: Names, in_file: bool) -> None:
        self.names, self.in_file = names, in_file
        self.list: list[Constant] = []
        self._known: dict[tuple[str, bytes], str] = {}

    def add(self, name: str, values: Array, comment: str) -> str:
        """Return the C name of an array, which is like ``name``."""
        key = (values.dtype.str, values.tobytes())
        if key not in self._known:
            constant = Constant(self.names.unique(name), values, comment)
            self.list.append(constant)
            self._known[key] = f"weights->{constant.name}" if self.in_file else constant.name
        return self._known[key]

    @property
    def ordered(self) -> list[Constant]:
        """The arrays in the order of the file or the source. A struct of them has no gaps: the widest elements come
        first."""
        return sorted(self.list, key=lambda each: -each.values.dtype.itemsize) if self.in_file else self.list

    @property
    def bytes(self) -> int:
        """The size of all: of the file, with its two checksums, if they are one."""
        size = sum(constant.values.nbytes for constant in self.list)
        return size + -size % 4 + 8 if self.in_file else size


def in_panels(matrix: Array) -> Array:
    """Return a matrix [out, in] as products read it: by panels of ``PANEL`` rows, each column by column."""
    return np.concatenate([matrix[row : row + PANEL].T.ravel() for row in range(0, len(matrix), PANEL)])


def finite(name: str, array: Array, dtype: type[np.generic]) -> Array:
    """Return weights in float32 or float16. Raises :class:`BackendError` for a value that is
    not finite in that type.
    """
    with np.errstate(over="ignore"):
        stored = np.asarray(array).astype(dtype)
    if not np.isfinite(stored).all():
        raise BackendError(f"weight {name} is not finite in {np.dtype(dtype).name}: C has no constant for it")
    return stored


def layout_checksum(constants: Sequence[Constant]) -> int:
    """Return the checksum of the names, types and sizes of a file's arrays."""
    return crc32("".join(f"{each.type} {each.name}[{each.size}];" for each in constants).encode())


def weights_file(constants: Sequence[Constant]) -> bytes:
    """Return the content of a file of weights: the checksum of its layout, that of its arrays, the arrays, and zeros
    up to a multiple of four bytes. Numbers are little-endian."""
    arrays = b"".join(each.values.astype(each.values.dtype.newbyteorder("<")).tobytes() for each in constants)
    arrays += bytes(-len(arrays) % 4)
    return np.array([layout_checksum(constants), crc32(arrays)], "<u4").tobytes() + arrays
