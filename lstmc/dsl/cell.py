"""Cells: step functions with declared arguments, bound to sizes, and traced where they are scanned or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lstmc.dsl.declare import Declaration, Definition, ParamDeclaration, as_filler, option_text
from lstmc.dsl.dims import Dim, Size, as_size, shape_text
from lstmc.dsl.function import described, suggested_argument
from lstmc.dsl.trace import CellUse, Instantiation, ModelTrace, Trace, check_name, instantiation, origin
from lstmc.dsl.value import Value, inner_trace
from lstmc.errors import DimError, DslError, ShapeError, errors_at, size_argument
from lstmc.ir import Ref
from lstmc.ops import Filler, Reshape
from lstmc.source import SrcLoc, argument_location, assigned_names, encloses, here, parameter_location, return_location
from lstmc.text import by_identifier

__all__ = ["BoundCell", "Cell", "cell"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    Out = TypeVarWithDefault("Out", default=Any)
else:
    Out = TypeVar("Out")
StepResult = tuple[Out, dict[str, Value]]  # ``Out``: a Value, a tuple or a dict of them, or None


def checked_result(cell: Definition, result: Any, arguments: Mapping[str, Value]) -> StepResult:
    """Return the output and the next states that a step's function returned; ``arguments`` are the states and inputs.
    Raise :class:`DslError` unless ``result`` is such a pair, and each next state has its state's type."""
    loc = return_location(cell.function)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        found = f"expected `return y, {{{_states_text(cell)}}}`, found {_returned(result)}"
        raise DslError(f"a cell returns its output and its next states: {found}", loc=loc)
    output, following = result[0], by_identifier(result[1])
    _check_output(cell, output)
    _check_states(cell, following)
    if not cell.states and not step_outputs(output):
        raise DslError("a cell has an output or a state: expected one to be returned, found none", loc=loc)
    for name, declared in cell.states.items():
        value = following[name]
        check_is_value(value, f"the next {name}", loc)
        if value.type != arguments[name].type:
            problem = f"state {name} is {arguments[name].type}, its next value is {value.type}"
            raise ShapeError(problem, loc=loc, notes=(declared.note(name), f"next {name} is {origin(value)}"))
    return output, by_identifier({name: following[name] for name in cell.states})


def _check_states(cell: Definition, following: Mapping[Any, Any]) -> None:
    """Raise :class:`DslError` if a state has no next value, or if a next value is of no state."""
    missing = [name for name in cell.states if name not in following]
    extra = [name for name in following if name not in cell.states]
    if not missing and not extra:
        return
    problem = f"state {missing[0]} is never returned" if missing else f"{extra[0]!r} is returned but is no state"
    actual = f"expected the next states {{{_states_text(cell)}}}, found {{{', '.join(map(repr, following))}}}"
    notes = [declared.note(name) for name, declared in cell.states.items() if name in missing or not missing]
    raise DslError(f"{problem}: {actual}", loc=return_location(cell.function), notes=notes)


def step_outputs(output: Any) -> dict[str, Value]:
    """Return a step's output as values by name; a single value has the name ''."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return {str(i): value for i, value in enumerate(output)}
    return {} if output is None else {"": output}


def _check_output(cell: Definition, output: Any) -> None:
    """Raise :class:`DslError` if a step's output has a wrong name, or a part that is not a Value."""
    loc = return_location(cell.function)
    for name in output if isinstance(output, Mapping) else ():
        check_name(name, "the name of a step's output", loc)
    for value in step_outputs(output).values():
        if not isinstance(value, Value):
            actual = f"{described(value)}{'' if value is output else ' in it'}"
            valid = "a Value, a tuple or dict of Values, or None"
            raise DslError(f"a step's output must be {valid}, found {actual}", loc=loc)


def like(output: Any, values: list[Value]) -> Any:
    """Return ``values`` in the form of a step's ``output``: None, a dict with its keys, a tuple, or a single value."""
    if output is None:
        return None
    if isinstance(output, Mapping):
        return dict(zip(output, values, strict=True))
    return tuple(values) if isinstance(output, tuple | list) else values[0]


def _states_text(cell: Definition) -> str:
    """Return the entries of the dict of next states, for errors: ``"h": ..., "c": ...``."""
    return ", ".join(f'"{name}": ...' for name in cell.states)


def _returned(result: Any) -> str:
    """Return a description, for errors, of the object that a cell's function returned."""
    if result is None:
        return "None"
    if isinstance(result, Value):
        return "one Value"
    if isinstance(result, tuple):
        kinds = ", ".join(type(item).__name__ for item in result)
        return f"a tuple of {len(result)}: {kinds}" if result else "an empty tuple"
    return described(result)


