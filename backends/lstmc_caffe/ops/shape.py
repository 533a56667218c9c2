"""Layers that move elements, or sum them up: along axes, or as losses and scores, which have one top without axes.
Caffe's losses have a ``loss_weight`` of 1 by default (``loss_layer.cpp``), so 0 is always written; ``train/net.py``
sets the weight of the loss that training minimises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Self

import numpy as np

from lstmc import ops as core
from lstmc.errors import ShapeError
from lstmc.ops import Along, Array, Arrays, Draw, Sample, Types, sample_type
from lstmc.ops.base import AlongAxis, check_axis
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp, front_axis
from lstmc_caffe.proto.net import read_setting

__all__ = ["AccuracyLayer", "EuclideanLossLayer", "Reduction", "SigmoidCrossEntropyLossLayer", "SoftmaxWithLoss"]
__all__ += ["ConcatLayer", "ReshapeLayer", "SliceLayer", "SplitLayer", "TileLayer"]


def _check_four_axes(name: str, x: TensorType) -> None:
    if x.rank > 4:
        raise ShapeError(f"{name}: x must have at most 4 axes (Blob::num): x is {x}")


@dataclass(frozen=True)
class _Loss(CaffeOp):
    """A loss or score, whose top has no axes."""

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.loss_weight.append(0.0)


@dataclass(frozen=True)
class SoftmaxWithLoss(_Loss, core.SoftmaxLoss):
    """SoftmaxWithLoss (``softmax_loss_layer.cpp``); the first axes of x and label must agree."""

    settings = {
        "axis": "softmax_param.axis",
        "ignore_label": "loss_param.ignore_label",
        "normalization": "loss_param.normalization",
    }
    own_param = "loss_param"  # its normalize is an older way to say normalization

    def infer(self, x: TensorType, label: TensorType) -> Types:
        result = super().infer(x, label)
        if x.shape[:1] != label.shape[:1]:
            raise ShapeError(f"{self.name}: first axes must agree (loss_layer.cpp): found {x}, {label}")
        return result

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        op, param = super().read(layer, bottoms), layer.loss_param
        if op is None or (param.HasField("normalize") and param.HasField("normalization")):
            return None
        if param.HasField("normalize"):
            return replace(op, normalization="valid" if param.normalize else "batch_size")
        return replace(op, normalization=op.normalization.lower())

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        sample = core.SoftmaxLoss.sample(draw)
        assert isinstance(sample.op, core.SoftmaxLoss)
        x, label = (TensorType((2, *t.shape)) for t in sample.operands)
        return Sample(cls(sample.op.axis + 1, sample.op.ignore_label, sample.op.normalization), (x, label))


@dataclass(frozen=True)
class SigmoidCrossEntropyLossLayer(_Loss, core.SigmoidCrossEntropyLoss):
    """SigmoidCrossEntropyLoss (``sigmoid_cross_entropy_loss_layer.cpp``); it divides by the size of the first axis.

    All versions of the layer divide so by default; only later versions have a setting.
    """

    normalization: str = "batch_size"

    def infer(self, x: TensorType, target: TensorType) -> Types:
        if self.normalization != "batch_size":
            raise ShapeError(f"{self.name}: normalization must be batch_size, found {self.normalization!r}")
        _check_four_axes(self.name, x)
        return super().infer(x, target)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), core.SigmoidCrossEntropyLoss.sample(draw).operands)


@dataclass(frozen=True)
class EuclideanLossLayer(_Loss, core.EuclideanLoss):
    """EuclideanLoss (``euclidean_loss_layer.cpp``)."""

    def infer(self, x: TensorType, target: TensorType) -> Types:
        _check_four_axes(self.name, x)
        return super().infer(x, target)


@dataclass(frozen=True)
class AccuracyLayer(CaffeOp, core.Accuracy):
    """Accuracy (``accuracy_layer.cpp``)."""

    settings = {
        "top_k": "accuracy_param.top_k",
        "axis": "accuracy_param.axis",
        "ignore_label": "accuracy_param.ignore_label",
    }


@dataclass(frozen=True)
class Reduction(CaffeOp, AlongAxis):
    """Reduction, SUM (``reduction_layer.cpp``): x summed over all axes from ``axis`` on."""

    settings = {"axis": "reduction_param.axis"}
    axis: int = 0

    def infer(self, x: TensorType) -> Types:
        check_axis(self.name, self.axis, x)
        return (TensorType(x.shape[: self.axis], x.dtype),)

    def eval(self, x: Array) -> Arrays:
        return (np.asarray(x.reshape(*x.shape[: self.axis], -1).sum(axis=-1)),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        summed = prod(x.shape[self.axis :])
        return (np.repeat(cts[0].reshape(-1, 1), summed, axis=1).reshape(x.shape),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return super().along(slot, axis, *types) if axis < self.axis else Along(None, (axis,), (None,))


@dataclass(frozen=True)
class SliceLayer(CaffeOp, core.Split):
    """Slice (``slice_layer.cpp``)."""

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
class ConcatLayer(CaffeOp, core.Concat):
    """Concat (``concat_layer.cpp``)."""

    settings = {"axis": "concat_param.axis"}


@dataclass(frozen=True)
class ReshapeLayer(CaffeOp, core.Reshape):
    """Reshape (``reshape_layer.cpp``): the top shares the memory of the bottom, without a copy."""

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
        copied = dict(enumerate(x.shape[start:stop]))  # a size of 0 copies the size of the bottom
        sizes = [copied.get(place, 0) if size == 0 else size for place, size in enumerate(param.shape.dim)]
        product = prod(size for size in sizes if size != -1)
        # a size of -1 takes the remaining elements
        sizes = [prod(copied.values()) // max(product, 1) if size == -1 else size for size in sizes]
        return cls((*x.shape[:start], *sizes, *x.shape[stop:]))


@dataclass(frozen=True)
class TileLayer(CaffeOp, core.Tile):
    """Tile (``tile_layer.cpp``)."""

    settings = {"axis": "tile_param.axis", "tiles": "tile_param.tiles"}


@dataclass(frozen=True)
class SplitLayer(CaffeOp):
    """Split (``split_layer.cpp``): its tops share its bottom's memory; their gradients add up."""

    operands = ("x",)
    copies: int = 2

    def infer(self, x: TensorType) -> Types:
        if self.copies < 1:
            raise ShapeError(f"{self.name}: copies must be at least 1, found {self.copies}")
        return (x,) * self.copies

    def eval(self, x: Array) -> Arrays:
        return (x,) * self.copies

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        return (sum(cts[1:], cts[0]),)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,), (axis,) * self.copies)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return cls(len(layer.top))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(draw.integer(1, 3)), (sample_type(draw),))
