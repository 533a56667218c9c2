"""Inputs and outputs of a net: layers without bottoms, and the host's part of running it, as ops: so the graph keeps
the model's inputs and outputs, and can be interpreted. Of the host's ops only :class:`Feed` is a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from lstmc import ops as core
from lstmc.errors import ShapeError
from lstmc.ir import Graph, Ref
from lstmc.ops import Array, Arrays, Draw, Filler, Leaf, Sample, Types, sample_type
from lstmc.types import TensorType
from lstmc_caffe.ops.base import CaffeOp, read_filler, write_filler

__all__ = ["DummyData", "Feed", "FilledInput", "HostInput", "HostStack", "InputLayer", "View"]


@dataclass(frozen=True)
class HostInput(core.Input):
    """An input array of the caller in the model's shape, from which blobs are fed."""

    name = "host.input"
    backend = "caffe"


@dataclass(frozen=True)
class View(core.Reshape):
    """The same elements in another shape, for the host to read or, by a Reshape, for a layer."""

    name = "host.view"
    backend = "caffe"


@dataclass(frozen=True)
class HostStack(core.Stack):
    """Blobs of single steps, read by the host as one sequence."""

    name = "host.stack"
    backend = "caffe"


@dataclass(frozen=True)
class Feed(CaffeOp):
    """Input: a blob of ``shape`` that the host fills from an array, or from one ``step`` of the array."""

    name = "caffe.Feed"
    layer_type = "Input"
    operands = ("x",)
    moves = True
    shape: tuple[int, ...]
    step: int | None = None

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
        return None  # what the host does is not in the layer

    def as_read(self) -> CaffeOp:
        return InputLayer(self.shape)

    def check(self, operands: Types) -> None:
        self.as_read().check(())  # its operand is the host's, no bottom

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        x = sample_type(draw, rank=(2, 3))
        step = draw.choice((None, draw.integer(0, x.shape[0] - 1)))
        size = x.size if step is None else x.size // x.shape[0]
        return Sample(cls((1, size), step), (x,))


@dataclass(frozen=True)
class InputLayer(CaffeOp, core.Input):
    """Input (``input_layer.cpp``): a blob that the caller fills."""

    def write(self, layer: Any) -> None:
        layer.input_param.shape.add().dim.extend(self.shape)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return cls(_one_shape(cls.name, layer, layer.input_param))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape), ())


@dataclass(frozen=True)
class FilledInput(CaffeOp, core.Input):
    """A DummyData layer for an input with a ``fill``. If the fill is a constant, the caller may overwrite the blob."""

    name = "caffe.FilledInput"
    layer_type = "DummyData"

    def write(self, layer: Any) -> None:
        assert self.fill is not None
        _write_dummy_data(layer, self.shape, self.fill)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        shape, fill = _one_shape(cls.name, layer, layer.dummy_data_param), _data_filler(layer)
        return None if fill is None or isinstance(fill, core.Constant) else cls(shape, fill)

    def as_read(self) -> CaffeOp:  # that the caller may overwrite it is not in the layer
        return DummyData(self.shape, self.fill.value) if isinstance(self.fill, core.Constant) else self

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((core.Constant(0.5), core.Uniform(-0.1, 0.3)))), ())


@dataclass(frozen=True)
class DummyData(CaffeOp, Leaf):
    """DummyData (``dummy_data_layer.cpp``) with a constant filler: filled once, at set-up."""

    value: float = 0.0

    def eval(self) -> Arrays:
        return (np.full(self.shape, self.value),)

    def write(self, layer: Any) -> None:
        _write_dummy_data(layer, self.shape, core.Constant(self.value))

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        shape, fill = _one_shape(cls.name, layer, layer.dummy_data_param), _data_filler(layer)
        return cls(shape, fill.value) if isinstance(fill, core.Constant) else None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((0.0, 0.5))), ())


def _write_dummy_data(layer: Any, shape: tuple[int, ...], filler: Filler) -> None:
    layer.dummy_data_param.shape.add().dim.extend(shape)
    write_filler(layer.dummy_data_param.data_filler.add(), filler)


def _data_filler(layer: Any) -> Filler | None:
    """Return the filler of a DummyData; without one it is constant, 0."""
    fillers = layer.dummy_data_param.data_filler
    return read_filler(fillers[0]) if fillers else core.Constant(0.0)


def _one_shape(op: str, layer: Any, param: Any) -> tuple[int, ...]:
    if len(layer.top) != 1 or len(param.shape) != 1:
        raise ShapeError(f"{op}: expected one top and its shape, found {len(layer.top)} and {len(param.shape)}")
    return tuple(param.shape[0].dim)


def read_blobs(graph: Graph, output: Ref) -> tuple[Ref, ...]:
    """Return the blobs from which the host reads an output: one blob, or one for each step."""
    node = graph.node(output.node)
    if not isinstance(node.op, View | HostStack):
        return (output,)
    return tuple(blob for ref in graph.args(node.name) for blob in read_blobs(graph, ref))


def host_values(graph: Graph, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """Return, by name, the values that the host computes from blobs, such as a sequence from its steps."""
    available = dict(blobs)
    values = {}
    for node in graph:
        if isinstance(node.op, View | HostStack):
            (value,) = node.op.eval(*[available[graph.value_name(ref)] for ref in graph.args(node.name)])
            available[node.name] = values[node.name] = value
    return values