MOST_NESTED = 200  # cells that call one another: each takes frames of Python's stack, which is limited
MOST_PLACES = 10  # notes of an error: further calls around the error add none


def use_of(bound: BoundCell[Any], trace: Trace) -> CellUse:
    """Return the model's record of a bound cell, made at the first use, with the cell's sizes as numbers."""
    root = trace.root
    key = bound if bound.instantiation is None else (bound.instantiation, bound.cell)
    if key not in root.cells:
        assigned = assigned_names(bound.loc)
        name = bound.name or (assigned[0] if len(assigned) == 1 else bound.cell.name)
        root.cells[key] = CellUse(root.titles.unique(name))
    use = root.cells[key]
    for dim in bound.sizes:
        text = f"{bound.cell.name}({dim}={bound.sizes[dim]})"
        place = f" at {bound.loc.short}" if bound.loc else ""
        try:
            use.scope.bind(dim, _number(bound, dim, text, trace), f"bound by {text}{place}")
        except DimError as error:
            raise error.located(argument_location(bound.loc, None, dim)) from None
    return use


def _number(bound: BoundCell[Any], dim: str, text: str, trace: Trace) -> int:
    """Return the size ``dim`` of a bound cell as a number. Raise :class:`DimError`, which calls it ``text``, if a
    dimension in it has no size in the function that uses the cell, or in the model."""
    size = bound.sizes[dim]
    for scope in (trace.scope, trace.root.scope):
        missing = scope.missing((size,))
        if not missing:
            return scope.size(size)
    problem = f"{missing[0]} of {text} has no size: {trace.owner} has {', '.join(trace.scope.names) or 'none'}"
    remedy = f"Write {bound.cell.name}({dim}=SIZE), or give the model's {missing[0]} a size with"
    raise DimError(f"dimension {problem}. {remedy} {size_argument(missing[0])}")


def bind_argument(
    bound: BoundCell[Any], use: CellUse, name: str, value: Value, loc: SrcLoc | None, sequence: bool = False
) -> Value:
    """Return an argument of a cell in its declared rank, and bind the dimensions of its shape to the value's sizes. A
    ``sequence`` has the time axis in front. Further last axes are flattened into the last declared axis."""
    declared: Declaration = bound.cell.signature.declarations[name]
    lead = 1 if sequence else 0
    rank = lead + len(declared.shape)
    notes = (declared.note(f"{name} of {bound.cell.owner}"), f"given {origin(value)}")
    because = f"from {name}, which is {value.type}"
    if len(value.shape) < rank:
        expected = f"a sequence of {shape_text(declared.shape)}, time first" if sequence else shape_text(declared.shape)
        raise ShapeError(f"{declared.kind} {name} must be {expected}, found {value.type}", loc=loc, notes=notes)
    if len(value.shape) > rank:
        shape = (*value.shape[: rank - 1], prod(value.shape[rank - 1 :]))
        (ref,) = value.trace.apply(Reshape(shape), value, names=(f"{use.name}/{name}",), loc=loc)
        value = Value(value.trace, ref)
        because += f" flattened to {value.type}"
    with errors_at(loc):
        use.scope.unify(declared.shape, value.shape[lead:], because, notes)
    return value


def declared_shape(bound: BoundCell[Any], use: CellUse, name: str) -> tuple[int, ...]:
    """Return the declared shape of a parameter or state in numbers. Raise DimError if a dimension has no size."""
    declared = bound.cell.signature.declarations[name]
    with errors_at(bound.loc):
        return use.scope.sizes(declared.sizes, f"{declared.kind} {name}", bound.cell.name, [declared.note(name)])


def declare_params(bound: BoundCell[Any], use: CellUse, root: ModelTrace) -> None:
    """Add the cell's parameters to the model, unless an earlier use of the same bound cell did."""
    for name, declared in bound.cell.params.items():
        sizes = declared_shape(bound, use, name)
        if name not in use.params:
            named = f"{use.name}/{name}"
            use.params[name] = add_params(root, declared, named, sizes, bound.cell.owner, bound.fills.get(name))


