"""Layers on images, blobs of four axes: convolution and pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lstmc.errors import ShapeError
from lstmc.ops import AvePool, Conv, Draw, MaxPool, Op, Sample, Types
from lstmc.ops.images import Pair, Pool
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["AvePooling", "Convolution", "MaxPooling"]


def _check_axes(name: str, x: TensorType) -> None:
    if x.rank != 4:
        raise ShapeError(f"{name}: x must have 4 axes, [N, C, H, W]: x is {x}")


def _four_axes(sample: Sample) -> TensorType:
    """The sample's images, as a batch."""
    x = sample.operands[0]
    return TensorType((2, *x.shape[-3:]), x.dtype)


def _write_pair(param: Any, name: str, pair: Pair, default: int) -> None:
    """A repeated field of one number or two: height, width."""
    if pair != (default, default):
        getattr(param, name).extend(pair if pair[0] != pair[1] else pair[:1])


@dataclass(frozen=True)
class Convolution(CaffeOp, Conv):
    """Convolution (``conv_layer.cpp``) over x [N, C, H, W]; blobs W [out, C / group, kh, kw], b [out]."""

    name = "caffe.Convolution"
    layer_type = "Convolution"
    num_output: int = 0
    kernel: Pair = (1, 1)
    bias: bool = False

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        _check_axes(self.name, x)
        if (w.shape[:1], w.shape[2:]) != ((self.num_output,), self.kernel) or self.bias != (b is not None):
            raise ShapeError(
                f"{self.name}: num_output {self.num_output}, kernel {self.kernel}, bias {self.bias},"
                f" but w is {w}, b is {b}"
            )
        return super().infer(x, w, b)

    def over_time(self, steps: int, mapped: Any) -> Op | None:
        return None  # its images have no fifth axis

    def blobs(self, operands: int) -> range:
        return range(1, operands)

    def write(self, layer: Any) -> None:
        param = layer.convolution_param
        param.num_output = self.num_output
        if not self.bias:
            param.bias_term = False
        param.kernel_size.extend(self.kernel if self.kernel[0] != self.kernel[1] else self.kernel[:1])
        _write_pair(param, "stride", self.stride, 1)
        _write_pair(param, "pad", self.pad, 0)
        _write_pair(param, "dilation", self.dilation, 1)
        if self.group != 1:
            param.group = self.group

    def fillers(self, layer: Any) -> list[Any]:
        param = layer.convolution_param
        return [param.weight_filler, param.bias_filler] if self.bias else [param.weight_filler]

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        core = Conv.sample(draw)
        assert isinstance(core.op, Conv)
        _, w, *b = core.operands
        kernel = (w.shape[2], w.shape[3])
        op = cls(core.op.stride, core.op.pad, core.op.dilation, core.op.group, w.shape[0], kernel, bool(b))
        return Sample(op, (_four_axes(core), w, *b))


@dataclass(frozen=True)
class _Pooling(CaffeOp, Pool):
    """Pooling of x [N, C, H, W]."""

    method: ClassVar[str]

    def infer(self, x: TensorType) -> Types:
        _check_axes(self.name, x)
        return super().infer(x)

    def over_time(self, steps: int, mapped: Any) -> Op | None:
        return None  # its images have no fifth axis

    def write(self, layer: Any) -> None:
        param = layer.pooling_param
        if self.method != "MAX":
            param.pool = getattr(type(param), self.method)
        for field, pair, default in (("kernel", self.size, 0), ("stride", self.stride, 1), ("pad", self.pad, 0)):
            if pair[0] != pair[1]:
                setattr(param, f"{field}_h", pair[0])
                setattr(param, f"{field}_w", pair[1])
            elif pair[0] != default:
                setattr(param, "kernel_size" if field == "kernel" else field, pair[0])

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        core = super().sample(draw)
        return Sample(core.op, (_four_axes(core),), core.low, core.high)


@dataclass(frozen=True)
class MaxPooling(_Pooling, MaxPool):
    """Pooling, MAX (``pooling_layer.cpp``)."""

    name = "caffe.MaxPooling"
    layer_type = "Pooling"
    method = "MAX"


@dataclass(frozen=True)
class AvePooling(_Pooling, AvePool):
    """Pooling, AVE (``pooling_layer.cpp``)."""

    name = "caffe.AvePooling"
    layer_type = "Pooling"
    method = "AVE"
