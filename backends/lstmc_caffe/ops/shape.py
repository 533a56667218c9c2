"""Layers that move elements and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from lstmc.ops import Concat, Reshape, Split
from lstmc_caffe.ops.base import CaffeOp


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
