"""What stands between a caller's arrays and a net's blobs, where a target's blobs have other shapes than the model's.

Only :class:`Feed` is a layer. The others are done by whoever runs the net, as the manifest tells; they are ops of
the graph so that it still takes the model's inputs and gives the model's outputs, and can be interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import Array, Arrays, Draw, Input, Reshape, Sample, Stack, Types, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp

__all__ = ["Feed", "HostInput", "HostStack", "View"]


@dataclass(frozen=True)
class HostInput(Input):
    """An array the caller has, in the model's own shape; blobs are fed from it."""

    name = "host.input"
    backend = "caffe"


@dataclass(frozen=True)
class View(Reshape):
    """The same elements in another shape: for the host to read them so, until a layer wants it (then a Reshape)."""

    name = "host.view"
    backend = "caffe"


@dataclass(frozen=True)
class HostStack(Stack):
    """Blobs of single steps, read by the host as one sequence."""

    name = "host.stack"
    backend = "caffe"


@dataclass(frozen=True)
class Feed(CaffeOp):
    """Input: a blob of ``shape`` that the host fills from an array, or from one ``step`` of it."""

    name = "caffe.Feed"
    layer_type = "Input"
    operands = ("x",)
    shape: tuple[int, ...]
    step: int | None = None

    def cost(self, args: Types) -> int:
        return 0  # elements are moved

    def infer(self, x: TensorType) -> Types:
        whole = x.shape if self.step is None else x.shape[1:]
        if prod(whole) != prod(self.shape) or not 0 <= (self.step or 0) < x.shape[0]:
            raise ShapeError(f"{self.name}: cannot feed {TensorType(self.shape)} from step {self.step} of {x}")
        return (TensorType(self.shape, x.dtype),)

    def eval(self, x: Array) -> Arrays:
        return ((x if self.step is None else x[self.step]).reshape(self.shape),)

    def vjp(self, cts: Arrays, outs: Arrays, x: Array) -> tuple[Array | None, ...]:
        if self.step is None:
            return (cts[0].reshape(x.shape),)
        gradient = np.zeros_like(x)
        gradient[self.step] = cts[0].reshape(x.shape[1:])
        return (gradient,)

    def write(self, layer: Any) -> None:
        layer.input_param.shape.add().dim.extend(self.shape)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return None  # what the host does is not in the layer: it is read as an InputLayer

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(2, 3))
        step = draw.choice((None, draw.integer(0, x.shape[0] - 1)))
        size = x.size if step is None else x.size // x.shape[0]
        return Sample(cls((1, size), step), (x,))
