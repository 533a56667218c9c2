"""The numbers of a net in C: those of a device of :mod:`lstmc.numerics` that C can compute in."""

from __future__ import annotations

from dataclasses import dataclass

from lstmc.errors import BackendError
from lstmc.ir import Graph
from lstmc.numerics import Device, read_device
from lstmc.numerics.device import Format
from lstmc.numerics.rounding import DeviceRounding
from lstmc_c.plan import Use


@dataclass(frozen=True)
class Numbers:
    """The numbers of a net: float32 where there is no ``device``."""

    device: Device | None = None

    @classmethod
    def by_name(cls, name: str) -> Numbers:
        """Return the numbers of a device, by its name or the path of its description; ``float32`` are those of C.

        Raises :class:`BackendError` for a device in whose numbers C does not compute.
        """
        if name == "float32":
            return FLOAT32
        device = read_device(name)
        weights = device.weights
        if device.values.format != "float" or weights.format not in ("float", "fp16", "int8"):
            raise BackendError(
                f"numbers={name}: C computes in float32: expected values in float, and weights in float, fp16 or int8"
            )
        return cls(device)

    @property
    def half(self) -> bool:
        """Whether matrices are float16."""
        return self.device is not None and self.device.weights.format == "fp16"

    def format_of(self, use: Use) -> Format:
        """Return the format of the numbers of a weight that is read so."""
        if self.device is None or use == "value" or (use == "bias" and self.device.weights.format == "int8"):
            return "float"
        return self.device.weights.format

    def rounding(self, graph: Graph) -> DeviceRounding | None:
        """Return the arithmetic of a net's graph of one step; None for float32."""
        return None if self.device is None else DeviceRounding(self.device, graph, {})


FLOAT32 = Numbers()
