"""ONNX's recurrent layers as ops: what they compute is a model in the core's language."""

from lstmc.ops.base import ops_in
from lstmc_onnx.ops.recurrent import *

ONNX_OPS = ops_in(__name__)
