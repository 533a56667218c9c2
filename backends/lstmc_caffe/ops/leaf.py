"""Layers without bottoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lstmc.errors import ShapeError
from lstmc.ops import Arrays, Constant, Draw, Filler, Input, Leaf, Sample, Types, Uniform, sample_type
from lstmc_caffe.ops.base import CaffeOp, read_filler, write_filler

__all__ = ["DummyData", "FilledInput", "InputLayer"]


@dataclass(frozen=True)
class InputLayer(CaffeOp, Input):
    """Input (``input_layer.cpp``): a blob that the caller fills."""

    name = "caffe.Input"
    layer_type = "Input"

    def write(self, layer: Any) -> None:
        layer.input_param.shape.add().dim.extend(self.shape)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        return cls(_one_shape(cls.name, layer, layer.input_param))

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape), ())


@dataclass(frozen=True)
class FilledInput(CaffeOp, Input):
    """DummyData standing for an input that has a fill. The caller may still overwrite a constant one."""

    name = "caffe.FilledInput"
    layer_type = "DummyData"

    def write(self, layer: Any) -> None:
        assert self.fill is not None
        _write_dummy_data(layer, self.shape, self.fill)

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        shape, fill = _one_shape(cls.name, layer, layer.dummy_data_param), _data_filler(layer)
        return None if fill is None or isinstance(fill, Constant) else cls(shape, fill)

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((Constant(0.5), Uniform(-0.1, 0.3)))), ())


@dataclass(frozen=True)
class DummyData(CaffeOp, Leaf):
    """DummyData (``dummy_data_layer.cpp``) with a constant filler: filled once, at set-up."""

    name = "caffe.DummyData"
    layer_type = "DummyData"
    value: float = 0.0

    def eval(self) -> Arrays:
        return (np.full(self.shape, self.value),)

    def write(self, layer: Any) -> None:
        _write_dummy_data(layer, self.shape, Constant(self.value))

    @classmethod
    def read(cls, layer: Any, bottoms: Types) -> Self | None:
        shape, fill = _one_shape(cls.name, layer, layer.dummy_data_param), _data_filler(layer)
        return cls(shape, fill.value) if isinstance(fill, Constant) else None

    @classmethod
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((0.0, 0.5))), ())


def _write_dummy_data(layer: Any, shape: tuple[int, ...], filler: Filler) -> None:
    layer.dummy_data_param.shape.add().dim.extend(shape)
    write_filler(layer.dummy_data_param.data_filler.add(), filler)


def _data_filler(layer: Any) -> Filler | None:
    """The filler of a DummyData; without one it is constant, 0."""
    given = layer.dummy_data_param.data_filler
    return read_filler(given[0]) if given else Constant(0.0)


def _one_shape(op: str, layer: Any, param: Any) -> tuple[int, ...]:
    if len(layer.top) != 1 or len(param.shape) != 1:
        raise ShapeError(f"{op}: expected one top and its shape, found {len(layer.top)} and {len(param.shape)}")
    return tuple(param.shape[0].dim)
