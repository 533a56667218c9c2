"""Low precision: the ranges of a net's values over streams of data, and the errors of a net in a device's numbers."""

from lstmc.numerics.device import Device, device_names, device_of, products_of, read_device
from lstmc.numerics.effects import NumbersReport, Simulation
from lstmc.numerics.ranges import Ranges, ValueRange, measure_ranges
from lstmc.numerics.sequences import Sequences, StepRunner

__all__ = [
    "Device",
    "NumbersReport",
    "Ranges",
    "Sequences",
    "Simulation",
    "StepRunner",
    "ValueRange",
    "device_names",
    "device_of",
    "measure_ranges",
    "products_of",
    "read_device",
]
