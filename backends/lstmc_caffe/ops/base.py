"""A Caffe layer as an op: what it computes, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lstmc.ops import Constant, Filler, Gaussian, Msra, Op, Uniform, Xavier

__all__ = ["CaffeOp", "write_filler"]


@dataclass(frozen=True)
class CaffeOp(Op):
    """An op that is one Caffe layer. Its name is ``caffe.`` and the layer's type."""

    backend = "caffe"
    layer_type: ClassVar[str]

    def blobs(self, operands: int) -> range:
        """Which of its operands are the layer's own learned blobs, not bottoms."""
        return range(0)

    def write(self, layer: Any) -> None:
        """Set the layer's own parameters in a LayerParameter message; defaults are left out."""

    def fillers(self, layer: Any) -> list[Any]:
        """The FillerParameter message of each learned blob, in order."""
        return []


def write_filler(message: Any, filler: Filler) -> None:
    """Write a filler into a FillerParameter message, as ``include/caffe/filler.hpp`` reads it."""
    message.type = filler.name
    match filler:
        case Constant(value):
            if value:
                message.value = value
        case Uniform(low, high):
            message.min, message.max = low, high
        case Gaussian(mean, std):
            message.mean, message.std = mean, std
        case Xavier(norm) | Msra(norm):
            if norm != "fan_in":
                message.variance_norm = getattr(type(message), norm.upper())
        case _:
            raise NotImplementedError(f"no Caffe filler for {filler!r}")
