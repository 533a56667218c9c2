"""The numbers of a net in C: those of a device of :mod:`lstmc.numerics`, and the constant arrays.

Constants stand in the source, or in a file of their own, in float32, float16 or integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected, Number, read_json
from lstmc.ir import Ref
from lstmc.numerics import Device, Ranges, read_device
from lstmc.numerics.device import Format
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.rounding import DeviceRounding, Range
from lstmc.ops import Array
from lstmc_c.code import PANEL
from lstmc_c.elements import Names, number
from lstmc_c.plan import Use

MEASURE = "measure them: Net.ranges, or lstmc numbers ranges, of the net for backend c"


@dataclass(frozen=True)
class _Limits:
    name: str
    least: Number
    greatest: Number


@dataclass(frozen=True)
class _RangesFile:
    values: tuple[_Limits, ...]


def read_limits(path: str | Path) -> dict[str, Range]:
    """Return the least and the greatest of each value by name, from a file that ``lstmc numbers ranges`` wrote.

    Raises :class:`BackendError` for a file that is none.
    """
    try:
        values = read_json(Path(path), _RangesFile).values
    except (OSError, NotExpected) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no ranges of values: {error}"
        raise BackendError(f"{path}: {reason}", notes=[MEASURE]) from None
    return {each.name: (each.least, each.greatest) for each in values}


@dataclass(frozen=True)
class Numbers:
    """The numbers of a net: float32 where there is no ``device``. One that computes in integers has the range of each
    value by name."""

    device: Device | None = None
    limits: Mapping[str, Range] | None = None

    @classmethod
    def of(cls, name: str, ranges: Ranges | Mapping[str, Range] | None = None) -> Numbers:
        """Return the numbers of a device, by its name or the path of its description; ``float32`` are those of C.

        Raises :class:`BackendError` for a device in whose numbers C does not compute, and for integers without ranges.
        """
        limits = {each.name: (each.least, each.greatest) for each in ranges} if isinstance(ranges, Ranges) else ranges
        if name == "float32":
            return FLOAT32
        device = read_device(name)
        weights, values = device.weights.format, device.values.format
        if device.arithmetic == "integer":
            formats = {values, values if device.state is None else device.state.format}
            if weights != "int8" or not formats <= {"int8", "int16"}:
                raise BackendError(
                    f"numbers={name}: for C in integers, expected weights in int8, values and states in int8 or int16"
                )
            if limits is None:
                raise BackendError(
                    f"numbers={name}: integers need the range of each value: ranges=FILE", notes=[MEASURE]
                )
        elif values != "float" or weights not in ("float", "fp16", "int8"):
            raise BackendError(
                f"numbers={name}: expected arithmetic in integers, or values in float and weights in float, fp16 or"
                " int8, in which C computes"
            )
        return cls(device, limits)

    @property
    def half(self) -> bool:
        """Whether matrices are float16."""
        return self.device is not None and self.device.weights.format == "fp16"

    def format_of(self, use: Use) -> Format:
        """Return the format of the numbers of a weight that is read so, in a net that computes in floats."""
        if self.device is None or use == "value" or (use == "bias" and self.device.weights.format == "int8"):
            return "float"
        return self.device.weights.format

    def rounding(self, compiled: Compiled) -> DeviceRounding | None:
        """Return the arithmetic of a net of one step; None for float32."""
        graph = compiled.expanded
        if self.device is None:
            return None
        if self.limits is None or self.device.arithmetic != "integer":
            return DeviceRounding(self.device, graph, {})
        refs = [Ref(node.name, out) for node in graph for out in range(len(node.types))]
        ranges = {ref: self.limits[name] for ref in refs if (name := graph.value_name(ref)) in self.limits}
        after = {output.name: output.ref for output in graph.outputs}
        states = {Ref(pair.before): after[pair.after] for pair in compiled.states or ()}
        return IntegerRounding(self.device, graph, ranges, states)


FLOAT32 = Numbers()


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
