"""The numbers of a net in C: those of a device of :mod:`lstmc.numerics` that C can compute in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected, Number, read_json
from lstmc.ir import Ref
from lstmc.numerics import Device, Ranges, read_device
from lstmc.numerics.device import Format
from lstmc.numerics.integers import IntegerRounding
from lstmc.numerics.rounding import DeviceRounding, Range
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
