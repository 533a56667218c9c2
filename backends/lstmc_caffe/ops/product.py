"""Layers on two operands: products and sums, by matrix, by element, and broadcast along axes; rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.files.output import shortest
from lstmc.ops import Along, Array, Arrays, Draw, Embed, Linear, Maximum, Op, Sample, Transpose, Types
from lstmc.ops.base import AlongAxis, applied, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp, front_axis
from lstmc_caffe.proto.net import other_settings

__all__ = ["Bias", "Eltwise", "EmbedLayer", "InnerProduct", "TransposedInnerProduct"]
__all__ += ["RoundingScale", "Scale", "ScaleBias"]


@dataclass(frozen=True)
class InnerProduct(CaffeOp, Linear):
    """InnerProduct (``inner_product_layer.cpp``): flattens from ``axis`` on; blobs W [out, in], b [out]."""

    settings = {
        "axis": "inner_product_param.axis",
        "num_output": "inner_product_param.num_output",
        "bias": "inner_product_param.bias_term",
    }
    blob_fillers = ("inner_product_param.weight_filler", "inner_product_param.bias_filler")
    num_output: int = 0
    bias: bool = False

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        if w.shape[:1] != (self.num_output,) or self.bias != (b is not None):
            raise ShapeError(f"{self.name}: num_output {self.num_output}, bias {self.bias}, but w is {w}, b is {b}")
        return super().infer(x, w, b)

    def blob_types(self, bottoms: Types) -> Types:
        w = TensorType((self.num_output, prod(bottoms[0].shape[self.axis :])))
        return (w, TensorType(w.shape[:1])) if self.bias else (w,)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        linear = Linear.sample(draw)
        assert isinstance(linear.op, Linear)
        out = linear.operands[1].shape[0]
        return Sample(cls(linear.op.axis, out, len(linear.operands) == 3), linear.operands)


@dataclass(frozen=True)
class TransposedInnerProduct(CaffeOp, AlongAxis):
    """InnerProduct with ``transpose`` (``inner_product_layer.cpp``): y = x @ W + b, of blobs W [in, out], b [out].

    A layer with W as [out, in] may share it. This is no subclass of :class:`InnerProduct`, because rows of its W are
    inputs.
    """

    name = "caffe.TransposedInnerProduct"
    layer_type = "InnerProduct"
    settings, blob_fillers = InnerProduct.settings, InnerProduct.blob_fillers
    own_param = "inner_product_param"  # transpose
    operands = ("x", "w", "b")
    axis: int = 1
    num_output: int = 0
    bias: bool = False

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> Types:
        if w.shape[1:] != (self.num_output,) or self.bias != (b is not None):
            raise ShapeError(f"{self.name}: num_output {self.num_output}, bias {self.bias}, but w is {w}, b is {b}")
        (turned,) = Transpose(0).infer(w)
        return Linear(self.axis).infer(x, turned, b)

    def eval(self, x: Array, w: Array, b: Array | None = None) -> Arrays:
        return Linear(self.axis).eval(x, w.T, b)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, w: Array, b: Array | None = None) -> tuple[Array | None, ...]:
        (turned,) = applied(Transpose(0), w)
        dx, dw, *db = Linear(self.axis).vjp(cts, outs, x, turned, b)
        assert dw is not None
        return dx, *applied(Transpose(0), dw), *db

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        if slot or axis >= self.axis:
            return None
        return Along(self.beside(axis), (axis, None, None)[: len(types)], (axis,))

    def blob_types(self, bottoms: Types) -> Types:
        w = TensorType((prod(bottoms[0].shape[self.axis :]), self.num_output))
        return (w, TensorType(w.shape[1:])) if self.bias else (w,)

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.inner_product_param.transpose = True

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return super().read(layer, bottoms) if layer.inner_product_param.transpose else None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x, w, *bias = Linear.sample(draw).operands
        axis = next(i for i in range(x.rank) if prod(x.shape[i:]) == w.shape[1])
        return Sample(cls(axis, w.shape[0], bool(bias)), (x, TensorType(w.shape[::-1]), *bias))


@dataclass(frozen=True)
class Eltwise(CaffeOp):
    """Eltwise (``eltwise_layer.cpp``): PROD or SUM of bottoms of one shape, SUM weighed by ``coeff``; or MAX of two.

    At equal elements of MAX the second bottom gets the gradient.
    """

    settings = {"operation": "eltwise_param.operation"}
    own_param = "eltwise_param"  # coeff; and stable_prod_grad, which says how a gradient is computed, not which
    operands = ("*xs",)
    operation: str = "SUM"
    coeff: tuple[float, ...] = ()

    def infer(self, *xs: TensorType) -> Types:
        if self.operation == "MAX" and len(xs) != 2:
            raise ShapeError(f"{self.name}: MAX takes two, found {len(xs)}")
        if self.operation not in ("SUM", "PROD", "MAX") or len(xs) < 2 or any(x != xs[0] for x in xs):
            raise ShapeError(f"{self.name}: needs two or more of one shape, found {', '.join(map(str, xs))}")
        if self.coeff and (self.operation != "SUM" or len(self.coeff) != len(xs)):
            raise ShapeError(f"{self.name}: coeff {self.coeff} does not go with {self.operation} of {len(xs)}")
        return (xs[0],)

    def _weights(self, count: int) -> tuple[float, ...]:
        return self.coeff or (1.0,) * count

    def eval(self, *xs: Array) -> Arrays:
        if self.operation == "MAX":
            return Maximum().eval(*xs)
        result = xs[0].copy() if self.operation == "PROD" else self._weights(len(xs))[0] * xs[0]
        for weight, x in zip(self._weights(len(xs))[1:], xs[1:], strict=True):
            result = result * x if self.operation == "PROD" else result + weight * x
        return (result,)

    def vjp(self, cts: Arrays, outs: Arrays, *xs: Array) -> tuple[Array | None, ...]:
        if self.operation == "MAX":
            return Maximum().vjp(cts, outs, *xs)
        (ct,) = cts
        if self.operation == "SUM":
            return tuple(weight * ct for weight in self._weights(len(xs)))
        # times the product of the other operands, as with stable_prod_grad
        return tuple(reduce(np.multiply, (*xs[:i], *xs[i + 1 :]), ct) for i in range(len(xs)))

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        return Along(self, (axis,) * len(types), (axis,))

    def write(self, layer: Any) -> None:
        super().write(layer)
        if self.coeff:
            layer.eltwise_param.coeff.extend(self.coeff)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        op = super().read(layer, bottoms)
        return op and replace(op, coeff=tuple(shortest(weight) for weight in layer.eltwise_param.coeff))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x, count = sample_type(draw), draw.integer(2, 3)
        if draw.choice((False, True)):
            return Sample(cls("MAX"), (x, x))
        op = draw.choice((cls("SUM"), cls("PROD"), cls("SUM", (1.0, -1.0, 0.5)[:count])))
        return Sample(op, (x,) * count)


@dataclass(frozen=True)
class _Broadcast(CaffeOp):
    """x and y, where y has the shape of x's axes from ``axis`` on, ``num_axes`` of them. A ``learned`` y is the layer's
    own blob, and so a parameter; otherwise it is a second bottom."""

    operands = ("x", "y")
    axis: int = 1
    num_axes: int = 1
    learned: bool = False

    def infer(self, x: TensorType, y: TensorType) -> Types:
        covered = x.shape[self.axis : self.axis + self.num_axes]
        if not 0 <= self.axis < x.rank or y.shape != covered or len(covered) != self.num_axes:
            raise ShapeError(f"{self.name}: y must cover axes {self.axis} on of x: x is {x}, y is {y}")
        return (x,)

    def blobs(self, operands: int) -> range:
        return super().blobs(operands) if self.learned else range(0)

    def along(self, slot: int, axis: int, *types: TensorType) -> Along | None:
        """Tell how the op treats an axis of an operand; an axis of x that y does not cover leaves y unchanged."""
        x = axis + self.axis * slot
        if self.axis <= x < self.axis + self.num_axes:
            return Along(replace(self, num_axes=self.num_axes - 1), (x, x - self.axis), (x,))
        return Along(replace(self, axis=self.axis - (x < self.axis)), (x, None), (x,))

    def wider(self, size: int) -> Iterator[Op]:
        yield from (self, replace(self, axis=self.axis + 1), replace(self, num_axes=self.num_axes + 1))

    def _spread(self, x: Array, y: Array) -> Array:
        return y.reshape(*y.shape, *(1,) * (x.ndim - self.axis - self.num_axes))

    def _gather(self, ct: Array, y: Array) -> Array:
        outer = prod(ct.shape[: self.axis])
        total: Array = ct.reshape(outer, y.size, -1).sum(axis=(0, 2))
        return total.reshape(y.shape)

    def blob_types(self, bottoms: Types) -> Types:
        return (TensorType(bottoms[0].shape[self.axis : self.axis + self.num_axes]),) if self.learned else ()

    def write(self, layer: Any) -> None:
        param = getattr(layer, self.own_param)
        if self.axis != 1:
            param.axis = self.axis
        if self.learned and self.num_axes != 1:  # with two bottoms the shape of the second has this number
            param.num_axes = self.num_axes

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        param, x, learned = getattr(layer, cls.own_param), bottoms[0], len(bottoms) == 1
        if any(other_settings(layer, {cls.own_param})) or getattr(param, "bias_term", False):
            return None
        axis = front_axis(cls.name, param.axis, x)
        covered = param.num_axes if learned else bottoms[1].rank
        return cls(axis, x.rank - axis if covered == -1 else covered, learned)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw)
        axis = draw.integer(0, x.rank - 1)
        count = draw.integer(1, x.rank - axis)
        y = TensorType(x.shape[axis : axis + count])
        return Sample(cls(axis, count, draw.choice((False, True))), (x, y))


@dataclass(frozen=True)
class Bias(_Broadcast):
    """Bias (``bias_layer.cpp``): z = x + y, y broadcast."""

    own_param = "bias_param"
    blob_fillers = ("bias_param.filler",)

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x + self._spread(x, y),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return cts[0], self._gather(cts[0], y)


@dataclass(frozen=True)
class Scale(_Broadcast):
    """Scale (``scale_layer.cpp``): z = x * y, y broadcast."""

    own_param = "scale_param"
    blob_fillers = ("scale_param.filler",)

    def eval(self, x: Array, y: Array) -> Arrays:
        return (x * self._spread(x, y),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array) -> tuple[Array | None, ...]:
        return cts[0] * self._spread(x, y), self._gather(cts[0] * x, y)


@dataclass(frozen=True)
class ScaleBias(CaffeOp):
    """Scale with ``bias_term`` (``scale_layer.cpp``): z = x * y + b; y and b are blobs, along axis 1 of x."""

    name = "caffe.ScaleBias"
    layer_type = "Scale"
    blob_fillers = ("scale_param.filler", "scale_param.bias_filler")
    operands = ("x", "y", "b")

    def infer(self, x: TensorType, y: TensorType, b: TensorType) -> Types:
        if x.rank < 2 or not y.shape == b.shape == x.shape[1:2]:
            raise ShapeError(f"{self.name}: y and b must cover axis 1 of x: x is {x}, y is {y}, b is {b}")
        return (x,)

    def _spread(self, x: Array, y: Array) -> Array:
        return y.reshape(-1, *(1,) * (x.ndim - 2))

    def eval(self, x: Array, y: Array, b: Array) -> Arrays:
        return (x * self._spread(x, y) + self._spread(x, b),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array, b: Array) -> tuple[Array | None, ...]:
        others = tuple(axis for axis in range(x.ndim) if axis != 1)
        return cts[0] * self._spread(x, y), (cts[0] * x).sum(axis=others), cts[0].sum(axis=others)

    def blob_types(self, bottoms: Types) -> Types:
        return (TensorType(bottoms[0].shape[1:2]),) * 2

    def write(self, layer: Any) -> None:
        layer.scale_param.bias_term = True

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        param = layer.scale_param
        plain = len(bottoms) == 1 and not any(other_settings(layer, {"scale_param"}))
        along_one = plain and param.bias_term and param.num_axes == 1
        return cls() if along_one and front_axis(cls.name, param.axis, bottoms[0]) == 1 else None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(2, 3))
        blob = TensorType(x.shape[1:2])
        return Sample(cls(), (x, blob, blob))


@dataclass(frozen=True)
class RoundingScale(ScaleBias):
    """Scale with a bias so large that float32 cannot hold a fraction beside it: z = b + round(x * y), as in
    :class:`RoundingPower`. Its slope is 0, so it is written with ``propagate_down: false``."""

    name = "caffe.RoundingScale"
    stops_gradient = True

    def as_read(self) -> CaffeOp:  # how large its bias is, is not in the layer
        return ScaleBias()

    def eval(self, x: Array, y: Array, b: Array) -> Arrays:
        return (np.rint(x * self._spread(x, y)) + self._spread(x, b),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array, y: Array, b: Array) -> tuple[Array | None, ...]:
        return None, None, None

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return None  # its blobs alone tell it from one that does not round


@dataclass(frozen=True)
class EmbedLayer(CaffeOp, Embed):
    """Embed (``embed_layer.cpp``) without a bias; blob W [input_dim, num_output]."""

    settings = {"input_dim": "embed_param.input_dim", "num_output": "embed_param.num_output"}
    own_param = "embed_param"  # its bias_term, which is false
    blob_fillers = ("embed_param.weight_filler",)
    input_dim: int = 0
    num_output: int = 0

    def infer(self, x: TensorType, w: TensorType) -> Types:
        if w.shape != (self.input_dim, self.num_output):
            raise ShapeError(f"{self.name}: input_dim {self.input_dim}, num_output {self.num_output}, but w is {w}")
        return super().infer(x, w)

    def blob_types(self, bottoms: Types) -> Types:
        return (TensorType((self.input_dim, self.num_output)),)

    def write(self, layer: Any) -> None:
        super().write(layer)
        layer.embed_param.bias_term = False

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return None if layer.embed_param.bias_term else super().read(layer, bottoms)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x, w = Embed.sample(draw).operands
        return Sample(cls(*w.shape), (x, w))
