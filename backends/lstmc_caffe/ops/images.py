"""Layers on images, blobs of four axes: convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from lstmc.errors import ShapeError
from lstmc.ops import AvePool, Conv, Draw, MaxPool, Sample, Types
from lstmc.ops.layers import Pair, Pool
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp, front_axis
from lstmc_caffe.proto.net import field_value, other_settings

__all__ = ["WINDOWS", "AvePooling", "Convolution", "MaxPooling", "WindowKind", "unusual_windows"]


def _check_axes(name: str, x: TensorType) -> None:
    if x.rank != 4:
        raise ShapeError(f"{name}: x must have 4 axes, [N, C, H, W]: x is {x}")


def _four_axes(sample: Sample) -> TensorType:
    x = sample.operands[0]
    return TensorType((2, *x.shape[-3:]), x.dtype)


def _own_fields(param: Any, name: str) -> list[str]:
    """Return the fields for height and width: ``kernel_h``, ``kernel_w`` for ``kernel_size``; none for ``dilation``."""
    names = [f"{name.removesuffix('_size')}_{axis}" for axis in "hw"]
    return [each for each in names if each in param.DESCRIPTOR.fields_by_name]


DEFAULTS = {"kernel_size": 0, "stride": 1, "pad": 0, "dilation": 1}  # of a height or width that is not given


def _write_pair(param: Any, name: str, pair: Pair) -> None:
    """Write height and width: as one number if they are equal, otherwise as two fields if the message has them. A
    repeated field may have two numbers too, but MNN takes the first of them for the width."""
    own = _own_fields(param, name)
    if pair[0] != pair[1] and own:
        for field, number in zip(own, pair, strict=True):
            setattr(param, field, number)
    elif pair != (DEFAULTS[name],) * 2:
        if isinstance(getattr(param, name), int):
            setattr(param, name, pair[0])
        else:
            getattr(param, name).extend(pair if pair[0] != pair[1] else pair[:1])


def _read_pair(param: Any, name: str) -> Pair:
    """Return height and width as :func:`_write_pair` writes them, or two numbers of a repeated field."""
    own = _own_fields(param, name)
    if any(map(param.HasField, own)):
        return getattr(param, own[0]), getattr(param, own[1])
    value = getattr(param, name)
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return (numbers or (DEFAULTS[name],)) * 2 if len(numbers) < 2 else numbers


MeanKind = Literal["padded mean", "short mean", "short padded mean"]
WindowKind = Literal["clipped", "clipped unpadded", MeanKind, "far short", "padded whole", "padding alone"]
# What a target expects that does not allow windows of a kind.
WINDOWS: dict[WindowKind, str] = {
    "clipped": "windows that begin before the image ends",
    "clipped unpadded": "windows that begin before the image ends",
    "padded mean": "a mean without padding",
    "short mean": "windows that end with the padded image",
    "short padded mean": "windows that end with the padded image",
    "far short": "a smaller stride, or a larger window",
    "padded whole": "no padding, or a smaller window",
    "padding alone": "less padding than the window is long",
}


def unusual_windows(layer: Any, image: Sequence[int]) -> dict[WindowKind, str]:
    """Return the ways in which windows of a Convolution or Pooling on x [N, C, H, W] are unusual, each with an example:

    - ``clipped``: Caffe's Pooling leaves out a last window, which would begin in the padding after the image
      (``pooling_layer.cpp``); ``clipped unpadded``: along an axis without padding
    - ``padded mean``, ``short mean``: a mean that counts padding; a mean of fewer elements, because its window ends
      beyond the padded image; ``short padded mean``: along an axis with padding
    - ``far short``: the last window ends beyond the padded image, its stride a window's length or more after the image
    - ``padded whole``: a window as large as the image, with padding around the image
    - ``padding alone``: a window that lies entirely in the padding
    """
    pooling = layer.type == "Pooling"
    param = layer.pooling_param if pooling else layer.convolution_param
    if pooling and param.global_pooling:
        return {}
    pairs = tuple(zip(*(_read_pair(param, name) for name in ("kernel_size", "stride", "pad")), strict=True))
    sizes, padded = tuple(size for size, _, _ in pairs), any(pad for _, _, pad in pairs)
    unusual: dict[WindowKind, str] = {}
    for axis, n, (size, stride, pad) in zip((2, 3), image[2:], pairs, strict=True):
        along = f"along axis {axis} of {list(image)}"
        beyond = -((size - n - 2 * pad) // stride) * stride  # where the last window begins in the padded image
        if not pooling:
            if pad >= _read_pair(param, "dilation")[axis - 2] * (size - 1) + 1:
                unusual["padding alone"] = f"a window {along} lies in the padding"
            continue
        if padded and beyond >= n + pad:
            unusual["clipped"] = f"the last window {along} is left out"
            unusual |= {} if pad else {"clipped unpadded": unusual["clipped"]}
        if param.pool == param.AVE and pad:
            unusual["padded mean"] = f"a mean {along} counts the padding"
        if n + 2 * pad > beyond > n + 2 * pad - size:
            short = f"the last window {along} reaches behind it"
            unusual |= {"far short": short} if beyond + stride >= n + size else {}
            if param.pool == param.AVE:
                unusual |= {"short mean": short, **({"short padded mean": short} if pad else {})}
        if pad and sizes == tuple(image[2:]):
            unusual["padded whole"] = f"a window {along} is as large as it, with padding"
    return unusual


@dataclass(frozen=True)
class Convolution(CaffeOp, Conv):
    """Convolution (``conv_layer.cpp``) over x [N, C, H, W]; blobs W [out, C / group, kh, kw], b [out]."""

    settings = {
        "num_output": "convolution_param.num_output",
        "bias": "convolution_param.bias_term",
        "group": "convolution_param.group",
    }
    own_param = "convolution_param"  # pairs of numbers, for height and width
    blob_fillers = ("convolution_param.weight_filler", "convolution_param.bias_filler")
    num_output: int = 0
    kernel: Pair = (1, 1)
    bias: bool = False

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        _check_axes(self.name, x)
        if (w.shape[:1], w.shape[2:]) != ((self.num_output,), self.kernel) or self.bias != (b is not None):
            fields = f"num_output {self.num_output}, kernel {self.kernel}, bias {self.bias}"
            raise ShapeError(f"{self.name}: {fields}, but w is {w}, b is {b}")
        return super().infer(x, w, b)

    def blob_types(self, bottoms: Types) -> Types:
        w = TensorType((self.num_output, bottoms[0].shape[-3] // max(self.group, 1), *self.kernel))
        return (w, TensorType(w.shape[:1])) if self.bias else (w,)

    def write(self, layer: Any) -> None:
        super().write(layer)
        for name, pair in zip(DEFAULTS, (self.kernel, self.stride, self.pad, self.dilation), strict=True):
            _write_pair(layer.convolution_param, name, pair)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        op, param, (x, *_) = super().read(layer, bottoms), layer.convolution_param, bottoms
        _check_axes(cls.name, x)
        if op is None or front_axis(cls.name, param.axis, x) != 1:
            return None
        kernel, stride, pad, dilation = (_read_pair(param, name) for name in DEFAULTS)
        return replace(op, kernel=kernel, stride=stride, pad=pad, dilation=dilation)

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
    own_param = "pooling_param"

    def infer(self, x: TensorType) -> Types:
        _check_axes(self.name, x)
        return super().infer(x)

    def write(self, layer: Any) -> None:
        param = layer.pooling_param
        if self.method != "MAX":
            param.pool = getattr(type(param), self.method)
        for name, pair in (("kernel_size", self.size), ("stride", self.stride), ("pad", self.pad)):
            _write_pair(param, name, pair)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        param, (x, *_) = layer.pooling_param, bottoms
        if any(other_settings(layer, {cls.own_param})) or field_value(param, "pool") != cls.method:
            return None
        _check_axes(cls.name, x)
        size = (x.shape[2], x.shape[3]) if param.global_pooling else _read_pair(param, "kernel_size")
        return cls(size, _read_pair(param, "stride"), _read_pair(param, "pad"))

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
