"""The op's layer in Caffe, the field of LayerParameter that it writes, and the rule that makes one of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lstmc_caffe.legalize.rules import layer_rules
from lstmc_caffe.ops import CaffeOp
from lstmc_caffe.proto.net import layer_field
from lstmc_plugin_example.ops import LeakyRelu

layer_field("relu_param", 123, "ReLUParameter", (("negative_slope", 1, "float=0"),))


@dataclass(frozen=True)
class LeakyReLU(CaffeOp, LeakyRelu):
    """ReLU with a slope (``relu_layer.cpp``)."""

    name = "example_caffe.LeakyReLU"
    layer_type = "ReLU"

    def write(self, layer: Any) -> None:
        layer.relu_param.negative_slope = self.slope


RULES = layer_rules(LeakyReLU)
