"""What a cell and a model have in common: a traced function, its declared arguments and its options."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from lstmc.dsl.declare import (
    Declaration,
    Input,
    InputDeclaration,
    Param,
    ParamDeclaration,
    State,
    StateDeclaration,
    params,
)
from lstmc.dsl.dims import free
from lstmc.errors import DslError
from lstmc.source import function_location, here, parameter_location


@dataclass(frozen=True)
class Signature:
    """A traced function's arguments: declarations, and plain options with their defaults, in order."""

    declarations: dict[str, Declaration]
    options: dict[str, Any]

    def of_kind(self, kind: type[Declaration]) -> dict[str, Any]:
        return {name: d for name, d in self.declarations.items() if isinstance(d, kind)}


class Definition:
    """A function to be traced. ``owner`` is how errors call it: ``cell 'lstm'``."""

    kind: ClassVar[str]

    def __init__(self, function: Callable[..., Any]) -> None:
        _check_function(function, self.kind)
        self.function = function
        self.name = function.__name__
        self.owner = f"{self.kind} {self.name!r}"
        self.loc = function_location(function)
        self.__doc__ = function.__doc__
        self.signature = _read_signature(function, self.owner)

    def __repr__(self) -> str:
        """Return what it is and what it takes, in a line."""
        kinds = (("input", self.inputs), ("state", self.states), ("parameter", self.params))
        parts = [
            f"{kind}{'s' if len(named) > 1 else ''} " + ", ".join(f"{name} {d.text}" for name, d in named.items())
            for kind, named in kinds
            if named
        ]
        if self.signature.options:
            parts.append(
                "options " + ", ".join(f"{name}={value!r:.40}" for name, value in self.signature.options.items())
            )
        return f"<{self.kind} {self.name}{': ' if parts else ''}{'; '.join(parts)}>"

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
        return free([size for declared in self.signature.declarations.values() for size in declared.sizes])


def _word(value: object) -> str:
    """Return an option's value as a line shows it."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else reprlib.repr(value)


def _check_function(function: object, kind: str) -> None:
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        found = "a lambda, which has no name" if inspect.isfunction(function) else repr(function)
        raise DslError(f"@{kind} takes a function written with def, found {found}", loc=here())
    if not function.__name__.isidentifier():
        raise DslError(
            f"the name of a {kind}, its function's __name__, must be an identifier, found {function.__name__!r}",
            loc=function_location(function),
        )
    traits = {
        "a generator": inspect.isgeneratorfunction(function),
        "a coroutine": inspect.iscoroutinefunction(function),
        "an asynchronous generator": inspect.isasyncgenfunction(function),
    }
    for trait, is_so in traits.items():
        if is_so:
            raise DslError(
                f"a {kind} is an ordinary function that returns its results once, found {trait}",
                loc=function_location(function),
                scope=f"{kind} {function.__name__!r}",
            )


def _read_signature(function: Callable[..., Any], owner: str) -> Signature:
    """The declarations of a function. Raises :class:`DslError` for an argument that has none."""
    declarations: dict[str, Declaration] = {}
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        problem = _problem(name, parameter)
        if problem is not None:
            raise DslError(problem, loc=parameter_location(function, name), scope=owner)
        if isinstance(parameter.default, Declaration):
            declarations[name] = parameter.default
        else:
            options[name] = parameter.default
    return Signature(declarations, options)


def _problem(name: str, parameter: inspect.Parameter) -> str | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        return f"argument {name} must be an ordinary named argument, without * or /"
    if parameter.default is parameter.empty:
        return (
            f"argument {name} is not declared: expected {name}=Input(...), State(...), Param(...)"
            " or a default value that makes it an option"
        )
    for declare in (Input, State, Param, params):
        if parameter.default is declare:
            return f"argument {name} has no shape: expected {name}={declare.__name__}(...), found {declare.__name__}"
    return None
