"""Elementwise ops: functions of one array, and functions of two arrays with broadcasting.
The gradient at a kink of a function is Caffe's: relu and abs 0, leaky_relu ``slope``, elu ``alpha``
(``src/caffe/layers/{relu,absval,elu}_layer.cpp``). Broadcasting is NumPy's, with the limits of Caffe's Scale and Bias:
one operand has the result's shape, and the other covers a run of adjacent axes (``axis`` and ``num_axes``)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops.base import Along, Array, Arrays, Draw, Op, Pointwise, Sample, Types, applied, sample_type
from lstmc.ops.shape import Reshape, Sum
from lstmc.types import TensorType

__all__ = [
    "Abs", "Add", "Affine", "Binary", "Cos", "Elu", "Exp", "LeakyRelu", "Log", "Maximum", "Mul", "Positive", "Power",
    "Precomputed", "Relu", "Round", "Sigmoid", "Sin", "Softplus", "StopGradient", "Sub", "Tanh",
]  # fmt: skip


@dataclass(frozen=True)
class Sigmoid(Pointwise):
    """y = 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""

    name = "sigmoid"

    def f(self, x: Array) -> Array:
        y: Array = 0.5 * np.tanh(0.5 * x) + 0.5
        return y

    def df(self, y: Array, x: Array) -> Array:
        return y * (1 - y)


@dataclass(frozen=True)
class Tanh(Pointwise):
    """y = tanh(x)."""

    name = "tanh"

    def f(self, x: Array) -> Array:
        return np.tanh(x)

    def df(self, y: Array, x: Array) -> Array:
        return 1 - y * y


