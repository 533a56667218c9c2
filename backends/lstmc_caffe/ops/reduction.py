"""Layers that sum up: sums along axes, and losses and scores, each of which has one top without axes.

The default ``loss_weight`` of Caffe's loss layers is 1 (``loss_layer.cpp``). So 0 is always
written; ``train/net.py`` sets the weight of the loss that training minimises.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import (
    Accuracy,
    Along,
    Array,
    Arrays,
    Draw,
    EuclideanLoss,
    Sample,
    SigmoidCrossEntropyLoss,
    SoftmaxLoss,
    Types,
)
from lstmc.ops.base import AlongAxis, check_axis, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["AccuracyLayer", "EuclideanLossLayer", "Reduction", "SigmoidCrossEntropyLossLayer", "SoftmaxWithLoss"]


def _check_four_axes(name: str, x: TensorType) -> None:
    if x.rank > 4:
        raise ShapeError(f"{name}: x must have at most 4 axes (Blob::num): x is {x}")


@dataclass(frozen=True)
class _Loss(CaffeOp):
    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.loss_weight.append(0.0)


@dataclass(frozen=True)
class SoftmaxWithLoss(_Loss, SoftmaxLoss):
    """SoftmaxWithLoss (``softmax_loss_layer.cpp``); the first axes of x and label must agree."""

    layer_type = "SoftmaxWithLoss"
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
        core = SoftmaxLoss.sample(draw)
        assert isinstance(core.op, SoftmaxLoss)
        x, label = (TensorType((2, *t.shape)) for t in core.operands)
        return Sample(cls(core.op.axis + 1, core.op.ignore_label, core.op.normalization), (x, label))


@dataclass(frozen=True)
class SigmoidCrossEntropyLossLayer(_Loss, SigmoidCrossEntropyLoss):
    """SigmoidCrossEntropyLoss (``sigmoid_cross_entropy_loss_layer.cpp``); it divides by the size of the first axis.

    This is the default of every version of the layer; only later versions have a setting for it.
    """

    layer_type = "SigmoidCrossEntropyLoss"
    normalization: str = "batch_size"

    def infer(self, x: TensorType, target: TensorType) -> Types:
        if self.normalization != "batch_size":
            raise ShapeError(f"{self.name}: normalization must be batch_size, found {self.normalization!r}")
        _check_four_axes(self.name, x)
        return super().infer(x, target)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(), SigmoidCrossEntropyLoss.sample(draw).operands)


@dataclass(frozen=True)
class EuclideanLossLayer(_Loss, EuclideanLoss):
    """EuclideanLoss (``euclidean_loss_layer.cpp``)."""

    layer_type = "EuclideanLoss"

    def infer(self, x: TensorType, target: TensorType) -> Types:
        _check_four_axes(self.name, x)
        return super().infer(x, target)


@dataclass(frozen=True)
class AccuracyLayer(CaffeOp, Accuracy):
    """Accuracy (``accuracy_layer.cpp``)."""

    layer_type = "Accuracy"
    settings = {
        "top_k": "accuracy_param.top_k",
        "axis": "accuracy_param.axis",
        "ignore_label": "accuracy_param.ignore_label",
    }


@dataclass(frozen=True)
class Reduction(CaffeOp, AlongAxis):
    """Reduction, SUM (``reduction_layer.cpp``): x summed over all axes from ``axis`` on."""

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

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return super().along(slot, axis, *types) if axis < self.axis else Along(None, (axis,), (None,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        return Sample(cls(draw.integer(0, x.rank - 1)), (x,))
