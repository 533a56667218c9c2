"""The numbers of a net of one step: float32, or those of a device, for integers with measured ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected, Number, read_json
from lstmc.ir import Ref
from lstmc.numerics.device import Device, Range, read_device
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.ranges import Ranges
from lstmc.numerics.tflite import TfliteRounding

MEASURE = "measure them: Net.ranges, or lstmc numbers ranges, of the net for backend {}"


@dataclass(frozen=True)
class _Limits:
    name: str
    least: Number
    greatest: Number


@dataclass(frozen=True)
class _RangesFile:
    values: tuple[_Limits, ...]


def read_limits(path: str | Path, backend: str) -> dict[str, Range]:
    """Return each value's least and greatest number from a file of ``lstmc numbers ranges`` for a net of a backend.
    Raises :class:`BackendError` for any other file."""
    try:
        values = read_json(Path(path), _RangesFile).values
    except (OSError, NotExpected) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no ranges of values: {error}"
        raise BackendError(f"{path}: {reason}", notes=[MEASURE.format(backend)]) from None
    return {each.name: (each.least, each.greatest) for each in values}


def integer_rounding(device: Device, *given: Any) -> IntegerRounding:
    """Return a device's integer arithmetic: of TFLite's kernels if the device names ``kernels``, else lstmc's own."""
    return (TfliteRounding if device.kernels else IntegerRounding)(device, *given)


def step_rounding(device: Device, compiled: Compiled, limits: Mapping[str, Range]) -> IntegerRounding:
    """Return a device's integer arithmetic for a net of one step whose values have the ranges ``limits`` by name."""
    graph = compiled.expanded
    ranges = {ref: limits[name] for ref in graph.refs() if (name := graph.value_name(ref)) in limits}
    after = {output.name: output.ref for output in graph.outputs}
    return integer_rounding(device, graph, ranges, {Ref(p.before): after[p.after] for p in compiled.states or ()})


@dataclass(frozen=True)
class ChosenNumbers:
    """The numbers of a net: float32 without a ``device``. Integers need ``limits``: every value's range by name."""

    device: Device | None = None
    limits: Mapping[str, Range] | None = None
    backend: ClassVar[str]
    short: ClassVar[Mapping[str, str]] = {}  # other names of devices

    @classmethod
    def of(cls, name: str, ranges: Ranges | Mapping[str, Range] | None = None) -> Self:
        """Return the numbers of a device, given by its name or its file's path, or ``float32`` without one. Raises
        :class:`BackendError` for numbers that the backend's nets cannot have, and for integers without ranges."""
        limits = {each.name: (each.least, each.greatest) for each in ranges} if isinstance(ranges, Ranges) else ranges
        if name == "float32":
            return cls()
        device = read_device(cls.short.get(name, name))
        if problem := cls.problem(device):
            raise BackendError(f"numbers={name}: {problem}")
        if device.arithmetic == "integer" and limits is None:
            problem = f"numbers={name}: integers need the range of each value: ranges=FILE"
            raise BackendError(problem, notes=[MEASURE.format(cls.backend)])
        return cls(device, limits)

    @staticmethod
    def problem(device: Device) -> str | None:
        """Return None if a net can have the numbers of this device, else a text that names what is expected."""
        raise NotImplementedError

    def with_options(self, values: Mapping[str, str]) -> Self:
        """Return the numbers that a backend's options ``numbers`` and ``ranges`` choose; without ``numbers``, these."""
        limits = read_limits(values["ranges"], self.backend) if "ranges" in values else self.limits
        return self.of(values["numbers"], limits) if "numbers" in values else self

    @property
    def integers(self) -> bool:
        """Whether values are integers."""
        return self.device is not None and self.device.arithmetic == "integer"