@dataclass(frozen=True)
class Positive(Pointwise):
    """y = 1 for x > 0, else 0: the slope of a relu, in gradients."""

    name = "positive"

    def f(self, x: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def df(self, y: Array, x: Array) -> float:
        return 0.0


def positive(x: Array) -> Array:
    return applied(Positive(), x)[0]


@dataclass(frozen=True)
class Relu(Pointwise):
    """y = max(x, 0)."""

    name = "relu"

    def f(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def df(self, y: Array, x: Array) -> Array:
        return positive(x)


@dataclass(frozen=True)
class LeakyRelu(Pointwise):
    """y = x for x > 0, else slope * x. Maas et al. 2013."""

    name = "leaky_relu"
    sample_values = ((0.01, 0.5),)
    slope: float = 0.01

    def f(self, x: Array) -> Array:
        return np.where(x > 0, x, self.slope * x)

    def df(self, y: Array, x: Array) -> Array:
        return self.slope + (1 - self.slope) * positive(x)


@dataclass(frozen=True)
class StopGradient(Pointwise):
    """y = x, without a gradient: for x, and for everything that x depends on, y is a constant."""

    name = "stop_gradient"
    stops_gradient = True

    def f(self, x: Array) -> Array:
        return x

    def df(self, y: Array, x: Array) -> float:
        return 0.0


@dataclass(frozen=True)
class Precomputed(Pointwise):
    """y = x, for an x that depends on parameters alone: y is a weight of the net, computed once, when the weights are
    written. The pass ``precompute`` makes it, in nets that are not trained."""

    name = "precomputed"

    def f(self, x: Array) -> Array:
        return x

    def df(self, y: Array, x: Array) -> float:
        return 1.0


@dataclass(frozen=True)
class Round(Pointwise):
    """The integer nearest to x, ties to even, for |x| up to 2**22; no gradient flows through it."""

    name = "round"
    stops_gradient = True

    def f(self, x: Array) -> Array:
        return np.rint(x)

    def df(self, y: Array, x: Array) -> float:
        return 0.0


@dataclass(frozen=True)
class Softplus(Pointwise):
    """y = ln(1 + exp(x)), a relu without a kink, which cannot overflow. Dugas et al. 2001."""

    name = "softplus"

    def f(self, x: Array) -> Array:
        return np.logaddexp(x, 0)

    def df(self, y: Array, x: Array) -> Array:
        return applied(Exp(), x - y)[0]


@dataclass(frozen=True)
class Elu(Pointwise):
    """y = x for x > 0, else alpha (exp(x) - 1). Clevert et al. 2015."""

    name = "elu"
    sample_values = ((1.0, 0.5),)
    alpha: float = 1.0

    def f(self, x: Array) -> Array:
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def df(self, y: Array, x: Array) -> Array:
        above, (below,) = positive(x), applied(Relu(), -y)  # not y + alpha: if y is infinite, 0 times it is NaN
        return above + (1 - above) * (self.alpha - below)


@dataclass(frozen=True)
class Abs(Pointwise):
    """y = |x|."""

    name = "abs"

    def f(self, x: Array) -> Array:
        return np.abs(x)

    def df(self, y: Array, x: Array) -> Array:
        return positive(x) - positive(-x)


@dataclass(frozen=True)
class Exp(Pointwise):
    """y = e ** x."""

    name = "exp"

    def f(self, x: Array) -> Array:
        return np.exp(x)

    def df(self, y: Array, x: Array) -> Array:
        return y


@dataclass(frozen=True)
class Log(Pointwise):
    """y = ln(x), for x > 0."""

    name = "log"
    sample_range = (0.3, 2.0)

    def f(self, x: Array) -> Array:
        return np.log(x)

    def df(self, y: Array, x: Array) -> Array:
        return 1 / x


@dataclass(frozen=True)
class Sin(Pointwise):
    """y = sin(x), x in radians.
    Caffe and its readers have no layer of the sine: their nets compute a polynomial of x, reduced by multiples of pi,
    within 1e-6 in float32 for ``|x|`` up to 1e5. Generated layers and ONNX call the sine itself."""

    name = "sin"

    def f(self, x: Array) -> Array:
        return np.sin(x)

    def df(self, y: Array, x: Array) -> Array:
        return applied(Cos(), x)[0]


@dataclass(frozen=True)
class Cos(Pointwise):
    """y = cos(x), x in radians: a polynomial on the same targets as ``sin``, with the same error."""

    name = "cos"

    def f(self, x: Array) -> Array:
        return np.cos(x)

    def df(self, y: Array, x: Array) -> Array:
        return -applied(Sin(), x)[0]


@dataclass(frozen=True)
class Power(Pointwise):
    """y = x ** exponent; x must be positive unless the exponent is an integer."""

    name = "power"
    sample_values = ((0.0, 1.0, 2.0, 3.0, 0.5, -1.0),)
    sample_range = (0.3, 2.0)
    exponent: float

    def f(self, x: Array) -> Array:
        return np.power(x, _whole(self.exponent))

    def df(self, y: Array, x: Array) -> Array | float:
        if self.exponent == 0:
            return 0.0
        return self.exponent * applied(Power(self.exponent - 1), x)[0]


def _whole(exponent: float) -> float:
    # NumPy's power is exact for a small whole exponent only if it is an int
    return int(exponent) if exponent == int(exponent) and exponent >= 0 else exponent


@dataclass(frozen=True)
class Affine(Pointwise):
    """y = scale * x + shift; ``scale`` and ``shift`` are two numbers."""

    name = "affine"
    sample_values = ((-1.0, 0.5, 2.0), (0.0, 1.0, -0.25))
    scale: float = 1.0
    shift: float = 0.0

    def f(self, x: Array) -> Array:
        return self.scale * x + self.shift

    def df(self, y: Array, x: Array) -> float:
        return self.scale


def covered_axes(small: tuple[int, ...], large: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the axes [start, stop) of ``large`` along which an operand of shape ``small`` varies after broadcasting.
    None if it does not broadcast, or varies along axes that are not consecutive: (4,) over (2, 4) is (1, 2); (2, 1)
    over (2, 4) is (0, 1); (1,) over (2, 4) is (0, 0)."""
    if len(small) > len(large):
        return None
    padded = (1,) * (len(large) - len(small)) + small
    if any(s not in (1, n) for s, n in zip(padded, large, strict=True)):
        return None
    varying = [axis for axis, s in enumerate(padded) if s > 1]
    if not varying:
        return 0, 0
    start, stop = varying[0], varying[-1] + 1
    return (start, stop) if padded[start:stop] == large[start:stop] else None


@dataclass(frozen=True)
class Binary(Op):
    """An element-wise op on x and y."""

    operands = ("x", "y")

    def infer(self, x: TensorType, y: TensorType) -> Types:
        """Return the type of the operand over which the other is broadcast."""
        if x.shape == y.shape:
            return (x,)
        if covered_axes(y.shape, x.shape) is not None:
            return (x,)
        if covered_axes(x.shape, y.shape) is not None:
            return (y,)
        raise ShapeError(f"{self.name}: shapes do not fit: x is {x}, y is {y}{self._hint(x, y)}")

    def _hint(self, x: TensorType, y: TensorType) -> str:
        """Return what the user may have meant with operands of these shapes; empty if nothing is likely."""
        large, small = (x, y) if x.rank > y.rank else (y, x)
        if any(small.shape == large.shape[:axis] + large.shape[axis + 1 :] for axis in range(large.rank)):
            return "; a sum, mean or max keeps its axis, with one element, by keepdims=True"
        return ""

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        ranks, last = [type_.rank for type_ in types], types[slot].rank - axis  # axes are aligned from the last one
        return Along(self, tuple(rank - last if rank >= last else None for rank in ranks), (max(ranks) - last,))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        start = draw.integer(0, x.rank - 1)
        stop = draw.integer(start + 1, x.rank)
        covering = x.shape[start:stop] + (1,) * (x.rank - stop)
        y = TensorType(draw.choice((x.shape, covering)))
        return Sample(cls(), draw.choice(((x, y), (y, x))))


@dataclass(frozen=True)
class Add(Binary):
    """z = x + y."""

    name = "add"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x + y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0], x.shape), sum_to(cts[0], y.shape)


@dataclass(frozen=True)
class Sub(Binary):
    """z = x - y."""

    name = "sub"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x - y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0], x.shape), sum_to(-cts[0], y.shape)


@dataclass(frozen=True)
class Mul(Binary):
    """z = x * y."""

    name = "mul"

    def _hint(self, x: TensorType, y: TensorType) -> str:
        if y.rank == 2 and x.rank and x.shape[-1] in y.shape:
            return "; a product with a matrix W [out, in] is linear(x, W)"
        return super()._hint(x, y)

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x * y,)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return sum_to(cts[0] * y, x.shape), sum_to(cts[0] * x, y.shape)


@dataclass(frozen=True)
class Maximum(Binary):
    """z is the larger of x and y. If they are equal, the gradient goes to y, as in Caffe (``eltwise_layer.cpp``)."""

    name = "maximum"

    def eval(self, x: Array, y: Array) -> Arrays:
        return (np.maximum(x, y),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        of_x = cts[0] * positive(x - y)
        return sum_to(of_x, x.shape), sum_to(cts[0] - of_x, y.shape)


def sum_to(ct: Array, shape: tuple[int, ...]) -> Array:
    """Return a cotangent summed over the axes along which broadcasting repeated an operand of ``shape``."""
    padded = (1,) * (len(ct.shape) - len(shape)) + shape
    for axis, (size, repeated) in reversed(list(enumerate(zip(padded, ct.shape, strict=True)))):
        if size != repeated:
            (ct,) = applied(Sum(axis), ct)
    return ct if ct.shape == shape else applied(Reshape(shape), ct)[0]