def add_params(
    root: ModelTrace, param: ParamDeclaration, name: str, sizes: tuple[int, ...], owner: str, fill: Filler | None = None
) -> tuple[Ref, ...]:
    """Add the parameters of a declaration to the model, and return them: one, or ``count`` for a list. If the model has
    a parameter of that name, return this one; raise DslError if they differ. ``fill`` replaces the declared filler."""
    refs: list[Ref] = []
    op = param.op(sizes, fill)
    for one in param.names(param.name or name, sizes):
        if one in root.params:
            refs.append(root.params[one])
            previous = root.builder.node(refs[-1].node).op
            if previous != op:
                problem = f"parameter {one} is declared twice, and parameters of one name are one"
                actual = f"expected {previous} as before, found {op}"
                raise DslError(f"{problem}: {actual}", loc=param.loc, notes=[root.declared[refs[-1]]])
            continue
        with errors_at(param.loc, owner):
            refs += root.builder.add(op, names=(one,), loc=param.loc)
        root.params[one] = refs[-1]
        root.declared[refs[-1]] = param.note(one.rpartition("/")[2])
    return tuple(refs)


def as_argument(declared: ParamDeclaration, values: tuple[Value, ...]) -> Any:
    return values if declared.count is not None else values[0]


def call_step(
    bound: BoundCell[Any], trace: Trace, arguments: Mapping[str, Value], loc: SrcLoc | None, how: str = "called"
) -> StepResult:
    """Run a bound cell's function in ``trace`` on values of one step. Return its output and next states. ``how`` says
    in errors what ran the step: "called" or "scanned"."""
    cell, use = bound.cell, use_of(bound, trace)
    if use.running:
        raise DslError(f"{cell.owner} calls itself: a step is traced to its end, so it cannot contain itself", loc=loc)
    if trace.root.nested == MOST_NESTED:
        raise DslError(f"expected at most {MOST_NESTED} cells one inside the other, found more", loc=loc)
    adopted = {name: trace.adopt(value, loc) for name, value in arguments.items()}
    values = {name: bind_argument(bound, use, name, value, loc) for name, value in adopted.items()}
    declare_params(bound, use, trace.root)
    for name, declared_input in cell.inputs.items():
        if declared_input.values is not None:
            trace.expect(values[name].ref, declared_input.values)
    inputs: dict[str, Any] = dict(values)
    for name, declared in cell.params.items():
        adopted_params = tuple(trace.adopt(Value(trace.root, ref), loc) for ref in use.params[name])
        inputs[name] = as_argument(declared, adopted_params)
    outer_scope, outer_owner = trace.scope, trace.owner
    trace.scope, trace.owner = use.scope, cell.owner
    trace.root.nested += 1
    try:
        with use.traced():
            result = cell.function(**inputs, **bound.options)
            return checked_result(cell, result, values)
    except DslError as error:
        place = [f"{cell.owner} is {how} at {loc.short}"] if loc and len(error.notes) < MOST_PLACES else []
        error.located(scope=cell.owner if encloses(cell.function, error.loc) else None, notes=place)
        raise
    finally:
        trace.scope, trace.owner = outer_scope, outer_owner
        trace.root.nested -= 1


def check_is_value(value: object, what: str, loc: SrcLoc | None, hint: str = "") -> None:
    if not isinstance(value, Value):
        raise DslError(f"{what} must be a Value, found {described(value)}{hint}", loc=loc)


