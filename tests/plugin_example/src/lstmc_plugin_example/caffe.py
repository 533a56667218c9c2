"""The op's layer in Caffe, and the rule that makes one of the other."""

from __future__ import annotations

from dataclasses import dataclass

from lstmc_caffe.legalize.rules import layer_rules
from lstmc_caffe.ops import CaffeOp
from lstmc_plugin_example.ops import Exponential


@dataclass(frozen=True)
class ExpOfBase(CaffeOp, Exponential):
    """Exp with a base of its own (``exp_layer.cpp``)."""

    name = "example_caffe.ExpOfBase"
    layer_type = "Exp"
    settings = {"base": "exp_param.base"}


RULES = layer_rules(ExpOfBase)
