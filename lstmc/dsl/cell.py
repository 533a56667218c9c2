"""Cells: step functions with declared arguments, bound to sizes, and traced where they are scanned or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from lstmc.dsl.declare import Definition, as_filler, fixed_values, option_text
from lstmc.dsl.dims import Dim, as_size
from lstmc.dsl.function import suggested_argument
from lstmc.dsl.step import Binding, Out, StepResult, call_step, check_is_value
from lstmc.dsl.trace import birth, check_name
from lstmc.dsl.value import Value, described, inner_trace
from lstmc.errors import DimError, DslError
from lstmc.ops import Filler
from lstmc.source import SrcLoc, argument_location, here, parameter_location

__all__ = ["BoundCell", "Cell", "cell"]


class Cell(Definition, Generic[Out]):
    """A step function. Calling it with sizes binds it: ``lstm(H=500)``."""

    kind = "cell"

    def __init__(self, function: Callable[..., tuple[Out, Mapping[str, Value]]]) -> None:
        super().__init__(function)
        reserved = {"name": "a bound cell's own name"} | dict.fromkeys(self.dims, "a dimension")
        for argument in (*self.signature.options, *self.params):
            if argument in reserved:
                raise DslError(
                    f"argument {argument} cannot be bound, because {self.name}({argument}=...) binds"
                    f" {reserved[argument]}: expected another name",
                    loc=parameter_location(function, argument),
                    scope=self.owner,
                )

    def __call__(self, /, *values: Any, name: str | None = None, **bindings: Any) -> BoundCell[Out]:
        """Bind dimensions to sizes, options to values and parameters to fillers. ``name`` prefixes its parameters."""
        loc = here()
        if values:
            raise DslError(self._not_bound(values), loc=loc)
        if name is not None:
            check_name(name, "the name of a bound cell", argument_location(loc, None, "name"))
        bound = BoundCell(self, name or "", loc, {}, dict(self.signature.options), {}, birth())
        for key, value in bindings.items():
            self._bind(bound, key, value, argument_location(loc, None, key))
        return bound

    def _not_bound(self, values: tuple[Any, ...]) -> str:
        if any(isinstance(value, Value) for value in values):
            arguments = ", ".join([*self.inputs, *self.states])
            return (
                f"{self.owner} has no sizes yet: write {self.example()} first, and call what that returns, as in"
                f" {self.example()}({arguments}), or scan it in a model"
            )
        return f"sizes are given by name: expected {self.example()}, found {', '.join(map(described, values))}"

    def example(self) -> str:
        """Return an example of a call that binds the dimensions which no input determines: ``lstm(H=...)``."""
        inferred = {size.name for declared in self.inputs.values() for size in declared.shape if isinstance(size, Dim)}
        return f"{self.name}({', '.join(f'{d}=...' for d in self.dims if d not in inferred)})"

    def _bind(self, bound: BoundCell[Out], key: str, value: Any, loc: SrcLoc | None) -> None:
        if key in self.signature.options:
            bound.options[key] = value
        elif key in self.dims:
            size = as_size(value)
            if size is None:
                raise DimError(
                    f"{self.name}({key}=...) takes a positive integer or a dimension, found {described(value)}",
                    loc=loc,
                )
            bound.sizes[key] = size
        elif key in self.params:
            if isinstance(value, np.ndarray | list | tuple) and self.params[key].count is None:
                value = fixed_values(f"{self.name}({key}=...)", value, loc, None, key)
            value = as_filler(value)
            if not isinstance(value, Filler):
                raise DslError(
                    f"{self.name}({key}=...) takes a filler for the parameter, such as uniform(-0.1, 0.1),"
                    f" found {described(value)}",
                    loc=loc,
                )
            bound.fills[key] = value
        else:
            names = [*self.dims, *self.signature.options, *self.params]
            raise DimError(
                f"{self.name} has no dimension, option or parameter {key}{suggested_argument(key, names)}; it has"
                f" {self._bindable()}",
                loc=loc,
            )

    def _bindable(self) -> str:
        kinds = {"dimensions": self.dims, "options": [*self.signature.options], "parameters": [*self.params]}
        return "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names) or "nothing"


@dataclass(frozen=True, eq=False)
class BoundCell(Binding, Generic[Out]):
    """A cell with its sizes. It is an identity: every use of one object shares its parameters."""

    cell: Cell[Out]

    def __repr__(self) -> str:
        bindings = ", ".join(
            f"{name}={option_text(value):.40}" for name, value in {**self.sizes, **self.options}.items()
        )
        return f"<bound cell {self.cell.name}({bindings})>"

    def __call__(self, /, *inputs: Any, **named: Any) -> StepResult[Out]:
        """Run one step inside another cell's body, or in a model: the output, and the next states by name."""
        loc = here()
        arguments = self._arguments(inputs, named, loc)
        return call_step(self, inner_trace(*arguments.values()), arguments, loc)

    def _arguments(self, inputs: tuple[Any, ...], named: Mapping[str, Any], loc: SrcLoc | None) -> dict[str, Value]:
        """The arguments of a call by name; each Input and State exactly once."""
        names = [*self.cell.inputs, *self.cell.states]
        if not names:
            raise DslError(f"{self.cell.owner} has no input and no state: there is nothing to call it on", loc=loc)
        positional = dict(zip(names, inputs, strict=False))
        arguments = {**positional, **named}
        if len(inputs) > len(names) or set(arguments) != set(names) or set(positional) & set(named):
            raise DslError(
                f"{self.cell.name} takes {', '.join(names)}: expected {self.usage()},"
                f" found {len(inputs)} by position and {', '.join(named) or 'none'} by name",
                loc=loc,
            )
        for position, (name, value) in enumerate(arguments.items()):
            check_is_value(value, f"{name} of {self.cell.owner}", argument_location(loc, position, name))
        return arguments


def cell(function: Callable[..., tuple[Out, Mapping[str, Value]]]) -> Cell[Out]:
    """Make a cell of a step function whose arguments default to ``Input``, ``State`` and ``Param`` declarations.

    It returns the step's output (a Value, a tuple or dict of them, or None) and the next states by name.
    """
    return Cell(function)
