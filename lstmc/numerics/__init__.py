"""The numbers of a net: the ranges of its values over streams of data, and what the numbers of a device make of it."""

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
