"""The language that cells and models are written in."""

from lstmc.dsl.cell import BoundCell, Cell, cell
from lstmc.dsl.cell_model import CellModel
from lstmc.dsl.declare import Input, Param, State
from lstmc.dsl.dims import Dim, DimExpr, dims
from lstmc.dsl.functions import abs, concat, elu, exp, linear, log, power, relu, reshape, sigmoid, softmax, split, tanh
from lstmc.dsl.model import Model, model
from lstmc.dsl.scan import scan
from lstmc.dsl.valid import last_valid
from lstmc.dsl.value import Value

__all__ = [
    "BoundCell",
    "Cell",
    "CellModel",
    "Dim",
    "DimExpr",
    "Input",
    "Model",
    "Param",
    "State",
    "Value",
    "abs",
    "cell",
    "concat",
    "dims",
    "elu",
    "exp",
    "last_valid",
    "linear",
    "log",
    "model",
    "power",
    "relu",
    "reshape",
    "scan",
    "sigmoid",
    "softmax",
    "split",
    "tanh",
]
