"""Layers that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from lstmc.errors import ShapeError
from lstmc.ops import Array, Arrays, Concat, Draw, Op, Reshape, Sample, Split, Tile, Types
from lstmc.ops.base import sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["ConcatLayer", "ReshapeLayer", "SliceLayer", "SplitLayer", "TileLayer"]


@dataclass(frozen=True)
class SliceLayer(CaffeOp, Split):
    """Slice (``slice_layer.cpp``)."""

    name = "caffe.Slice"
    layer_type = "Slice"

    def write(self, layer: Any) -> None:
        if self.axis != 1:
            layer.slice_param.axis = self.axis
        layer.slice_param.slice_point.extend(list(accumulate(self.sizes))[:-1])


@dataclass(frozen=True)
class ConcatLayer(CaffeOp, Concat):
    """Concat (``concat_layer.cpp``)."""

    name = "caffe.Concat"
    layer_type = "Concat"

    def write(self, layer: Any) -> None:
        if self.axis != 1:
            layer.concat_param.axis = self.axis


@dataclass(frozen=True)
class ReshapeLayer(CaffeOp, Reshape):
    """Reshape (``reshape_layer.cpp``): shares its bottom's memory, copies nothing."""

    name = "caffe.Reshape"
    layer_type = "Reshape"

    def write(self, layer: Any) -> None:
        layer.reshape_param.shape.dim.extend(self.shape)
        if not self.shape:
            layer.reshape_param.shape.SetInParent()


@dataclass(frozen=True)
class TileLayer(CaffeOp, Tile):
    """Tile (``tile_layer.cpp``)."""

    name = "caffe.Tile"
    layer_type = "Tile"

    def write(self, layer: Any) -> None:
        if self.axis != 1:
            layer.tile_param.axis = self.axis
        layer.tile_param.tiles = self.tiles


@dataclass(frozen=True)
class SplitLayer(CaffeOp):
    """Split (``split_layer.cpp``): its tops share its bottom's memory; their gradients add up."""

    name = "caffe.Split"
    layer_type = "Split"
    operands = ("x",)
    copies: int = 2

    def infer(self, x: TensorType) -> Types:
        if self.copies < 1:
            raise ShapeError(f"{self.name}: copies must be at least 1, found {self.copies}")
        return (x,) * self.copies

    def eval(self, x: Array) -> Arrays:
        return (x,) * self.copies

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        total = cts[0]
        for ct in cts[1:]:
            total = total + ct
        return (total,)

    def over_time(self, steps: int, mapped: Sequence[bool]) -> Op | None:
        return self

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.integer(1, 3)), (sample_type(draw),))
