"""The language that cells and models are written in."""

from lstmc.dsl.cell import BoundCell, Cell, cell
from lstmc.dsl.cell_model import CellModel
from lstmc.dsl.declare import Input, Param, State
from lstmc.dsl.dims import Dim, DimExpr, dims
from lstmc.dsl.functions import abs, concat, elu, exp, linear, log, power, relu, reshape, sigmoid, softmax, split, tanh
from lstmc.dsl.layers import ave_pool, conv, dropout, embed, max_pool, mean, sum
from lstmc.dsl.losses import accuracy, euclidean_loss, sigmoid_cross_entropy_loss, softmax_loss
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
    "accuracy",
    "ave_pool",
    "cell",
    "concat",
    "conv",
    "dims",
    "dropout",
    "elu",
    "embed",
    "euclidean_loss",
    "exp",
    "last_valid",
    "linear",
    "log",
    "max_pool",
    "mean",
    "model",
    "power",
    "relu",
    "reshape",
    "scan",
    "sigmoid",
    "sigmoid_cross_entropy_loss",
    "softmax",
    "softmax_loss",
    "split",
    "sum",
    "tanh",
]