class Cell(Definition, Generic[Out]):
    """A step function. Calling it with sizes binds it: ``lstm(H=500)``."""

    kind = "cell"

    def __init__(self, function: Callable[..., tuple[Out, Mapping[str, Value]]]) -> None:
        """Raise DslError for an option or parameter whose name is that of a dimension, or ``name``."""
        super().__init__(function)
        reserved = {"name": "a bound cell's own name"} | dict.fromkeys(self.dims, "a dimension")
        for argument in (*self.signature.options, *self.params):
            if argument in reserved:
                problem = f"argument {argument} cannot be bound, because {self.name}({argument}=...) binds"
                loc = parameter_location(function, argument)
                raise DslError(f"{problem} {reserved[argument]}: expected another name", loc=loc, scope=self.owner)

    def __call__(self, /, *values: Any, name: str | None = None, **bindings: Any) -> BoundCell[Out]:
        """Bind dimensions to sizes, options to values, parameters to fillers; ``name`` begins the parameters' names."""
        loc = here()
        if any(isinstance(value, Value) for value in values):
            call = f"{self.example()}({', '.join([*self.inputs, *self.states])})"
            problem = f"{self.owner} has no sizes yet: write {self.example()} first, and call what that returns, as in"
            raise DslError(f"{problem} {call}, or scan it in a model", loc=loc)
        if values:
            actual = ", ".join(map(described, values))
            raise DslError(f"sizes are given by name: expected {self.example()}, found {actual}", loc=loc)
        if name is not None:
            check_name(name, "the name of a bound cell", argument_location(loc, None, "name"))
        bound = BoundCell(self, name or "", loc, {}, dict(self.signature.options), {}, instantiation())
        for key, value in bindings.items():
            self._bind(bound, key, value, argument_location(loc, None, key))
        return bound

    def example(self) -> str:
        """Return an example of a call that binds the dimensions which no input determines: ``lstm(H=...)``."""
        inferred = {size.name for declared in self.inputs.values() for size in declared.shape if isinstance(size, Dim)}
        return f"{self.name}({', '.join(f'{d}=...' for d in self.dims if d not in inferred)})"

    def _bind(self, bound: BoundCell[Out], key: str, value: Any, loc: SrcLoc | None) -> None:
        """Record a keyword argument of the call in ``bound``: an option, a size or a filler."""
        if key in self.signature.options:
            bound.options[key] = value
        elif key in self.dims:
            size = as_size(value)
            if size is None:
                valid = f"{self.name}({key}=...) takes a positive integer or a dimension"
                raise DimError(f"{valid}, found {described(value)}", loc=loc)
            bound.sizes[key] = size
        elif key in self.params:
            value = as_filler(value, f"{self.name}({key}=...)" if self.params[key].count is None else "", key, loc)
            if not isinstance(value, Filler):
                valid = f"{self.name}({key}=...) takes a filler for the parameter, such as uniform(-0.1, 0.1)"
                raise DslError(f"{valid}, found {described(value)}", loc=loc)
            bound.fills[key] = value
        else:
            kinds = {"dimensions": self.dims, "options": [*self.signature.options], "parameters": [*self.params]}
            valid = "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names) or "nothing"
            hint = suggested_argument(key, chain(*kinds.values()))
            raise DimError(f"{self.name} has no dimension, option or parameter {key}{hint}; it has {valid}", loc=loc)


@dataclass(frozen=True, eq=False)
class BoundCell(Generic[Out]):
    """A cell with its sizes, options and fillers. Every scan or call of the same object uses the same parameters."""

    cell: Cell[Out]
    name: str
    loc: SrcLoc | None
    sizes: dict[str, Size]
    options: dict[str, Any]
    fills: dict[str, Filler]
    instantiation: Instantiation | None

    def usage(self) -> str:
        """Return a call of one step, for errors: ``lstm(...)(x, h=h, c=c)``."""
        arguments = [*self.cell.inputs, *(f"{name}={name}" for name in self.cell.states)]
        return f"{self.cell.name}(...)({', '.join(arguments)})"

    def __repr__(self) -> str:
        return f"<bound cell {self.cell.name}({option_text({**self.sizes, **self.options})})>"

    def __call__(self, /, *inputs: Any, **named: Any) -> StepResult[Out]:
        """Run one step in another cell's body or in a model. Return the output, and the next states by name."""
        loc = here()
        arguments = self._arguments(inputs, named, loc)
        return call_step(self, inner_trace(*arguments.values()), arguments, loc)

    def _arguments(self, inputs: tuple[Any, ...], named: Mapping[str, Any], loc: SrcLoc | None) -> dict[str, Value]:
        """Return a call's arguments by name. Raise DslError unless each input and state is given once, as a Value."""
        names = [*self.cell.inputs, *self.cell.states]
        if not names:
            raise DslError(f"{self.cell.owner} has no input and no state: there is nothing to call it on", loc=loc)
        positional = dict(zip(names, inputs, strict=False))
        arguments = {**positional, **named}
        if len(inputs) > len(names) or set(arguments) != set(names) or set(positional) & set(named):
            actual = f"{len(inputs)} by position and {', '.join(named) or 'none'} by name"
            valid = f"{self.cell.name} takes {', '.join(names)}: expected {self.usage()}"
            raise DslError(f"{valid}, found {actual}", loc=loc)
        for position, (name, value) in enumerate(arguments.items()):
            check_is_value(value, f"{name} of {self.cell.owner}", argument_location(loc, position, name))
        return arguments


def cell(function: Callable[..., tuple[Out, Mapping[str, Value]]]) -> Cell[Out]:
    """Make a cell from a step function whose arguments default to ``Input``, ``State`` and ``Param`` declarations.
    The step function returns its output (a Value, a tuple or dict of Values, or None) and the next states by name."""
    return Cell(function)
