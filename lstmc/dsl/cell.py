"""Cells: step functions with declared arguments, bound to sizes, and traced where they are scanned or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from lstmc.dsl.declare import (
    Declaration,
    InputDeclaration,
    ParamDeclaration,
    Signature,
    StateDeclaration,
    read_signature,
)
from lstmc.dsl.dims import DimExpr, Scope, shape_text
from lstmc.dsl.trace import Trace
from lstmc.dsl.value import Value
from lstmc.errors import DimError, DslError, ShapeError
from lstmc.ops import Filler, Param, Reshape
from lstmc.source import SrcLoc, assigned_names, function_location, here

StepResult = tuple[Any, dict[str, Value]]


class Cell:
    """A step function. Calling it with sizes binds it: ``lstm(H=500)``."""

    def __init__(self, function: Callable[..., Any], loc: SrcLoc | None) -> None:
        self.function = function
        self.name = function.__name__
        self.owner = f"cell {self.name!r}"
        self.loc = loc
        self.__doc__ = function.__doc__
        self.signature: Signature = read_signature(function, self.owner)

    @property
    def inputs(self) -> dict[str, InputDeclaration]:
        return self.signature.of_kind(InputDeclaration)

    @property
    def states(self) -> dict[str, StateDeclaration]:
        return self.signature.of_kind(StateDeclaration)

    @property
    def params(self) -> dict[str, ParamDeclaration]:
        return self.signature.of_kind(ParamDeclaration)

    @property
    def dims(self) -> list[str]:
        """The names of the dimensions in its declarations, in order."""
        sizes = [size for d in self.signature.declarations.values() for size in d.shape]
        return list(dict.fromkeys(name for size in sizes if isinstance(size, DimExpr) for name in size.free()))

    def __call__(self, *values: Any, name: str | None = None, **bindings: Any) -> BoundCell:
        """Bind dimensions to sizes, options to values and parameters to fillers. ``name`` prefixes its parameters."""
        loc = here()
        if values:
            raise DslError(
                f"{self.owner} is not bound yet: write {self.name}({', '.join(f'{d}=...' for d in self.dims)})"
                " first and call or scan what that returns",
                loc=loc,
            )
        bound = BoundCell(self, name or "", loc, {}, dict(self.signature.options), {})
        for key, value in bindings.items():
            self._bind(bound, key, value)
        return bound

    def _bind(self, bound: BoundCell, key: str, value: Any) -> None:
        if key in self.signature.options:
            bound.options[key] = value
        elif key in self.dims:
            if (
                isinstance(value, bool)
                or not isinstance(value, int | DimExpr)
                or (isinstance(value, int) and value < 1)
            ):
                raise DimError(
                    f"dimension {key} must be a positive whole number or a dimension, found {value!r}",
                    loc=bound.loc,
                    scope=self.owner,
                )
            bound.sizes[key] = value
        elif key in self.params:
            if not isinstance(value, Filler):
                raise DslError(
                    f"parameter {key} can be bound to a filler such as uniform(-0.1, 0.1), found {value!r}",
                    loc=bound.loc,
                    scope=self.owner,
                )
            bound.fills[key] = value
        else:
            known = [*self.dims, *self.signature.options, *self.params]
            raise DimError(
                f"nothing called {key} to bind: {self.name} has {', '.join(known)}", loc=bound.loc, scope=self.owner
            )


@dataclass(frozen=True, eq=False)
class BoundCell:
    """A cell with its sizes. It is an identity: every use of one object shares its parameters."""

    cell: Cell
    name: str
    loc: SrcLoc | None
    sizes: dict[str, int | DimExpr]
    options: dict[str, Any]
    fills: dict[str, Filler]

    def __call__(self, *inputs: Any, **states: Any) -> StepResult:
        """Run one step inside another cell's body, or in a model: the output, and the next states by name."""
        values = [v for v in (*inputs, *states.values()) if isinstance(v, Value)]
        if not values:
            raise DslError(
                f"{self.cell.owner}: a step is called with Values: {self.usage()}", loc=here(), scope=self.cell.owner
            )
        trace = values[0].trace
        for value in values[1:]:
            trace = value.trace if value.trace.parent is trace else trace
        return call_step(self, trace, match_inputs(self, inputs, states), here())

    def usage(self) -> str:
        """How it is called, for errors."""
        arguments = [*self.cell.inputs, *(f"{name}={name}" for name in self.cell.states)]
        return f"{self.cell.name}(...)({', '.join(arguments)})"


def match_inputs(bound: BoundCell, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Value]:
    """The arguments of a direct call by name; each Input and State exactly once."""
    cell, loc = bound.cell, here()
    wanted = [*cell.inputs, *cell.states]
    positional = dict(zip(wanted, inputs, strict=False))
    given = {**positional, **named}
    if len(inputs) > len(wanted) or set(given) != set(wanted) or set(positional) & set(named):
        raise DslError(
            f"{cell.name} takes {', '.join(wanted)}: expected {bound.usage()},"
            f" found {len(inputs)} without a name and {', '.join(named) or 'none'} by name",
            loc=loc,
            scope=cell.owner,
        )
    for name, value in given.items():
        if not isinstance(value, Value):
            raise DslError(f"{cell.name}: {name} must be a Value, found {value!r}", loc=loc, scope=cell.owner)
    return given


@dataclass(eq=False)
class CellUse:
    """What all uses of one bound cell in one model share: its sizes, its name and its parameters."""

    name: str
    scope: Scope
    params: dict[str, Value]
    scanned: bool = False


