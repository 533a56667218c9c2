"""Layers before and after recurrent ones: Embed, Dropout, Reduction."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import Array, Arrays, Draw, Dropout, Embed, Sample, Types
from lstmc.ops.base import AlongAxis, check_axis, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["DropoutLayer", "EmbedLayer", "Reduction"]


@dataclass(frozen=True)
class EmbedLayer(CaffeOp, Embed):
    """Embed (``embed_layer.cpp``) without a bias; blob W [input_dim, num_output]."""

    name = "caffe.Embed"
    layer_type = "Embed"
    settings = {
        "input_dim": "embed_param.input_dim",
        "num_output": "embed_param.num_output",
    }
    own_param = "embed_param"  # its bias_term, which is false
    input_dim: int = 0
    num_output: int = 0

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if w.shape != (self.input_dim, self.num_output):
            raise ShapeError(f"{self.name}: input_dim {self.input_dim}, num_output {self.num_output}, but w is {w}")
        return super().infer(x, w)

    def blobs(self, operands: int) -> range:
        return range(1, 2)

    def blob_types(self, bottoms: Types) -> Types:
        return (TensorType((self.input_dim, self.num_output)),)

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.embed_param.bias_term = False

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return None if layer.embed_param.bias_term else super().read(layer, bottoms)

    def fillers(self, layer: Any) -> list[Any]:
        return [layer.embed_param.weight_filler]

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x, w = Embed.sample(draw).operands
        return Sample(cls(*w.shape), (x, w))


@dataclass(frozen=True)
class DropoutLayer(CaffeOp, Dropout):
    """Dropout (``dropout_layer.cpp``): y = x in the phase TEST."""

    name = "caffe.Dropout"
    layer_type = "Dropout"
    settings = {"ratio": "dropout_param.dropout_ratio"}

    def as_read(self) -> CaffeOp:  # which dropout it is, is not in the layer
        return DropoutLayer(self.ratio)


@dataclass(frozen=True)
class Reduction(CaffeOp, AlongAxis):
    """Reduction, SUM (``reduction_layer.cpp``): x summed over all axes from ``axis`` on."""

    name = "caffe.Reduction"
    layer_type = "Reduction"
    settings = {"axis": "reduction_param.axis"}
    operands = ("x",)
    axis: int = 0

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (TensorType(x.shape[: self.axis], x.dtype),)

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.reshape(*x.shape[: self.axis], -1).sum(axis=-1)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        summed = prod(x.shape[self.axis :])
        return (np.repeat(cts[0].reshape(-1, 1), summed, axis=1).reshape(x.shape),)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))
