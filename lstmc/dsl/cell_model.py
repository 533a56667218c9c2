"""The model that a cell alone makes: the cell scanned over sequences of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any, cast

from lstmc.dsl.cell import Cell
from lstmc.dsl.declare import InputDeclaration
from lstmc.dsl.dims import Dim
from lstmc.dsl.model import Model
from lstmc.dsl.scan import scan
from lstmc.dsl.scope import Scope
from lstmc.dsl.value import Value
from lstmc.errors import DimError


class CellModel(Model):
    """A cell over ``T`` steps: its inputs as sequences [T, ...], its output ``y`` over time, its last states.

    Dimensions are the cell's own and T. A state ``h`` is returned as ``h_T``; outputs that the cell returns as a
    dict have their own names.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        time = Dim("T")

        def run(**sequences: Value) -> dict[str, Value]:
            sizes: dict[str, Any] = {name: Dim(name) for name in cell.dims}
            bound = cell(name=cell.name, **sizes)
            y, last = scan(bound, sequences)
            return {**_named(y), **{f"{name}_T": value for name, value in last.items()}}

        run.__name__, run.__doc__ = cell.name, cell.__doc__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=InputDeclaration((time, *declared.shape), declared.fill, declared.loc),
                )
                for name, declared in cell.inputs.items()
            ]
        )
        super().__init__(run)
        self.loc, self.owner = cell.loc, cell.owner  # what errors speak of is the cell

    @property
    def written(self) -> FunctionType:
        return cast(FunctionType, self.cell.function)

    @property
    def dims(self) -> list[str]:
        return list(dict.fromkeys(["T", *self.cell.dims]))

    def _scope(self, sizes: Mapping[str, int]) -> Scope:
        self._check_used(sizes, self.dims)
        scope = super()._scope(sizes)
        for name, declared in self.cell.signature.declarations.items():
            try:
                scope.sizes(declared.sizes, f"{declared.kind} {name}")
            except DimError as error:
                raise error.located(declared.loc, self.owner) from None
        return scope


def _named(y: Any) -> dict[str, Value]:
    if y is None:
        return {}
    if isinstance(y, Value):
        return {"y": y}
    return dict(y) if isinstance(y, dict) else {f"y_{i}": value for i, value in enumerate(y)}
