"""The language of cells and models. ``lstmc`` exports its functions."""

from lstmc.dsl.cell import BoundCell, Cell, cell
from lstmc.dsl.declare import Input, Param, State
from lstmc.dsl.dims import Dim, DimExpr, dims
from lstmc.dsl.model import CellModel, Model, model
from lstmc.dsl.scan import last_valid, scan
from lstmc.dsl.value import Value
from lstmc.dsl.vocabulary import Methods

__all__ = [
    "BoundCell", "Cell", "CellModel", "Dim", "DimExpr", "Input", "Methods", "Model", "Param", "State", "Value", "cell",
    "dims", "last_valid", "model", "scan",
]  # fmt: skip
