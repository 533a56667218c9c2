"""The integers of a net of one step: measured ranges, and a device's arithmetic with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstmc.backend import Compiled
from lstmc.errors import BackendError
from lstmc.files.json_file import NotExpected, Number, read_json
from lstmc.ir import Ref
from lstmc.numerics.device import Device, Range
from lstmc.numerics.integers import IntegerRounding
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
    """Return the least and the greatest number of each value by name, from a file of ``lstmc numbers ranges``.

    Raises :class:`BackendError` for any other file; ``backend`` is the backend whose net has the values.
    """
    try:
        values = read_json(Path(path), _RangesFile).values
    except (OSError, NotExpected) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no ranges of values: {error}"
        raise BackendError(f"{path}: {reason}", notes=[MEASURE.format(backend)]) from None
    return {each.name: (each.least, each.greatest) for each in values}


def integer_rounding(device: Device, *given: Any) -> IntegerRounding:
    """Return the arithmetic of a device of integers: TFLite's kernels, or lstmc's own."""
    return (TfliteRounding if device.kernels else IntegerRounding)(device, *given)


def step_rounding(device: Device, compiled: Compiled, limits: Mapping[str, Range]) -> IntegerRounding:
    """Return the arithmetic of a compiled net of one step; ``limits`` are the ranges of its values by name."""
    graph = compiled.expanded
    refs = [*graph.refs()]
    ranges = {ref: limits[name] for ref in refs if (name := graph.value_name(ref)) in limits}
    after = {output.name: output.ref for output in graph.outputs}
    return integer_rounding(device, graph, ranges, {Ref(p.before): after[p.after] for p in compiled.states or ()})
