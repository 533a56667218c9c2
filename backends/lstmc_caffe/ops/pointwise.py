"""Layers that work on each element alone: the core's functions under their Caffe names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lstmc import ops as core
from lstmc.errors import ShapeError
from lstmc.ops import Array, Draw, Pointwise, Sample, Types, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp
from lstmc_caffe.proto.net import other_settings

__all__ = ["AbsValLayer", "BNLLLayer", "DropoutLayer", "ELULayer", "ExpLayer", "LRNLayer", "LeakyReLU", "LogLayer"]
__all__ += ["PowerLayer", "ReLULayer", "RoundingPower", "SigmoidLayer", "SoftmaxLayer", "StopGradientPower"]
__all__ += ["TanHLayer"]


@dataclass(frozen=True)
class SigmoidLayer(CaffeOp, core.Sigmoid):
    """Sigmoid (``sigmoid_layer.cpp``)."""


@dataclass(frozen=True)
class TanHLayer(CaffeOp, core.Tanh):
    """TanH (``tanh_layer.cpp``)."""


@dataclass(frozen=True)
class ReLULayer(CaffeOp, core.Relu):
    """ReLU (``relu_layer.cpp``)."""


@dataclass(frozen=True)
class LeakyReLU(CaffeOp, core.LeakyRelu):
    """ReLU with a slope for negative values (``relu_layer.cpp``)."""

    name = "caffe.LeakyReLU"
    layer_type = "ReLU"
    settings = {"slope": "relu_param.negative_slope"}

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return super().read(layer, bottoms) if layer.relu_param.negative_slope else None


@dataclass(frozen=True)
class StopGradientPower(CaffeOp, core.StopGradient):
    """Power with exponent 1 (``power_layer.cpp``) and ``propagate_down: false``, which ``force_backward`` overrides."""

    name = "caffe.StopGradientPower"
    layer_type = "Power"
    own_param = "propagate_down"

    def write(self, layer: Any) -> None:
        layer.propagate_down.append(False)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return super().read(layer, bottoms) if list(layer.propagate_down) == [False] else None


@dataclass(frozen=True)
class RoundingPower(CaffeOp, Pointwise):
    """Power (``power_layer.cpp``) with a shift so large that float32 cannot hold a fraction beside it: y = shift +
    round(x).

    For |x| up to 2**22, ties to the even number; with the shift ``HALF`` the same in float16, for |x| up to 2**9. Its
    slope is 0, so it has ``propagate_down: false``.
    """

    name = "caffe.RoundingPower"
    layer_type = "Power"
    stops_gradient = True
    HALF: ClassVar[float] = 1.5 * 2**10
    shift: float = 1.5 * 2**23

    def f(self, x: Array) -> Array:
        return self.shift + np.rint(x)

    def df(self, y: Array, x: Array) -> float:
        return 0.0

    def write(self, layer: Any) -> None:
        layer.power_param.shift = self.shift
        layer.propagate_down.append(False)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        others = any(other_settings(layer, {"power_param.shift", "propagate_down"}))
        shift = layer.power_param.shift
        shifted = shift in (cls.shift, cls.HALF) and list(layer.propagate_down) == [False]
        return cls(shift) if shifted and not others else None


@dataclass(frozen=True)
class BNLLLayer(CaffeOp, core.Softplus):
    """BNLL (``bnll_layer.cpp``), binomial normal log likelihood."""


@dataclass(frozen=True)
class ELULayer(CaffeOp, core.Elu):
    """ELU (``elu_layer.cpp``)."""

    settings = {"alpha": "elu_param.alpha"}


@dataclass(frozen=True)
class AbsValLayer(CaffeOp, core.Abs):
    """AbsVal (``absval_layer.cpp``)."""


@dataclass(frozen=True)
class ExpLayer(CaffeOp, core.Exp):
    """Exp (``exp_layer.cpp``), base e."""


@dataclass(frozen=True)
class LogLayer(CaffeOp, core.Log):
    """Log (``log_layer.cpp``), base e."""


@dataclass(frozen=True)
class SoftmaxLayer(CaffeOp, core.Softmax):
    """Softmax (``softmax_layer.cpp``)."""

    settings = {"axis": "softmax_param.axis"}


@dataclass(frozen=True)
class PowerLayer(CaffeOp, Pointwise):
    """Power (``power_layer.cpp``): y = (shift + scale * x) ** power.

    Unless ``power`` is 0, 1 or 2, the backward pass divides y by x, so the gradient at x = 0 is NaN.
    """

    settings = {"power": "power_param.power", "scale": "power_param.scale", "shift": "power_param.shift"}
    sample_values = ((1.0, 2.0, 0.5, -1.0), (1.0, 0.5), (0.0, 0.25))
    sample_range = (0.3, 2.0)
    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    def f(self, x: Array) -> Array:
        inner: Array = self.shift + self.scale * x
        return inner if self.power == 1 else np.power(inner, self.power)

    def df(self, y: Array, x: Array) -> Array:
        if self.power == 1 or self.power * self.scale == 0:
            return np.full_like(x, self.power * self.scale)
        slope: Array = self.power * self.scale * np.power(self.shift + self.scale * x, self.power - 1)
        return slope


@dataclass(frozen=True)
class LRNLayer(CaffeOp, Pointwise):
    """LRN over single channels (``lrn_layer.cpp``): y = x / (k + x * x) ** beta, on blobs of four axes.

    Caffe's running sum of squares over channels adds and subtracts, so it is exact for one channel only.
    """

    settings = {"beta": "lrn_param.beta", "k": "lrn_param.k"}
    own_param = "lrn_param"  # local_size
    beta: float = 0.75
    k: float = 1.0

    def infer(self, x: TensorType) -> Types:
        if x.rank != 4:
            raise ShapeError(f"{self.name}: x must have 4 axes, [N, C, H, W]: x is {x}")
        return (x,)

    def f(self, x: Array) -> Array:
        inner: Array = self.k + x * x
        return x * np.power(inner, -self.beta)

    def df(self, y: Array, x: Array) -> Array:
        inner: Array = self.k + x * x
        slope: Array = np.power(inner, -self.beta) * (1 - 2 * self.beta * x * x / inner)
        return slope

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.lrn_param.local_size = 1

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        param = layer.lrn_param
        alone = param.local_size == 1 and param.alpha == 1 and param.norm_region == 0  # ACROSS_CHANNELS
        return super().read(layer, bottoms) if alone else None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        op = cls(draw.choice((0.25, 0.75, 1.0)), draw.choice((0.5, 1.0)))
        return Sample(op, (sample_type(draw, (4, 4)),), 0.3, 2.0)


@dataclass(frozen=True)
class DropoutLayer(CaffeOp, core.Dropout):
    """Dropout (``dropout_layer.cpp``): y = x in the phase TEST."""

    settings = {"ratio": "dropout_param.dropout_ratio"}

    def as_read(self) -> CaffeOp:  # which dropout it is, is not in the layer
        return DropoutLayer(self.ratio)
