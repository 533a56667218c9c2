"""lstmc: a step function in Python becomes a small graph, is optimised, unrolled, and written as a net.

This is the whole public language; ``lstmc.pipeline.compile_model`` and the ``lstmc`` command compile what is
written in it.
"""

from lstmc.dsl import (
    BoundCell,
    Cell,
    Dim,
    Input,
    Model,
    Param,
    State,
    Value,
    abs,
    cell,
    concat,
    dims,
    elu,
    exp,
    last_valid,
    linear,
    log,
    model,
    power,
    relu,
    reshape,
    scan,
    sigmoid,
    softmax,
    split,
    tanh,
)
from lstmc.ops import Constant as constant
from lstmc.ops import Gaussian as gaussian
from lstmc.ops import Msra as msra
from lstmc.ops import Uniform as uniform
from lstmc.ops import Xavier as xavier

__version__ = "0.1.0"

__all__ = [
    "BoundCell",
    "Cell",
    "Dim",
    "Input",
    "Model",
    "Param",
    "State",
    "Value",
    "abs",
    "cell",
    "concat",
    "constant",
    "dims",
    "elu",
    "exp",
    "gaussian",
    "last_valid",
    "linear",
    "log",
    "model",
    "msra",
    "power",
    "relu",
    "reshape",
    "scan",
    "sigmoid",
    "softmax",
    "split",
    "tanh",
    "uniform",
    "xavier",
]
