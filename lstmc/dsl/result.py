"""What a step function returned: its output, and every state's next value in the state's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lstmc.dsl.definition import Definition
from lstmc.dsl.identifiers import by_identifier
from lstmc.dsl.trace import check_name, origin
from lstmc.dsl.value import Value, described
from lstmc.errors import DslError, ShapeError
from lstmc.source import return_location

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    Out = TypeVarWithDefault("Out", default=Any)
else:
    Out = TypeVar("Out")
StepResult = tuple[Out, dict[str, Value]]  # ``Out``: a Value, a tuple or a dict of them, or None


def checked_result(cell: Definition, result: Any, arguments: Mapping[str, Value]) -> StepResult:
    """The output and the next states. Raises :class:`DslError` at the function's ``return``."""
    loc = return_location(cell.function)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        raise DslError(
            f"a cell returns its output and its next states: expected `return y, {{{_states_text(cell)}}}`,"
            f" found {_returned(result)}",
            loc=loc,
        )
    output, following = result[0], by_identifier(result[1])
    _check_output(cell, output)
    _check_states(cell, following)
    if not cell.states and not step_outputs(output):
        raise DslError("a cell has an output or a state: expected one to be returned, found none", loc=loc)
    for name, declared in cell.states.items():
        value = following[name]
        if not isinstance(value, Value):
            raise DslError(f"the next {name} must be a Value, found {described(value)}", loc=loc)
        if value.type != arguments[name].type:
            raise ShapeError(
                f"state {name} is {arguments[name].type}, its next value is {value.type}",
                loc=loc,
                notes=(declared.note(name), f"next {name} is {origin(value)}"),
            )
    return output, by_identifier({name: following[name] for name in cell.states})


def _check_states(cell: Definition, following: Mapping[Any, Any]) -> None:
    missing = [name for name in cell.states if name not in following]
    extra = [name for name in following if name not in cell.states]
    if not missing and not extra:
        return
    problem = f"state {missing[0]} is never returned" if missing else f"{extra[0]!r} is returned but is no state"
    raise DslError(
        f"{problem}: expected the next states {{{_states_text(cell)}}}, found {{{', '.join(map(repr, following))}}}",
        loc=return_location(cell.function),
        notes=[declared.note(name) for name, declared in cell.states.items() if name in missing or not missing],
    )


def step_outputs(output: Any) -> dict[str, Value]:
    """A step's output as values by name; a single one is called ''."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        return {str(i): value for i, value in enumerate(output)}
    return {} if output is None else {"": output}


def _check_output(cell: Definition, output: Any) -> None:
    loc = return_location(cell.function)
    for name in output if isinstance(output, Mapping) else ():
        check_name(name, "the name of a step's output", loc)
    for value in step_outputs(output).values():
        if not isinstance(value, Value):
            raise DslError(
                "a step's output must be a Value, a tuple or dict of Values, or None,"
                f" found {described(value)}{'' if value is output else ' in it'}",
                loc=loc,
            )


def like(output: Any, values: list[Value]) -> Any:
    """``values`` in the form in which the step returned its ``output``."""
    if output is None:
        return None
    if isinstance(output, Mapping):
        return dict(zip(output, values, strict=True))
    return tuple(values) if isinstance(output, tuple | list) else values[0]


def _states_text(cell: Definition) -> str:
    return ", ".join(f'"{name}": ...' for name in cell.states)


def _returned(result: Any) -> str:
    if result is None:
        return "None"
    if isinstance(result, Value):
        return "one Value"
    if isinstance(result, tuple):
        kinds = ", ".join(type(item).__name__ for item in result)
        return f"a tuple of {len(result)}: {kinds}" if result else "an empty tuple"
    return described(result)
