"""The numbers of a net: the ranges of its values over streams of data, and what lower precision makes of them."""

from lstmc.numerics.ranges import Ranges, ValueRange, measure_ranges
from lstmc.numerics.sequences import Sequences, StepRunner

__all__ = ["Ranges", "Sequences", "StepRunner", "ValueRange", "measure_ranges"]
