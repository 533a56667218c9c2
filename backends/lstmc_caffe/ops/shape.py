"""Layers that move elements and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Self

from lstmc.errors import ShapeError
from lstmc.ops import Along, Array, Arrays, Concat, Draw, Reshape, Sample, Split, Tile, Types, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp, front_axis
from lstmc_caffe.proto.net import read_setting

__all__ = ["ConcatLayer", "ReshapeLayer", "SliceLayer", "SplitLayer", "TileLayer"]


@dataclass(frozen=True)
class SliceLayer(CaffeOp, Split):
    """Slice (``slice_layer.cpp``)."""

    layer_type = "Slice"
    settings = {"axis": "slice_param.axis"}

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.slice_param.slice_point.extend(list(accumulate(self.sizes))[:-1])

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        x, count = bottoms[0], len(layer.top)
        axis = front_axis(cls.name, read_setting(layer, "slice_param.axis"), x)
        points = list(layer.slice_param.slice_point)
        if not points:  # as many equal pieces as there are tops
            points = [x.shape[axis] * i // count for i in range(1, count)]
        return cls(axis, tuple(after - before for before, after in pairwise([0, *points, x.shape[axis]])))


@dataclass(frozen=True)
class ConcatLayer(CaffeOp, Concat):
    """Concat (``concat_layer.cpp``)."""

    layer_type = "Concat"
    settings = {"axis": "concat_param.axis"}


@dataclass(frozen=True)
class ReshapeLayer(CaffeOp, Reshape):
    """Reshape (``reshape_layer.cpp``): shares its bottom's memory, copies nothing."""

    layer_type = "Reshape"

    def write(self, layer: Any) -> None:
        layer.reshape_param.shape.dim.extend(self.shape)
        if not self.shape:
            layer.reshape_param.shape.SetInParent()

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        param, x = layer.reshape_param, bottoms[0]
        start = param.axis if param.axis >= 0 else param.axis + x.rank + 1
        stop = x.rank if param.num_axes == -1 else start + param.num_axes
        if not 0 <= start <= stop <= x.rank:
            raise ShapeError(f"{cls.name}: axes {start} up to {stop} do not exist: x is {x}, with {x.rank} axes")
        copied = dict(enumerate(x.shape[start:stop]))  # what 0 stands for
        sizes = [copied.get(place, 0) if size == 0 else size for place, size in enumerate(param.shape.dim)]
        product = prod(size for size in sizes if size != -1)
        # and -1 for what is left
        sizes = [prod(copied.values()) // max(product, 1) if size == -1 else size for size in sizes]
        return cls((*x.shape[:start], *sizes, *x.shape[stop:]))


@dataclass(frozen=True)
class TileLayer(CaffeOp, Tile):
    """Tile (``tile_layer.cpp``)."""

    layer_type = "Tile"
    settings = {"axis": "tile_param.axis", "tiles": "tile_param.tiles"}


@dataclass(frozen=True)
class SplitLayer(CaffeOp):
    """Split (``split_layer.cpp``): its tops share its bottom's memory; their gradients add up."""

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

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,), (axis,) * self.copies)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return cls(len(layer.top))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.integer(1, 3)), (sample_type(draw),))
