"""Layers without bottoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lstmc.ops import Arrays, Constant, Draw, Filler, Input, Leaf, Sample
from lstmc.ops.base import sample_type
from lstmc_caffe.ops.base import CaffeOp, write_filler

__all__ = ["DummyData", "FilledInput", "InputLayer"]


@dataclass(frozen=True)
class InputLayer(CaffeOp, Input):
    """Input (``input_layer.cpp``): a blob that the caller fills."""

    name = "caffe.Input"
    layer_type = "Input"

    def write(self, layer: Any) -> None:
        layer.input_param.shape.add().dim.extend(self.shape)

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
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, Constant(0.5)), ())


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
    def sample(cls, draw: Draw) -> Sample:
        return Sample(cls(sample_type(draw).shape, draw.choice((0.0, 0.5))), ())


def _write_dummy_data(layer: Any, shape: tuple[int, ...], filler: Filler) -> None:
    layer.dummy_data_param.shape.add().dim.extend(shape)
    write_filler(layer.dummy_data_param.data_filler.add(), filler)