def use_of(bound: BoundCell, root: Trace) -> CellUse:
    """The model's record of a bound cell, made at its first use."""
    if id(bound) not in root.cells:
        assigned = assigned_names(bound.loc)
        name = bound.name or (assigned[0] if len(assigned) == 1 else bound.cell.name)
        scope = Scope(bound.cell.owner)
        for dim, size in bound.sizes.items():
            mend = f"write {bound.cell.name}({dim}=SIZE), or give the model's {{name}} a size with -D {{name}}=SIZE"
            (number,) = root.scope.sizes((size,), f"{bound.cell.name}({dim}={size})", bound.loc, mend)
            scope.bind(dim, number, f"bound by {bound.cell.name}({dim}={size})", bound.loc)
        root.cells[id(bound)] = (CellUse(root.unique_name(name), scope, {}), bound)
    use: CellUse = root.cells[id(bound)][0]
    return use


def bind_argument(use: CellUse, name: str, declared: Declaration, value: Value, lead: int, loc: SrcLoc | None) -> Value:
    """Make a value fit a declared shape, binding dimensions; ``lead`` axes come before it (1 for a sequence).

    More axes than declared are flattened into the last declared one.
    """
    found = value.shape[lead:]
    rank = len(declared.shape)
    notes = (declared.told(name), value.trace.origin(value.ref, f"given {name}"))
    if len(found) < rank:
        raise ShapeError(
            f"{name} must be {'a sequence of ' if lead else ''}{shape_text(declared.shape)}, found {value.type}",
            loc=loc,
            scope=use.scope.owner,
            notes=notes,
        )
    if len(found) > rank:
        shape = (*value.shape[: lead + rank - 1], prod(found[rank - 1 :]))
        (ref,) = value.trace.apply(Reshape(shape), value, names=(f"{use.name}/{name}",), loc=loc)
        value = Value(value.trace, ref)
        found = value.shape[lead:]
    use.scope.unify(declared.shape, found, f"from {name}, which is {value.type}", loc, notes)
    return value


def declare_params(bound: BoundCell, use: CellUse, root: Trace) -> None:
    """Make the cell's parameters in the model, once. All its dimensions must be bound by now."""
    for name, declared in bound.cell.params.items():
        mend = f"write {bound.cell.name}({{name}}=SIZE)"
        sizes = use.scope.sizes(declared.shape, f"parameter {name}", declared.loc, mend)
        if name not in use.params:
            fill = bound.fills.get(name, declared.fill)
            op = Param(sizes, fill, float(declared.lr_mult), float(declared.decay_mult))
            (ref,) = root.builder.add(op, names=(f"{use.name}/{name}",), loc=declared.loc)
            root.declared[ref] = declared.told(name)
            use.params[name] = Value(root, ref)


def call_step(bound: BoundCell, trace: Trace, arguments: dict[str, Value], loc: SrcLoc | None) -> StepResult:
    """Run a bound cell's function in ``trace`` on values of one step."""
    cell, use = bound.cell, use_of(bound, trace.root)
    declared = cell.signature.declarations
    values = {name: bind_argument(use, name, declared[name], value, 0, loc) for name, value in arguments.items()}
    declare_params(bound, use, trace.root)
    values |= {name: trace.adopt(value, loc) for name, value in use.params.items()}
    outer_scope, outer_owner = trace.scope, trace.owner
    trace.scope, trace.owner = use.scope, cell.owner
    try:
        return checked_result(bound, cell.function(**values, **bound.options), values)
    finally:
        trace.scope, trace.owner = outer_scope, outer_owner


def checked_result(bound: BoundCell, result: Any, arguments: Mapping[str, Value]) -> StepResult:
    """What a step function returned, if it is an output and every state's next value in the state's shape."""
    cell, loc = bound.cell, function_location(bound.cell.function)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise DslError(
            f"a cell returns its output and its next states: expected `return h, {{{_states_text(cell)}}}`,"
            f" found {_describe(result)}",
            loc=loc,
            scope=cell.owner,
        )
    output, following = result
    if set(following) != set(cell.states):
        missing = [name for name in cell.states if name not in following]
        extra = [name for name in following if name not in cell.states]
        problem = f"state {missing[0]} is never returned" if missing else f"{extra[0]!r} is returned but is no state"
        raise DslError(
            f"{problem}: expected the next states {{{_states_text(cell)}}}, found {{{', '.join(map(str, following))}}}",
            loc=loc,
            scope=cell.owner,
            notes=[cell.states[name].told(name) for name in missing],
        )
    for name, declared in cell.states.items():
        value = following[name]
        if not isinstance(value, Value):
            raise DslError(f"the next {name} must be a Value, found {value!r}", loc=loc, scope=cell.owner)
        if value.type != arguments[name].type:
            raise ShapeError(
                f"state {name} is {arguments[name].type}, its next value is {value.type}",
                loc=loc,
                scope=cell.owner,
                notes=(declared.told(name), value.trace.origin(value.ref, f"next {name}")),
            )
    return output, {name: following[name] for name in cell.states}


def _states_text(cell: Cell) -> str:
    return ", ".join(f'"{name}": ...' for name in cell.states)


def _describe(result: Any) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return type(result).__name__


def cell(function: Callable[..., Any]) -> Cell:
    """Make a cell of a step function whose arguments default to ``Input``, ``State`` and ``Param`` declarations.

    It returns the step's output (a Value, a tuple or dict of them, or None) and the next states by name.
    """
    return Cell(function, function_location(function))
